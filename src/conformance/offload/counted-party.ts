import type { LoadedProgram } from '../../core/contract/executor.js';
import type { Party } from '../../core/contract/party.js';
import type { MapAttributes } from '../../bpf/map-spec.js';

/**
 * What a device charges for each entry of a map whose entries are objects, in bytes, as the quota's manual says
 * (plugins/policy-quota/README.md): by the numbers that include/uapi/linux/bpf.h gives the types. Written out, so that
 * what a device charges is not compared with itself.
 */
const ENTRY_BYTES: ReadonlyMap<number, number> = new Map([
  [3 /* BPF_MAP_TYPE_PROG_ARRAY */, 256],
  [12 /* BPF_MAP_TYPE_ARRAY_OF_MAPS */, 256],
  [13 /* BPF_MAP_TYPE_HASH_OF_MAPS */, 256],
]);

/** Bytes that a device is to charge for a map beside what its map backend takes. */
export function entryBytes({ type, maxEntries }: Pick<MapAttributes, 'type' | 'maxEntries'>): number {
  return (ENTRY_BYTES.get(type) ?? 0) * maxEntries;
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
