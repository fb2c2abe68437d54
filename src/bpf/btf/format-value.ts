import { printable } from '../../core/printable.js';
import type { BtfMember } from './btf-type.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import type { Btf } from './btf.js';
import { parseValue } from './parse-value.js';
import { isCharacter, littleEndian, readForm, valueForm } from './value-types.js';

/** Values as JSON knows them; integers past 2^53 are decimal strings. */
export type BtfJson =
  number | string | boolean | null | readonly BtfJson[] | { readonly [member: string]: BtfJson };

/**
 * Writes the bytes of a value by its type, on one line of YAML: `{ rx_packets: 3, mac: "02:00:00:00:00:01", source: 10.0.0.1,
 * action: XDP_DROP, name: eth0 }`. It is {@link valueToJson} in YAML's notation, so that parseValue reads it back.
 */
export function formatValue(type: BtfTypeRef, bytes: Uint8Array): string {
  return formatJson(valueToJson(type, bytes));
}

/**
 * A value as a structure, in the way in which parseValue has it written: enums go by name, `char` arrays as strings,
 * addresses as text, bit-fields as numbers; of a union there is the widest member; of a long array, zeros at its end are
 * left out. What would not become the same bytes again (padding that is not zero, a bool that is neither 0 nor 1) is
 * `{ bytes: "…" }` as a whole. Where there are fewer bytes than the type needs, null stands in.
 */
export function valueToJson(type: BtfTypeRef, bytes: Uint8Array): BtfJson {
  const json = new ValueReader(type.btf, bytes).read(type.id, 0, 0);
  if (type.btf.sizeOf(type.id) !== bytes.length) return json;
  return isReadBack(type, json, bytes) ? json : bytesJson(bytes);
}

/** As `valueToJson` by the type, however many bytes of it would not become the same again: for people to look at. */
export function describeValue(type: BtfTypeRef, bytes: Uint8Array): string {
  return formatJson(new ValueReader(type.btf, bytes).read(type.id, 0, 0));
}

/** Bytes without a type: a number for 1, 2, 4 and 8 of them as BPF programs read them, else `{ bytes: "…" }`. */
export function untypedToJson(bytes: Uint8Array): BtfJson {
  if (bytes.length === 1 || bytes.length === 2 || bytes.length === 4 || bytes.length === 8) {
    return integer(littleEndian(bytes));
  }
  return bytesJson(bytes);
}

/** `untypedToJson` on one line of YAML. */
export function formatBytes(bytes: Uint8Array): string {
  return formatJson(untypedToJson(bytes));
}

/**
 * JSON on one line, in YAML's flow notation without quotes where they are not needed. What is not printable is escaped, for a
 * reader of YAML 1.1 breaks lines at more than line feeds.
 */
