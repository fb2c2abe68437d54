import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { isUnconditional, jumpTarget } from './control-flow.js';
import { OriginKind } from './origin.js';
import { isNeverNull, isPacketFamily, sameMemory, staysLow } from './pointer-kinds.js';
import { arithmetic } from './scalar/scalar-arithmetic.js';
import { narrow } from './scalar/scalar-comparison.js';
import { Scalar } from './scalar/scalar.js';
import { rejectStale } from './stale-pointers.js';
import type { Simulation } from './simulation.js';
import { holdsLock } from './spin-locks.js';
import { describeKind } from './value-format.js';
import {
  constantValue,
  Kind,
  NULL_VALUE,
  RANGE_AT_END,
  RANGE_BEYOND_END,
  scalarValue,
  type Value,
} from './value.js';

/** Farthest byte of a packet that a comparison can prove to be there (kernel MAX_PACKET_OFF). */
const MAX_PACKET_OFFSET = 0xffff;

/** Classes JMP and JMP32 without CALL and EXIT. */
export function stepJump(sim: Simulation, insn: Insn, code: number): void {
  const target = jumpTarget(insn, sim.pc);
  if (isUnconditional(insn)) {
    sim.pc = target;
    return;
  }
  const is32 = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_JMP32;
  const fromRegister = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  const left = sim.get(insn.dst);
  const right = fromRegister ? sim.get(insn.src) : constantValue(insn.imm);
  const sourceRegister = fromRegister ? insn.src : undefined;
  if (left.isPointer || right.isPointer) {
    if (left.kind === Kind.Stale) rejectStale(sim, insn.dst);
    if (right.kind === Kind.Stale) rejectStale(sim, insn.src);
    comparePointers(sim, insn, code, is32, left, right, sourceRegister, target);
    return;
  }
  compareNumbers(sim, insn, code, is32, left, right, sourceRegister, target);
}

/** Goes on behind the jump or at its target, whichever is possible; both when both are. */
function branch(
  sim: Simulation,
  target: number,
  whenNot: ((sim: Simulation) => void) | undefined,
  whenTaken: ((sim: Simulation) => void) | undefined,
): void {
  const next = sim.pc + 1;
  const first = sim.state;
  const second = first.fork();
  whenNot?.(sim);
  sim.state = second;
  whenTaken?.(sim);
  sim.state = first;
  if (sim.driver.fork(next, second, target)) {
    sim.state = second;
    sim.pc = target;
  } else sim.pc = next;
}

function compareNumbers(
  sim: Simulation,
  insn: Insn,
  code: number,
  is32: boolean,
  left: Value,
  right: Value,
  sourceRegister: number | undefined,
  target: number,
): void {
  const taken = narrow(code, true, left.scalar, right.scalar, is32);
  const not = narrow(code, false, left.scalar, right.scalar, is32);
  if (taken === undefined || not === undefined) {
    // Only one way to go, and that hangs on what both are.
    sim.precise(insn.dst);
    if (sourceRegister !== undefined) sim.precise(sourceRegister);
    sim.pc = not === undefined ? target : sim.pc + 1;
    return;
  }
  const apply = (narrowed: readonly [Scalar, Scalar]) => (): void => {
    // A register compared with itself learns nothing.
    if (sourceRegister === insn.dst) return;
    const other = sourceRegister === undefined ? undefined : sim.origin(sourceRegister);
    const own = sim.origin(insn.dst);
    learn(sim, insn.dst, left, narrowed[0], own, other);
    if (sourceRegister !== undefined) learn(sim, sourceRegister, right, narrowed[1], other, own);
  };
  branch(sim, target, apply(not), apply(taken));
}

/** A register turned out to be `scalar`; whatever is the same number, plus a constant, is told as well. */
function learn(
  sim: Simulation,
  register: number,
  value: Value,
  scalar: Scalar,
  own: ReturnType<Simulation['origin']>,
  other: ReturnType<Simulation['origin']>,
): void {
  if (scalar === value.scalar) return;
  const { id } = value;
  if (id === 0) {
    sim.set(register, scalarValue(scalar), own, other, OriginKind.Copy);
    return;
  }
  sim.set(register, value.with({ scalar }), own, other, OriginKind.Copy);
  const source = sim.origin(register);
  sim.updateAll((candidate) => {
    if (candidate.kind !== Kind.Scalar || candidate.id !== id) return undefined;
    const delta = candidate.off - value.off;
    const known = delta === 0 ? scalar : arithmetic(op.BPF_ADD, scalar, Scalar.of(delta), false);
    return candidate.scalar === known || candidate.scalar.equals(known)
      ? undefined
      : candidate.with({ scalar: known });
  }, source);
}

