import type { Insn } from '../../src/bpf/insn.js';
import { lddwImmediate } from '../../src/bpf/insn.js';
import { checkInsn } from '../../src/bpf/insn-validity.js';
import {
  BPF_CALL_HELPER,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  FRAME_POINTER,
  MAX_BPF_STACK,
  MAX_CALL_FRAMES,
  MAX_TAIL_CALL_CNT,
  OP_CALL,
  OP_LDDW,
  REGISTER_COUNT,
} from '../../src/bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { WASM_PAGE } from '../../src/bpf/runtime/address-space.js';
import { isResidentMap, type BpfMap, type ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FUNCTION_POINTER_HIGH, TAIL_CALL } from '../../src/bpf/runtime/helpers/helper-table.js';
import { BPF_FUNC, helperName } from '../../src/bpf/helper-ids.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { ACCESS_CHECK_TYPE, defineAccessCheck, type AccessPlaces } from './access-check.js';
import { defineBatchEntry, defineSingleEntry, SINGLE_TYPE } from './batch-entry.js';
import { functionsOf, type BpfFunction } from './control-flow-graph.js';
import { chargeInsns, type InsnCharges } from './insn-charges.js';
import { constant, wide, word, type KnownValue } from './known-value.js';
import type { ObjectCache } from './object-cache.js';
import { defineRouteLookup, ROUTE_LOOKUP_TYPE, type RouteCache } from './route-cache.js';
import { FRAME_STRIDE, type ProgramTable } from './program-table.js';
import { emitStructured, flowShape, type FlowShape } from './structured-control-flow.js';
import { programIds, tailTargets } from './tail-links.js';
import type { CodeEnvironment, FunctionExit } from './code-environment.js';
import { FunctionTranslator, type Translation } from './function-translator.js';
import type { CallSiteOptions } from './translate-call.js';
import { unrollLoops } from './unroll-loops.js';
import { NO_WORK } from './work-count.js';
import { analyzeFunction, type AnalysisInput, type FunctionAnalysis } from './value-analysis.js';
import { FunctionWriter, I32, I64, ModuleWriter, OP, type FunctionType } from '../../src/bpf/wasm-encoder.js';

export interface CompileOptions {
  readonly runtime: BpfRuntime;
  readonly table: ProgramTable;
  readonly maps: ReadonlyMap<number, BpfMap>;
  /** Helpers the program may call. */
  readonly supportedHelpers: ReadonlySet<number>;
  /** Helpers that were replaced, so that nothing is known of them. */
  readonly overriddenHelpers: ReadonlySet<number>;
  /** What a checked program remembers of objects; undefined for a program that is not checked. */
  readonly objects: ObjectCache | undefined;
  /** What was looked up by bpf_fib_lookup; undefined where the helper is to be called each time. */
  readonly routes: RouteCache | undefined;
  /** What a run's `ProgramTable.budget` starts from. */
  readonly insnLimit: number;
  /** Address of the counters of work; undefined when it is not counted. */
  readonly workCounters: number | undefined;
  /**
   * `packet`: R1 is the context, there is a batch entry. `values`: R1 and R2 are whatever the caller passes.
   */
  readonly entry: 'packet' | 'values';
  /** Name of the module in stack traces. */
  readonly moduleName: string;
  /**
   * Programs that may stand in the place of tail calls (tail-links.ts). The module then has nothing but a batch entry with
   * them in it.
   */
  readonly links?: readonly LinkSource[] | undefined;
}

/** A program that may be compiled into the batch entry of another. */
export interface LinkSource {
  /** What a PROG_ARRAY knows it by. */
  readonly id: number;
  readonly program: Program;
  readonly options: CompileOptions;
}

export interface CompiledProgram {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Helpers that the module imports, as `h.<id>`. */
  readonly helpers: readonly number[];
  readonly importsTable: boolean;
  /** Slots of the functions that helpers may call back, exported as `callback <slot>`. */
  readonly callbacks: readonly number[];
  /** Ids of the programs that its maps of programs hold now, as far as tail-links.ts looks. */
  tailTargets(): readonly number[];
  /** Whether other programs can stand in the place of its tail calls. */
  readonly takesLinks: boolean;
  /** Whether it can stand in the place of a tail call. */
  readonly linkable: boolean;
  /** Those of `CompileOptions.links` that do. */
  readonly linked: readonly LinkSource[];
  /** The program and insn of a position in the module, as stack traces of traps give it. */
  placeAt(offset: number): CodePlace;
}

