import type { LoadedProgram } from '../../core/contract/executor.js';
import type { Party } from '../../core/contract/party.js';
import type { MapAttributes } from '../../bpf/map-spec.js';

/** PROG_ARRAY, ARRAY_OF_MAPS and HASH_OF_MAPS, by the numbers that include/uapi/linux/bpf.h gives them. */
const OF_OBJECTS: readonly number[] = [3, 12, 13];

/**
 * Bytes that a device is to charge for a map beside what its map backend takes, as the quota's manual says
 * (plugins/policy-quota/README.md). Written out, so that what a device charges is not compared with itself.
 */
export function entryBytes({
  type,
  keySize,
  maxEntries,
}: Pick<MapAttributes, 'type' | 'keySize' | 'maxEntries'>): number {
  return OF_OBJECTS.includes(type) ? (248 + 2 * keySize) * maxEntries : 0;
}

/** What a party holds, as it was made and closed: to be compared with what an account says. */
export interface LiveObjects {
  readonly maps: number;
  /** Bytes, as the map backend says what its maps cost, and the device what it keeps of elements that are objects. */
  readonly mapMemory: number;
  readonly programs: number;
}

/** A party whose maps and programs are counted from the moment they are made until they are closed. */
export function countedParty<P extends Party>(
  party: P,
): { readonly party: P; readonly live: () => LiveObjects } {
  let maps = 0;
  let mapMemory = 0;
  /** Those that are not closed: an executor's `load` may be its `loadNow`. */
  const programs = new Set<LoadedProgram>();
  const { mapBackend, executor } = party;
  const create = mapBackend.create.bind(mapBackend);
  mapBackend.create = (attributes, options) => {
    const map = create(attributes, options);
    if (typeof map === 'number') return map;
    const bytes = mapBackend.memoryCost(attributes) + entryBytes(attributes);
    maps++;
    mapMemory += bytes;
    let open = true;
    const close = map.close.bind(map);
    map.close = () => {
      close();
      if (!open) return;
      open = false;
      maps--;
      mapMemory -= bytes;
    };
    return map;
  };
  const counted = (program: LoadedProgram): LoadedProgram => {
    if (programs.has(program)) return program;
    programs.add(program);
    const close = program.close.bind(program);
    program.close = () => {
      close();
      programs.delete(program);
    };
    return program;
  };
  const load = executor.load.bind(executor);
  executor.load = async (program, environment) => counted(await load(program, environment));
  const loadNow = executor.loadNow?.bind(executor);
  if (loadNow !== undefined) {
    executor.loadNow = (program, environment) => counted(loadNow(program, environment));
  }
  return { party, live: () => ({ maps, mapMemory, programs: programs.size }) };
}
