import type { Insn } from '../../src/bpf/insn.js';
import { Checkpoint } from './checkpoint.js';
import { analyseControlFlow, type ControlFlow } from './control-flow.js';
import type { StateObserver } from './exploration.js';
import { ALL_BYTES, type Origin } from './origin.js';
import { isNeverNull } from './pointer-kinds.js';
import { Byte } from './slot.js';
import { formatValue } from './value-format.js';
import { isInnerMap, Kind, RANGE_AT_END, RANGE_BEYOND_END, type Value } from './value.js';
import type { VerifierState } from './verifier-state.js';

const U64 = (1n << 64n) - 1n;

/** One function of a run, at the moment that an insn of it is about to be executed, or while it waits for one it called. */
export interface ConcreteFrame {
  /** Slot of the function's first insn. */
  readonly start: number;
  /** Slot of the call insn; -1 for the main program. */
  readonly callsite: number;
  /** R0 … R10 as unsigned 64-bit numbers. Of a waiting function only R6 to R10 are looked at. */
  readonly registers: readonly bigint[];
}

/** A run between two insns. */
export interface ConcreteState {
  readonly pc: number;
  readonly frames: readonly ConcreteFrame[];
  /** Address of the context, and what its fields data, data_end and data_meta hold. */
  readonly context: bigint;
  readonly data: bigint;
  readonly dataEnd: bigint;
  readonly dataMeta: bigint;
  /** Reads `size` (1 to 8) bytes of the program's memory, little-endian. */
  read(address: bigint, size: number): bigint;
  /** Address of the map with that handle. */
  mapAddress(handle: number): bigint | undefined;
  /** Addresses of the ring buffer records that are held. */
  readonly records: readonly bigint[];
  /** How messages call the object that holds the address; undefined if none does. */
  objectAt(address: bigint): string | undefined;
}

/** Why no recorded state contains a run: the nearest one, and what of it does not fit. */
export interface Outside {
  readonly insn: number;
  /** `R3 = 0x10, but scalar(umax=7)`, of the nearest of the states. */
  readonly reason: string;
  /** How many states there are at the insn. */
  readonly states: number;
}

/** Most states kept for one insn: beyond, programs are too large to be compared. */
const MAX_STATES = 3_000;

/**
 * Keeps the states that an exploration passes through, and tells whether a run stays within them: at every insn, the
 * registers, the stack, the packet's ends and what is held have to be among what at least one state there admits. What no later insn
 * of the explored paths looked at closely (checkpoint.ts) may be anything, as in pruning: another path may have ended at
 * an earlier state on the ground of that.
 */
export class StateRecorder implements StateObserver {
  readonly #states: Recorded[][] = [];
  #flow: ControlFlow | undefined;
  /** More states than are kept: nothing can be said. */
  overflown = false;
  /** How many are kept. */
  states = 0;

