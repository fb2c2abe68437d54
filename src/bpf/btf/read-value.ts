import { XdpbedError } from '../../core/diagnostic.js';
import type { BtfMember } from './btf-type.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import type { Btf } from './btf.js';
import { widestMember } from './format-value.js';
import { isCharacter, littleEndian, readForm, valueForm } from './value-types.js';

/** A value of a program as one of JavaScript. */
export type BtfValue =
  | number
  | bigint
  | string
  | boolean
  | Uint8Array
  | readonly BtfValue[]
  | { readonly [member: string]: BtfValue };

/**
 * Turns the bytes of a map's key or value, or of a record, into a value of JavaScript by its type:
 *
 * | type | becomes |
 * |---|---|
 * | integer of up to 32 bits, bit-fields included | number |
 * | integer of more bits, pointer | bigint |
 * | `bool` | boolean; a number where it is neither 0 nor 1 |
 * | enum | the name of the value; a number (bigint beyond 32 bits) where it has none |
 * | `__be16`, `__be64`, `in_port_t` | the number in host order |
 * | `__be32`, `struct in_addr` | `'10.0.0.1'` |
 * | `struct in6_addr`, arrays of 16 unsigned bytes | `'2001:db8::1'` |
 * | arrays of 6 unsigned bytes | `'02:00:00:00:00:01'` |
 * | char array | string up to the first NUL; a list of numbers where that would leave something out |
 * | other arrays | list of all elements |
 * | struct, data section | object by member, members of anonymous structs included |
 * | union | object with its widest member |
 * | floating point | number |
 *
 * `parseValue` takes all of these. Throws `map-invalid` where there are fewer bytes than the type has, and for a type
 * that has no values; bytes behind the value are not looked at.
 */
export function readValue(type: BtfTypeRef, bytes: Uint8Array): BtfValue {
  const { btf, id } = type;
  const size = btf.sizeOf(id);
  if (size === undefined) throw new XdpbedError('map-invalid', `${btf.describe(id)} has no size`);
  if (bytes.length < size) {
    throw new XdpbedError(
      'map-invalid',
      `${bytes.length} bytes are too few for ${btf.describe(id)}, which has ${size}`,
    );
  }
  return new Reading(btf, bytes).read(id, 0, 0);
}

/** Bytes without a type: a number for 1, 2 and 4 of them, a bigint for 8, as programs read them; else a copy. */
export function readUntyped(bytes: Uint8Array): BtfValue {
  return UNTYPED_SIZES.has(bytes.length)
    ? integer(littleEndian(bytes), bytes.length * 8)
    : Uint8Array.from(bytes);
}

const UNTYPED_SIZES: ReadonlySet<number> = new Set([1, 2, 4, 8]);
/** Values in one; types of hostile BTF can nest and repeat far beyond what their bytes warrant. */
const MAX_NODES = 1_000_000;
const MAX_DEPTH = 32;

class Reading {
  readonly #view: DataView;
  #nodes = 0;

