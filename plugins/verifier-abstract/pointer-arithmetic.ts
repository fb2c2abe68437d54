import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { boundAdvice } from './bound-advice.js';
import { type Origin, OriginKind } from './origin.js';
import { isMemoryPointer, sameMemory } from './pointer-kinds.js';
import { arithmetic } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import { S64_MIN } from './scalar/tnum.js';
import type { Simulation } from './simulation.js';
import { rejectStale } from './stale-pointers.js';
import { describeKind } from './value-format.js';
import { Kind, PACKET_LOW_MOVED, scalarValue, UNKNOWN_NUMBER, type Value } from './value.js';

/** Largest offset a pointer may get (kernel BPF_MAX_VAR_OFF). */
const MAX_POINTER_OFFSET = 1 << 29;

const OPERATOR: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: '+=',
  [op.BPF_SUB]: '-=',
  [op.BPF_MUL]: '*=',
  [op.BPF_DIV]: '/=',
  [op.BPF_OR]: '|=',
  [op.BPF_AND]: '&=',
  [op.BPF_LSH]: '<<=',
  [op.BPF_RSH]: '>>=',
  [op.BPF_NEG]: 'negation',
  [op.BPF_MOD]: '%=',
  [op.BPF_XOR]: '^=',
  [op.BPF_ARSH]: 's>>=',
  [op.BPF_END]: 'byte swap',
};

export function rejectPointerOperation(
  sim: Simulation,
  register: number,
  code: number,
  is32: boolean,
): never {
  const value = sim.peek(register);
  const name = OPERATOR[code] ?? 'this operation';
  const what = `R${register} is ${describeKind(value)}`;
  if (value.kind === Kind.Stale) rejectStale(sim, register);
  sim.reject('pointer-arithmetic', `${what}, on which ${is32 ? `32-bit ${name}` : name} is not allowed`, {
    registers: [register],
    suggestion: is32
      ? 'use 64-bit addition and subtraction on pointers'
      : 'pointers can be moved by adding or subtracting a bounded number; do other arithmetic on the number first',
  });
}

export function pointerArithmetic(
  sim: Simulation,
  insn: Insn,
  code: number,
  is32: boolean,
  fromRegister: boolean,
  left: Value,
  right: Value,
): void {
  if (left.isPointer && right.isPointer) {
    difference(sim, insn, code, is32, left, right);
    return;
  }
  const pointerRegister = left.isPointer ? insn.dst : insn.src;
  const base = left.isPointer ? left : right;
  const number = left.isPointer ? right : left;
  const numberRegister = left.isPointer ? (fromRegister ? insn.src : undefined) : insn.dst;
  if (
    base.kind === Kind.PacketLow &&
    left.isPointer &&
    is32 &&
    (code === op.BPF_ADD || code === op.BPF_SUB)
  ) {
    sim.set(
      insn.dst,
      PACKET_LOW_MOVED,
      sim.origin(insn.dst),
      fromRegister ? sim.origin(insn.src) : undefined,
    );
    return;
  }
  if (is32 && code === op.BPF_SUB && sim.options.allowPointerLeaks) {
    sim.set(insn.dst, scalarValue(Scalar.ofBytes(4)), sim.origin(insn.dst));
    return;
  }
  if (is32 || (code !== op.BPF_ADD && code !== op.BPF_SUB)) {
    rejectPointerOperation(sim, pointerRegister, code, is32);
  }
  if (code === op.BPF_SUB && !left.isPointer) {
    sim.reject(
      'pointer-arithmetic',
      `R${insn.src} is ${describeKind(right)} and would be subtracted from a number`,
      {
        registers: [insn.src, insn.dst],
        suggestion: 'subtract the number from the pointer, or a pointer from a pointer into the same memory',
      },
    );
  }
  const moved = movedPointer(sim, base, number.scalar, code === op.BPF_SUB, pointerRegister, numberRegister);
  if (numberRegister !== undefined) sim.precise(numberRegister);
  sim.set(insn.dst, moved, sim.origin(insn.dst), fromRegister ? sim.origin(insn.src) : undefined);
}

