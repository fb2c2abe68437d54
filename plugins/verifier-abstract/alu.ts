import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { withIdentity } from './identity.js';
import { pointerArithmetic, rejectPointerOperation } from './pointer-arithmetic.js';
import { isNeverNull, isPacketFamily, staysLow } from './pointer-kinds.js';
import { arithmetic, byteOrder, negate, signExtend, truncate } from './scalar/scalar-arithmetic.js';
import { Scalar, ZERO } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import { rejectStale } from './stale-pointers.js';
import { describeKind } from './value-format.js';
import {
  constantValue,
  Kind,
  PACKET_LOW,
  PACKET_LOW_MOVED,
  scalarValue,
  UNKNOWN_NUMBER,
  type Value,
} from './value.js';

/** Classes ALU and ALU64. */
export function stepArithmetic(sim: Simulation, insn: Insn): void {
  const is32 = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_ALU;
  const code = insn.opcode & op.BPF_OP_MASK;
  const fromRegister = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  switch (code) {
    case op.BPF_MOV:
      if (fromRegister) move(sim, insn, is32);
      else sim.set(insn.dst, constantValue(is32 ? insn.imm >>> 0 : insn.imm));
      return;
    case op.BPF_NEG:
    case op.BPF_END: {
      const value = sim.get(insn.dst);
      if (value.isPointer) rejectPointerOperation(sim, insn.dst, code, is32);
      const swap = fromRegister || !is32;
      const result =
        code === op.BPF_NEG ? negate(value.scalar, is32) : byteOrder(value.scalar, insn.imm, swap);
      sim.set(insn.dst, scalarValue(result), sim.origin(insn.dst));
      return;
    }
    default:
      binary(sim, insn, code, is32, fromRegister);
  }
}

function move(sim: Simulation, insn: Insn, is32: boolean): void {
  const source = sim.get(insn.src);
  const origin = sim.origin(insn.src);
  if (insn.off === 0 && !is32) {
    sim.copy(insn.dst, withIdentity(sim, insn.src, source), origin);
    return;
  }
  if (source.isPointer) {
    if (source.kind === Kind.Stale) rejectStale(sim, insn.src);
    // Compilers take lengths as `w2 = w3 (data_end); w2 -= w1 (data)`.
    if (is32 && insn.off === 0 && isPacketFamily(source)) {
      // Moved by a constant up it is as good as unmoved; elsewhere it may have come round.
      sim.set(insn.dst, isNeverNull(source) && staysLow(source) ? PACKET_LOW : PACKET_LOW_MOVED, origin);
      return;
    }
    if (!sim.options.allowPointerLeaks) {
      sim.reject(
        'pointer-leak',
        `R${insn.src} is ${describeKind(source)}, and part of its address would become a number`,
        {
          registers: [insn.src],
          suggestion: 'move pointers with a 64-bit move, as a whole',
        },
      );
    }
    sim.set(insn.dst, is32 ? scalarValue(Scalar.ofBytes(4)) : UNKNOWN_NUMBER, origin);
    return;
  }
  let scalar = insn.off === 0 ? source.scalar : signExtend(source.scalar, insn.off);
  if (is32) scalar = truncate(scalar, 4);
  if (scalar === source.scalar) {
    const named = withIdentity(sim, insn.src, source);
    // A narrower one computes, though it changes nothing of the numbers that are here: others may come this way later.
    if (insn.off === 8 || insn.off === 16) sim.set(insn.dst, named, origin);
    else sim.copy(insn.dst, named, origin);
    return;
  }
  sim.set(insn.dst, scalarValue(scalar), origin);
}

function binary(sim: Simulation, insn: Insn, code: number, is32: boolean, fromRegister: boolean): void {
  const left = sim.get(insn.dst);
  const right = fromRegister ? sim.get(insn.src) : constantValue(insn.imm);
  const leftOrigin = sim.origin(insn.dst);
  const rightOrigin = fromRegister ? sim.origin(insn.src) : undefined;
  if (left.isPointer || right.isPointer) {
    pointerArithmetic(sim, insn, code, is32, fromRegister, left, right);
    return;
  }
  const same = fromRegister && insn.src === insn.dst;
  if (same && (code === op.BPF_SUB || code === op.BPF_XOR)) {
    sim.set(insn.dst, scalarValue(ZERO));
    return;
  }
  const signed = (code === op.BPF_DIV || code === op.BPF_MOD) && insn.off === 1;
  const result = scalarValue(arithmetic(code, left.scalar, right.scalar, is32, signed));
  const linked = is32 ? undefined : shifted(left, right, code);
  sim.set(insn.dst, linked === undefined ? result : result.with(linked), leftOrigin, rightOrigin);
}

/** A number plus a constant is still the same number, plus a constant. */
function shifted(left: Value, right: Value, code: number): { id: number; off: number } | undefined {
  if (left.id === 0 || (code !== op.BPF_ADD && code !== op.BPF_SUB) || !right.scalar.isConst)
    return undefined;
  const delta = BigInt.asIntN(64, right.scalar.value);
  if (delta > 0x3fff_ffffn || delta < -0x3fff_ffffn) return undefined;
  const off = code === op.BPF_ADD ? left.off + Number(delta) : left.off - Number(delta);
  return Math.abs(off) > 0x3fff_ffff ? undefined : { id: left.id, off };
}
