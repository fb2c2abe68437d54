import { BoundedReader, StringTable } from '../bounded-reader.js';
import {
  BTF_KINDS,
  BTF_LINKAGES,
  type BtfComposite,
  type BtfKind,
  type BtfMember,
  type BtfSectionVariable,
  type BtfType,
  type BtfTypeOfKind,
} from './btf-type.js';

/**
 * A `.BTF` section (Linux Documentation/bpf/btf.rst, include/uapi/linux/btf.h), all kinds up to ENUM64.
 *
 * ```
 * struct btf_header (24 bytes)         struct btf_type (12 bytes, then what the kind adds)
 *   +0  magic    u16  0xeb9f             +0 name_off  u32
 *   +2  version  u8   1                  +4 info      u32  vlen: bits 0-15, kind: 24-28, kind_flag: 31
 *   +3  flags    u8                      +8 size/type u32  bytes, or a type id, by kind
 *   +4  hdr_len  u32
 *   +8  type_off u32  from the end of the header, as str_off
 *   +12 type_len u32
 *   +16 str_off  u32
 *   +20 str_len  u32
 * ```
 * Type ids count from 1 in the order of the section; 0 is void.
 */
export class Btf {
  readonly #types: readonly BtfType[];
  /** The first type of each name, by kind. */
  readonly #firstByName = new Map<BtfKind, Map<string, number>>();
  readonly #sizes = new Map<number, number | undefined>();
  /** The section's strings; `.BTF.ext` refers to them too. */
  readonly strings: StringTable;

