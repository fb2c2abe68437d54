import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { isAligned } from './access.js';
import { loadFromContext } from './context-access.js';
import { rejectLeak } from './leaks.js';
import { frozenContent } from './map-access.js';
import { checkAccess } from './region-access.js';
import { signExtend } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import { atomicOnStack, loadFromStack, storeToStack } from './stack-access.js';
import { describeKind } from './value-format.js';
import { constantValue, Kind, scalarValue, type Value } from './value.js';

const BYTES: Readonly<Record<number, number>> = {
  [op.BPF_B]: 1,
  [op.BPF_H]: 2,
  [op.BPF_W]: 4,
  [op.BPF_DW]: 8,
};

export function sizeOf(insn: Insn): number {
  return BYTES[insn.opcode & op.BPF_SIZE_MASK]!;
}

/** `dst = *(size *)(src + off)`. */
export function stepLoad(sim: Simulation, insn: Insn): void {
  const size = sizeOf(insn);
  const signed = (insn.opcode & op.BPF_MODE_MASK) === op.BPF_MEMSX;
  const base = sim.get(insn.src);
  if (base.kind === Kind.Stack && !base.maybeNull) {
    checkPointerType(sim, insn.src, base);
    loadFromStack(sim, insn, base, size, signed);
    return;
  }
  if (base.kind === Kind.Context) {
    checkPointerType(sim, insn.src, base);
    loadFromContext(sim, insn, base, size, signed);
    return;
  }
  checkAccess(sim, insn.src, base, insn.off, size, 'read');
  checkPointerType(sim, insn.src, base);
  const constant = frozenContent(base, insn.off, size);
  const loaded = constant === undefined ? Scalar.ofBytes(size) : Scalar.constant(constant);
  sim.set(insn.dst, scalarValue(signed ? signExtend(loaded, 8 * size) : loaded));
}

function checkPointerType(sim: Simulation, register: number, base: Value): void {
  const other = sim.pointerTypes.load(sim.pc, base);
  if (other === undefined) return;
  const called = (value: Value): string =>
    value.socket === undefined ? describeKind(value) : `${describeKind(value)} (${value.socket})`;
  sim.reject(
    'pointer-types-differ',
    `R${register} is ${called(base)} here, and on another path ${called(other)}: one insn may not read both`,
    {
      registers: [register],
      suggestion:
        'load on each path with an insn of its own, before the paths meet; in C, keep the compiler from joining them, e.g. with barrier_var() or a volatile read',
    },
  );
}

/** `*(size *)(dst + off) = src` or `= imm`. */
export function stepStore(sim: Simulation, insn: Insn): void {
  const size = sizeOf(insn);
  const base = sim.get(insn.dst);
  const fromRegister = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_STX;
  const value = fromRegister ? sim.get(insn.src) : constantValue(insn.imm);
  if (base.kind === Kind.Stack && !base.maybeNull) {
    storeToStack(sim, insn, base, size, value, fromRegister ? insn.src : undefined);
    return;
  }
  if (base.kind === Kind.Context) {
    sim.reject('context-write', 'the context of an XDP program is read-only', {
      registers: [insn.dst],
      suggestion: 'move the ends of the packet with bpf_xdp_adjust_head, _tail and _meta',
    });
  }
  checkAccess(sim, insn.dst, base, insn.off, size, 'write');
  if (value.isPointer) rejectLeak(sim, insn.src, value, base);
}

/** Atomic operations (RFC 9669 section 5.3): read and write at once, and R0 or the source register for FETCH. */
export function stepAtomic(sim: Simulation, insn: Insn): void {
  const size = sizeOf(insn);
  const base = sim.get(insn.dst);
  const value = sim.get(insn.src);
  if (value.isPointer) rejectLeak(sim, insn.src, value, base);
  const compares = insn.imm === op.BPF_CMPXCHG;
  if (compares) {
    const expected = sim.get(0);
    if (expected.isPointer) rejectLeak(sim, 0, expected, base);
  }
  const allowed = base.kind === Kind.Stack || base.kind === Kind.MapValue || base.kind === Kind.Memory;
  if (base.isPointer && !allowed && !base.maybeNull && base.kind !== Kind.Stale) {
    sim.reject(
      'atomic-target',
      `R${insn.dst} is ${describeKind(base)}, where atomic operations are not allowed`,
      {
        registers: [insn.dst],
        suggestion:
          'atomic operations work on map values, ring buffer records and the stack; use plain loads and stores here',
      },
    );
  }
  if (base.kind === Kind.Stack) {
    atomicOnStack(sim, insn, base, size);
  } else {
    checkAccess(sim, insn.dst, base, insn.off, size, 'atomic');
    checkAtomicAlignment(sim, insn, base, size);
  }
  const fetched = scalarValue(Scalar.ofBytes(size));
  if (compares) sim.set(0, fetched);
  else if ((insn.imm & op.BPF_FETCH) !== 0) sim.set(insn.src, fetched);
}

function checkAtomicAlignment(sim: Simulation, insn: Insn, base: Value, size: number): void {
  if (isAligned(base, insn.off, size)) return;
  sim.reject(
    'atomic-alignment',
    `an atomic operation on ${size} bytes at an offset that may not be a multiple of ${size}`,
    {
      registers: [insn.dst],
      suggestion: `place what is changed atomically at a multiple of ${size}`,
    },
  );
}
