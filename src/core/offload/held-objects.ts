import { mapTypeName } from '../../bpf/map-spec.js';
import type { OffloadedMap, OffloadedProgram } from '../contract/result.js';
import type { MapObject, ProgramObject } from './object-table.js';

/** What the host holds for the guest of one nic, as the host tells it. */
export interface HeldObjects {
  /** What runs in front of the guest. */
  readonly program: Omit<OffloadedProgram, 'name' | 'verdicts'> | undefined;
  /** All maps, those included that only a program keeps alive, in the order in which they were made. */
  readonly maps: readonly OffloadedMap[];
}

export function describeHeld(
  attached: ProgramObject | undefined,
  maps: Iterable<{ readonly object: MapObject; readonly memoryBytes: number; readonly used: boolean }>,
): HeldObjects {
  return {
    program:
      attached === undefined
        ? undefined
        : {
            tag: Buffer.from(attached.tag).toString('hex'),
            insns: attached.summary.insnCount,
            loaded: attached.loadTime,
            executor: attached.program.executor,
          },
    maps: [...maps].map(({ object: { attributes }, memoryBytes, used }) => ({
      type: mapTypeName(attributes.type),
      keySize: attributes.keySize,
      valueSize: attributes.valueSize,
      maxEntries: attributes.maxEntries,
      flags: attributes.flags,
      memory: memoryBytes,
      used,
    })),
  };
}
