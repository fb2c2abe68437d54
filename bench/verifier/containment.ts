import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { BPF_CALL_HELPER, OP_CALL, OP_EXIT } from '../../src/bpf/opcodes.js';
import { clearSlot, openRing, type GeneratedCase } from '../../src/conformance/program-generator/index.js';
import type { Location } from '../../src/core/contract/program-debugging.js';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { InterpretedProgram } from '../../plugins/executor-interpreter/interpreted-program.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/index.js';
import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import type { AbstractVerifierConfig } from '../../plugins/verifier-abstract/config.js';
import {
  StateRecorder,
  type ConcreteFrame,
  type ConcreteState,
  type Outside,
} from '../../plugins/verifier-abstract/state-recorder.js';
import { requestOf } from './judges.js';
import { loadRunnable } from './load-runnable.js';

/** A run that left what the verifier had explored. */
export interface ContainmentMiss extends Outside {
  /** Which of the case's frames. */
  readonly frame: number;
}

export type ContainmentResult =
  | { readonly kind: 'rejected'; readonly code: string }
  /** Too many states to keep, or a helper that the interpreter does not have. */
  | { readonly kind: 'too-large' | 'not-runnable' }
  | {
      readonly kind: 'contained';
      /** Insns at which a run was held against the states. */
      readonly checked: number;
      readonly states: number;
    }
  | { readonly kind: 'miss'; readonly miss: ContainmentMiss };

/** bpf_tail_call. */
const TAIL_CALL = 12;
const MEMORY_BYTES = 2 * 1024 * 1024;
/** Insns of one run that are looked at; the rest of a long loop is more of the same. */
const MAX_STEPS = 4_000;

/**
 * Verifies the first program of a case, keeping every state that is explored, and steps through its runs: at each insn
 * one of the states there has to contain the run (StateRecorder). What other programs do after a tail call is not
 * looked at, but what it leaves when it returns to a caller in the first is.
 */
export async function findOutsideOf(
  generated: GeneratedCase,
  config: AbstractVerifierConfig,
): Promise<ContainmentResult> {
  const recorder = new StateRecorder();
  const first = generated.programs[0]!;
  const verification = await new AbstractVerifier(config, { observer: recorder }).verify(
    requestOf(first, generated),
  );
  if (!verification.accepted) return { kind: 'rejected', code: verification.code };
  for (const other of generated.programs.slice(1)) {
    const judged = await new AbstractVerifier(config).verify(requestOf(other, generated));
    if (!judged.accepted) return { kind: 'rejected', code: judged.code };
  }
  if (recorder.overflown) return { kind: 'too-large' };
  recorder.finish(first.insns);
  const runtime = new BpfRuntime({ memoryBytes: MEMORY_BYTES });
  const ring = openRing(generated, runtime, 1);
  const loaded = await loadRunnable(generated, {
    runtime,
    backend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    insnLimit: 1_000_000,
  });
  if (loaded === undefined) return { kind: 'not-runnable' };
  try {
    const { program } = loaded;
    if (!(program instanceof InterpretedProgram)) throw new TypeError('the interpreter made another program');
    let checked = 0;
    for (const [frame, { packet, metadata }] of generated.frames.entries()) {
      let outside: Outside | undefined;
      let left = MAX_STEPS;
      const run = new SteppedRun(runtime, ring, loaded.maps, first);
      const debug = program.debug({
        onInsn(at, registers) {
          const state = run.before(at, registers);
          if (state === undefined || outside !== undefined || left <= 0) return;
          left--;
          checked++;
          outside = recorder.findOutside(state);
        },
      });
      clearSlot(ring, 0);
      ring.load(0, packet, metadata);
      debug.start(ring, 0);
      while (debug.state?.state === 'paused' && outside === undefined && left > 0) debug.step();
      // Not undefined if the observer set it, which the compiler cannot see.
      const found = outside;
      if (found !== undefined) return { kind: 'miss', miss: { ...found, frame } };
      if (debug.state?.state === 'faulted') {
        const { insn, reason } = debug.state.fault;
        return { kind: 'miss', miss: { insn, reason: `faults: ${reason}`, states: 0, frame } };
      }
      // What is left of a run that was cut short would be in the way of the next one.
      if (debug.state?.state === 'paused') break;
    }
    return { kind: 'contained', checked, states: recorder.states };
  } finally {
    loaded.close();
  }
}

/** Knows which functions of the first program are running, from the insns it executes. */
class SteppedRun {
  #frames: ConcreteFrame[] = [];
  /** Slot of the last insn of the first program, and whether the function ended with it. */
  #last = { insn: -1, depth: -1, exited: false };
  /** Depth at which the program took a function's place by a tail call to itself: from there up it is another run. */
  #again = Infinity;

  constructor(
    readonly runtime: BpfRuntime,
    readonly ring: FrameRing,
    readonly maps: ReadonlyMap<number, { readonly address: number }>,
    readonly first: GeneratedCase['programs'][number],
  ) {}

  before({ program, insn, depth }: Location, registers: readonly bigint[]): ConcreteState | undefined {
    if (program !== this.first) return undefined;
    if (depth < this.#again) this.#again = Infinity;
    const last = program.insns[this.#last.insn];
    const isTailCall = last?.opcode === OP_CALL && last.src === BPF_CALL_HELPER && last.imm === TAIL_CALL;
    if (insn === 0 && depth > 0 && isTailCall) this.#again = Math.min(this.#again, depth);
    if (depth >= this.#again) return undefined;
    const frames = this.#frames;
    const isCalledAgain = this.#last.exited && depth === this.#last.depth && depth > 0;
    if (depth >= frames.length) frames.push({ start: insn, callsite: this.#last.insn, registers });
    else {
      const known = frames[depth]!;
      frames.length = depth;
      frames.push({ start: isCalledAgain ? insn : known.start, callsite: known.callsite, registers });
    }
    if (depth === 0) frames[0] = { start: 0, callsite: -1, registers };
    const exited = program.insns[insn]!.opcode === OP_EXIT;
    this.#last = { insn, depth, exited };
    return this.#state(insn, frames.slice());
  }

  #state(pc: number, frames: readonly ConcreteFrame[]): ConcreteState {
    const { space } = this.runtime;
    const context = this.ring.address(0);
    const field = (offset: number): bigint => BigInt(space.view.getUint32(context + offset, true));
    return {
      pc,
      frames,
      context: BigInt(context),
      data: field(0),
      dataEnd: field(4),
      dataMeta: field(8),
      read: (address, size) => {
        let value = 0n;
        for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(space.u8[Number(address) + i]!);
        return value;
      },
      records: this.runtime.reservations.records.map(BigInt),
      mapAddress: (handle) => {
        const map = this.maps.get(handle);
        return map === undefined ? undefined : BigInt(map.address);
      },
      objectAt: (address) => space.regionAt(Number(address))?.label,
    };
  }
}
