import type { Program } from '../../src/bpf/program.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_CALL_HELPER, OP_CALL } from '../../src/bpf/opcodes.js';
import type { HelperWorld } from '../../src/bpf/runtime/helper-world.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import {
  createHelpers,
  defaultAccessCheck,
  HelperFault,
  helperFaultReason,
  type HelperTable,
} from '../../src/bpf/runtime/helpers/helper-table.js';
import { mayReadClock } from '../../src/bpf/runtime/helpers/time-and-random-helpers.js';
import { insnLimitOf, insnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_SLOT, FRAME_SLOT_SIZE } from '../../src/bpf/runtime/xdp-frame.js';
import { FrameRing, openFrames } from '../../src/bpf/runtime/frame-ring.js';
import { WorkCounters } from '../../src/bpf/runtime/work-counters.js';
import { XDP_ABORTED } from '../../src/bpf/xdp.js';
import type {
  CallOutcome,
  ExecutionEnvironment,
  Executor,
  FrameSlots,
  LoadedProgram,
  ProgramFault,
  RunOutcome,
} from '../../src/core/contract/executor.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import { BPF_RUNTIME } from '../../src/core/contract/map-backend.js';
import { messageOf } from '../../src/core/diagnostic.js';
import {
  compileProgram,
  type CodePlace,
  type CompiledProgram,
  type CompileOptions,
  type LinkSource,
} from './compile-program.js';
import { LinkSchedule } from './tail-links.js';
import { ProgramTable, type TableMember } from './program-table.js';
import { wasmPlace } from './wasm-place.js';
import { WRITE_FLAG } from './access-check.js';
import { ObjectCache } from './object-cache.js';
import { RouteCache, tellsChanges } from './route-cache.js';

export interface WasmExecutorOptions {
  /**
   * Check every access against the bounds of the object it is for, and arguments of helpers. Default: of programs of which no
   * verifier has shown that they are contained.
   */
  readonly checked?: boolean | undefined;
  /**
   * Frames after which programs that make tail calls are compiled anew with those that they lead to (tail-links.ts); after
   * twice as many more the next time. Default: LINK_AFTER.
   */
  readonly linkAfter?: number | undefined;
}

export const WASM_EXECUTOR_OPTIONS = token<WasmExecutorOptions>('executor-wasm.options');

/**
 * Frames in one call of a batch. V8 replaces code by its optimised form only from one call to the next, so a
 * batch of any length is cut into calls of a few microseconds.
 */
const FRAMES_PER_CALL = 256;

/** The `insn` of a fault whose place is not known. */
export const UNKNOWN_INSN = -1;

/** Executor `wasm`: compiles a program to a WebAssembly module over the runtime's memory. */
@injectable()
export class WasmExecutor implements Executor {
  readonly name: string = 'wasm';
  readonly #runtime: BpfRuntime;
  readonly #options: WasmExecutorOptions;
  /** For as long as programs are loaded. */
  #table: ProgramTable | undefined;
  /** Of all programs that are counted, from the first on. */
  #work: WorkCounters | undefined;

  constructor(
    @inject(BPF_RUNTIME) runtime: BpfRuntime,
    @inject(WASM_EXECUTOR_OPTIONS) options: WasmExecutorOptions = {},
  ) {
    this.#runtime = runtime;
    this.#options = options;
  }

  async load(program: Program, environment: ExecutionEnvironment): Promise<LoadedProgram> {
    return this.loadNow(program, environment);
  }