export interface CodePlace {
  readonly program: string;
  readonly insn: number | undefined;
}

/**
 * Programs up to this size are compiled twice, once into the batch loop; a larger one is called from it. It is also what
 * stands in such a loop at most where tail calls lead on.
 */
const MAX_INLINED_INSNS = 1024;
/** From the marks of one program's insns in the code to those of the next: more than programs have slots. */
const MARK_STRIDE = 2 ** 20;

/**
 * `(r1, r2)` of a program that is called with values. For one that runs on a packet the second is how many tail calls
 * the run has made.
 */
const MAIN_TYPE: FunctionType = { parameters: [I64, I64], results: [I64] };
const NO_VALUES: FunctionType = { parameters: [], results: [] };

/** Translates a program to the bytes of a wasm module. */
export function compileProgram(program: Program, options: CompileOptions): CompiledProgram {
  return new ProgramCompiler(program, options).compile();
}

interface AnalyzedFunction {
  readonly input: AnalysisInput;
  readonly analysis: FunctionAnalysis;
  readonly shape: FlowShape;
  readonly charges: InsnCharges;
}

/** A program that may stand in the batch entry, ready to be written. */
interface Link {
  readonly source: LinkSource;
  readonly compiler: ProgramCompiler;
  readonly environment: CodeEnvironment;
  readonly firstMark: number;
  /** As `LinkedProgram.id`. */
  readonly id: number;
}

class ProgramCompiler {
  readonly #insns: readonly Insn[];
  readonly #module: ModuleWriter;
  readonly #functions: readonly BpfFunction[];
  readonly #levels: ReadonlyMap<number, number>;
  readonly #wasmFunctions = new Map<number, number>();
  readonly #mapsByAddress = new Map<number, ResidentMap>();
  readonly #lddw = new Map<number, KnownValue>();
  readonly #bodies: FunctionWriter[] = [];
  readonly #analyses = new Map<BpfFunction, AnalyzedFunction>();
  /** Local functions make tail calls: frames cannot be at fixed addresses. */
  readonly #dynamicFrames: boolean;
  readonly #tailCalls: boolean;
  /** A helper is called that may charge for its work. */
  #callsCharge = false;
  /** By id: programs that may stand in the place of tail calls. */
  readonly #links = new Map<number, Link>();
  /** Those that do, in the batch entry that was written last, and how many insns they make it. */
  readonly #linked = new Set<LinkSource>();
  #inlinedInsns = 0;
  /** Indices of the global with the generation of `CompileOptions.routes`, and of what is tried before bpf_fib_lookup. */
  #routeGeneration = -1;
  #routeLookup: number | undefined;

