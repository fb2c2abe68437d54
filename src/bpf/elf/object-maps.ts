import { XdpbedError } from '../../core/diagnostic.js';
import type { Btf } from '../btf/btf.js';
import { MapBtfExtractor, type MapBtf } from '../btf/map-btf.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, type MapInitialEntry, type MapSpec } from '../map-spec.js';
import {
  SHN_LORESERVE,
  SHN_UNDEF,
  SHT_NOBITS,
  STB_WEAK,
  STT_SECTION,
  type ElfFile,
  type ElfRelocation,
  type ElfSection,
  type ElfSymbol,
} from './elf-file.js';

/** A map and where its declaration or its content is in the object, so that relocations find it. */
export interface PlacedMap {
  readonly spec: MapSpec;
  readonly section: number;
  /** Byte offset in the section. */
  readonly offset: number;
  readonly size: number;
  /** Global data: the map's one value is the section, so programs point into it. */
  readonly data: boolean;
  /** Number that iproute2's tail-call sections refer to (`2/0`: index 0 of map 2). */
  readonly id?: number | undefined;
  /** Of the map of kernel settings: byte offset of each by the symbol's name. */
  readonly settings?: ReadonlyMap<string, number> | undefined;
}

/** All maps of an object: declared in `.maps`, in `maps` sections, and its global data. */
export function readMaps(elf: ElfFile, btf: Btf | undefined): PlacedMap[] {
  const declared: PlacedMap[] = [];
  for (const section of elf.sections) {
    if (section.name === '.maps') declared.push(...readBtfMaps(elf, section, btf));
    else if (section.name === 'maps' || section.name.startsWith('maps/')) {
      declared.push(...readLegacyMaps(elf, section, btf));
    }
  }
  for (const section of elf.sections) {
    const map = readGlobalData(elf, section, btf);
    if (map !== undefined) declared.push(map);
  }
  const settings = readKernelSettings(elf, btf);
  if (settings !== undefined) declared.push(settings);
  const extractor = btf === undefined ? undefined : new MapBtfExtractor(btf);
  const maps = declared.map((map) => ({ ...map, spec: withBtf(map.spec, extractor) }));
  const names = new Set<string>();
  for (const { spec, section, offset } of maps) {
    if (names.has(spec.name)) {
      elf.fail(`two maps are called ${spec.name}`, elf.sections[section]!.offset + offset);
    }
    names.add(spec.name);
  }
  return maps;
}

/** Map types that libbpf creates without BTF: their values belong to the kernel, or to nobody in particular. */
const WITHOUT_BTF: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_STACK_TRACE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CGROUP_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKHASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_STACK,
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF,
]);

/** The map with BTF of its own, where the object's tells of its value. */
function withBtf(spec: MapSpec, extractor: MapBtfExtractor | undefined): MapSpec {
  if (extractor === undefined) return spec;
  const inner = spec.inner === undefined ? undefined : withBtf(spec.inner, extractor);
  const btf: MapBtf | undefined =
    spec.valueType === undefined || WITHOUT_BTF.has(spec.type)
      ? undefined
      : extractor.extract(spec.keyType?.id ?? 0, spec.valueType.id);
  return {
    ...spec,
    ...(inner === undefined ? {} : { inner }),
    ...(btf === undefined ? {} : { btf }),
  };
}

/** Finds the map whose declaration or content covers a place in the object. */
export class MapPlaces {
  readonly #bySection = new Map<number, PlacedMap[]>();
  readonly #settings: PlacedMap | undefined;

