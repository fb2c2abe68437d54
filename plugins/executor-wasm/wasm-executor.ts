import type { Program } from '../../src/bpf/program.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import {
  createHelpers,
  defaultAccessCheck,
  HelperFault,
  helperFaultReason,
  type HelperTable,
} from '../../src/bpf/runtime/helpers/helper-table.js';
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
import { compileProgram, type CompiledProgram } from './compile-program.js';
import { ProgramTable, type TableMember } from './program-table.js';
import { wasmPlace } from './wasm-place.js';
import { WRITE_FLAG } from './access-check.js';
import { ObjectCache } from './object-cache.js';

export interface WasmExecutorOptions {
  /**
   * Check every access against the bounds of the object it is for, and arguments of helpers. Default: of programs of which no
   * verifier has shown that they are contained.
   */
  readonly checked?: boolean | undefined;
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
type MainFunction = (r1: bigint, r2: bigint) => bigint;

/** Modules by name, so that a trap in the target of a tail call is found as well. */
const modulesByName = new Map<string, { readonly program: string; readonly compiled: CompiledProgram }>();
let moduleCount = 0;

class WasmProgram implements LoadedProgram, TableMember {
  readonly name: string;
  readonly executor = 'wasm';
  readonly id: number;
  readonly importsTable: boolean;
  lastFault: ProgramFault | undefined;
  readonly #helpers: HelperTable;
  readonly #now: (() => bigint) | undefined;
  readonly #module: WasmModule;
  readonly #insnLimit: number;
  /** What a checked program remembers. */
  readonly #objects: ObjectCache | undefined;
  #batch!: BatchFunction;
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
    this.#now = environment.world.now?.bind(environment.world);
    this.#insnLimit = insnLimitOf(environment.insnLimit);
    const checked = options.checked ?? environment.contained !== true;
    if (checked) this.#objects = new ObjectCache(runtime.space);
    this.#helpers = createHelpers(runtime, environment.world, {
      check: checked ? undefined : false,
      invoke: (slot) => (this.#running[`callback ${slot}`] as () => void)(),
      charge: (insns) => this.#charge(insns),
      work,
      overrides: environment.helperOverrides,
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
      throw error;
    }
    work?.declareHelpers(program.insns);
  }

  instantiate(table: WebAssembly.Table): WebAssembly.ExportValue {
    this.#exports = this.#instance(this.#module, table).exports;
    // Also for who comes here by a tail call, where none of the entries below is passed.
    this.#running = this.#exports;
    this.#batch = this.#exports['batch'] as BatchFunction;
    return this.#exports['main']!;
  }

  openFrames(slots: number, longest?: number): FrameRing {
    return openFrames(this.program, this.runtime, slots, longest);
  }

  run(slots: FrameSlots, slot: number): RunOutcome {
    const frames = this.#prepare(slots);
    const { i32 } = frames.space;
    const address = frames.address(slot);
    const verdict = (address + FRAME_SLOT.verdict) >> 2;
    try {
      this.#batch(address, 1);
    } catch (error) {
      i32[verdict] = XDP_ABORTED;
      return { verdict: XDP_ABORTED, fault: this.#faulted(error) };
    }
    if (frames.intact(slot)) return { verdict: i32[verdict]! >>> 0 };
    i32[verdict] = XDP_ABORTED;
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
          for (let i = 0; i < done; i++)
            i32[(frames.address(slot + i) + FRAME_SLOT.verdict) >> 2] = XDP_ABORTED;
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
    if (this.#values !== undefined) modulesByName.delete(this.#values.module.name);
    this.table.remove(this.id);
    this.#objects?.close();
    this.release();
  }

  /** Sets the clock, and sees that the frames lie where the program can reach them. */
  #prepare(frames: FrameSlots): FrameRing {
    if (!(frames instanceof FrameRing) || frames.space !== this.runtime.space) {
      throw new RangeError('the frames lie in another address space');
    }
    if (this.#now !== undefined) this.runtime.state.now = this.#now();
    return frames;
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

  #compile(entry: 'packet' | 'values'): WasmModule {
    const { environment } = this;
    const name = `bpf${++moduleCount}`;
    const compiled = compileProgram(this.program, {
      runtime: this.runtime,
      table: this.table,
      maps: environment.maps,
      supportedHelpers: this.#helpers.supported,
      overriddenHelpers: new Set(environment.helperOverrides?.keys()),
      objects: this.#objects,
      insnLimit: this.#insnLimit,
      workCounters: this.work?.address,
      entry,
      moduleName: name,
    });
    const module = new WebAssembly.Module(compiled.bytes);
    modulesByName.set(name, { program: this.program.name, compiled });
    return { name, compiled, module };
  }

  #instance({ compiled, module }: WasmModule, table: WebAssembly.Table): WebAssembly.Instance {
    const { runtime } = this;
    const helpers: Record<string, () => void> = {};
    for (const id of compiled.helpers) helpers[id] = this.#helpers.find(id)!;
    return new WebAssembly.Instance(module, {
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
      },
      h: helpers,
    });
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
    const programId = maps.get(state.argLow(2) >>> 0)?.programAt?.(state.argLow(3) >>> 0) ?? 0;
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

interface WasmModule {
  readonly name: string;
  readonly compiled: CompiledProgram;
  readonly module: WebAssembly.Module;
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
function placeOf(
  error: unknown,
): { readonly program: string; readonly insn: number | undefined } | undefined {
  const place = error instanceof Error ? wasmPlace(error) : undefined;
  const module = place === undefined ? undefined : modulesByName.get(place.module);
  if (place === undefined || module === undefined) return undefined;
  return { program: module.program, insn: module.compiled.insnAt(place.offset) };
}