function comparePointers(
  sim: Simulation,
  insn: Insn,
  code: number,
  is32: boolean,
  left: Value,
  right: Value,
  sourceRegister: number | undefined,
  target: number,
): void {
  const isEquality = code === op.BPF_JEQ || code === op.BPF_JNE;
  if (!is32 && isEquality) {
    const subject = left.isPointer ? left : right;
    const other = left.isPointer ? right : left;
    if (other.isZero && subject.kind !== Kind.PacketLow && (subject.maybeNull || isNeverNull(subject))) {
      // Whether this is a NULL check hangs on the number being 0.
      if (sourceRegister !== undefined) sim.precise(left.isPointer ? sourceRegister : insn.dst);
      compareWithNull(sim, subject, code, target);
      return;
    }
  }
  if (
    !is32 &&
    sourceRegister !== undefined &&
    (sim.options.allowPointerLeaks || (isNeverNull(left) && isNeverNull(right))) &&
    comparePacketPointers(sim, code, left, right, insn.dst, sourceRegister, target)
  ) {
    return;
  }
  const isHalf = (left.kind === Kind.PacketLow) !== (right.kind === Kind.PacketLow);
  // Compilers narrow the NULL check of a pointer they loaded as the 32 bits of `ctx->data`.
  const checked = left.isPointer ? left : right;
  const isNullCheck =
    isEquality &&
    (left.isPointer ? right : left).isZero &&
    isPacketFamily(checked) &&
    isNeverNull(checked) &&
    staysLow(checked);
  // Which of two is above the other tells no address as long as neither can have wrapped around.
  const isOfOneMemory = sameMemory(left, right) && isNeverNull(left) && isNeverNull(right);
  const isTold = is32 ? isPacketFamily(left) && hasLowHalf(left) && hasLowHalf(right) : !isHalf;
  const harmless = isNullCheck || (isOfOneMemory && TELLS_ORDER_ONLY.has(code) && isTold);
  if (isNullCheck && sourceRegister !== undefined) sim.precise(left.isPointer ? sourceRegister : insn.dst);
  if (!sim.options.allowPointerLeaks && !harmless) {
    const registers = sourceRegister === undefined ? [insn.dst] : [insn.dst, sourceRegister];
    sim.reject(
      'pointer-comparison',
      `${describeKind(left)} is compared with ${describeKind(right)}${is32 ? ' on 32 bits' : ''}, which would tell addresses`,
      {
        registers,
        suggestion:
          'compare packet pointers with data_end, pointers that may be NULL with 0, and pointers into the same memory with each other, all on 64 bits',
      },
    );
  }
  branch(sim, target, undefined, undefined);
}

/**
 * Comparisons of two pointers into the same memory that tell which is above the other. A signed one comes round at 2^63,
 * and a test of bits is one of the addresses' own.
 */
const TELLS_ORDER_ONLY: ReadonlySet<number> = new Set([
  op.BPF_JEQ,
  op.BPF_JNE,
  op.BPF_JGT,
  op.BPF_JGE,
  op.BPF_JLT,
  op.BPF_JLE,
]);

/** Whether the low 32 bits of a packet pointer are as good as the pointer: they have not come round. */
function hasLowHalf(value: Value): boolean {
  return value.kind === Kind.PacketLow || staysLow(value);
}

/** Comparison of a pointer that may be NULL, or that cannot be, with 0. */
function compareWithNull(sim: Simulation, subject: Value, code: number, target: number): void {
  if (!subject.maybeNull) {
    sim.pc = code === op.BPF_JEQ ? sim.pc + 1 : target;
    return;
  }
  const isNull = (): void => markNull(sim, subject, true);
  const isNotNull = (): void => markNull(sim, subject, false);
  if (code === op.BPF_JEQ) branch(sim, target, isNotNull, isNull);
  else branch(sim, target, isNull, isNotNull);
}