  before(pc: number, state: VerifierState): void {
    const list = (this.#states[pc] ??= []);
    if (list.length >= MAX_STATES) this.overflown = true;
    else {
      const marks = new Checkpoint(state.steps, state.latest);
      list.push({ state: state.fork(), marks });
      state.latest = marks;
      this.states++;
    }
  }

  /** Once the program was accepted. */
  finish(insns: readonly Insn[]): void {
    this.#flow = analyseControlFlow(insns);
  }

  /** Undefined when a state contains the run. */
  findOutside(run: ConcreteState): Outside | undefined {
    const states = this.#states[run.pc] ?? [];
    let nearest: Misfit = { depth: -1, reason: 'no state was explored here' };
    for (const recorded of states) {
      const misfit = new Containment(this.#flow!, recorded, run).check();
      if (misfit === undefined) return undefined;
      if (misfit.depth > nearest.depth) nearest = misfit;
    }
    return { insn: run.pc, reason: nearest.reason, states: states.length };
  }
}

/** A state of a path, and what turned out to matter of it. */
interface Recorded {
  readonly state: VerifierState;
  readonly marks: Checkpoint;
}

/** What does not fit, and how much did before it. */
interface Misfit {
  readonly depth: number;
  readonly reason: string;
}

class Containment {
  readonly #numbers = new Map<number, bigint>();
  readonly #offsets = new Map<number, bigint>();
  readonly #nulls = new Map<number, boolean>();
  /** Addresses of what references stand for, as far as a pointer tells; 0 for what was not acquired. */
  readonly #records = new Map<number, bigint>();
  readonly state: VerifierState;
  readonly marks: Checkpoint;
  #checked = 0;

  constructor(
    readonly flow: ControlFlow,
    { state, marks }: Recorded,
    readonly run: ConcreteState,
  ) {
    this.state = state;
    this.marks = marks;
  }

  check(): Misfit | undefined {
    const { frames } = this.state;
    if (frames.length !== this.run.frames.length) return { depth: 0, reason: 'other functions are running' };
    for (let index = 0; index < frames.length; index++) {
      const frame = frames[index]!;
      const concrete = this.run.frames[index]!;
      if (frame.start !== concrete.start || frame.callsite !== concrete.callsite) {
        return { depth: 0, reason: 'other functions are running' };
      }
    }
    for (let index = frames.length - 1; index >= 0; index--) {
      const problem = this.#registers(index) ?? this.#stack(index);
      if (problem !== undefined) return { depth: this.#checked, reason: problem };
    }
    const problem = this.#references();
    return problem === undefined ? undefined : { depth: this.#checked, reason: problem };
  }

  /** Each record that is held is one of the references, and each reference that a pointer names is held. */
  #references(): string | undefined {
    const unnamed = new Set(this.run.records);
    let free = 0;
    for (const { id } of this.state.references) {
      const address = this.#records.get(id);
      if (address === undefined) free++;
      else if (address !== 0n && !unnamed.delete(address)) {
        return `reference ${id} is 0x${address.toString(16)}, which is not held`;
      }
    }
    return unnamed.size > free ? `${this.run.records.length} records are held, said to be fewer` : undefined;
  }

  #registers(index: number): string | undefined {
    const frame = this.state.frames[index]!;
    const { registers } = this.run.frames[index]!;
    const isTop = index === this.state.depth;
    const live = isTop
      ? this.flow.liveRegisters[this.run.pc]!
      : this.flow.liveRegisters[this.state.frames[index + 1]!.callsite + 1]! & 0x3c0;
    for (let register = 0; register < 10; register++) {
      if ((live & (1 << register)) === 0) continue;
      const value = frame.regs[register]!;
      const problem = this.#value(value, frame.origins[register], registers[register]!, 8);
      if (problem !== undefined) return `${this.#name(index, `R${register}`)} ${problem}`;
      this.#checked++;
    }
    return undefined;
  }

  #stack(index: number): string | undefined {
    const { slots, origins } = this.state.frames[index]!.stack;
    const framePointer = this.run.frames[index]!.registers[10]!;
    for (let place = 0; place < slots.length; place++) {
      const slot = slots[place]!;
      const origin = origins[place];
      const live = this.marks.liveBytes(index, place);
      if (slot.types === 0 || live === 0) continue;
      const at = -8 * (place + 1);
      const address = framePointer + BigInt(at);
      if (slot.value !== undefined && (live & (ALL_BYTES >> (8 - slot.spillSize))) !== 0) {
        const number = this.run.read(address, slot.spillSize);
        const problem = this.#value(slot.value, origin, number, slot.spillSize);
        if (problem !== undefined) return `${this.#name(index, `fp${at}`)} ${problem}`;
      }
      for (let byte = 0; byte < 8; byte++) {
        const isLiveZero = (live & (1 << byte)) !== 0 && slot.byte(byte) === Byte.Zero;
        if (isLiveZero && this.run.read(address + BigInt(byte), 1) !== 0n) {
          return `${this.#name(index, `fp${at + byte}`)} is not 0, said to be`;
        }
      }
      this.#checked++;
    }
    return undefined;
  }

  #name(frame: number, what: string): string {
    return frame === this.state.depth ? what : `${what} of frame ${frame}`;
  }