  /** As `load`, for callers that cannot wait. */
  loadNow(program: Program, environment: ExecutionEnvironment): LoadedProgram {
    const runtime = this.#runtime;
    const table = (this.#table ??= new ProgramTable(runtime));
    try {
      const work =
        environment.countWork === true ? (this.#work ??= new WorkCounters(runtime.space)) : undefined;
      const release = (): void => this.#release();
      return new WasmProgram(program, runtime, environment, table, this.#options, work, release);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  #release(): void {
    if (this.#table === undefined || this.#table.size > 0) return;
    this.#table.close();
    this.#table = undefined;
  }
}

type BatchFunction = (slot: number, count: number) => void;
type SingleFunction = (slot: number) => number;
type MainFunction = (r1: bigint, r2: bigint) => bigint;

/** Modules by name, so that a trap in the target of a tail call is found as well. */
const modulesByName = new Map<string, CompiledProgram>();
let moduleCount = 0;

/** Programs that are tried in the place of one's tail calls. */
const MAX_LINKS = 16;

class WasmProgram implements LoadedProgram, TableMember {
  readonly name: string;
  readonly executor = 'wasm';
  readonly id: number;
  readonly importsTable: boolean;
  lastFault: ProgramFault | undefined;
  readonly #helpers: HelperTable;
  /** The clock, if programs may ask for it. */
  readonly #now: (() => bigint) | undefined;
  readonly #module: WasmModule;
  readonly #insnLimit: number;
  /** What a checked program remembers. */
  readonly #objects: ObjectCache | undefined;
  /** What bpf_fib_lookup found. */
  readonly #routes: RouteCache | undefined;
  #batch!: BatchFunction;
  #single!: SingleFunction;
  /** The last that were looked at. */
  #frames: FrameRing | undefined;
  readonly #linkSchedule: LinkSchedule;
  /** The module with the batch entry that has other programs in the place of tail calls, and their ids as it sees them. */
  #linked: { readonly module: WasmModule; readonly ids: ReadonlyMap<number, WebAssembly.Global> } | undefined;
  /** The program compiled for arguments that are not a context, made when first asked for. */
  #values:
    | { readonly module: WasmModule; readonly main: MainFunction; readonly exports: WebAssembly.Exports }
    | undefined;
  /** Exports of the instance that runs: where callbacks are found. */
  #running: WebAssembly.Exports = {};
  #exports: WebAssembly.Exports = {};
  #closed = false;

  constructor(
    readonly program: Program,
    readonly runtime: BpfRuntime,
    readonly environment: ExecutionEnvironment,
    readonly table: ProgramTable,
    options: WasmExecutorOptions,
    readonly work: WorkCounters | undefined,
    readonly release: () => void,
  ) {
    this.name = program.name;
    this.id = environment.programId ?? runtime.allocateProgramId();
    const { world, helperOverrides } = environment;
    // Who replaces helpers may look at the clock in any.
    if (helperOverrides !== undefined || mayReadClock(program.insns)) this.#now = world.now?.bind(world);
    this.#insnLimit = insnLimitOf(environment.insnLimit);
    this.#linkSchedule = new LinkSchedule(options.linkAfter);
    const checked = options.checked ?? environment.contained !== true;
    this.#routes = routeCache(program, runtime, environment);
    if (checked) this.#objects = new ObjectCache(runtime.space);
    this.#helpers = createHelpers(runtime, worldOf(environment, this.#routes), {
      check: checked ? undefined : false,
      invoke: (slot) => {
        const callback = this.#running[`callback ${slot}`] as (() => void) | undefined;
        if (callback === undefined) throw new HelperFault(`there is no function at insn ${slot}`);
        callback();
      },
      charge: (insns) => this.#charge(insns),
      work,
      overrides: helperOverrides,
    });
    let module: WasmModule | undefined;
    try {
      module = this.#compile('packet');
      this.#module = module;
      this.importsTable = module.compiled.importsTable;
      table.add(this.id, this);
    } catch (error) {
      if (module !== undefined) modulesByName.delete(module.name);
      this.#objects?.close();
      this.#routes?.close();
      throw error;
    }
    work?.declareHelpers(program.insns);
  }

  instantiate(table: WebAssembly.Table): WebAssembly.ExportValue {
    this.#exports = this.#instance(this.#module, table).exports;
    // Also for who comes here by a tail call, where none of the entries below is passed.
    this.#running = this.#exports;
    this.#unlink();
    return this.#exports['main']!;
  }

  programGone(programId: number): void {
    const id = this.#linked?.ids.get(programId);
    if (id === undefined) return;
    // The loop may be under way, with frames to come that must not run what is gone.
    id.value = 0;
    this.#unlink();
  }

  openFrames(slots: number, longest?: number): FrameRing {
    return openFrames(this.program, this.runtime, slots, longest);
  }

  run(slots: FrameSlots, slot: number): RunOutcome {
    const frames = this.#prepare(slots);
    try {
      const verdict = this.#single(frames.address(slot));
      if (verdict >= 0) return { verdict };
    } catch (error) {
      abort(frames, slot);
      return { verdict: XDP_ABORTED, fault: this.#faulted(error) };
    }
    if (frames.intact(slot)) return { verdict: frames.verdict(slot) };
    abort(frames, slot);
    this.lastFault = { insn: UNKNOWN_INSN, reason: 'the bounds of the frame were overwritten' };
    return { verdict: XDP_ABORTED, fault: this.lastFault };
  }

  runBatch(slots: FrameSlots, first: number, count: number): number {
    const { state } = this.runtime;
    const frames = this.#prepare(slots);
    const { i32 } = frames.space;
    let aborted = 0;
    let slot = first % frames.slots;
    for (let left = count; left > 0;) {
      const frame = frames.address(slot);
      let done = Math.min(left, frames.slots - slot, FRAMES_PER_CALL);
      try {
        this.#batch(frame, done);
      } catch (error) {
        this.#faulted(error);
        const before = (state.context - frame) / FRAME_SLOT_SIZE;
        if (Number.isInteger(before) && before >= 0 && before < done) {
          aborted++;
          i32[(state.context + FRAME_SLOT.verdict) >> 2] = XDP_ABORTED;
          // Go on behind the frame that faulted.
          done = before + 1;
        } else {
          // The program overwrote which frame that was. None may run twice, so all of the call have faulted.
          aborted += done;
          for (let i = 0; i < done; i++) abort(frames, slot + i);
        }
      }
      slot = (slot + done) % frames.slots;
      left -= done;
    }
    return aborted;
  }

  call(r1: bigint, r2: bigint): CallOutcome {
    const { runtime } = this;
    this.#values ??= this.#loadForValues();
    const { main, exports } = this.#values;
    runtime.state.context = 0;
    this.#running = exports;
    this.#resetCells();
    try {
      return { r0: BigInt.asUintN(64, main(r1, r2)) };
    } catch (error) {
      return { fault: this.#faulted(error) };
    } finally {
      this.#running = this.#exports;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    modulesByName.delete(this.#module.name);
    if (this.#linked !== undefined) modulesByName.delete(this.#linked.module.name);
    if (this.#values !== undefined) modulesByName.delete(this.#values.module.name);
    this.table.remove(this.id);
    this.#objects?.close();
    this.#routes?.close();
    this.release();
  }

  /** Sets the clock, and sees that the frames lie where the program can reach them. */
  #prepare(frames: FrameSlots): FrameRing {
    if (frames !== this.#frames) {
      if (!(frames instanceof FrameRing) || frames.space !== this.runtime.space) {
        throw new RangeError('the frames lie in another address space');
      }
      this.#frames = frames;
    }
    if (this.#now !== undefined) this.runtime.state.now = this.#now();
    return this.#frames;
  }

  /** What the batch entry does for each frame. */
  #resetCells(): void {
    const { space } = this.runtime;
    space.i32[this.table.tailCalls >> 2] = 0;
    if (this.#module.compiled.importsTable)
      space.i32[this.table.dynamicFrame >> 2] = this.table.dynamicStack().start;
    this.table.budget.value = this.#insnLimit;
  }

  #loadForValues(): { module: WasmModule; main: MainFunction; exports: WebAssembly.Exports } {
    const module = this.#compile('values');
    const { exports } = this.#instance(module, this.table.table);
    return { module, main: exports['main'] as MainFunction, exports };
  }

  #compile(entry: 'packet' | 'values', links?: readonly LinkSource[]): WasmModule {
    const options = { ...this.#compileOptions(entry), links };
    const compiled = compileProgram(this.program, options);
    const module = new WebAssembly.Module(compiled.bytes);
    modulesByName.set(options.moduleName, compiled);
    return { name: options.moduleName, compiled, module };
  }

  #compileOptions(entry: 'packet' | 'values'): CompileOptions {
    const { environment } = this;
    return {
      runtime: this.runtime,
      table: this.table,
      maps: environment.maps,
      supportedHelpers: this.#helpers.supported,
      overriddenHelpers: new Set(environment.helperOverrides?.keys()),
      objects: this.#objects,
      routes: this.#routes,
      insnLimit: this.#insnLimit,
      workCounters: this.work?.address,
      entry,
      moduleName: `bpf${++moduleCount}`,
    };
  }

  /** Has tail calls go through the table, until it is time to put programs in their place. */
  #unlink(): void {
    this.#enter(this.#exports);
    if (!this.#module.compiled.takesLinks || this.#objects !== undefined) return;
    const [batch, single] = [this.#batch, this.#single];
    this.#batch = (slot, count) => {
      batch(slot, count);
      if (this.#linkSchedule.passed(count)) this.#link();
    };
    this.#single = (slot) => {
      const verdict = single(slot);
      if (this.#linkSchedule.passed(1)) this.#link();
      return verdict;
    };
  }

  /** Puts programs in the place of tail calls: those that arrays hold now. */
  #link(): void {
    if (this.#linked !== undefined) modulesByName.delete(this.#linked.module.name);
    this.#linked = undefined;
    const programs = this.#linkable();
    if (programs.length === 0) return;
    const links = programs.map((other) => ({
      id: other.id,
      program: other.program,
      options: other.#compileOptions('packet'),
    }));
    const module = this.#compile('packet', links);
    if (module.compiled.linked.length === 0) {
      modulesByName.delete(module.name);
      return;
    }
    const ids = new Map(
      programs.map(({ id }) => [id, new WebAssembly.Global({ value: 'i32', mutable: true }, id)]),
    );
    this.#linked = { module, ids };
    this.table.imported();
    const imports = programs.map((other) => ({ ...other.#helperImports(), id: ids.get(other.id)! }));
    const { exports } = this.#instance(module, this.table.table, imports);
    this.#enter(exports);
  }

  #enter(exports: WebAssembly.Exports): void {
    this.#batch = exports['batch'] as BatchFunction;
    this.#single = exports['single'] as SingleFunction;
  }

  /** Programs that tail calls may lead to, and on from there; those that are run under the same terms as this one. */
  #linkable(): WasmProgram[] {
    const found = new Set<WasmProgram>([this]);
    // A set hands out what is added on the way, too.
    for (const program of found) {
      for (const id of program.#module.compiled.tailTargets()) {
        const other = this.table.member(id);
        if (!(other instanceof WasmProgram) || found.size > MAX_LINKS) continue;
        const alike =
          other.program.type === this.program.type &&
          other.#insnLimit === this.#insnLimit &&
          other.work === this.work &&
          other.#objects === undefined;
        if (alike && other.#module.compiled.linkable) found.add(other);
      }
    }
    found.delete(this);
    return [...found];
  }

  /** @param links what the module imports besides, for each program that may stand in it */
  #instance(
    { module }: WasmModule,
    table: WebAssembly.Table,
    links: readonly WebAssembly.ModuleImports[] = [],
  ): WebAssembly.Instance {
    const { runtime } = this;
    return new WebAssembly.Instance(module, {
      ...Object.fromEntries(links.map((imports, position) => [`h${position + 1}`, imports])),
      x: {
        memory: runtime.space.memory,
        table,
        budget: this.table.budget,
        find: (programId: number) => this.table.find(programId),
        resolve: () => this.#resolveTailCall(),
        ...(this.#objects === undefined ? {} : this.#checkImports(this.#objects)),
        limit: (insn: number) => {
          throw new Fault(insnLimitReason(this.#insnLimit), insn);
        },
        linkMissed: () => {
          if (this.#linkSchedule.missed()) this.#unlink();
        },
      },
      h: this.#helperImports(),
    });
  }

  #helperImports(): WebAssembly.ModuleImports {
    const helpers = this.#module.compiled.helpers.map((id) => [id, this.#helpers.find(id)!] as const);
    const routes = this.#routes?.generation;
    return { ...Object.fromEntries(helpers), ...(routes === undefined ? {} : { routes }) };
  }

  #charge(insns: number): void {
    const { budget } = this.table;
    const left = budget.value - insns;
    budget.value = Math.max(left, -1);
    if (left < 0) throw new HelperFault(insnLimitReason(this.#insnLimit));
  }

  #checkImports(objects: ObjectCache): WebAssembly.ModuleImports {
    const { runtime } = this;
    const { space, state } = runtime;
    const judge = defaultAccessCheck(runtime);
    const check = (low: number, high: number, sizeAndFlag: number, insn: number): void => {
      const address = low >>> 0;
      const write = (sizeAndFlag & WRITE_FLAG) !== 0;
      const reason =
        high === 0
          ? judge(address, sizeAndFlag & ~WRITE_FLAG, write)
          : `0x${((BigInt(high >>> 0) << 32n) | BigInt(address)).toString(16)} belongs to no object`;
      if (reason === undefined) {
        if (space.regionAt(address)!.kind !== 'packet') objects.remember(address, write);
        return;
      }
      space.i32[(state.address + RUN_STATE.fault) >> 2] = insn + 1;
      throw new Fault(reason, insn);
    };
    return {
      check,
      stale: objects.stale,
      'read start': objects.read.start,
      'read end': objects.read.end,
      'write start': objects.write.start,
      'write end': objects.write.end,
    };
  }

  /** The target of a tail call through a map that is known only now; arguments are in the run state. */
  #resolveTailCall(): number {
    const { state, maps } = this.runtime;
    const map = maps.get(state.argLow(2) >>> 0);
    if (this.#objects !== undefined && (map?.programAt === undefined || state.argHigh(2) !== 0))
      throw new HelperFault(`r2 = 0x${state.arg(2).toString(16)} is not a PROG_ARRAY`);
    const programId = map?.programAt?.(state.argLow(3) >>> 0) ?? 0;
    const index = this.table.find(programId);
    state.space.i32[(state.address + RUN_STATE.tailProgram) >> 2] = programId;
    return index;
  }

  #faulted(error: unknown): ProgramFault {
    this.lastFault = faultOf(error, this.program.name);
    this.runtime.discardReservations();
    return this.lastFault;
  }
}

/** For a program that asks a network whose answers may be kept. */
function routeCache(
  { insns }: Program,
  { space }: BpfRuntime,
  { world, helperOverrides }: ExecutionEnvironment,
): RouteCache | undefined {
  const { network } = world;
  if (network === undefined || !tellsChanges(network)) return undefined;
  if (helperOverrides?.has(BPF_FUNC.fib_lookup) === true) return undefined;
  const asks = insns.some(
    ({ opcode, src, imm }) => opcode === OP_CALL && src === BPF_CALL_HELPER && imm === BPF_FUNC.fib_lookup,
  );
  return asks ? new RouteCache(space, network) : undefined;
}

function worldOf({ world }: ExecutionEnvironment, routes: RouteCache | undefined): HelperWorld {
  return routes === undefined ? world : { trace: (text) => world.trace(text), network: routes };
}

interface WasmModule {
  readonly name: string;
  readonly compiled: CompiledProgram;
  readonly module: WebAssembly.Module;
}

function abort(frames: FrameRing, slot: number): void {
  frames.space.i32[(frames.address(slot) + FRAME_SLOT.verdict) >> 2] = XDP_ABORTED;
}

/** Thrown by an import to end a run with a reason. */
class Fault extends Error {
  override readonly name = 'Fault';
  constructor(
    reason: string,
    readonly insn: number,
  ) {
    super(reason);
  }
}

/** What ended a run: a check of ours, a helper, or a trap. Anything else is a bug and is thrown on. */
function faultOf(error: unknown, program: string): ProgramFault {
  // First the reason: what is no fault is thrown on, with its stack trace untouched.
  const reason = reasonOf(error);
  const place = placeOf(error);
  const insn = error instanceof Fault ? error.insn : (place?.insn ?? UNKNOWN_INSN);
  const within = place === undefined || place.program === program ? '' : ` in ${place.program}`;
  return { insn, reason: reason + within };
}

function reasonOf(error: unknown): string {
  if (error instanceof Fault) return error.message;
  if (error instanceof HelperFault) return helperFaultReason(error);
  if (error instanceof WebAssembly.RuntimeError) {
    return error.message === 'memory access out of bounds'
      ? 'access beyond the end of the address space'
      : `trap: ${messageOf(error)}`;
  }
  // V8 throws this for wasm as for JavaScript when its own stack is used up.
  if (error instanceof RangeError && error.message.includes('call stack'))
    return 'calls are nested too deeply';
  return helperFaultReason(error);
}

/** The program and insn that were running: the innermost wasm frame of the stack trace. */
function placeOf(error: unknown): CodePlace | undefined {
  const place = error instanceof Error ? wasmPlace(error) : undefined;
  return place === undefined ? undefined : modulesByName.get(place.module)?.placeAt(place.offset);
}
