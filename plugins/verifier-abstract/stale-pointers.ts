import type { Simulation } from './simulation.js';
import { PAST_ELEMENT, RELEASED } from './value.js';

/** For any use of a pointer to what is gone. */
export function rejectStale(sim: Simulation, register: number): never {
  if (sim.peek(register).size === RELEASED.size) {
    sim.reject('use-after-release', `R${register} points to something that was given back to a helper`, {
      registers: [register],
      suggestion: 'use it before it is submitted, discarded or released, not after',
    });
  }
  if (sim.peek(register).size === PAST_ELEMENT.size) {
    sim.reject(
      'use-after-release',
      `R${register} points to the element of a callback of bpf_for_each_map_elem that has returned`,
      {
        registers: [register],
        suggestion: 'copy out of the callback what is needed later, or keep the key and look it up again',
      },
    );
  }
  sim.reject(
    'stale-packet-pointer',
    `R${register} was made before a helper moved the packet, and is no longer valid`,
    {
      registers: [register],
      suggestion: 'load data and data_end from the context again after the helper, and compare them again',
    },
  );
}
