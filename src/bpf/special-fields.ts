import { Btf } from './btf/btf.js';
import { KPTR_TAGS, type MapBtf } from './btf/map-btf.js';
import type { BtfComposite, BtfDataSection, BtfType } from './btf/btf-type.js';
import {
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_MAP_TYPE as T,
  mapTypeName,
  type MapAttributes,
} from './map-spec.js';
import { XdpbedError } from '../core/diagnostic.js';

/** A part of a map's value that only helpers and kernel functions may touch. */
export interface SpecialField {
  /** `bpf_spin_lock`, `bpf_timer` …; `kptr` for a pointer that the kernel tracks. */
  readonly type: SpecialFieldType;
  /** As in C, from the value on: `lock`, `state.timer`, `nodes[1]`. */
  readonly name: string;
  /** Bytes from the start of the value. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** What of a map's value is not plain data. */
export interface SpecialFields {
  /** By rising offset. */
  readonly fields: readonly SpecialField[];
  /** Why the whole value is plain data to the kernel although its type has such fields. */
  readonly problem?: string | undefined;
}

/** Types by name: bytes, alignment, and the map types that take them (kernel/bpf/syscall.c, `map_check_btf`). */
const HASH_AND_ARRAY: readonly number[] = [T.BPF_MAP_TYPE_HASH, T.BPF_MAP_TYPE_ARRAY];
const WITH_LRU: readonly number[] = [...HASH_AND_ARRAY, T.BPF_MAP_TYPE_LRU_HASH];
const WITH_PER_CPU: readonly number[] = [
  ...WITH_LRU,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
];
const TYPES = {
  bpf_spin_lock: { size: 4, alignment: 4, maps: HASH_AND_ARRAY, once: true },
  bpf_res_spin_lock: { size: 4, alignment: 4, maps: HASH_AND_ARRAY, once: true },
  bpf_timer: { size: 16, alignment: 8, maps: WITH_LRU, once: true },
  bpf_wq: { size: 16, alignment: 8, maps: WITH_LRU, once: true },
  bpf_task_work: { size: 8, alignment: 8, maps: WITH_LRU, once: true },
  bpf_refcount: { size: 4, alignment: 4, maps: WITH_PER_CPU, once: true },
  bpf_list_head: { size: 16, alignment: 8, maps: WITH_LRU, once: false },
  bpf_rb_root: { size: 16, alignment: 8, maps: WITH_LRU, once: false },
  kptr: { size: 8, alignment: 8, maps: WITH_PER_CPU, once: false },
} as const;

export type SpecialFieldType = keyof typeof TYPES;

/** Most fields of a value (kernel BTF_FIELDS_MAX). */
const MAX_FIELDS = 11;
/** How deep arrays and structs nest (kernel MAX_RESOLVE_DEPTH). */
const MAX_DEPTH = 32;

const NONE: SpecialFields = { fields: [] };

/**
 * The special fields of a map's value, found where Linux 6.18 finds them (kernel/bpf/btf.c, `btf_parse_fields`): in
 * a struct or a data section, in structs and arrays within it, not in unions, and only where the type itself is named
 * and not a typedef of it. Hostile BTF ends in a `problem`. What the kernel asks of its own types (that a tracked
 * pointer's target exists, that a list says what it holds) is not looked at: such a field counts.
 */
export function specialFields(map: MapAttributes): SpecialFields {
  if (map.btf === undefined) return NONE;
  let declared = DECLARED.get(map.btf);
  if (declared === undefined) DECLARED.set(map.btf, (declared = declaredFields(map.btf)));
  if (declared.fields.length === 0) return declared;
  const problem = problemOf(map, declared.fields);
  return problem === undefined ? declared : { fields: [], problem };
}

/** What a value's type declares. Maps of an object share their BTF: what is large is searched once, not for each. */
const DECLARED = new WeakMap<MapBtf, SpecialFields>();

function declaredFields(btf: MapBtf): SpecialFields {
  try {
    const fields = new FieldFinder(new Btf(btf.bytes)).find(btf.valueType);
    return fields.length === 0 ? NONE : { fields };
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    return { fields: [], problem: error.message };
  }
}

/** What makes the kernel refuse the fields as a whole. */
function problemOf(map: MapAttributes, fields: readonly SpecialField[]): string | undefined {
  const seen = new Set<SpecialFieldType>();
  let end = 0;
  for (const { type, name, offset, size } of fields) {
    const { maps, once } = TYPES[type];
    if (!maps.includes(map.type)) return `a ${mapTypeName(map.type)} may not hold ${described(type)}`;
    if (once && seen.has(type)) return `its value has more than one ${type}`;
    if (offset < end || offset + size > map.valueSize) return `${name} does not lie in its value alone`;
    seen.add(type);
    end = offset + size;
  }
  if ((map.flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)) !== 0) {
    return `a map that programs may only read or only write may not hold ${described(fields[0]!.type)}`;
  }
  return undefined;
}

