import { XdpbedError } from '../../core/diagnostic.js';
import type { Btf } from './btf.js';
import { BtfEncoder } from './btf-encoder.js';
import { BTF_INT_ENCODINGS, BTF_LINKAGES, type BtfType } from './btf-type.js';

/** BTF of a map's key and value as BPF_MAP_CREATE takes it: plain data, whole in itself. */
export interface MapBtf {
  /** A `.BTF` section (see {@link Btf}) of what the two types consist of. */
  readonly bytes: Uint8Array;
  /** `btf_key_type_id`; 0 (void) for global data, which has no key of interest. */
  readonly keyType: number;
  /** `btf_value_type_id`. */
  readonly valueType: number;
}

/** Bytes of BTF that the maps of one object may carry, so that a small file cannot ask for gigabytes. */
const MAX_MAP_BTF_BYTES = 4 * 1024 * 1024;
/**
 * References between types that are followed for the maps of one object. Each that is kept takes four bytes of the
 * above at least; this bounds the work on what is only found too large when it is encoded.
 */
const MAX_REFERENCES = MAX_MAP_BTF_BYTES / 4;

/** Type tags of pointers that the kernel tracks in map values (kernel/bpf/btf.c, `btf_find_kptr`). */
export const KPTR_TAGS: ReadonlySet<string> = new Set(['kptr', 'kptr_untrusted', 'percpu_kptr', 'uptr']);

/** Declaration tags that say what a list or tree in a map value holds: `contains:NODE:MEMBER`. */
const CONTAINS = /^contains:([^:]+):/;

/**
 * Takes out of an object's BTF what describes its maps. The object's own BTF is not what a kernel takes: sizes and
 * offsets of data sections are left to the linker, and it may hold kinds that an older kernel does not know. What is
 * kept is what keys and values are made of. Pointers lead nowhere (`void *`), except to what the kernel would track
 * behind them.
 */
export class MapBtfExtractor {
  readonly #btf: Btf;
  readonly #known = new Map<string, MapBtf>();
  /** Ids of DECL_TAGs with {@link CONTAINS} by what they tag. */
  readonly #tags = new Map<number, number[]>();
  #bytes = 0;
  #references = 0;
  readonly #maxReferences: number;

  constructor(
    btf: Btf,
    /** Bytes that all maps together may take. */
    readonly maxBytes = MAX_MAP_BTF_BYTES,
  ) {
    this.#btf = btf;
    this.#maxReferences = Math.min(MAX_REFERENCES, maxBytes);
    for (let id = 1; id < btf.typeCount; id++) {
      const type = btf.type(id);
      if (type.kind !== 'DECL_TAG' || !CONTAINS.test(type.name)) continue;
      const known = this.#tags.get(type.type);
      if (known === undefined) this.#tags.set(type.type, [id]);
      else known.push(id);
    }
  }

  /** References between types that were followed so far. */
  get references(): number {
    return this.#references;
  }

  /**
   * The same types give the same object. Throws `object-invalid`, at the object's BTF, beyond `maxBytes` (by default 4 MiB)
   * or 2^20 references between types for all maps together.
   */
  extract(keyType: number, valueType: number): MapBtf {
    const name = `${keyType}:${valueType}`;
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const ids = this.#reach([keyType, valueType]);
    const newId = new Map([...ids].map((id, index) => [id, index + 1]));
    const idOf = (id: number): number => newId.get(id) ?? 0;
    const encoder = new BtfEncoder();
    for (const id of ids) {
      const type = this.#btf.type(id);
      this.#grow(encoder.size + bodyBytes(type));
      encode(encoder, type, idOf);
      this.#grow(encoder.size);
    }
    const btf = { bytes: encoder.bytes(), keyType: idOf(keyType), valueType: idOf(valueType) };
    this.#bytes += btf.bytes.length;
    this.#known.set(name, btf);
    return btf;
  }