function movedPointer(
  sim: Simulation,
  base: Value,
  by: Scalar,
  subtract: boolean,
  pointerRegister: number,
  numberRegister: number | undefined,
): Value {
  if (base.kind === Kind.Stale) rejectStale(sim, pointerRegister);
  const registers = numberRegister === undefined ? [pointerRegister] : [pointerRegister, numberRegister];
  if (base.maybeNull) {
    sim.reject(
      'null-dereference',
      `R${pointerRegister} is ${describeKind(base)}, and arithmetic on NULL gives an address that is not NULL`,
      {
        registers,
        suggestion: `compare R${pointerRegister} with 0 right after the call and leave if it is 0`,
      },
    );
  }
  if (subtract && base.kind === Kind.Stack) {
    sim.reject(
      'pointer-arithmetic',
      `R${pointerRegister} is a stack pointer, from which nothing may be subtracted`,
      { registers, suggestion: 'add a negative number: r2 += -8 instead of r2 -= 8' },
    );
  }
  const isBy0 = by.isConst && by.value === 0n;
  if (!isMemoryPointer(base) && base.kind !== Kind.Context && !(isBy0 && bearsMoveBy0(base, subtract))) {
    sim.reject(
      'pointer-arithmetic',
      `R${pointerRegister} is ${describeKind(base)}, which no arithmetic is allowed on`,
      {
        registers,
        ...(base.kind === Kind.PacketEnd
          ? { suggestion: 'data_end is only for comparing with: compute from data instead' }
          : {}),
      },
    );
  }
  if (isBy0) return base;
  const constant = by.constant;
  if (constant !== undefined) {
    const signed = BigInt.asIntN(64, constant) * (subtract ? -1n : 1n);
    const off = base.off + Number(signed);
    if (Math.abs(Number(signed)) >= MAX_POINTER_OFFSET || Math.abs(off) >= MAX_POINTER_OFFSET) {
      sim.reject(
        'pointer-offset-unbounded',
        `an offset of ${signed} takes ${describeKind(base)} out of any bounds`,
        {
          registers,
        },
      );
    }
    // A pointer that was found to be past the end may not be once it has moved.
    return base.with({ off, range: Math.max(0, base.range) });
  }
  rejectUnbounded(sim, base, by, pointerRegister, numberRegister);
  if (base.kind === Kind.Context) {
    sim.reject(
      'context-modified',
      `R${pointerRegister} is the context, and would get an offset that is not a constant`,
      {
        registers,
        suggestion: 'access the fields of xdp_md by their constant offsets',
      },
    );
  }
  const scalar = arithmetic(subtract ? op.BPF_SUB : op.BPF_ADD, base.scalar, by, false);
  rejectUnbounded(sim, base, scalar, pointerRegister, numberRegister);
  const isPacket = base.kind === Kind.Packet || base.kind === Kind.PacketMeta;
  return isPacket ? base.with({ scalar, id: sim.newId(), range: 0 }) : base.with({ scalar });
}

/** What the kernel lets be moved by 0, and by nothing else (adjust_ptr_min_max_vals in kernel/bpf/verifier.c). */
function bearsMoveBy0({ kind }: Value, subtract: boolean): boolean {
  if (kind === Kind.Map) return !subtract;
  return kind === Kind.Function || kind === Kind.PacketLow;
}

function rejectUnbounded(
  sim: Simulation,
  base: Value,
  offset: Scalar,
  pointerRegister: number,
  numberRegister: number | undefined,
): void {
  if (offset.smin > -MAX_POINTER_OFFSET && offset.smin < MAX_POINTER_OFFSET) return;
  const name = numberRegister === undefined ? 'the offset' : `R${numberRegister}`;
  const how =
    offset.smin === S64_MIN
      ? 'has no lower bound'
      : offset.smin < 0n
        ? `may be as low as ${offset.smin}`
        : `is at least ${offset.smin}`;
  sim.reject('pointer-offset-unbounded', `${name} is added to ${describeKind(base)}, but ${how}`, {
    registers: numberRegister === undefined ? [pointerRegister] : [numberRegister, pointerRegister],
    suggestion:
      numberRegister === undefined
        ? boundAdvice(offset, 'the offset', 'small and not negative before it is added')
        : boundAdvice(
            sim.peek(numberRegister).scalar,
            `R${numberRegister}`,
            'small and not negative before it is added',
          ),
  });
}

/** The distance of two pointers into the same memory tells no address. */
function difference(
  sim: Simulation,
  insn: Insn,
  code: number,
  is32: boolean,
  left: Value,
  right: Value,
): void {
  if (left.kind === Kind.Stale) rejectStale(sim, insn.dst);
  if (right.kind === Kind.Stale) rejectStale(sim, insn.src);
  if (code !== op.BPF_SUB) {
    sim.reject(
      'pointer-arithmetic',
      `R${insn.dst} and R${insn.src} are both pointers, and can only be subtracted`,
      {
        registers: [insn.dst, insn.src],
      },
    );
  }
  if (!sim.options.allowPointerLeaks && !sameMemory(left, right)) {
    sim.reject(
      'pointer-leak',
      `the distance from ${describeKind(right)} to ${describeKind(left)} would tell where they are`,
      {
        registers: [insn.dst, insn.src],
        suggestion: 'subtract only pointers into the same packet, stack frame or map',
      },
    );
  }
  // The high half of the distance of two halves tells whether one of them came round at 2^32, and so where the packet is.
  const isOfHalves = left.kind === Kind.PacketLow || right.kind === Kind.PacketLow;
  if (!is32 && isOfHalves && !sim.options.allowPointerLeaks) {
    const isOfBoth = left.kind === right.kind;
    sim.reject(
      'pointer-leak',
      isOfBoth
        ? `R${insn.dst} and R${insn.src} are low halves of pointers, of whose distance in 64 bits the high half would tell where they are`
        : `R${insn.dst} and R${insn.src} are a pointer and the low half of one, whose distance would tell the high half`,
      {
        registers: [insn.dst, insn.src],
        suggestion: 'subtract on 32 bits, or keep both as 64-bit pointers',
      },
    );
  }
  const origins: [Origin | undefined, Origin | undefined] = [sim.origin(insn.dst), sim.origin(insn.src)];
  sim.set(insn.dst, is32 ? scalarValue(Scalar.ofBytes(4)) : UNKNOWN_NUMBER, ...origins, OriginKind.Value);
}