export function formatJson(json: BtfJson): string {
  if (json === null) return 'null';
  if (typeof json === 'string')
    return PLAIN.test(json) && !KEYWORDS.test(json) ? json : printable(JSON.stringify(json));
  if (typeof json !== 'object') return String(json);
  if (isList(json)) return `[${json.map(formatJson).join(', ')}]`;
  const members = Object.entries(json).map(([name, value]) => `${formatJson(name)}: ${formatJson(value)}`);
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`;
}

function isList(json: BtfJson): json is readonly BtfJson[] {
  return Array.isArray(json);
}

/** Words, IPv4 addresses and exact numbers in hex: what YAML takes for what it is without quotes, wherever it stands. */
const PLAIN = /^(?:[a-z_.][\w.]*|\d+\.\d+\.\d+\.\d+|0x[0-9a-f]{1,13})$/i;
/** YAML 1.2 core schema, and what YAML 1.1 takes for something else. */
const KEYWORDS = /^(?:true|false|null|yes|no|on|off|y|n|\.inf|\.nan|\.[\d.]*e?\d*)$/i;

function bytesJson(bytes: Uint8Array): BtfJson {
  return { bytes: [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ') };
}

function isReadBack(type: BtfTypeRef, json: BtfJson, bytes: Uint8Array): boolean {
  try {
    return Buffer.compare(parseValue(type, json), bytes) === 0;
  } catch {
    return false;
  }
}

/** Values in one print-out; types of hostile BTF can nest and repeat far beyond what their bytes warrant. */
const MAX_NODES = 100_000;
const MAX_DEPTH = 32;
/** Elements of an array that is shown whole. */
const SHORT_ARRAY = 16;

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
  read(typeId: number, offset: number, depth: number): BtfJson {
    this.#nodes++;
    if (depth > MAX_DEPTH || this.#nodes > MAX_NODES) return '…';
    const inForm = this.#inForm(typeId, offset);
    if (inForm !== undefined) return inForm;
    const type = this.btf.type(this.btf.resolve(typeId));
    switch (type.kind) {
      case 'INT': {
        const bits = this.#bits(offset * 8 + type.bitOffset, type.bits);
        if (bits === undefined) return null;
        if (type.encoding === 'bool') return bits > 1n ? integer(bits) : bits !== 0n;
        return integer(
          type.encoding === 'signed' || type.encoding === 'char' ? BigInt.asIntN(type.bits, bits) : bits,
        );
      }
      case 'PTR': {
        const bits = this.#bits(offset * 8, 64);
        return bits === undefined ? null : `0x${bits.toString(16)}`;
      }
      case 'ENUM':
      case 'ENUM64': {
        const bits = this.#bits(offset * 8, type.size * 8);
        return bits === undefined ? null : this.#enumerator(typeId, bits, type.size * 8);
      }
      case 'FLOAT':
        if (offset + type.size > this.bytes.length) return null;
        if (type.size === 4) return float(this.#view.getFloat32(offset, true));
        if (type.size === 8) return float(this.#view.getFloat64(offset, true));
        return bytesJson(this.bytes.subarray(offset, offset + type.size));
      case 'ARRAY':
        return this.#array(type.type, type.length, offset, depth);
      case 'STRUCT':
        return Object.fromEntries(type.members.flatMap((member) => this.#member(member, offset, depth)));
      case 'UNION': {
        const widest = widestMember(this.btf, type.members);
        return Object.fromEntries(widest === undefined ? [] : this.#member(widest, offset, depth));
      }
      case 'VAR':
        return this.read(type.type, offset, depth + 1);
      case 'DATASEC':
        return Object.fromEntries(
          type.variables.map((variable) => [
            this.btf.type(variable.type).name,
            this.read(variable.type, offset + variable.offset, depth + 1),
          ]),
        );
      default:
        return `<${this.btf.describe(typeId)}>`;
    }
  }

  /** Addresses, and numbers in network order. */
  #inForm(typeId: number, offset: number): BtfJson | undefined {
    const form = valueForm(this.btf, typeId);
    if (form === undefined) return undefined;
    const size = this.btf.sizeOf(typeId)!;
    if (offset + size > this.bytes.length) return undefined;
    const value = readForm(form, this.bytes.subarray(offset, offset + size));
    return typeof value === 'bigint' ? integer(value) : value;
  }

  /** A member by its name; members of anonymous structs belong to the struct around them, as in C. */
  #member(member: BtfMember, offset: number, depth: number): [string, BtfJson][] {
    const bit = offset * 8 + member.bitOffset;
    const isField = member.bitSize !== 0 || bit % 8 !== 0;
    const json = isField ? this.#bitField(member, bit) : this.read(member.type, bit / 8, depth + 1);
    if (member.name !== '') return [[member.name, json]];
    return typeof json === 'object' && json !== null && !isList(json) ? Object.entries(json) : [];
  }

  #bitField(member: BtfMember, bit: number): BtfJson {
    this.#nodes++;
    const type = this.btf.type(this.btf.resolve(member.type));
    const width = member.bitSize !== 0 ? member.bitSize : type.kind === 'INT' ? type.bits : 0;
    const bits = this.#bits(bit, width);
    if (bits === undefined) return null;
    if (type.kind === 'ENUM' || type.kind === 'ENUM64') return this.#enumerator(member.type, bits, width);
    if (type.kind === 'INT' && type.encoding === 'bool') return bits > 1n ? integer(bits) : bits !== 0n;
    return integer(type.kind === 'INT' && type.encoding === 'signed' ? BigInt.asIntN(width, bits) : bits);
  }

  #enumerator(typeId: number, bits: bigint, width: number): BtfJson {
    const type = this.btf.type(this.btf.resolve(typeId));
    if (type.kind !== 'ENUM' && type.kind !== 'ENUM64') return integer(bits);
    const value = type.values.find((candidate) => BigInt.asUintN(width, candidate.value) === bits);
    return value?.name ?? integer(type.signed ? BigInt.asIntN(width, bits) : bits);
  }

  #array(elementId: number, length: number, offset: number, depth: number): BtfJson {
    if (isCharacter(this.btf, elementId)) return this.#string(offset, length);
    const size = this.btf.sizeOf(elementId) ?? 0;
    const items: BtfJson[] = [];
    for (let i = 0; i < this.#shown(offset, size, length); i++) {
      if (this.#nodes > MAX_NODES) break;
      items.push(this.read(elementId, offset + i * size, depth + 1));
    }
    return items;
  }

  /** Elements up to the last that is not zero, all of a short array. */
  #shown(offset: number, size: number, length: number): number {
    if (size === 0) return 0;
    const most = Math.min(length, Math.ceil((this.bytes.length - offset) / size));
    if (most <= SHORT_ARRAY) return Math.max(0, most);
    let end = Math.min(offset + length * size, this.bytes.length);
    while (end > offset && this.bytes[end - 1] === 0) end--;
    return Math.ceil((end - offset) / size);
  }

  /** A char array up to its first NUL, if that leaves nothing out. */
  #string(offset: number, length: number): BtfJson {
    const bytes = this.bytes.subarray(offset, offset + length);
    const end = bytes.indexOf(0);
    const head = end < 0 ? bytes : bytes.subarray(0, end);
    const isText = head.every((byte) => byte >= 0x20 && byte < 0x7f) || isUtf8(head);
    if (isText && (end < 0 || bytes.subarray(end).every((byte) => byte === 0))) {
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(head);
    }
    return [...bytes.subarray(0, this.#shown(offset, 1, length))];
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

function integer(value: bigint): BtfJson {
  const exact = value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
  return exact ? Number(value) : value.toString();
}

/** JSON has neither a negative zero nor what is no finite number. */
function float(value: number): BtfJson {
  if (Object.is(value, -0)) return '-0.0';
  return Number.isFinite(value) ? value : String(value);
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
