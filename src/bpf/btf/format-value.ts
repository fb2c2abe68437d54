import type { BtfMember } from './btf-type.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import type { Btf } from './btf.js';

/** Values as JSON knows them; integers past 2^53 are decimal strings. */
export type BtfJson =
  number | string | boolean | null | readonly BtfJson[] | { readonly [member: string]: BtfJson };

export interface FormatOptions {
  /** Elements of one array that are printed; the rest is counted. */
  readonly maxElements?: number | undefined;
}

/**
 * Prints the bytes of a value by its type, on one line:
 * `{ .rx_packets = 3, .mac = [2, 0, 0, 0, 0, 1], .action = XDP_DROP, .name = "eth0" }`.
 * Enums go by name, `char` arrays as strings, pointers in hex, bit-fields as numbers; of a union the widest member
 * is shown. Where there are fewer bytes than the type needs, `<cut off>` stands in.
 */
export function formatValue(type: BtfTypeRef, bytes: Uint8Array, options: FormatOptions = {}): string {
  return toText(new ValueReader(type.btf, bytes).read(type.id, 0, 0), options.maxElements ?? 64);
}

/** The same as a structure; parseValue reads it back. */
export function valueToJson(type: BtfTypeRef, bytes: Uint8Array): BtfJson {
  return toJson(new ValueReader(type.btf, bytes).read(type.id, 0, 0));
}

