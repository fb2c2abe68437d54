import { XdpbedError } from '../../core/diagnostic.js';
import type { BtfComposite, BtfEnum, BtfInt, BtfMember } from './btf-type.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import type { Btf } from './btf.js';
import { isCharacter } from './format-value.js';

/**
 * Turns a value as people write it in YAML or JSON into the bytes of a map key or value:
 *
 * | type           | written as                                                                   |
 * |----------------|------------------------------------------------------------------------------|
 * | integer        | number, bigint, `"123"`, `"0x7b"`, `"-1"`; 4 bytes also `"10.0.0.1"` (network order) |
 * | bool           | true, false, 0, 1                                                            |
 * | enum           | the name of a value, or a number                                             |
 * | char array     | a string, padded with NULs; or a list                                        |
 * | array          | a list; elements left out are 0                                              |
 * | struct, union  | an object by member name, members of anonymous ones included; left out: 0    |
 * | data section   | an object by variable name                                                   |
 * | any array or struct | its bytes in hex: `"0x0a00 0001"`, `"02:00:00:00:00:01"`                 |
 *
 * With `base` what is left out keeps the bytes it has there, e.g. the initial values of `.rodata`.
 * Throws `map-invalid` naming the member, e.g. `value.flags[2]`.
 */
export function parseValue(type: BtfTypeRef, input: unknown, base?: Uint8Array, what = 'value'): Uint8Array {
  const size = type.btf.sizeOf(type.id);
  if (size === undefined) fail(what, `${type.btf.describe(type.id)} has no size`);
  const bytes = new Uint8Array(size);
  if (base !== undefined) bytes.set(base.subarray(0, size));
  new ValueWriter(type.btf, bytes).write(type.id, 0, input, what, 0);
  return bytes;
}

/**
 * As parseValue for a key or value without a type: an integer of up to 8 bytes, as number or as string (`5`,
 * `"0x1f"`, little-endian like any integer of a program), `"10.0.0.1"` for 4 bytes, a list of bytes, or the bytes in
 * hex, in the order of memory: with blanks or colons between (`"0a 00 00 01"`), and past 8 bytes also without.
 */
export function parseBytes(size: number, input: unknown, what = 'value'): Uint8Array {
  const bytes = new Uint8Array(size);
  if (Array.isArray(input)) {
    if (input.length > size) fail(what, `${input.length} bytes do not fit in ${size}`);
    input.forEach((item, index) => {
      bytes[index] = Number(toInteger(item, `${what}[${index}]`, 8, false));
    });
    return bytes;
  }
  if (typeof input === 'string') {
    const isNumber = size <= 8 && /^\s*-?(?:\d+|0x[0-9a-f]+)\s*$/i.test(input);
    const raw = (size === 4 ? dottedQuad(input) : undefined) ?? (isNumber ? undefined : hexBytes(input));
    if (raw !== undefined) {
      if (raw.length !== size) fail(what, `${raw.length} bytes in hex instead of ${size}`);
      bytes.set(raw);
      return bytes;
    }
  }
  if (size > 8) fail(what, `${size} bytes are to be given in hex or as a list`);
  writeBits(bytes, 0, size * 8, toInteger(input, what, size * 8, undefined));
  return bytes;
}

const MAX_DEPTH = 32;

class ValueWriter {
  constructor(
    readonly btf: Btf,
    readonly bytes: Uint8Array,
  ) {}