  /** What types consist of, the roots first. */
  #reach(roots: readonly number[]): ReadonlySet<number> {
    const reached = new Set<number>();
    const visit = (id: number): void => {
      if (++this.#references > this.#maxReferences) {
        this.#fail(`the types of the object's maps refer to types more than ${this.#maxReferences} times`);
      }
      const { kind } = this.#btf.type(id);
      // No value is made of functions.
      if (kind !== 'VOID' && kind !== 'FUNC' && kind !== 'FUNC_PROTO') reached.add(id);
    };
    roots.forEach(visit);
    // A set is walked in the order of insertion, what is added meanwhile included.
    for (const id of reached) {
      const type = this.#btf.type(id);
      switch (type.kind) {
        case 'PTR': {
          const pointee = this.#btf.type(type.type);
          if (pointee.kind === 'TYPE_TAG' && KPTR_TAGS.has(pointee.name)) visit(type.type);
          break;
        }
        case 'ARRAY':
          visit(type.type);
          visit(type.indexType);
          break;
        case 'STRUCT':
        case 'UNION':
          for (const member of type.members) visit(member.type);
          break;
        case 'DATASEC':
          for (const variable of type.variables) visit(variable.type);
          break;
        case 'TYPEDEF':
        case 'VOLATILE':
        case 'CONST':
        case 'RESTRICT':
        case 'TYPE_TAG':
        case 'VAR':
          visit(type.type);
          break;
        case 'DECL_TAG': {
          const node = this.#btf.find('STRUCT', CONTAINS.exec(type.name)?.[1] ?? '');
          if (node !== undefined) visit(node.id);
          break;
        }
        default:
          break;
      }
      this.#tags.get(id)?.forEach(visit);
    }
    return reached;
  }

  #grow(bytes: number): void {
    if (this.#bytes + bytes <= this.maxBytes) return;
    this.#fail(`the types of the object's maps take more than ${this.maxBytes} bytes`);
  }

  #fail(message: string): never {
    throw new XdpbedError('object-invalid', message, { at: { offset: this.#btf.fileOffset } });
  }
}

/** Bytes of what a type enumerates: known before any of it is written. */
function bodyBytes(type: BtfType): number {
  switch (type.kind) {
    case 'STRUCT':
    case 'UNION':
      return 12 * type.members.length;
    case 'DATASEC':
      return 12 * type.variables.length;
    case 'ENUM':
      return 8 * type.values.length;
    case 'ENUM64':
      return 12 * type.values.length;
    default:
      return 0;
  }
}

function encode(encoder: BtfEncoder, type: BtfType, idOf: (id: number) => number): void {
  const { kind, name } = type;
  switch (kind) {
    case 'INT': {
      const encoding = BTF_INT_ENCODINGS[type.encoding];
      const body = [(encoding << 24) | (type.bitOffset << 16) | type.bits];
      encoder.type(kind, { name, sizeOrType: type.size, body });
      return;
    }
    case 'ARRAY':
      encoder.type(kind, { sizeOrType: 0, body: [idOf(type.type), idOf(type.indexType), type.length] });
      return;
    case 'STRUCT':
    case 'UNION': {
      const kindFlag = type.members.some((member) => member.bitSize !== 0);
      const body = type.members.flatMap((member) => [
        encoder.string(member.name),
        idOf(member.type),
        kindFlag ? (member.bitSize << 24) | member.bitOffset : member.bitOffset,
      ]);
      encoder.type(kind, { name, kindFlag, vlen: type.members.length, sizeOrType: type.size, body });
      return;
    }
    case 'ENUM':
    case 'ENUM64': {
      const body = type.values.flatMap(({ name: label, value }) => {
        const low = Number(BigInt.asUintN(32, value));
        const at = encoder.string(label);
        return kind === 'ENUM' ? [at, low] : [at, low, Number(BigInt.asUintN(32, value >> 32n))];
      });
      encoder.type(kind, {
        name,
        kindFlag: type.signed,
        vlen: type.values.length,
        sizeOrType: type.size,
        body,
      });
      return;
    }
    case 'FWD':
      encoder.type(kind, { name, kindFlag: type.of === 'union', sizeOrType: 0 });
      return;
    case 'PTR':
    case 'TYPEDEF':
    case 'VOLATILE':
    case 'CONST':
    case 'RESTRICT':
    case 'TYPE_TAG':
      encoder.type(kind, { name, sizeOrType: idOf(type.type) });
      return;
    case 'VAR':
      encoder.type(kind, {
        name,
        sizeOrType: idOf(type.type),
        body: [BTF_LINKAGES.indexOf(type.linkage)],
      });
      return;
    case 'DATASEC': {
      const body = type.variables.flatMap((variable) => [
        idOf(variable.type),
        variable.offset,
        variable.size,
      ]);
      encoder.type(kind, { name, vlen: type.variables.length, sizeOrType: type.size, body });
      return;
    }
    case 'FLOAT':
      encoder.type(kind, { name, sizeOrType: type.size });
      return;
    case 'DECL_TAG':
      encoder.type(kind, { name, sizeOrType: idOf(type.type), body: [type.component] });
      return;
    case 'VOID':
    case 'FUNC':
    case 'FUNC_PROTO':
      throw new TypeError(`a ${kind} is not reached from a value`);
  }
}