  /**
   * Throws `btf-invalid` naming the offset in the file; `fileOffset` is where the section starts there.
   * `placement` tells where a global variable of a data section really is, which an unlinked object only says
   * in its symbol table.
   */
  constructor(
    bytes: Uint8Array,
    /** Where the section starts in the file. */
    readonly fileOffset = 0,
    placement?: VariablePlacement,
  ) {
    const reader: BoundedReader = new BoundedReader(bytes, 'btf-invalid', fileOffset);
    const magic = reader.u16(0, 'the BTF magic number');
    if (magic === 0x9feb) reader.fail('big-endian BTF', 0);
    if (magic !== 0xeb9f) reader.fail(`BTF magic number 0x${magic.toString(16)} instead of 0xeb9f`, 0);
    const version = reader.u8(2, 'the BTF version');
    if (version !== 1) reader.fail(`BTF version ${version} instead of 1`, 2);
    const headerLength = reader.u32(4, 'hdr_len');
    if (headerLength < HEADER_SIZE) reader.fail(`a BTF header of ${headerLength} bytes`, 4);
    reader.require(0, headerLength, 'the BTF header');
    const typesAt = headerLength + reader.u32(8, 'type_off');
    const typesLength = reader.u32(12, 'type_len');
    const stringsAt = headerLength + reader.u32(16, 'str_off');
    const stringsLength = reader.u32(20, 'str_len');
    reader.require(typesAt, typesLength, 'the BTF types');
    reader.require(stringsAt, stringsLength, 'the BTF strings');
    this.strings = new StringTable(
      new BoundedReader(
        reader.slice(stringsAt, stringsLength, 'the BTF strings'),
        'btf-invalid',
        fileOffset + stringsAt,
      ),
    );
    this.#types = new TypeParser(reader, this.strings, placement).parse(typesAt, typesAt + typesLength);
    this.#types.forEach((type, id) => {
      if (type.name === '') return;
      let firsts = this.#firstByName.get(type.kind);
      if (firsts === undefined) this.#firstByName.set(type.kind, (firsts = new Map<string, number>()));
      if (!firsts.has(type.name)) firsts.set(type.name, id);
    });
  }

  /** Types, void included. */
  get typeCount(): number {
    return this.#types.length;
  }

  /** The type with this id; an id past the end counts as void, which nothing can have a value of. */
  type(id: number): BtfType {
    return this.#types[id] ?? VOID;
  }

  /** The first type of that name and kind. */
  find<K extends BtfKind>(
    kind: K,
    name: string,
  ): { readonly id: number; readonly type: BtfTypeOfKind<K> } | undefined {
    const id = this.#firstByName.get(kind)?.get(name);
    return id === undefined ? undefined : { id, type: this.type(id) as unknown as BtfTypeOfKind<K> };
  }

  /**
   * The id behind typedefs, const, volatile, restrict and type tags. A chain that runs in a circle ends in
   * void.
   */
  resolve(id: number): number {
    let current = id;
    for (let steps = 0; steps < MAX_DEPTH; steps++) {
      const type = this.type(current);
      switch (type.kind) {
        case 'TYPEDEF':
        case 'VOLATILE':
        case 'CONST':
        case 'RESTRICT':
        case 'TYPE_TAG':
          current = type.type;
          break;
        default:
          return current < this.#types.length ? current : 0;
      }
    }
    return 0;
  }

  /** Bytes of a value of this type; undefined when it has none (void, a function, a forward declaration). */
  sizeOf(id: number): number | undefined {
    return this.#sizeOf(id, 0);
  }

  #sizeOf(id: number, depth: number): number | undefined {
    if (depth > MAX_DEPTH) return undefined;
    if (this.#sizes.has(id)) return this.#sizes.get(id);
    const type = this.type(this.resolve(id));
    let size: number | undefined;
    switch (type.kind) {
      case 'INT':
      case 'STRUCT':
      case 'UNION':
      case 'ENUM':
      case 'ENUM64':
      case 'FLOAT':
      case 'DATASEC':
        size = type.size;
        break;
      case 'PTR':
        size = 8;
        break;
      case 'ARRAY': {
        const element = this.#sizeOf(type.type, depth + 1);
        size = element === undefined ? undefined : element * type.length;
        break;
      }
      case 'VAR':
        size = this.#sizeOf(type.type, depth + 1);
        break;
      case 'VOID':
      case 'FWD':
      case 'FUNC':
      case 'FUNC_PROTO':
      case 'DECL_TAG':
      case 'TYPEDEF':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
      case 'TYPE_TAG':
        size = undefined;
        break;
    }
    // What no map value and no packet can be is not a size; it keeps sums of sizes exact, too.
    if (size !== undefined && size > MAX_SIZE) size = undefined;
    this.#sizes.set(id, size);
    return size;
  }

  /**
   * The member of that name, looked for in anonymous structs and unions as C does. The offset is from the start
   * of the outermost struct.
   */
  member(id: number, name: string): BtfMember | undefined {
    return this.#member(id, name, new Set());
  }

  #member(id: number, name: string, searched: Set<number>): BtfMember | undefined {
    const resolved = this.resolve(id);
    const type = this.type(resolved);
    // What was searched once in vain need not be searched again, which also ends circles.
    if (!isComposite(type) || searched.has(resolved)) return undefined;
    searched.add(resolved);
    const own = type.members.find((member) => member.name === name);
    if (own !== undefined) return own;
    for (const member of type.members) {
      if (member.name !== '') continue;
      const inner = this.#member(member.type, name, searched);
      if (inner !== undefined) return { ...inner, bitOffset: inner.bitOffset + member.bitOffset };
    }
    return undefined;
  }

  /** The type in C, e.g. `struct flow_key`, `__u32[4]`, `const char *`. */
  describe(id: number): string {
    return this.#describe(id, 0);
  }

  #describe(id: number, depth: number): string {
    if (depth > MAX_NESTING) return '…';
    const type = this.type(id);
    const inner = (of: number): string => this.#describe(of, depth + 1);
    switch (type.kind) {
      case 'VOID':
        return 'void';
      case 'PTR':
        return `${inner(type.type)} *`;
      case 'ARRAY':
        return `${inner(type.type)}[${type.length}]`;
      case 'STRUCT':
      case 'UNION':
        return `${type.kind.toLowerCase()} ${type.name === '' ? '{…}' : type.name}`;
      case 'ENUM':
      case 'ENUM64':
        return `enum ${type.name === '' ? '{…}' : type.name}`;
      case 'FWD':
        return `${type.of} ${type.name}`;
      case 'CONST':
      case 'VOLATILE':
      case 'RESTRICT':
        return `${type.kind.toLowerCase()} ${inner(type.type)}`;
      case 'TYPE_TAG':
      case 'DECL_TAG':
        return inner(type.type);
      case 'FUNC_PROTO': {
        // Prototypes fan out, so they go only a few deep.
        const parameters = type.parameters
          .slice(0, MAX_PARAMETERS)
          .map((parameter) => this.#describe(parameter.type, depth + MAX_NESTING / 2));
        return `${inner(type.returns)} (${parameters.join(', ')})`;
      }
      case 'VAR':
      case 'FUNC':
        return inner(type.type);
      case 'INT':
      case 'FLOAT':
      case 'TYPEDEF':
      case 'DATASEC':
        return type.name;
    }
  }
}