/** Bytes without a type: a number for 1, 2, 4 and 8 of them as BPF programs read them, else hex. */
export function formatBytes(bytes: Uint8Array): string {
  if (bytes.length === 1 || bytes.length === 2 || bytes.length === 4 || bytes.length === 8) {
    return littleEndian(bytes).toString();
  }
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

type Node =
  | { readonly kind: 'scalar'; readonly text: string; readonly json: BtfJson }
  | { readonly kind: 'list'; readonly items: readonly Node[]; readonly more: number }
  | { readonly kind: 'struct'; readonly members: readonly { readonly name: string; readonly node: Node }[] };

/** Values in one print-out; types of hostile BTF can nest and repeat far beyond what their bytes warrant. */
const MAX_NODES = 100_000;
const MAX_DEPTH = 32;

class ValueReader {
  readonly #view: DataView;
  #nodes = 0;

  constructor(
    readonly btf: Btf,
    readonly bytes: Uint8Array,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** `offset` is in bytes from the start of the value. */
  read(typeId: number, offset: number, depth: number): Node {
    this.#nodes++;
    if (depth > MAX_DEPTH || this.#nodes > MAX_NODES) return scalar('…');
    const type = this.btf.type(this.btf.resolve(typeId));
    switch (type.kind) {
      case 'INT': {
        const bits = this.#bits(offset * 8 + type.bitOffset, type.bits);
        if (bits === undefined) return CUT_OFF;
        if (type.encoding === 'bool') return { kind: 'scalar', text: String(bits !== 0n), json: bits !== 0n };
        return integer(
          type.encoding === 'signed' || type.encoding === 'char' ? BigInt.asIntN(type.bits, bits) : bits,
        );
      }
      case 'PTR': {
        const bits = this.#bits(offset * 8, 64);
        return bits === undefined ? CUT_OFF : scalar(`0x${bits.toString(16)}`);
      }
      case 'ENUM':
      case 'ENUM64': {
        const bits = this.#bits(offset * 8, type.size * 8);
        return bits === undefined ? CUT_OFF : this.#enumerator(typeId, bits, type.size * 8);
      }
      case 'FLOAT':
        if (offset + type.size > this.bytes.length) return CUT_OFF;
        if (type.size === 4) return float(this.#view.getFloat32(offset, true));
        if (type.size === 8) return float(this.#view.getFloat64(offset, true));
        return this.#raw(offset, type.size);
      case 'ARRAY':
        return this.#array(type.type, type.length, offset, depth);
      case 'STRUCT':
        return { kind: 'struct', members: type.members.map((member) => this.#member(member, offset, depth)) };
      case 'UNION': {
        const widest = widestMember(this.btf, type.members);
        return { kind: 'struct', members: widest === undefined ? [] : [this.#member(widest, offset, depth)] };
      }
      case 'VAR':
        return this.read(type.type, offset, depth + 1);
      case 'DATASEC':
        return {
          kind: 'struct',
          members: type.variables.map((variable) => ({
            name: this.btf.type(variable.type).name,
            node: this.read(variable.type, offset + variable.offset, depth + 1),
          })),
        };
      default:
        return scalar(`<${this.btf.describe(typeId)}>`);
    }
  }

  #member(member: BtfMember, offset: number, depth: number): { name: string; node: Node } {
    const bit = offset * 8 + member.bitOffset;
    if (member.bitSize === 0 && bit % 8 === 0) {
      return { name: member.name, node: this.read(member.type, bit / 8, depth + 1) };
    }
    return { name: member.name, node: this.#bitField(member, bit) };
  }

  #bitField(member: BtfMember, bit: number): Node {
    this.#nodes++;
    const type = this.btf.type(this.btf.resolve(member.type));
    const width = member.bitSize !== 0 ? member.bitSize : type.kind === 'INT' ? type.bits : 0;
    const bits = this.#bits(bit, width);
    if (bits === undefined) return CUT_OFF;
    if (type.kind === 'ENUM' || type.kind === 'ENUM64') return this.#enumerator(member.type, bits, width);
    if (type.kind === 'INT' && type.encoding === 'bool') {
      return { kind: 'scalar', text: String(bits !== 0n), json: bits !== 0n };
    }
    return integer(type.kind === 'INT' && type.encoding === 'signed' ? BigInt.asIntN(width, bits) : bits);
  }

  #enumerator(typeId: number, bits: bigint, width: number): Node {
    const type = this.btf.type(this.btf.resolve(typeId));
    if (type.kind !== 'ENUM' && type.kind !== 'ENUM64') return integer(bits);
    const value = type.values.find((candidate) => BigInt.asUintN(width, candidate.value) === bits);
    if (value !== undefined) return { kind: 'scalar', text: value.name, json: value.name };
    return integer(type.signed ? BigInt.asIntN(width, bits) : bits);
  }

  #array(elementId: number, length: number, offset: number, depth: number): Node {
    if (isCharacter(this.btf, elementId)) return this.#string(offset, length);
    const size = this.btf.sizeOf(elementId) ?? 0;
    const items: Node[] = [];
    if (size > 0) {
      for (let i = 0; i < length && offset + i * size < this.bytes.length; i++) {
        if (this.#nodes > MAX_NODES) break;
        items.push(this.read(elementId, offset + i * size, depth + 1));
      }
    }
    return { kind: 'list', items, more: size > 0 ? length - items.length : 0 };
  }

  /** A char array up to its first NUL, if that leaves nothing out. */
  #string(offset: number, length: number): Node {
    const bytes = this.bytes.subarray(offset, offset + length);
    const end = bytes.indexOf(0);
    const head = end < 0 ? bytes : bytes.subarray(0, end);
    const isText = head.every((byte) => byte >= 0x20 && byte < 0x7f) || isUtf8(head);
    if (isText && (end < 0 || bytes.subarray(end).every((byte) => byte === 0))) {
      const text = new TextDecoder().decode(head);
      return { kind: 'scalar', text: JSON.stringify(text), json: text };
    }
    return {
      kind: 'list',
      items: [...bytes].map((byte) => integer(BigInt(byte))),
      more: length - bytes.length,
    };
  }

  #raw(offset: number, size: number): Node {
    return scalar(formatBytes(this.bytes.subarray(offset, offset + size)));
  }

  /** Bits of the little-endian value, counted from its first byte's lowest. */
  #bits(bit: number, width: number): bigint | undefined {
    const first = Math.floor(bit / 8);
    const last = Math.ceil((bit + width) / 8);
    if (width <= 0 || width > 128 || last > this.bytes.length) return undefined;
    const value = littleEndian(this.bytes.subarray(first, last));
    return BigInt.asUintN(width, value >> BigInt(bit - first * 8));
  }
}

/** The first of the widest members: what a union is printed as. */
export function widestMember(btf: Btf, members: readonly BtfMember[]): BtfMember | undefined {
  let widest: BtfMember | undefined;
  let size = -1;
  for (const member of members) {
    const own = btf.sizeOf(member.type) ?? 0;
    if (own > size) {
      widest = member;
      size = own;
    }
  }
  return widest;
}

/** C's `char`, which clang encodes as a signed integer of that name. */
export function isCharacter(btf: Btf, typeId: number): boolean {
  const type = btf.type(btf.resolve(typeId));
  return type.kind === 'INT' && type.size === 1 && (type.encoding === 'char' || type.name === 'char');
}

function toText(node: Node, maxElements: number): string {
  switch (node.kind) {
    case 'scalar':
      return node.text;
    case 'list': {
      const shown = node.items.slice(0, maxElements).map((item) => toText(item, maxElements));
      const more = node.items.length - shown.length + node.more;
      return `[${[...shown, ...(more > 0 ? [`… ${more} more`] : [])].join(', ')}]`;
    }
    case 'struct': {
      if (node.members.length === 0) return '{}';
      const members = node.members.map(({ name, node: inner }) =>
        name === '' ? toText(inner, maxElements) : `.${name} = ${toText(inner, maxElements)}`,
      );
      return `{ ${members.join(', ')} }`;
    }
  }
}

function toJson(node: Node): BtfJson {
  switch (node.kind) {
    case 'scalar':
      return node.json;
    case 'list':
      return node.items.map(toJson);
    case 'struct':
      return Object.fromEntries(jsonMembers(node.members));
  }
}

/** Members of anonymous structs belong to the struct around them, as in C. */
function jsonMembers(
  members: readonly { readonly name: string; readonly node: Node }[],
): [string, BtfJson][] {
  return members.flatMap(({ name, node }): [string, BtfJson][] => {
    if (name !== '') return [[name, toJson(node)]];
    return node.kind === 'struct' ? jsonMembers(node.members) : [];
  });
}

function scalar(text: string): Node {
  return { kind: 'scalar', text, json: text };
}

const CUT_OFF: Node = { kind: 'scalar', text: '<cut off>', json: null };

function integer(value: bigint): Node {
  const exact = value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
  return { kind: 'scalar', text: value.toString(), json: exact ? Number(value) : value.toString() };
}

function float(value: number): Node {
  return { kind: 'scalar', text: String(value), json: Number.isFinite(value) ? value : String(value) };
}

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    // eslint-disable-next-line no-control-regex -- control characters are what is looked for
    return !/[\x00-\x1f\x7f]/.test(text);
  } catch {
    return false;
  }
}
