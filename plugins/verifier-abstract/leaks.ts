import type { Simulation } from './simulation.js';
import { describeKind } from './value-format.js';
import { Kind, type Value } from './value.js';

export function rejectLeak(sim: Simulation, register: number, value: Value, into: Value): void {
  if (sim.options.allowPointerLeaks) return;
  sim.reject(
    'pointer-leak',
    `R${register} is ${describeKind(value)}, and its address would be stored in ${whereTo(into)}`,
    {
      registers: [register],
      suggestion: 'keep pointers in registers and on the stack; store offsets or copies of the data instead',
    },
  );
}

function whereTo(value: Value): string {
  switch (value.kind) {
    case Kind.MapValue:
      return `map ${value.map?.spec.name ?? '?'}, where user space can read it`;
    case Kind.Packet:
    case Kind.PacketMeta:
      return 'the packet';
    default:
      return 'memory that leaves the program';
  }
}
