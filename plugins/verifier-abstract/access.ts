import * as op from '../../src/bpf/opcodes.js';
import { arithmetic } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import type { Value } from './value.js';

/** Beyond this an offset counts as unbounded (kernel BPF_MAX_VAR_OFF). */
export const MAX_OFFSET = 1 << 29;

export type Access = 'read' | 'write' | 'atomic';

export function bytes(count: number): string {
  return count === 1 ? '1 byte' : `${count} bytes`;
}

/** Whether `base + off` is a multiple of `size` from the object's start; a variable offset has to keep it by its bits. */
export function isAligned(base: Value, off: number, size: number): boolean {
  if (size === 1) return true;
  const offset = arithmetic(op.BPF_ADD, base.scalar, Scalar.of(base.off + off), false);
  return ((offset.value | offset.mask) & BigInt(size - 1)) === 0n;
}

export function rejectReadOnly(sim: Simulation, register: number, what: string): never {
  sim.reject('read-only', `${what} may only be read`, { registers: [register] });
}