  constructor(
    readonly btf: Btf,
    readonly bytes: Uint8Array,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** `offset`: bytes from the start of the value. */
  read(typeId: number, offset: number, depth: number): BtfValue {
    this.#count(depth);
    const { btf } = this;
    const form = this.#inForm(typeId, offset);
    if (form !== undefined) return form;
    const type = btf.type(btf.resolve(typeId));
    switch (type.kind) {
      case 'INT':
        return this.#integer(typeId, offset * 8 + type.bitOffset, type.bits);
      case 'ENUM':
      case 'ENUM64':
        return this.#integer(typeId, offset * 8, type.size * 8);
      case 'PTR':
        return this.#bits(offset * 8, 64);
      case 'FLOAT':
        this.#require(offset * 8, type.size * 8);
        if (type.size === 4) return this.#view.getFloat32(offset, true);
        if (type.size === 8) return this.#view.getFloat64(offset, true);
        return this.bytes.slice(offset, offset + type.size);
      case 'ARRAY':
        return this.#array(type.type, type.length, offset, depth);
      case 'STRUCT':
        return Object.fromEntries(type.members.flatMap((member) => this.#member(member, offset, depth)));
      case 'UNION': {
        const widest = widestMember(btf, type.members);
        return Object.fromEntries(widest === undefined ? [] : this.#member(widest, offset, depth));
      }
      case 'VAR':
        return this.read(type.type, offset, depth + 1);
      case 'DATASEC':
        return Object.fromEntries(
          type.variables.map((variable) => [
            btf.type(variable.type).name,
            this.read(variable.type, offset + variable.offset, depth + 1),
          ]),
        );
      default:
        throw new XdpbedError('map-invalid', `${btf.describe(typeId)} has no value`);
    }
  }

  /** Addresses, and numbers in network order. */
  #inForm(typeId: number, offset: number): BtfValue | undefined {
    const form = valueForm(this.btf, typeId);
    if (form === undefined) return undefined;
    const size = this.btf.sizeOf(typeId)!;
    this.#require(offset * 8, size * 8);
    const value = readForm(form, this.bytes.subarray(offset, offset + size));
    return typeof value === 'bigint' ? integer(value, size * 8) : value;
  }

  /** A member by its name; those of an anonymous struct belong to the struct around it, as in C. */
  #member(member: BtfMember, offset: number, depth: number): [string, BtfValue][] {
    const bit = offset * 8 + member.bitOffset;
    const isField = member.bitSize !== 0 || bit % 8 !== 0;
    if (isField) {
      this.#count(depth);
      const type = this.btf.type(this.btf.resolve(member.type));
      const width = member.bitSize !== 0 ? member.bitSize : type.kind === 'INT' ? type.bits : 0;
      // Bit-fields without a name are padding.
      return member.name === '' ? [] : [[member.name, this.#integer(member.type, bit, width)]];
    }
    const value = this.read(member.type, bit / 8, depth + 1);
    if (member.name !== '') return [[member.name, value]];
    return typeof value === 'object' ? Object.entries(value as Record<string, BtfValue>) : [];
  }

  #integer(typeId: number, bit: number, width: number): BtfValue {
    const bits = this.#bits(bit, width);
    const type = this.btf.type(this.btf.resolve(typeId));
    if (type.kind === 'ENUM' || type.kind === 'ENUM64') {
      const known = type.values.find(({ value }) => BigInt.asUintN(width, value) === bits);
      return known?.name ?? integer(type.signed ? BigInt.asIntN(width, bits) : bits, width);
    }
    if (type.kind !== 'INT') return integer(bits, width);
    if (type.encoding === 'bool' && bits <= 1n) return bits === 1n;
    const isSigned = type.encoding === 'signed' || type.encoding === 'char';
    return integer(isSigned ? BigInt.asIntN(width, bits) : bits, width);
  }

  #array(elementId: number, length: number, offset: number, depth: number): BtfValue {
    const size = this.btf.sizeOf(elementId) ?? 0;
    if (isCharacter(this.btf, elementId)) {
      this.#require(offset * 8, length * 8);
      const text = textOf(this.bytes.subarray(offset, offset + length));
      if (text !== undefined) return text;
    }
    const items: BtfValue[] = [];
    for (let i = 0; i < length; i++) items.push(this.read(elementId, offset + i * size, depth + 1));
    return items;
  }

  /** Bits of the little-endian value, counted from its first byte's lowest. */
  #bits(bit: number, width: number): bigint {
    this.#require(bit, width);
    const first = Math.floor(bit / 8);
    const value = littleEndian(this.bytes.subarray(first, Math.ceil((bit + width) / 8)));
    return BigInt.asUintN(width, value >> BigInt(bit - first * 8));
  }

  /** Hostile BTF can place a member outside its struct. */
  #require(bit: number, width: number): void {
    if (width <= 0 || bit + width > this.bytes.length * 8) {
      throw new XdpbedError('map-invalid', 'a member lies outside the value, by its BTF');
    }
  }

  #count(depth: number): void {
    this.#nodes++;
    if (depth > MAX_DEPTH) {
      throw new XdpbedError('map-invalid', `the type is nested more than ${MAX_DEPTH} deep`);
    }
    if (this.#nodes > MAX_NODES) {
      throw new XdpbedError('map-invalid', `the value has more than ${MAX_NODES} members`);
    }
  }
}

function integer(value: bigint, width: number): number | bigint {
  return width <= 32 ? Number(value) : value;
}

/** Up to the first NUL; undefined where something else follows that, or where it is not UTF-8. */
function textOf(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  if (end >= 0 && bytes.subarray(end).some((byte) => byte !== 0)) return undefined;
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
  } catch {
    return undefined;
  }
}
