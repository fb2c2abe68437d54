import type { Simulation } from './simulation.js';
import { Kind, type Value } from './value.js';

/**
 * A number that is in two places gets an id, so that what a comparison tells of the one holds for the other.
 * The register it is copied from gets it as well.
 */
export function withIdentity(sim: Simulation, register: number, value: Value): Value {
  if (value.kind !== Kind.Scalar || value.id !== 0 || value.scalar.isConst) return value;
  const identified = value.with({ id: sim.newId() });
  sim.state.writable().regs[register] = identified;
  return identified;
}