  constructor(maps: readonly PlacedMap[]) {
    this.#settings = maps.find((map) => map.settings !== undefined);
    for (const map of maps) {
      const group = this.#bySection.get(map.section);
      if (group === undefined) this.#bySection.set(map.section, [map]);
      else group.push(map);
    }
    for (const group of this.#bySection.values()) group.sort((a, b) => a.offset - b.offset);
  }

  holds(section: number): boolean {
    return this.#bySection.has(section);
  }

  /** Where a weak setting of the kernel's lies, by the symbol's name. */
  kernelSetting(symbol: string): { readonly map: PlacedMap; readonly offset: number } | undefined {
    const offset = this.#settings?.settings?.get(symbol);
    return offset === undefined ? undefined : { map: this.#settings!, offset };
  }

  at(section: number, offset: number): PlacedMap | undefined {
    return covering(this.#bySection.get(section) ?? [], offset);
  }
}

/** The item of an ordered list in which `offset` lies. */
function covering<T extends { readonly offset: number; readonly size: number }>(
  items: readonly T[],
  offset: number,
): T | undefined {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (items[middle]!.offset <= offset) low = middle + 1;
    else high = middle;
  }
  const item = items[low - 1];
  return item !== undefined && offset < item.offset + item.size ? item : undefined;
}

// Global data ------------------------------------------------------------------------------------------------

/**
 * `.rodata`, `.data` and `.bss`, with any suffix (`.rodata.str1.1`, `.data.config`): an ARRAY of one entry that
 * holds the section, called as the section is, which is how libbpf lets one look it up.
 */
function readGlobalData(elf: ElfFile, section: ElfSection, btf: Btf | undefined): PlacedMap | undefined {
  const kind = /^\.(rodata|data|bss)(?:\.|$)/.exec(section.name)?.[1];
  if (kind === undefined || section.size === 0) return undefined;
  if (section.size > MAX_VALUE) {
    elf.fail(`section ${section.name} of ${section.size} bytes is too large for a map value`, section.offset);
  }
  const content = elf.bytesOf(section);
  const typeId = btf?.find('DATASEC', section.name)?.id;
  return {
    section: section.index,
    offset: 0,
    size: section.size,
    data: true,
    spec: {
      name: section.name,
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: section.size,
      maxEntries: 1,
      flags: kind === 'rodata' ? BPF_F_RDONLY_PROG : 0,
      initial: section.type === SHT_NOBITS ? [] : [{ key: indexKey(0, 4), value: content.slice() }],
      ...(kind === 'rodata' ? { frozen: true } : {}),
      ...(btf !== undefined && typeId !== undefined ? { valueType: { btf, id: typeId } } : {}),
    },
  };
}

/** Of all settings of the kernel that an object names: they are numbers and short strings. */
const MAX_SETTINGS_BYTES = 65_536;

/**
 * Weak settings of the kernel's (`extern bool CONFIG_X __kconfig __weak`): as in libbpf a map `.kconfig` that never
 * changes holds them, and what is not set is 0. Nothing is set here, as there is no kernel to ask. Those that are not
 * weak are left to the linker, which names them.
 */
function readKernelSettings(elf: ElfFile, btf: Btf | undefined): PlacedMap | undefined {
  const section = btf?.find('DATASEC', '.kconfig')?.type;
  if (btf === undefined || section === undefined) return undefined;
  const weak = new Set(
    elf.symbols
      .filter(({ section: home, binding }) => home === SHN_UNDEF && binding === STB_WEAK)
      .map(({ name }) => name),
  );
  const settings = new Map<string, number>();
  let size = 0;
  for (const { type } of section.variables) {
    const variable = btf.type(type);
    if (variable.kind !== 'VAR' || !weak.has(variable.name) || settings.has(variable.name)) continue;
    const bytes = btf.sizeOf(variable.type) ?? 0;
    if (bytes === 0) {
      throw new XdpbedError('object-invalid', `setting ${variable.name} of the kernel has no size`);
    }
    settings.set(variable.name, size);
    size += Math.ceil(bytes / 8) * 8;
    if (size > MAX_SETTINGS_BYTES) {
      throw new XdpbedError(
        'object-invalid',
        `the settings in .kconfig take more than ${MAX_SETTINGS_BYTES} bytes`,
      );
    }
  }
  if (size === 0) return undefined;
  return {
    // In no section: programs refer to each by its symbol.
    section: SHN_UNDEF,
    offset: 0,
    size: 0,
    data: true,
    settings,
    spec: {
      name: '.kconfig',
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: size,
      maxEntries: 1,
      flags: BPF_F_RDONLY_PROG,
      initial: [{ key: indexKey(0, 4), value: new Uint8Array(size) }],
      frozen: true,
    },
  };
}

// .maps ------------------------------------------------------------------------------------------------------

/** The fields of a BTF map definition as they are declared, before defaults. */
interface MapDefinition {
  type: number;
  keySize: number | undefined;
  valueSize: number | undefined;
  maxEntries: number;
  flags: number;
  keyType: number | undefined;
  valueType: number | undefined;
  pinnedByName: boolean;
  inner: MapDefinition | undefined;
  /** Where the `values` array starts in the declaration, in bytes. */
  valuesOffset: number | undefined;
}

/**
 * Maps declared as structs whose member types carry the numbers: `int (*type)[BPF_MAP_TYPE_HASH]`,
 * `struct flow *key`, `struct inner *values[]` (libbpf's `__uint`, `__type`, `__array`).
 */
function readBtfMaps(elf: ElfFile, section: ElfSection, btf: Btf | undefined): PlacedMap[] {
  if (section.size === 0) return [];
  if (btf === undefined) {
    return elf.fail('section .maps needs BTF, but the object has none (compile with -g)', section.offset);
  }
  const dataSection = btf.find('DATASEC', '.maps')?.type;
  if (dataSection === undefined) return elf.fail('BTF does not describe section .maps', section.offset);
  const symbols = symbolsOf(elf, section);
  const byName = new Map(symbols.map((symbol) => [symbol.name, symbol]));
  const placed: { name: string; offset: number; size: number; definition: MapDefinition }[] = [];
  for (const { type, offset: declaredOffset, size: declaredSize } of dataSection.variables) {
    const variable = btf.type(type);
    if (variable.kind !== 'VAR') return elf.fail(`type ${type} in .maps is not a variable`, section.offset);
    const symbol = byName.get(variable.name);
    const offset = symbol?.value ?? declaredOffset;
    const size = symbol?.size ?? declaredSize;
    if (offset > section.size || size > section.size - offset) {
      elf.fail(`map ${variable.name} lies outside section .maps`, section.offset);
    }
    const definition = readDefinition(btf, variable.name, variable.type, true);
    placed.push({ name: variable.name, offset, size, definition });
  }
  placed.sort((a, b) => a.offset - b.offset);

  const initial = new Map<string, MapInitialEntry[]>();
  for (const relocation of elf.relocationsOf(section)) {
    const map = covering(placed, relocation.offset);
    if (map === undefined) return elf.fail('a relocation in .maps belongs to no map', relocation.fileOffset);
    const { valuesOffset } = map.definition;
    const within = relocation.offset - map.offset - (valuesOffset ?? 0);
    if (valuesOffset === undefined || within < 0 || within % 8 !== 0) {
      return elf.fail(`map ${map.name} has an initial value outside its values`, relocation.fileOffset);
    }
    const entries = initial.get(map.name) ?? [];
    entries.push(initialEntry(elf, section, placed, map, within / 8, relocation));
    initial.set(map.name, entries);
  }
  return placed.map(({ name, offset, size, definition }) => ({
    section: section.index,
    offset,
    size,
    data: false,
    spec: specOf(btf, name, definition, initial.get(name) ?? []),
  }));
}

function initialEntry(
  elf: ElfFile,
  section: ElfSection,
  placed: readonly { name: string; offset: number; size: number }[],
  map: { name: string; definition: MapDefinition },
  index: number,
  relocation: ElfRelocation,
): MapInitialEntry {
  const { symbol } = relocation;
  const key = indexKey(index, keySizeOf(map.definition));
  if (map.definition.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY) {
    if (symbol.type === STT_SECTION || symbol.section === 0 || symbol.section >= SHN_LORESERVE) {
      elf.fail(`slot ${index} of map ${map.name} does not name a program`, relocation.fileOffset);
    }
    return { key, programName: symbol.name };
  }
  const target = symbol.section === section.index ? covering(placed, symbol.value) : undefined;
  if (target === undefined) {
    return elf.fail(`slot ${index} of map ${map.name} does not name a map`, relocation.fileOffset);
  }
  return { key, mapName: target.name };
}

function readDefinition(btf: Btf, name: string, typeId: number, outer: boolean): MapDefinition {
  const struct = btf.type(btf.resolve(typeId));
  if (struct.kind !== 'STRUCT')
    throw new XdpbedError('object-invalid', `map ${name} is not declared as a struct`);
  const definition: MapDefinition = {
    type: 0,
    keySize: undefined,
    valueSize: undefined,
    maxEntries: 0,
    flags: 0,
    keyType: undefined,
    valueType: undefined,
    pinnedByName: false,
    inner: undefined,
    valuesOffset: undefined,
  };
  const seen = new Set<string>();
  for (const member of struct.members) {
    if (seen.has(member.name)) {
      throw new XdpbedError('object-invalid', `map ${name} is declared with ${member.name} twice`);
    }
    seen.add(member.name);
    const number = (): number => declaredNumber(btf, name, member.name, member.type);
    switch (member.name) {
      case 'type':
        definition.type = number();
        break;
      case 'max_entries':
        definition.maxEntries = number();
        break;
      case 'map_flags':
        definition.flags = number();
        break;
      case 'key_size':
        definition.keySize = agree(name, member.name, definition.keySize, number());
        break;
      case 'value_size':
        definition.valueSize = agree(name, member.name, definition.valueSize, number());
        break;
      case 'key':
        definition.keyType = pointee(btf, name, member.name, member.type);
        definition.keySize = agree(
          name,
          'key_size',
          definition.keySize,
          sizeOf(btf, name, definition.keyType),
        );
        break;
      case 'value':
        definition.valueType = pointee(btf, name, member.name, member.type);
        definition.valueSize = agree(
          name,
          'value_size',
          definition.valueSize,
          sizeOf(btf, name, definition.valueType),
        );
        break;
      case 'pinning':
        definition.pinnedByName = number() === 1;
        break;
      case 'numa_node':
      case 'map_extra':
        // Hints on placement; no built-in map type of XDP behaves differently.
        break;
      case 'values': {
        if (!outer) {
          throw new XdpbedError('object-unsupported', `map ${name} nests maps more than two deep`);
        }
        definition.valuesOffset = member.bitOffset / 8;
        // Slots hold the number of a map or program, whatever was declared.
        definition.valueSize = agree(name, 'value_size', definition.valueSize, 4);
        const array = btf.type(btf.resolve(member.type));
        if (array.kind !== 'ARRAY') {
          throw new XdpbedError('object-invalid', `values of map ${name} is not an array`);
        }
        const element = pointee(btf, name, member.name, array.type);
        if (btf.type(btf.resolve(element)).kind === 'STRUCT') {
          definition.inner = readDefinition(btf, `${name}.inner`, element, false);
        }
        break;
      }
      default:
        throw new XdpbedError('object-unsupported', `map ${name} has an attribute ${member.name}`);
    }
  }
  if (definition.type === 0) throw new XdpbedError('object-invalid', `map ${name} has no type`);
  return definition;
}

function specOf(btf: Btf, name: string, definition: MapDefinition, initial: MapInitialEntry[]): MapSpec {
  const reference = (id: number | undefined): { btf: Btf; id: number } | undefined =>
    id === undefined ? undefined : { btf, id };
  return {
    name,
    type: definition.type,
    keySize: keySizeOf(definition),
    valueSize: definition.valueSize ?? (holdsNumbers(definition.type) ? 4 : 0),
    maxEntries: definition.maxEntries,
    flags: definition.flags,
    initial,
    inner: definition.inner === undefined ? undefined : specOf(btf, `${name}.inner`, definition.inner, []),
    keyType: reference(definition.keyType),
    valueType: reference(definition.valueType),
    ...(definition.pinnedByName ? { pinnedByName: true } : {}),
  };
}

function keySizeOf(definition: MapDefinition): number {
  return definition.keySize ?? (holdsNumbers(definition.type) ? 4 : 0);
}

/** Map types that libbpf lets one declare without sizes, since the kernel admits only 4. */
function holdsNumbers(type: number): boolean {
  return type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY || type === BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY;
}

/** The N of `int (*member)[N]`, or of `enum { … = N } *member` (`__ulong`). */
function declaredNumber(btf: Btf, map: string, member: string, typeId: number): number {
  const type = btf.type(btf.resolve(pointee(btf, map, member, typeId)));
  if (type.kind === 'ARRAY') return type.length;
  const value = type.kind === 'ENUM' || type.kind === 'ENUM64' ? type.values[0]?.value : undefined;
  if (value !== undefined && value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new XdpbedError('object-invalid', `${member} of map ${map} is not declared as a number`);
}

function pointee(btf: Btf, map: string, member: string, typeId: number): number {
  const pointer = btf.type(btf.resolve(typeId));
  if (pointer.kind !== 'PTR') {
    throw new XdpbedError('object-invalid', `${member} of map ${map} is not declared as a pointer`);
  }
  return pointer.type;
}

function sizeOf(btf: Btf, map: string, typeId: number): number {
  const size = btf.sizeOf(typeId);
  if (size === undefined) {
    throw new XdpbedError('object-invalid', `map ${map} holds ${btf.describe(typeId)}, which has no size`);
  }
  return size;
}

function agree(map: string, what: string, before: number | undefined, now: number): number {
  if (before !== undefined && before !== now) {
    throw new XdpbedError('object-invalid', `map ${map} is declared with ${what} ${before} and ${now}`);
  }
  return now;
}

// maps -------------------------------------------------------------------------------------------------------

/**
 * The older form, one struct per map:
 *
 * ```
 * struct bpf_map_def (20 bytes)            + 28 bytes (kernel samples)   + 36 bytes (iproute2 bpf_elf_map)
 *   +0  type, +4 key_size, +8 value_size     +20 inner_map_idx             +20 id, +24 pinning
 *   +12 max_entries, +16 map_flags           +24 numa_node                 +28 inner_id, +32 inner_idx
 * ```
 * Other sizes are read as the first 20 bytes. The size is the symbol's, or the distance to the next one.
 */
function readLegacyMaps(elf: ElfFile, section: ElfSection, btf: Btf | undefined): PlacedMap[] {
  if (section.size === 0) return [];
  const bytes = elf.bytesOf(section);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const symbols = symbolsOf(elf, section);
  if (symbols.length === 0)
    elf.fail(`section ${section.name} has no symbols to name its maps`, section.offset);
  const definitions = symbols.map((symbol, index) => {
    const offset = symbol.value;
    const room = Math.max(0, (symbols[index + 1]?.value ?? bytes.length) - offset);
    const size = symbol.size === 0 ? room : Math.min(symbol.size, room);
    if (offset + size > bytes.length || size < LEGACY_SIZE) {
      elf.fail(
        `map ${symbol.name} is declared with ${size} bytes, of which ${LEGACY_SIZE} are needed`,
        section.offset + Math.min(offset, bytes.length),
      );
    }
    const word = (at: number): number => view.getUint32(offset + at, true);
    return { symbol, offset, size, word };
  });
  // Many maps may claim one name, and the struct of that name may be long.
  const annotated = new Map<string, ReturnType<typeof annotatedTypes>>();
  const typesOf = (name: string): ReturnType<typeof annotatedTypes> => {
    let types = annotated.get(name);
    if (types === undefined) annotated.set(name, (types = annotatedTypes(btf, name)));
    return types;
  };
  const plain = (index: number): MapSpec => {
    const { symbol, word } = definitions[index]!;
    return {
      name: symbol.name,
      type: word(0),
      keySize: word(4),
      valueSize: word(8),
      maxEntries: word(12),
      flags: word(16),
      initial: [],
      ...typesOf(symbol.name),
    };
  };
  const byId = new Map<number, number>();
  definitions.forEach(({ size, word }, index) => {
    if (size === IPROUTE2_SIZE && !byId.has(word(20))) byId.set(word(20), index);
  });
  return definitions.map(({ offset, size, word }, index) => {
    const spec = plain(index);
    const place = { section: section.index, offset, size, data: false };
    if (!isMapOfMaps(spec.type))
      return { ...place, spec, ...(size === IPROUTE2_SIZE ? { id: word(20) } : {}) };
    const candidate =
      size === SAMPLES_SIZE ? word(20) : size === IPROUTE2_SIZE ? (byId.get(word(28)) ?? -1) : -1;
    const found = definitions[candidate];
    if (found === undefined || isMapOfMaps(found.word(0))) return { ...place, spec };
    const inner = { ...plain(candidate), name: `${spec.name}.inner` };
    // iproute2 also places the map that serves as the pattern, where it says so.
    const slot = size === IPROUTE2_SIZE ? found.word(32) : 0xffffffff;
    const initial: MapInitialEntry[] =
      slot < spec.maxEntries && spec.keySize === 4
        ? [{ key: indexKey(slot, 4), mapName: found.symbol.name }]
        : [];
    return { ...place, spec: { ...spec, inner, initial } };
  });
}

/** BPF_ANNOTATE_KV_PAIR: `struct ____btf_map_NAME { K key; V value; }` tells the types of a legacy map. */
function annotatedTypes(btf: Btf | undefined, name: string): Pick<MapSpec, 'keyType' | 'valueType'> {
  const struct = btf?.find('STRUCT', `____btf_map_${name}`)?.type;
  const member = (of: string): { btf: Btf; id: number } | undefined => {
    const id = struct?.members.find((candidate) => candidate.name === of)?.type;
    return btf === undefined || id === undefined ? undefined : { btf, id };
  };
  return struct === undefined ? {} : { keyType: member('key'), valueType: member('value') };
}

function isMapOfMaps(type: number): boolean {
  return type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS || type === BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS;
}

/** Named objects of a section by rising offset; of several at one place the first. */
function symbolsOf(elf: ElfFile, section: ElfSection): ElfSymbol[] {
  const symbols = elf
    .symbolsOf(section)
    .filter((symbol) => symbol.type !== STT_SECTION && symbol.name !== '')
    .sort((a, b) => a.value - b.value);
  return symbols.filter((symbol, index) => symbol.value !== symbols[index - 1]?.value);
}

function indexKey(index: number, size: number): Uint8Array {
  if (size < 4 || size > MAX_KEY) {
    throw new XdpbedError('object-invalid', `initial values need a key of 4 bytes, not of ${size}`);
  }
  const key = new Uint8Array(size);
  new DataView(key.buffer).setUint32(0, index, true);
  return key;
}

const LEGACY_SIZE = 20;
const SAMPLES_SIZE = 28;
const IPROUTE2_SIZE = 36;
/** What the kernel calls INT_MAX in map creation. */
const MAX_VALUE = 0x7fffffff;
/** Keys live on the 512-byte stack (kernel MAX_BPF_STACK). */
const MAX_KEY = 512;
