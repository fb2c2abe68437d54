import { mapTypeName } from '../../bpf/map-spec.js';
import type { HeldObjects } from '../contract/device.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { DeviceObject, MapObject, ProgramObject } from './device-object.js';

/** @param attached what runs in front of the guest, one of these objects or nothing */
export function describeHeld(
  objects: readonly DeviceObject[],
  attached: LoadedProgram | undefined,
): HeldObjects {
  const programs = objects.filter((object): object is ProgramObject => object.kind === 'program');
  const maps = objects.filter((object): object is MapObject => object.kind === 'map');
  const used = new Set(programs.flatMap((program) => program.maps));
  const inFront = programs.find(({ program }) => program === attached);
  return {
    program: inFront && {
      tag: Buffer.from(inFront.tag).toString('hex'),
      insns: inFront.summary.insnCount,
      loaded: inFront.loadTime,
      executor: inFront.program.executor,
    },
    maps: maps.map((map) => ({
      type: mapTypeName(map.attributes.type),
      keySize: map.attributes.keySize,
      valueSize: map.attributes.valueSize,
      maxEntries: map.attributes.maxEntries,
      flags: map.attributes.flags,
      memory: map.memoryBytes,
      used: used.has(map),
    })),
  };
}
