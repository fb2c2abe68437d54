import { formatInsn } from '../../src/bpf/disassembler.js';
import type { Insn } from '../../src/bpf/insn.js';
import type { Program } from '../../src/bpf/program.js';
import type { VerifierMap } from '../../src/core/contract/verifier.js';
import type { ControlFlow } from './control-flow.js';
import { FactCollector } from './fact-collector.js';
import { markLive, markPrecise } from './checkpoint.js';
import { Origin, OriginKind } from './origin.js';
import { PointerTypes } from './pointer-types.js';
import { type Finding, RejectSignal } from './reject-signal.js';
import type { RejectionCode } from './rejection-codes.js';
import { Kind, knownMap, type KnownMap, NOT_INIT, type Value } from './value.js';
import { VerifierState } from './verifier-state.js';

export interface SimulationOptions {
  readonly allowPointerLeaks: boolean;
  readonly allowPrivilegedHelpers: boolean;
}

/** What the simulation asks of whoever drives it. */
export interface Driver {
  /**
   * The path can go on in two ways. `second` starts at `secondPc`, the simulation's own state at `firstPc`; returns
   * whether the simulation is to go on with the second one.
   */
  fork(firstPc: number, second: VerifierState, secondPc: number): boolean;
}

/** The state of the path that is running, and what the rules of the insns (step.ts) need to read and change it. */
export class Simulation {
  readonly insns: readonly Insn[];
  readonly facts: FactCollector;
  /** By start of function: bytes of stack used. */
  readonly stackDepth = new Map<number, number>();
  state: VerifierState;
  pc = 0;
  /** A callback may change the map that it is called for, so that nothing bounds how often it is. */
  changesIteratedMap = false;
  #nextId = 1;
  readonly #innerMaps = new Map<KnownMap, KnownMap | undefined>();
  readonly #maps = new Map<number, KnownMap>();

  constructor(
    readonly program: Program,
    readonly flow: ControlFlow,
    maps: ReadonlyMap<number, VerifierMap>,
    readonly options: SimulationOptions,
    readonly driver: Driver,
    /** Given where a path is run again: what the others loaded from is known then. */
    readonly pointerTypes = new PointerTypes(program.insns.length),
  ) {
    this.insns = program.insns;
    this.facts = new FactCollector(program.insns.length);
    for (const [handle, spec] of maps) this.#maps.set(handle, knownMap(handle, spec));
    this.state = VerifierState.initial();
  }

  newId(): number {
    return this.#nextId++;
  }

  /** The map that a `lddw` names; checkMapReferences has found that it exists. */
  mapNamed(handle: number): KnownMap {
    const map = this.#maps.get(handle)!;
    this.facts.mapType(map.spec.type);
    return map;
  }

  /** What an inner lookup of a map of maps gives. */
  innerMap(outer: KnownMap): KnownMap {
    let inner = this.#innerMaps.get(outer);
    if (inner === undefined) {
      const spec = outer.spec.inner;
      if (spec === undefined) {
        this.reject('helper-argument', `it is not known what maps ${outer.spec.name} holds`);
      }
      const { type, keySize, valueSize, maxEntries, flags, btf } = spec;
      inner = knownMap(-1 - this.#innerMaps.size, {
        name: `${outer.spec.name}[]`,
        type,
        keySize,
        valueSize,
        maxEntries,
        flags,
        btf,
        inner: spec.inner,
      });
      this.#innerMaps.set(outer, inner);
    }
    return inner;
  }

  // Registers of the running frame

  get(register: number): Value {
    const value = this.state.top.regs[register]!;
    if (value.kind === Kind.NotInit) {
      const callDepth = this.state.depth > 0 && register <= 5 && register > 0;
      this.reject(
        'uninitialised-register',
        `R${register} is read, but nothing was put into it on this path`,
        {
          registers: [register],
          suggestion:
            register <= 5
              ? `give R${register} a value first; a call of a helper or function wipes R1 to R5${callDepth ? ', and the caller has to pass every argument' : ''}, so what is needed later belongs in R6 to R9 or on the stack`
              : `give R${register} a value on every path that leads here`,
        },
      );
    }
    return value;
  }

  peek(register: number): Value {
    return this.state.top.regs[register]!;
  }

  origin(register: number): Origin | undefined {
    return this.state.top.origins[register];
  }

  /** A new origin for what the running insn computes. */
  madeHere(a?: Origin, b?: Origin, kind = OriginKind.Value): Origin {
    return new Origin(this.pc, this.state.steps, a, b, kind);
  }

  /** A new origin for a stack slot of which the running insn wrote the bytes that `written` has a bit for. */
  wroteHere(written: number, a?: Origin, b?: Origin): Origin {
    return new Origin(this.pc, this.state.steps, a, b, OriginKind.Slot, written);
  }

  set(register: number, value: Value, a?: Origin, b?: Origin, kind = OriginKind.Value): void {
    const frame = this.state.writable();
    frame.regs[register] = value;
    frame.origins[register] = new Origin(this.pc, this.state.steps, a, b, kind);
  }

  /** The same value under another name: it keeps its origin. */
  copy(dst: number, value: Value, origin: Origin | undefined): void {
    const frame = this.state.writable();
    frame.regs[dst] = value;
    frame.origins[dst] = origin;
  }

  forget(register: number): void {
    const frame = this.state.writable();
    frame.regs[register] = NOT_INIT;
    frame.origins[register] = undefined;
  }

  /** What the register holds decides whether the program is safe, so states must agree on it exactly. */
  precise(register: number): void {
    this.preciseNumber(this.origin(register));
  }

  /** The same of a number that may lie elsewhere. */
  preciseNumber(origin: Origin | undefined): void {
    markPrecise(origin, this.state.latest);
  }

  /** Bytes of a stack slot are read: states that have others there are not the same. */
  live(frame: number, slot: number, bytes: number): void {
    const { frames, latest } = this.state;
    markLive(frames[frame]!.stack.origins[slot], latest, frame, slot, bytes);
  }

  /** Applies `change` to every value in registers and stack slots of all frames; undefined leaves it as it is. */
  updateAll(change: (value: Value) => Value | undefined, source: Origin | undefined): void {
    const { state } = this;
    for (let index = 0; index < state.frames.length; index++) {
      const frame = state.frames[index]!;
      for (let register = 0; register < 10; register++) {
        const old = frame.regs[register]!;
        if (old.kind === Kind.NotInit) continue;
        const value = change(old);
        if (value === undefined) continue;
        state.changes++;
        const writable = state.writable(index);
        writable.origins[register] = this.madeHere(writable.origins[register], source, OriginKind.Copy);
        writable.regs[register] = value;
      }
      const { slots } = frame.stack;
      for (let index8 = 0; index8 < slots.length; index8++) {
        const slot = slots[index8]!;
        if (slot.value === undefined) continue;
        const value = change(slot.value);
        if (value === undefined) continue;
        state.changes++;
        const stack = state.writableStack(index);
        const origin = this.madeHere(stack.origins[index8], source, OriginKind.Slot);
        stack.set(index8, slot.withValue(value), origin);
      }
    }
  }

  useStack(frameIndex: number, lowest: number): void {
    const { start } = this.state.frames[frameIndex]!;
    const bytes = -lowest;
    if (bytes > (this.stackDepth.get(start) ?? 0)) this.stackDepth.set(start, bytes);
  }

  text(index = this.pc): string {
    return formatInsn(this.insns, index);
  }

  reject(code: RejectionCode, reason: string, details: Omit<Finding, 'code' | 'reason'> = {}): never {
    throw new RejectSignal({ insn: this.pc, ...details, code, reason });
  }
}