  write(typeId: number, offset: number, input: unknown, path: string, depth: number): void {
    if (depth > MAX_DEPTH) fail(path, 'the type is nested too deep');
    const type = this.btf.type(this.btf.resolve(typeId));
    switch (type.kind) {
      case 'INT':
        this.#integer(type, offset * 8 + type.bitOffset, type.bits, input, path);
        return;
      case 'ENUM':
      case 'ENUM64':
        this.#bits(offset * 8, type.size * 8, enumerator(type, input, path), path);
        return;
      case 'PTR':
        this.#bits(offset * 8, 64, toInteger(input, path, 64, false), path);
        return;
      case 'FLOAT':
        this.#float(type.size, offset, input, path);
        return;
      case 'ARRAY':
        this.#array(typeId, type.type, type.length, offset, input, path, depth);
        return;
      case 'STRUCT':
      case 'UNION':
        if (this.#rawBytes(type.size, offset, input, path)) return;
        this.#members(type, offset, input, path, depth);
        return;
      case 'VAR':
        this.write(type.type, offset, input, path, depth + 1);
        return;
      case 'DATASEC': {
        if (this.#rawBytes(type.size, offset, input, path)) return;
        const names = type.variables.map((variable) => this.btf.type(variable.type).name);
        for (const [name, value] of entries(input, path)) {
          const variable = type.variables[names.indexOf(name)];
          if (variable === undefined) fail(path, `there is no ${name}, but ${list(names)}`);
          this.write(variable.type, offset + variable.offset, value, `${path}.${name}`, depth + 1);
        }
        return;
      }
      default:
        fail(path, `${this.btf.describe(typeId)} has no value`);
    }
  }

  #members(type: BtfComposite, offset: number, input: unknown, path: string, depth: number): void {
    for (const [name, value] of entries(input, path)) {
      const member = memberOf(this.btf, type, name);
      if (member === undefined) {
        fail(
          path,
          `there is no member ${name}, but ${list(type.members.map((candidate) => candidate.name))}`,
        );
      }
      const bit = offset * 8 + member.bitOffset;
      const inner = `${path}.${name}`;
      if (member.bitSize === 0 && bit % 8 === 0) {
        this.write(member.type, bit / 8, value, inner, depth + 1);
        continue;
      }
      const memberType = this.btf.type(this.btf.resolve(member.type));
      if (memberType.kind === 'INT') {
        const width = member.bitSize === 0 ? memberType.bits : member.bitSize;
        this.#integer(memberType, bit, width, value, inner);
      } else if (memberType.kind === 'ENUM' || memberType.kind === 'ENUM64') {
        this.#bits(bit, member.bitSize, enumerator(memberType, value, inner), inner);
      } else fail(inner, 'is a bit-field of a type that has no bits');
    }
  }

  #integer(type: BtfInt, bit: number, width: number, input: unknown, path: string): void {
    const quad = width === 32 && bit % 8 === 0 && typeof input === 'string' ? dottedQuad(input) : undefined;
    if (quad !== undefined) {
      this.#copy(quad, bit / 8, path);
      return;
    }
    // Whether C's char is signed is nobody's business here.
    const isChar = type.encoding === 'char' || type.name === 'char';
    const isSigned = isChar ? undefined : type.encoding === 'signed';
    const value = type.encoding === 'bool' ? toBool(input, path) : toInteger(input, path, width, isSigned);
    this.#bits(bit, width, value, path);
  }

  #array(
    typeId: number,
    elementId: number,
    length: number,
    offset: number,
    input: unknown,
    path: string,
    depth: number,
  ): void {
    const elementSize = this.btf.sizeOf(elementId) ?? 0;
    if (typeof input === 'string' && isCharacter(this.btf, elementId)) {
      const text = new TextEncoder().encode(input);
      if (text.length > length) fail(path, `a string of ${text.length} bytes does not fit in ${length}`);
      this.#check(offset * 8, length * 8, path);
      const padded = new Uint8Array(length);
      padded.set(text);
      this.#copy(padded, offset, path);
      return;
    }
    if (this.#rawBytes(elementSize * length, offset, input, path)) return;
    if (!Array.isArray(input)) fail(path, `a list is expected for ${this.btf.describe(typeId)}`);
    if (input.length > length) fail(path, `${input.length} elements do not fit in ${length}`);
    input.forEach((item: unknown, index) => {
      this.write(elementId, offset + index * elementSize, item, `${path}[${index}]`, depth + 1);
    });
  }

  /** A string where a structure is expected: the structure's bytes. */
  #rawBytes(size: number, offset: number, input: unknown, path: string): boolean {
    if (input instanceof Uint8Array) {
      if (input.length !== size) fail(path, `${input.length} bytes instead of ${size}`);
      this.#copy(input, offset, path);
      return true;
    }
    if (typeof input !== 'string') return false;
    const raw = hexBytes(input) ?? fail(path, `${JSON.stringify(input)} is not hex`);
    if (raw.length !== size) fail(path, `${raw.length} bytes in hex instead of ${size}`);
    this.#copy(raw, offset, path);
    return true;
  }

  #float(size: number, offset: number, input: unknown, path: string): void {
    const value = typeof input === 'number' ? input : typeof input === 'string' ? Number(input) : NaN;
    if (typeof input !== 'number' && Number.isNaN(value)) fail(path, 'a number is expected');
    if (size !== 4 && size !== 8) fail(path, `floating point of ${size} bytes`);
    this.#check(offset * 8, size * 8, path);
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    if (size === 4) view.setFloat32(offset, value, true);
    else view.setFloat64(offset, value, true);
  }

  #copy(raw: Uint8Array, offset: number, path: string): void {
    this.#check(offset * 8, raw.length * 8, path);
    this.bytes.set(raw, offset);
  }

  #bits(bit: number, width: number, value: bigint, path: string): void {
    this.#check(bit, width, path);
    writeBits(this.bytes, bit, width, value);
  }

  /** Hostile BTF can place a member outside its struct. */
  #check(bit: number, width: number, path: string): void {
    if (bit + width > this.bytes.length * 8) fail(path, 'lies outside the value, by its BTF');
  }
}