  /** What is wrong with a number where the state has `value`. */
  #value(value: Value, origin: Origin | undefined, number: bigint, size: number): string | undefined {
    const wrong = this.#isWrong(value, origin, number, size);
    return wrong ? `= 0x${number.toString(16)}, but ${formatValue(value)}` : undefined;
  }

  #isWrong(value: Value, origin: Origin | undefined, number: bigint, size: number): boolean {
    switch (value.kind) {
      case Kind.NotInit:
        // No path that is explored reads it, or it would be rejected.
        return false;
      case Kind.Scalar: {
        if (!this.marks.isPrecise(origin)) return false;
        if (!value.scalar.admits(number)) return true;
        if (value.id === 0 || size < 8) return false;
        return this.#disagrees(this.#numbers, value.id, (number - BigInt(value.off)) & U64);
      }
      default:
        return this.#isWrongPointer(value, number);
    }
  }

  #isWrongPointer(value: Value, number: bigint): boolean {
    if (value.kind === Kind.Memory && value.ref !== 0) {
      const start = number === 0n ? 0n : this.#startOf(value, number);
      if (start !== undefined && this.#disagrees(this.#records, value.ref, start)) return true;
    }
    if (value.maybeNull) {
      const isNull = number === 0n;
      if (value.id !== 0 && this.#disagrees(this.#nulls, value.id, isNull)) return true;
      if (isNull) return false;
    } else if (number === 0n && isNeverNull(value)) return true;
    const { run } = this;
    switch (value.kind) {
      case Kind.Context:
        return number !== run.context + BigInt(value.off);
      case Kind.Packet:
        return this.#isWrongPacket(value, number, run.data, run.dataEnd);
      case Kind.PacketMeta:
        return this.#isWrongPacket(value, number, run.dataMeta, run.data);
      case Kind.PacketEnd:
        return number !== run.dataEnd;
      case Kind.Stack:
        return !this.#isAt(value, run.frames[value.size]!.registers[10]!, number);
      case Kind.Map: {
        const address = isInnerMap(value.map!) ? undefined : run.mapAddress(value.map!.handle);
        return address !== undefined && number !== address;
      }
      case Kind.MapValue:
      case Kind.MapKey:
      case Kind.Memory:
        return this.#isWrongObject(value, number);
      default:
        return false;
    }
  }

  #isWrongPacket(value: Value, number: bigint, base: bigint, end: bigint): boolean {
    const offset = (number - base - BigInt(value.off)) & U64;
    if (!value.scalar.admits(offset)) return true;
    if (value.id !== 0 && this.#disagrees(this.#offsets, value.id, offset)) return true;
    if (value.range > 0) return base + BigInt.asIntN(64, offset) + BigInt(value.range) > end;
    if (value.range === RANGE_BEYOND_END) return number <= end;
    return value.range === RANGE_AT_END && number < end;
  }

  #isAt(value: Value, base: bigint, number: bigint): boolean {
    return value.scalar.admits((number - base - BigInt(value.off)) & U64);
  }

  /** Where the object starts is known only of what was moved by constants. */
  #startOf({ scalar, off }: Value, number: bigint): bigint | undefined {
    return scalar.isConst ? (number - BigInt(off) - scalar.value) & U64 : undefined;
  }

  #isWrongObject(value: Value, number: bigint): boolean {
    const start = this.#startOf(value, number);
    if (start === undefined) return false;
    const object = this.run.objectAt(start);
    if (object === undefined) return true;
    const isOfMap = value.kind !== Kind.Memory && !isInnerMap(value.map!);
    return isOfMap && !object.includes(value.map!.spec.name);
  }

  #disagrees<T>(known: Map<number, T>, id: number, is: T): boolean {
    const before = known.get(id);
    if (before === undefined) known.set(id, is);
    return before !== undefined && before !== is;
  }
}