  constructor(
    readonly program: Program,
    readonly options: CompileOptions,
  ) {
    this.#insns = program.insns;
    this.#module = new ModuleWriter(options.moduleName);
    this.#functions = functionsOf(this.#insns).map((fn) => unrollLoops(fn, this.#insns));
    this.#levels = callLevels(this.#functions);
    const calledBack = reachedByCallbacks(this.#functions);
    let tailCalls = false;
    let dynamicFrames = false;
    for (const fn of this.#functions) {
      for (const slot of slotsOf(this.#insns, fn)) {
        this.#checkInsn(slot);
        if (!isTailCall(this.#insns[slot]!)) continue;
        tailCalls = true;
        if (fn.start !== 0) dynamicFrames = true;
        // On the fixed stack its target, with up to eight frames of its own, would leave the stack.
        if (calledBack.has(fn.start)) {
          throw new XdpbedError('executor-unsupported', `insn ${slot}: tail call within a callback`, {
            at: { insn: slot },
          });
        }
      }
    }
    this.#tailCalls = tailCalls;
    this.#dynamicFrames = dynamicFrames;
    if (dynamicFrames) options.table.dynamicStack();
  }

  compile(): CompiledProgram {
    const { options } = this;
    const module = this.#module;
    module.importMemory('x', 'memory', options.runtime.space.byteLength / WASM_PAGE);
    if (this.#tailCalls) module.importTable('x', 'table');
    const helpers = [...this.#helperIds()];
    const imports = this.#importHelpers(module, 0);
    const toIndex: FunctionType = { parameters: [I32], results: [I32] };
    const environment: CodeEnvironment = {
      runState: options.runtime.state.address,
      tailCalls: options.table.tailCalls,
      dynamicFrame: options.table.dynamicFrame,
      firstDynamicFrame: options.table.firstDynamicFrame,
      budget: module.importGlobal('x', 'budget', I32),
      directory: options.table.directory,
      workCounters: options.workCounters,
      ...imports,
      mayCharge: () => {
        this.#callsCharge = true;
      },
      localFunction: (slot) => this.#wasmFunctions.get(slot)!,
      findProgram: this.#tailCalls ? module.importFunction('x', 'find', toIndex) : -1,
      resolveTailCall: this.#tailCalls
        ? module.importFunction('x', 'resolve', { parameters: [], results: [I32] })
        : -1,
      mainType: module.typeIndex(MAIN_TYPE),
      limitReached: module.importFunction('x', 'limit', { parameters: [I32], results: [] }),
      linkMissed: options.links === undefined ? -1 : module.importFunction('x', 'linkMissed', NO_VALUES),
      // Checked programs take no others in the place of tail calls: no import follows.
      access: options.objects === undefined ? undefined : this.#importAccess(options.objects),
    };
    (options.links ?? []).forEach((source, position) => {
      const compiler = new ProgramCompiler(source.program, source.options);
      const number = position + 1;
      const its = { ...environment, ...compiler.#importHelpers(module, number) };
      const id = module.importGlobal(`h${number}`, 'id', I32);
      this.#links.set(source.id, { source, compiler, environment: its, firstMark: number * MARK_STRIDE, id });
    });
    for (const compiler of [this, ...[...this.#links.values()].map((link) => link.compiler)])
      this.#defineRouteLookup(compiler);
    const functions = this.#functions.filter((fn) => options.links === undefined || fn.start !== 0);
    for (const fn of functions) {
      this.#wasmFunctions.set(fn.start, module.declare(fn.start === 0 ? MAIN_TYPE : this.#localType()));
    }
    const main = this.#wasmFunctions.get(0);
    if (main !== undefined) module.export('main', main);
    for (const fn of functions)
      this.#define(this.#wasmFunctions.get(fn.start)!, this.#function(fn, environment));

    if (options.entry === 'packet') {
      const batch = module.declare({ parameters: [I32, I32], results: [] });
      module.export('batch', batch);
      this.#define(batch, this.#batch(environment));
      const single = module.declare(SINGLE_TYPE);
      module.export('single', single);
      this.#define(single, defineSingleEntry(batch));
    }
    const callbacks =
      options.links === undefined ? [...new Set(this.#functions.flatMap((fn) => fn.callbacks))] : [];
    for (const slot of callbacks) {
      const index = module.declare(NO_VALUES);
      module.export(`callback ${slot}`, index);
      this.#define(index, this.#callback(slot, environment));
    }
    const { bytes, codeOffsets } = module.encode();
    const bodies = this.#bodies;
    return {
      bytes,
      helpers,
      importsTable: this.#tailCalls,
      callbacks,
      tailTargets: () =>
        [...this.#mapsByAddress.values()].flatMap((map) => programIds(map, map.attributes.maxEntries)),
      takesLinks: this.#tailCalls && !this.#dynamicFrames && this.#insns.length <= MAX_INLINED_INSNS,
      linkable: this.#functions.length === 1,
      linked: [...this.#linked],
      placeAt: (offset) => {
        const mark = markAt(offset, codeOffsets, bodies);
        const number = Math.floor((mark ?? 0) / MARK_STRIDE);
        const { name } = number === 0 ? this.program : options.links![number - 1]!.program;
        return { program: name, insn: mark === undefined ? undefined : mark % MARK_STRIDE };
      },
    };
  }

  /** What checks need. After all other imports: it declares a function. */
  #importAccess(objects: ObjectCache): AccessPlaces {
    const module = this.#module;
    const { runtime, table } = this.options;
    const range = (name: string): { readonly start: number; readonly end: number } => ({
      start: module.importGlobal('x', `${name} start`, I32),
      end: module.importGlobal('x', `${name} end`, I32),
    });
    const [read, write] = [range('read'), range('write')];
    const stale = module.importGlobal('x', 'stale', I32);
    const check = module.importFunction('x', 'check', { parameters: [I32, I32, I32, I32], results: [] });
    const checkAccess = module.declare(ACCESS_CHECK_TYPE);
    const judge = { runState: runtime.state.address, stack: table.stack, read, write, check };
    this.#define(checkAccess, defineAccessCheck(judge));
    return { checkAccess, stale, space: runtime.space, watch: (address) => objects.watch(address) };
  }

  /** Imports the helpers that this program calls: from `h`, or from `h<number>` for one that stands in another's module. */
  #importHelpers(module: ModuleWriter, number: number): Pick<CodeEnvironment, 'helper' | 'triedBefore'> {
    const from = number === 0 ? 'h' : `h${number}`;
    const indices = new Map(
      [...this.#helperIds()].map((id) => [id, module.importFunction(from, String(id), NO_VALUES)]),
    );
    if (this.options.routes !== undefined) this.#routeGeneration = module.importGlobal(from, 'routes', I32);
    return {
      helper: (id) => indices.get(id)!,
      triedBefore: (id) => (id === BPF_FUNC.fib_lookup ? this.#routeLookup : undefined),
    };
  }

  /** Writes what is tried before bpf_fib_lookup by a program that stands in this module. After all imports. */
  #defineRouteLookup(compiler: ProgramCompiler): void {
    const { routes, runtime, table, objects } = compiler.options;
    if (routes === undefined) return;
    compiler.#routeLookup = this.#module.declare(ROUTE_LOOKUP_TYPE);
    const lookup = defineRouteLookup({
      runState: runtime.state.address,
      memoryBytes: runtime.space.byteLength,
      entries: routes.address,
      generation: compiler.#routeGeneration,
      stack: objects === undefined ? undefined : table.stack,
    });
    this.#define(compiler.#routeLookup, lookup);
  }

  #define(index: number, body: FunctionWriter): void {
    this.#module.define(index, body);
    this.#bodies.push(body);
  }

  #localType(): FunctionType {
    const registers = [I64, I64, I64, I64, I64];
    return { parameters: this.#dynamicFrames ? [...registers, I32] : registers, results: [I64] };
  }

  /** The wasm function of a BPF function. */
  #function(fn: BpfFunction, environment: CodeEnvironment): FunctionWriter {
    const main = fn.start === 0;
    return this.#withFewestStores((elideStackStores) => {
      const out = new FunctionWriter(main ? MAIN_TYPE : this.#localType());
      const parameters: [number, number, number][] = [];
      for (let r = 1; r <= (main ? 2 : 5); r++) parameters.push([r, r - 1, I64]);
      if (main && this.#trustsContext) {
        const context = out.local(I32);
        out.i32(environment.runState).memory(OP.i32_load, RUN_STATE.context).set(context);
        parameters[0] = [1, context, I32];
      }
      let frameLocal: number | undefined;
      if (this.#dynamicFrames) {
        if (main) {
          frameLocal = out.local(I32);
          out.i32(environment.dynamicFrame).memory(OP.i32_load).set(frameLocal);
        } else {
          frameLocal = 5;
        }
        const top = out.local(I32);
        out.get(frameLocal).i32(MAX_BPF_STACK).op(OP.i32_add).set(top);
        parameters.push([FRAME_POINTER, top, I32]);
      }
      const translator = this.#translate(
        fn,
        environment,
        out,
        parameters,
        { kind: 'return' },
        { frameLocal, chain: main && this.options.entry === 'packet' ? { local: 1 } : undefined },
        elideStackStores,
      );
      out.op(OP.unreachable);
      return translator;
    });
  }

  #batch(environment: CodeEnvironment): FunctionWriter {
    const inlined = this.#insns.length <= MAX_INLINED_INSNS;
    return this.#withFewestStores((elideStackStores) =>
      defineBatchEntry(
        {
          environment,
          tailCalls: this.#tailCalls,
          insnLimit: this.#isCharged() ? this.options.insnLimit : undefined,
        },
        (out, slot, verdict) => {
          if (!inlined) {
            verdict(() => {
              out.get(slot).op(OP.i64_extend_i32_u).i64(0n).call(environment.localFunction(0));
              out.op(OP.i32_wrap_i64);
            });
            return undefined;
          }
          const parameters: [number, number, number][] = [[1, slot, I32]];
          let frameLocal: number | undefined;
          if (this.#dynamicFrames) {
            frameLocal = out.local(I32);
            const top = out.local(I32);
            out.i32(environment.dynamicFrame).memory(OP.i32_load).tee(frameLocal);
            out.i32(MAX_BPF_STACK).op(OP.i32_add).set(top);
            parameters.push([FRAME_POINTER, top, I32]);
          }
          const exit: FunctionExit = { kind: 'inlined', verdict };
          this.#linked.clear();
          this.#inlinedInsns = this.#insns.length;
          return this.#translate(
            this.#functions[0]!,
            environment,
            out,
            parameters,
            exit,
            { frameLocal, linked: this.#linksFrom([], out, exit, elideStackStores) },
            elideStackStores,
          );
        },
      ),
    );
  }

  /**
   * What stands in the place of tail calls of the main program, or of one that it reached by `chain`: never a program that
   * is under way, so that it ends.
   */
  #linksFrom(
    chain: readonly Link[],
    out: FunctionWriter,
    exit: FunctionExit,
    elideStackStores: boolean,
  ): CallSiteOptions['linked'] {
    if (this.#links.size === 0 || this.#dynamicFrames || chain.length >= MAX_TAIL_CALL_CNT) return undefined;
    return (array, index) => {
      const ids = tailTargets(array, index);
      const links = ids?.map((id) => this.#links.get(id)).filter((link) => link !== undefined) ?? [];
      const free = links.filter((link) => {
        if (chain.includes(link)) return false;
        if (this.#inlinedInsns + link.source.program.insns.length > MAX_INLINED_INSNS) return false;
        this.#inlinedInsns += link.source.program.insns.length;
        return true;
      });
      return {
        complete: free.length === ids?.length,
        programs: free.map((link) => ({
          id: link.id,
          emit: (context, work) => {
            this.#linked.add(link.source);
            const way = [...chain, link];
            const { compiler, environment, firstMark } = link;
            const translator = compiler.#translate(
              compiler.#functions[0]!,
              environment,
              out,
              [[1, context, I32]],
              exit,
              { chain: way.length, linked: this.#linksFrom(way, out, exit, elideStackStores) },
              elideStackStores,
              { firstMark, workBefore: work },
            );
            return translator.readsStackMemory;
          },
        })),
      };
    };
  }

  /** `() → ()`: what a helper calls back through; arguments and result are in the run state. */
  #callback(slot: number, environment: CodeEnvironment): FunctionWriter {
    const out = new FunctionWriter({ parameters: [], results: [] });
    out.i32(environment.runState);
    for (let r = 1; r <= 5; r++) out.i32(environment.runState).memory(OP.i64_load, 8 * r);
    // Callbacks make no tail calls (`reachedByCallbacks`), so that they may use the fixed stack whatever the rest of the program does.
    if (this.#dynamicFrames) out.i32(this.#frameOf(slot).low);
    out.call(environment.localFunction(slot)).memory(OP.i64_store);
    return out;
  }

  /** First as if stack memory were never read; if it is, again with all stores, as a checked build has them anyway. */
  #withFewestStores(translate: (elide: boolean) => Translation): FunctionWriter {
    if (this.options.objects !== undefined) return translate(false).out;
    let translator = translate(true);
    if (translator.readsStackMemory) translator = translate(false);
    return translator.out;
  }

  #translate(
    fn: BpfFunction,
    environment: CodeEnvironment,
    out: FunctionWriter,
    parameters: readonly (readonly [number, number, number])[],
    exit: FunctionExit,
    site: Pick<CallSiteOptions, 'frameLocal' | 'chain' | 'linked'>,
    elideStackStores: boolean,
    linked = { firstMark: 0, workBefore: NO_WORK },
  ): FunctionTranslator {
    const { input, analysis, shape, charges } = this.#analyze(fn);
    const translator = new FunctionTranslator({
      input,
      analysis,
      charges,
      shape,
      environment,
      out,
      exit,
      ...site,
      elideStackStores,
      stackFrame: this.#dynamicFrames ? undefined : this.#frameOf(fn.start),
      ...linked,
    });
    translator.enter(parameters);
    emitStructured(analysis.successors, shape, out, translator);
    return translator;
  }

  /**
   * Accesses to the context are not checked. R1 is then taken from the run state, where no program writes, and not from who
   * made the tail call, which may be a program that no verifier has vouched for.
   */
  get #trustsContext(): boolean {
    const { objects, entry } = this.options;
    return objects === undefined && entry === 'packet' && this.program.type === BPF_PROG_TYPE_XDP;
  }

  /** A function is written up to four times, and analysed once. */
  #analyze(fn: BpfFunction): AnalyzedFunction {
    let analyzed = this.#analyses.get(fn);
    if (analyzed === undefined) {
      const input = this.#analysisInput(fn);
      const order = flowShape(fn.blocks.map((block) => block.successors)).nodes;
      const analysis = analyzeFunction(input, order);
      const shape = flowShape(analysis.successors);
      const charges = chargeInsns(analysis.successors, shape, this.#insnCounts(fn), fn.start === 0);
      analyzed = { input, analysis, shape, charges };
      this.#analyses.set(fn, analyzed);
    }
    return analyzed;
  }

  /** Whether a run may be charged for anything. Known once the functions are written. */
  #isCharged(): boolean {
    if (this.#tailCalls || this.#functions.length > 1 || this.#callsCharge) return true;
    return this.#analyze(this.#functions[0]!).charges.insns.some((insns) => insns > 0);
  }

  #insnCounts({ blocks }: BpfFunction): number[] {
    return blocks.map(({ start, end }) => {
      let count = 0;
      for (let slot = start; slot < end; slot++, count++) if (this.#insns[slot]!.opcode === OP_LDDW) slot++;
      return count;
    });
  }

  #analysisInput(fn: BpfFunction): AnalysisInput {
    const { options } = this;
    const { space, cpus } = options.runtime;
    const xdp = options.entry === 'packet' && this.program.type === BPF_PROG_TYPE_XDP;
    const entry: KnownValue[] = new Array<KnownValue>(REGISTER_COUNT).fill(constant(0n));
    if (fn.start === 0) {
      entry[1] =
        options.entry === 'packet'
          ? {
              // Who makes a tail call without a verifier's word for it passes what it likes.
              ...(options.objects === undefined ? word(WASM_PAGE, space.byteLength) : wide()),
              ...(xdp ? { context: true as const } : {}),
            }
          : wide();
      if (options.entry === 'values') entry[2] = wide();
    } else {
      for (let r = 1; r <= 5; r++) entry[r] = wide(true);
    }
    const frame = this.#frameOf(fn.start);
    if (this.#dynamicFrames) entry[FRAME_POINTER] = word(WASM_PAGE, space.byteLength, true);
    else entry[FRAME_POINTER] = constant(BigInt(frame.high), true);
    return {
      insns: this.#insns,
      function: fn,
      entry,
      // A checked build keeps everything in memory: what it finds there is then also a test of the other build.
      frame: this.#dynamicFrames || options.objects !== undefined ? undefined : frame,
      memoryBytes: space.byteLength,
      cpus,
      mapsByAddress: this.#mapsByAddress,
      overridden: options.overriddenHelpers,
      checked: options.objects !== undefined,
      xdp,
      lddw: (slot) => this.#lddw.get(slot)!,
    };
  }

  #frameOf(start: number): { readonly low: number; readonly high: number } {
    const low = this.options.table.stack.start + this.#levels.get(start)! * FRAME_STRIDE;
    return { low, high: low + MAX_BPF_STACK };
  }

  *#helperIds(): Iterable<number> {
    const ids = new Set<number>();
    for (const fn of this.#functions) {
      for (const slot of slotsOf(this.#insns, fn)) {
        const insn = this.#insns[slot]!;
        if (insn.opcode === OP_CALL && insn.src === BPF_CALL_HELPER && insn.imm !== TAIL_CALL)
          ids.add(insn.imm);
      }
    }
    yield* ids;
  }

  /** Refuses what this executor cannot run, and settles what each `lddw` loads. */
  #checkInsn(slot: number): void {
    const insn = this.#insns[slot]!;
    const unsupported = (reason: string): XdpbedError =>
      new XdpbedError('executor-unsupported', `insn ${slot}: ${reason}`, { at: { insn: slot } });
    const invalid = checkInsn(this.#insns, slot);
    if (invalid !== undefined) throw unsupported(invalid);
    if (insn.opcode === OP_LDDW) {
      this.#lddw.set(slot, this.#lddwValue(slot, unsupported));
      return;
    }
    if (insn.opcode === OP_CALL) {
      if (insn.src === BPF_PSEUDO_CALL) return;
      if (insn.src !== BPF_CALL_HELPER) throw unsupported(`call of kernel function ${insn.imm}`);
      if (insn.imm === TAIL_CALL || this.options.supportedHelpers.has(insn.imm)) return;
      throw unsupported(`${helperName(insn.imm)} is not supported`);
    }
  }

  #lddwValue(slot: number, unsupported: (reason: string) => XdpbedError): KnownValue {
    const { options } = this;
    const insn = this.#insns[slot]!;
    const pseudo: number = insn.src;
    if (pseudo === 0) return constant(lddwImmediate(this.#insns, slot));
    if (pseudo === BPF_PSEUDO_FUNC) {
      return constant((BigInt(FUNCTION_POINTER_HIGH) << 32n) | BigInt(slot + 1 + insn.imm));
    }
    if (pseudo !== BPF_PSEUDO_MAP_FD && pseudo !== BPF_PSEUDO_MAP_VALUE) {
      throw unsupported(`lddw with source ${pseudo} is not supported`);
    }
    const map = options.maps.get(insn.imm);
    if (map === undefined) throw unsupported(`no map with handle ${insn.imm}`);
    if (!isResidentMap(map) || map.space !== options.runtime.space) {
      throw unsupported(`map ${map.name} does not lie in the memory the program runs in`);
    }
    this.#mapsByAddress.set(map.address, map);
    if (pseudo === BPF_PSEUDO_MAP_FD) return constant(BigInt(map.address));
    const offset = this.#insns[slot + 1]?.imm ?? 0;
    const address = map.directValueAddress(offset);
    if (address === 0) throw unsupported(`map ${map.name} has no value at offset ${offset}`);
    return constant(BigInt(address));
  }
}

function isTailCall(insn: Insn): boolean {
  return insn.opcode === OP_CALL && insn.src === BPF_CALL_HELPER && insn.imm === TAIL_CALL;
}

function* slotsOf(insns: readonly Insn[], fn: BpfFunction): Iterable<number> {
  for (const block of fn.blocks) {
    for (let slot = block.start; slot < block.end; slot++) {
      yield slot;
      if (insns[slot]!.opcode === OP_LDDW) slot++;
    }
  }
}

/**
 * How many frames may lie below each function: the longest way to it over calls and callbacks. Functions that
 * can be active at the same time have different levels, so that each can have its frame at a fixed address.
 */
function callLevels(functions: readonly BpfFunction[]): Map<number, number> {
  const byStart = new Map(functions.map((fn) => [fn.start, fn]));
  const levels = new Map([[0, 0]]);
  const pending = [0];
  for (let start = pending.pop(); start !== undefined; start = pending.pop()) {
    const fn = byStart.get(start)!;
    const level = levels.get(start)! + 1;
    for (const callee of [...fn.calls, ...fn.callbacks]) {
      if ((levels.get(callee) ?? 0) >= level && levels.has(callee)) continue;
      if (level >= MAX_CALL_FRAMES) {
        throw new XdpbedError(
          'executor-unsupported',
          `more than ${MAX_CALL_FRAMES} call frames, or recursion, at the function of insn ${callee}`,
          { at: { insn: callee } },
        );
      }
      levels.set(callee, level);
      pending.push(callee);
    }
  }
  return levels;
}

/** Starts of the functions that helpers may call back, and of those that these call. */
function reachedByCallbacks(functions: readonly BpfFunction[]): ReadonlySet<number> {
  const byStart = new Map(functions.map((fn) => [fn.start, fn]));
  const reached = new Set(functions.flatMap((fn) => fn.callbacks));
  // A set hands out what is added on the way, too.
  for (const start of reached) for (const callee of byStart.get(start)!.calls) reached.add(callee);
  return reached;
}

function markAt(
  offset: number,
  codeOffsets: readonly number[],
  bodies: readonly FunctionWriter[],
): number | undefined {
  let index = codeOffsets.length - 1;
  while (index >= 0 && codeOffsets[index]! > offset) index--;
  const marks = bodies[index]?.marks;
  if (marks === undefined) return undefined;
  const within = offset - codeOffsets[index]!;
  let found: number | undefined;
  for (let i = 0; i < marks.length && marks[i]! <= within; i += 2) found = marks[i + 1]!;
  return found;
}