function memberOf(btf: Btf, type: BtfComposite, name: string): BtfMember | undefined {
  const own = type.members.find((member) => member.name === name);
  if (own !== undefined) return own;
  for (const member of type.members) {
    if (member.name !== '') continue;
    const inner = btf.member(member.type, name);
    if (inner !== undefined) return { ...inner, bitOffset: inner.bitOffset + member.bitOffset };
  }
  return undefined;
}

function enumerator(type: BtfEnum, input: unknown, path: string): bigint {
  const value =
    typeof input === 'string' ? type.values.find((candidate) => candidate.name === input)?.value : undefined;
  if (value !== undefined) return value;
  if (typeof input === 'string' && !isDecimal(input) && !input.startsWith('0x')) {
    fail(path, `there is no ${input}, but ${list(type.values.map((candidate) => candidate.name))}`);
  }
  return toInteger(input, path, type.size * 8, undefined);
}

function toBool(input: unknown, path: string): bigint {
  if (input === true || input === 1 || input === 'true') return 1n;
  if (input === false || input === 0 || input === 'false') return 0n;
  return fail(path, 'true or false is expected');
}

/** `signed` undefined: either reading of the bits is fine. */
function toInteger(input: unknown, path: string, width: number, signed: boolean | undefined): bigint {
  let value: bigint;
  if (typeof input === 'bigint') value = input;
  else if (typeof input === 'boolean') value = input ? 1n : 0n;
  else if (typeof input === 'number') {
    if (!Number.isSafeInteger(input)) fail(path, `${input} is not an exact integer; write it as a string`);
    value = BigInt(input);
  } else if (typeof input === 'string' && (isDecimal(input) || /^-?0x[0-9a-f]+$/i.test(input.trim()))) {
    const text = input.trim();
    value = text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
  } else return fail(path, `an integer is expected, not ${describe(input)}`);
  const bits = BigInt(width);
  const lowest = signed === false ? 0n : -(1n << (bits - 1n));
  const highest = signed === true ? (1n << (bits - 1n)) - 1n : (1n << bits) - 1n;
  if (value < lowest || value > highest) {
    fail(
      path,
      `${value} does not fit in ${width} ${signed === true ? 'signed ' : signed === false ? 'unsigned ' : ''}bits`,
    );
  }
  return value;
}

function isDecimal(text: string): boolean {
  return /^\s*-?\d+\s*$/.test(text);
}

/** Hex digits in pairs, with `0x` in front, blanks, colons or dashes between; undefined when it is not that. */
function hexBytes(text: string): Uint8Array | undefined {
  const digits = text
    .trim()
    .replace(/^0x/i, '')
    .replace(/[\s:-]+/g, '');
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) return undefined;
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

function dottedQuad(text: string): Uint8Array | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text.trim());
  const parts = match?.slice(1).map(Number);
  return parts === undefined || parts.some((part) => part > 255) ? undefined : Uint8Array.from(parts);
}

function writeBits(bytes: Uint8Array, bit: number, width: number, value: bigint): void {
  let rest = BigInt.asUintN(width, value);
  for (let at = bit, left = width; left > 0;) {
    const shift = at % 8;
    const count = Math.min(8 - shift, left);
    const mask = ((1 << count) - 1) << shift;
    const index = Math.floor(at / 8);
    bytes[index] = (bytes[index]! & ~mask) | ((Number(rest & 0xffn) << shift) & mask);
    rest >>= BigInt(count);
    at += count;
    left -= count;
  }
}

function entries(input: unknown, path: string): [string, unknown][] {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    return fail(path, `an object by member name is expected, not ${describe(input)}`);
  }
  return Object.entries(input);
}

function list(names: readonly string[]): string {
  const shown = names.filter((name) => name !== '').slice(0, 12);
  return shown.length === 0 ? 'none at all' : shown.join(', ');
}

function describe(input: unknown): string {
  if (input === null || input === undefined) return 'nothing';
  if (Array.isArray(input)) return 'a list';
  if (typeof input === 'object') return 'an object';
  return JSON.stringify(input) ?? typeof input;
}

function fail(path: string, message: string): never {
  throw new XdpbedError('map-invalid', `${path}: ${message}`);
}
