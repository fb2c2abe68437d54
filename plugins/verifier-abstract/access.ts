import type { Simulation } from './simulation.js';

/** Beyond this an offset counts as unbounded (kernel BPF_MAX_VAR_OFF). */
export const MAX_OFFSET = 1 << 29;

export type Access = 'read' | 'write' | 'atomic';

export function bytes(count: number): string {
  return count === 1 ? '1 byte' : `${count} bytes`;
}

export function rejectReadOnly(sim: Simulation, register: number, what: string): never {
  sim.reject('read-only', `${what} may only be read`, { registers: [register] });
}