/** Offset of the variable in its section, from the symbol table; undefined where BTF already says it. */
export interface VariablePlacement {
  variableOffset(section: string, variable: string): number | undefined;
  sectionSize(section: string): number | undefined;
}

const VOID: BtfType = { kind: 'VOID', name: '' };
const HEADER_SIZE = 24;
const TYPE_SIZE = 12;
/** Longest chain of modifiers or arrays followed; the kernel's limit is 32 (MAX_RESOLVE_DEPTH). */
const MAX_DEPTH = 64;
/** How deep `describe` goes, and how many parameters of a function it prints. */
const MAX_NESTING = 16;
const MAX_PARAMETERS = 12;
const MAX_SIZE = 0x7fffffff;

class TypeParser {
  readonly #types: BtfType[] = [VOID];

  constructor(
    readonly reader: BoundedReader,
    readonly strings: StringTable,
    readonly placement: VariablePlacement | undefined,
  ) {}

  parse(start: number, end: number): BtfType[] {
    let at = start;
    while (at < end) {
      const id = this.#types.length;
      if (end - at < TYPE_SIZE) this.reader.fail(`type ${id} is cut off`, at);
      const extra = this.#parseOne(id, at, end);
      at += TYPE_SIZE + extra;
    }
    return this.#types;
  }

  /** Appends one type and returns the bytes that follow its `struct btf_type`. */
  #parseOne(id: number, at: number, end: number): number {
    const reader: BoundedReader = this.reader;
    const what = `type ${id}`;
    const name = this.strings.at(reader.u32(at, what), `the name of type ${id}`);
    const info = reader.u32(at + 4, what);
    const count = info & 0xffff;
    const kindNumber = (info >>> 24) & 0x1f;
    const kindFlag = info >>> 31 === 1;
    const sizeOrType = reader.u32(at + 8, what);
    const kind = BTF_KINDS[kindNumber];
    if (kind === undefined || kind === 'VOID')
      reader.fail(`${what} is of unknown kind ${kindNumber}`, at + 4);
    const body = at + TYPE_SIZE;
    const need = (size: number): number => {
      if (size > end - body) reader.fail(`${what} (${kind}) is cut off`, at);
      return size;
    };
    const linkage = (value: number): (typeof BTF_LINKAGES)[number] =>
      BTF_LINKAGES[value] ?? reader.fail(`${what} has unknown linkage ${value}`, at);