function described(type: SpecialFieldType): string {
  return `a ${type}`;
}

/** The field that bytes `first` to `end` (exclusive) of a value touch, if any. */
export function touchedField(
  { fields }: SpecialFields,
  first: number,
  end: number,
): SpecialField | undefined {
  return fields.find(({ offset, size }) => first < offset + size && offset < end);
}

class FieldFinder {
  /** What each type holds, offsets from its own start: no type is searched twice. */
  readonly #known = new Map<number, readonly SpecialField[]>();

  constructor(readonly btf: Btf) {}

  find(valueType: number): readonly SpecialField[] {
    const { btf } = this;
    const id = btf.resolve(valueType);
    const type = btf.type(id);
    const found =
      type.kind === 'STRUCT'
        ? this.#inStruct(id, type, 0)
        : type.kind === 'DATASEC'
          ? this.#inSection(type)
          : [];
    return found
      .filter(({ type: kind, offset }) => offset % TYPES[kind].alignment === 0)
      .sort((a, b) => a.offset - b.offset);
  }

  #inStruct(id: number, type: BtfComposite, depth: number): readonly SpecialField[] {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    const found: SpecialField[] = [];
    for (const member of type.members) {
      if (member.bitOffset % 8 === 0) {
        this.#add(found, this.#inMember(member.type, depth), member.bitOffset / 8, member.name);
      }
    }
    this.#known.set(id, found);
    return found;
  }

  #inSection(type: BtfDataSection): SpecialField[] {
    const found: SpecialField[] = [];
    for (const variable of type.variables) {
      const declared = this.btf.type(variable.type);
      if (declared.kind !== 'VAR' || this.btf.sizeOf(declared.type) !== variable.size) continue;
      this.#add(found, this.#inMember(declared.type, 0), variable.offset, declared.name);
    }
    return found;
  }

  /** What a member or variable of this type holds; names are what follows the member's own. */
  #inMember(typeId: number, depth: number): readonly SpecialField[] {
    if (depth >= MAX_DEPTH) tooMuch(`structs nested more than ${MAX_DEPTH} deep`);
    const { btf } = this;
    let id = typeId;
    let type = btf.type(id);
    let count = 1;
    for (let level = 0; type.kind === 'ARRAY'; level++) {
      if (level === MAX_DEPTH) tooMuch(`arrays nested more than ${MAX_DEPTH} deep`);
      count *= type.length;
      id = type.type;
      type = btf.type(id);
    }
    if (count === 0) return [];
    const element = this.#inElement(id, type, depth);
    if (id === typeId || element.length === 0) return element;
    if (element.length * count > MAX_FIELDS) tooMuch(`more than ${MAX_FIELDS} special fields`);
    const single = element.find((field) => TYPES[field.type].once);
    if (single !== undefined && count > 1) tooMuch(`an array of ${single.type}`);
    const stride = btf.sizeOf(id) ?? 0;
    const found: SpecialField[] = [];
    for (let index = 0; index < count; index++) this.#add(found, element, index * stride, `[${index}]`);
    return found;
  }

  #inElement(id: number, type: BtfType, depth: number): readonly SpecialField[] {
    if (type.kind === 'STRUCT') {
      // Programs name their structs as they like, also as what every object inherits: `struct toString`.
      if (!Object.hasOwn(TYPES, type.name) || type.name === 'kptr') {
        return this.#inStruct(id, type, depth + 1);
      }
      const field = type.name as SpecialFieldType;
      // A struct that only has the name is plain data.
      return TYPES[field].size === type.size ? [{ type: field, name: '', offset: 0, size: type.size }] : [];
    }
    if (type.kind !== 'PTR') return [];
    const tag = this.btf.type(type.type);
    if (tag.kind !== 'TYPE_TAG') return [];
    if (!KPTR_TAGS.has(tag.name)) tooMuch(`a pointer tagged ${tag.name}`);
    return [{ type: 'kptr', name: '', offset: 0, size: TYPES.kptr.size }];
  }

  #add(found: SpecialField[], inner: readonly SpecialField[], at: number, name: string): void {
    for (const field of inner) {
      const dot = field.name === '' || field.name.startsWith('[') || name === '' ? '' : '.';
      found.push({ ...field, name: `${name}${dot}${field.name}`, offset: at + field.offset });
    }
    if (found.length > MAX_FIELDS) tooMuch(`more than ${MAX_FIELDS} special fields`);
  }
}

function tooMuch(what: string): never {
  throw new XdpbedError('btf-invalid', `its value has ${what}`);
}