/** Everything that came from the same call is NULL, or is not, together. */
function markNull(sim: Simulation, subject: Value, isNull: boolean): void {
  sim.updateAll((candidate) => {
    if (!candidate.maybeNull || candidate.id !== subject.id) return undefined;
    if (isNull) return NULL_VALUE;
    const isLockable = candidate.kind === Kind.MapValue && holdsLock(candidate.map!);
    return candidate.with({ maybeNull: false, id: isLockable ? candidate.id : 0 });
  }, undefined);
  // A cast that gave NULL takes nothing from the socket that it was asked of.
  if (isNull && subject.ref !== 0 && subject.id === subject.ref) {
    sim.state.references = sim.state.references.filter((reference) => reference.id !== subject.ref);
  }
}

// Packet bounds

const MIRRORED: Readonly<Record<number, number>> = {
  [op.BPF_JGT]: op.BPF_JLT,
  [op.BPF_JGE]: op.BPF_JLE,
  [op.BPF_JLT]: op.BPF_JGT,
  [op.BPF_JLE]: op.BPF_JGE,
};

/** Whether the comparison was one of a packet pointer with an end of the packet. */
function comparePacketPointers(
  sim: Simulation,
  code: number,
  left: Value,
  right: Value,
  leftRegister: number,
  rightRegister: number,
  target: number,
): boolean {
  if (MIRRORED[code] === undefined) return false;
  const forward = isEndOf(right, left);
  if (!forward && !isEndOf(left, right)) return false;
  // From here on: `pointer code end`.
  const subject = forward ? left : right;
  const register = forward ? leftRegister : rightRegister;
  const relation = forward ? code : MIRRORED[code];
  const known = knownOutcome(subject, relation);
  if (known !== undefined) {
    sim.pc = known ? target : sim.pc + 1;
    return true;
  }
  switch (relation) {
    case op.BPF_JGT:
      branch(
        sim,
        target,
        () => proveRange(sim, register, subject, false),
        () => markBeyond(sim, register, subject, RANGE_BEYOND_END),
      );
      break;
    case op.BPF_JGE:
      branch(
        sim,
        target,
        () => proveRange(sim, register, subject, true),
        () => markBeyond(sim, register, subject, RANGE_AT_END),
      );
      break;
    case op.BPF_JLT:
      branch(
        sim,
        target,
        () => markBeyond(sim, register, subject, RANGE_AT_END),
        () => proveRange(sim, register, subject, true),
      );
      break;
    default:
      branch(
        sim,
        target,
        () => markBeyond(sim, register, subject, RANGE_BEYOND_END),
        () => proveRange(sim, register, subject, false),
      );
  }
  return true;
}

/** data_end bounds packet pointers; data itself, unmoved, bounds metadata pointers. */
function isEndOf(end: Value, pointer: Value): boolean {
  if (pointer.kind === Kind.Packet) return end.kind === Kind.PacketEnd;
  if (pointer.kind !== Kind.PacketMeta) return false;
  return end.kind === Kind.Packet && end.off === 0 && end.id === 0 && end.scalar.constant === 0n;
}

/** A pointer that was found to be past the end is so in the next comparison as well. */
function knownOutcome(pointer: Value, relation: number): boolean | undefined {
  if (pointer.range === RANGE_BEYOND_END) return relation === op.BPF_JGT || relation === op.BPF_JGE;
  if (pointer.range !== RANGE_AT_END) return undefined;
  return relation === op.BPF_JGE ? true : relation === op.BPF_JLT ? false : undefined;
}

/** `pointer <= end` or, `strictly`, `pointer < end`: what lies before the pointer is inside the packet. */
function proveRange(sim: Simulation, register: number, proved: Value, strictly: boolean): void {
  if (proved.off < 0 || (proved.off === 0 && strictly)) return;
  const { umax } = proved.scalar;
  // Beyond this, base + variable + off may have wrapped around.
  if (umax > BigInt(MAX_PACKET_OFFSET) || Number(umax) + proved.off > MAX_PACKET_OFFSET) return;
  const range = proved.off + (strictly ? 1 : 0);
  if (proved.id !== 0) sim.state.proved = { insn: sim.pc, register, value: proved };
  sim.updateAll((candidate) => {
    if (candidate.kind !== proved.kind || candidate.id !== proved.id || candidate.range >= range)
      return undefined;
    return candidate.with({ range });
  }, undefined);
}

function markBeyond(sim: Simulation, register: number, subject: Value, range: number): void {
  if (subject.kind !== Kind.Packet || subject.range > 0) return;
  sim.set(register, subject.with({ range }), sim.origin(register), undefined, OriginKind.Copy);
}