    switch (kind) {
      case 'INT': {
        const extra = need(4);
        this.#types.push(this.#integer(name, sizeOrType, reader.u32(body, what), what, body));
        return extra;
      }
      case 'PTR':
        this.#types.push({ kind, name: '', type: sizeOrType });
        return 0;
      case 'ARRAY': {
        const extra = need(12);
        this.#types.push({
          kind,
          name: '',
          type: reader.u32(body, what),
          indexType: reader.u32(body + 4, what),
          length: reader.u32(body + 8, what),
        });
        return extra;
      }
      case 'STRUCT':
      case 'UNION': {
        const extra = need(count * 12);
        const members: BtfMember[] = [];
        for (let i = 0; i < count; i++) {
          members.push(this.#member(body + 12 * i, `member ${i} of ${what}`, kindFlag));
        }
        this.#types.push({ kind, name, size: sizeOrType, members });
        return extra;
      }
      case 'ENUM':
      case 'ENUM64': {
        const width = kind === 'ENUM' ? 8 : 12;
        const extra = need(count * width);
        if (![1, 2, 4, 8].includes(sizeOrType))
          reader.fail(`${what} is an enum of ${sizeOrType} bytes`, at + 8);
        const values = [];
        for (let i = 0; i < count; i++) {
          values.push(this.#enumerator(body + width * i, width === 12, kindFlag, `value ${i} of ${what}`));
        }
        this.#types.push({ kind, name, size: sizeOrType, signed: kindFlag, values });
        return extra;
      }
      case 'FWD':
        this.#types.push({ kind, name, of: kindFlag ? 'union' : 'struct' });
        return 0;
      case 'TYPEDEF':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
      case 'TYPE_TAG':
        this.#types.push({ kind, name, type: sizeOrType });
        return 0;
      case 'FUNC':
        this.#types.push({ kind, name, type: sizeOrType, linkage: linkage(count) });
        return 0;
      case 'FUNC_PROTO': {
        const extra = need(count * 8);
        const parameters = [];
        for (let i = 0; i < count; i++) {
          parameters.push({
            name: this.strings.at(reader.u32(body + 8 * i, what), `parameter ${i} of ${what}`),
            type: reader.u32(body + 8 * i + 4, what),
          });
        }
        this.#types.push({ kind, name: '', returns: sizeOrType, parameters });
        return extra;
      }
      case 'VAR': {
        const extra = need(4);
        this.#types.push({ kind, name, type: sizeOrType, linkage: linkage(reader.u32(body, what)) });
        return extra;
      }
      case 'DATASEC': {
        const extra = need(count * 12);
        this.#types.push(this.#dataSection(name, sizeOrType, body, count, what));
        return extra;
      }
      case 'FLOAT':
        this.#types.push({ kind, name, size: sizeOrType });
        return 0;
      case 'DECL_TAG': {
        const extra = need(4);
        this.#types.push({ kind, name, type: sizeOrType, component: reader.s32(body, what) });
        return extra;
      }
    }
  }

  #integer(name: string, size: number, data: number, what: string, at: number): BtfType {
    const flags = (data >>> 24) & 0x0f;
    const bitOffset = (data >>> 16) & 0xff;
    const bits = data & 0xff;
    if (size < 1 || size > 16) this.reader.fail(`${what} is an integer of ${size} bytes`, at);
    if (bitOffset + bits > size * 8) {
      this.reader.fail(`${what} has bits ${bitOffset} … ${bitOffset + bits} of ${size} bytes`, at);
    }
    const encoding =
      (flags & 4) !== 0 ? 'bool' : (flags & 2) !== 0 ? 'char' : (flags & 1) !== 0 ? 'signed' : 'unsigned';
    return { kind: 'INT', name, size, bits, bitOffset, encoding };
  }

  #member(at: number, what: string, kindFlag: boolean): BtfMember {
    const offset = this.reader.u32(at + 8, what);
    return {
      name: this.strings.at(this.reader.u32(at, what), `the name of ${what}`),
      type: this.reader.u32(at + 4, what),
      // With the kind flag the upper eight bits are the width of a bit-field.
      bitOffset: kindFlag ? offset & 0xffffff : offset,
      bitSize: kindFlag ? offset >>> 24 : 0,
    };
  }

  #enumerator(at: number, wide: boolean, signed: boolean, what: string): { name: string; value: bigint } {
    const name = this.strings.at(this.reader.u32(at, what), `the name of ${what}`);
    if (!wide) {
      // Compilers before ENUM64 left the flag clear on signed enums too, so the value itself is read as signed
      // unless the flag could have said so; formatting compares at the enum's width.
      return { name, value: BigInt(this.reader.s32(at + 4, what)) };
    }
    const low = BigInt(this.reader.u32(at + 4, what));
    const value = (BigInt(this.reader.u32(at + 8, what)) << 32n) | low;
    return { name, value: signed ? BigInt.asIntN(64, value) : value };
  }

  #dataSection(name: string, size: number, body: number, count: number, what: string): BtfType {
    const variables: BtfSectionVariable[] = [];
    for (let i = 0; i < count; i++) {
      const type = this.reader.u32(body + 12 * i, what);
      const declared = this.#types[type];
      // Types refer backwards here: clang writes DATASECs last.
      const placed =
        declared?.kind === 'VAR' && declared.linkage === 'global'
          ? this.placement?.variableOffset(name, declared.name)
          : undefined;
      variables.push({
        type,
        offset: placed ?? this.reader.u32(body + 12 * i + 4, what),
        size: this.reader.u32(body + 12 * i + 8, what),
      });
    }
    variables.sort((a, b) => a.offset - b.offset);
    return { kind: 'DATASEC', name, size: this.placement?.sectionSize(name) ?? size, variables };
  }
}

/** Narrowing for callers that walk structs. */
export function isComposite(type: BtfType): type is BtfComposite {
  return type.kind === 'STRUCT' || type.kind === 'UNION';
}
