import { XdpbedError } from '../../core/diagnostic.js';
import { parseIpv4Address } from '../../packet/ipv4.js';
import { parseIpv6Address } from '../../packet/ipv6.js';
import { parseMac } from '../../packet/mac-address.js';
import type { BtfComposite, BtfDataSection, BtfEnum, BtfInt, BtfMember } from './btf-type.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import type { Btf } from './btf.js';
import { isCharacter, valueForm, type ValueForm } from './value-types.js';

/** A path into a value: names of members and indexes of elements. */
export type ValuePath = readonly (string | number)[];

export interface ParseOptions {
  /** What is left out keeps the bytes that it has here, e.g. the initial values of `.rodata`. Default: 0. */
  readonly base?: Uint8Array | undefined;
  /** How messages call the value. Default `value`. */
  readonly what?: string | undefined;
  /**
   * What `{ NAME: target }` with this single name and a text stands for, e.g. `{ ifindex: tap0 }`; undefined where the
   * name is none that refers to something. What it throws is the problem of the value.
   */
  readonly reference?: ((name: string, target: string) => number | string | undefined) | undefined;
}

/** What is wrong with a value, and at which of its members. */
export class ValueProblem extends XdpbedError {
  constructor(
    readonly path: ValuePath,
    message: string,
    /** Where a name is not known: that name, and those that are. */
    readonly unknown?: { readonly name: string; readonly known: readonly string[] },
    hint?: string,
  ) {
    super('map-invalid', message, { hint });
  }
}

/**
 * Turns a value as people write it in YAML or JSON into the bytes of a map key or value:
 *
 * | type           | written as                                                                   |
 * |----------------|------------------------------------------------------------------------------|
 * | integer        | number, bigint, `"123"`, `"0x7b"`, `"-1"`; 4 bytes also `10.0.0.1`, in network order |
 * | bool           | true, false, 0, 1                                                            |
 * | enum           | the name of a value, or a number                                             |
 * | `__be16`, `__be32`, `__be64` | the number, which is put in network order; `__be32` also `10.0.0.1` |
 * | `struct in_addr`, `struct in6_addr`, arrays of 16 bytes | `10.0.0.1`, `2001:db8::1`; or by member, or a list |
 * | arrays of 6 unsigned bytes | `02:00:00:00:00:01`; or a list                                   |
 * | char array     | a string, padded with NULs; or a list                                        |
 * | array          | a list; elements left out are 0                                              |
 * | struct, union  | an object by member name, members of anonymous ones included; left out: 0    |
 * | data section   | an object by variable name                                                   |
 * | anything       | its bytes in the order of memory, in hex: `{ bytes: "0a 00 00 01" }`; a Uint8Array |
 *
 * A member that is called `bytes` goes before the bytes of the whole. `formatValue` and `valueToJson` write what is read
 * here. Throws a `ValueProblem` (`map-invalid`) naming the member, e.g. `value.flags[2]`: nothing is cut off or wrapped.
 */
export function parseValue(type: BtfTypeRef, input: unknown, options: ParseOptions = {}): Uint8Array {
  const { base, what = 'value' } = options;
  const at: Place = new Place(what, []);
  const size = type.btf.sizeOf(type.id);
  if (size === undefined) at.fail(`${type.btf.describe(type.id)} has no size`);
  const bytes = new Uint8Array(size);
  if (base !== undefined) bytes.set(base.subarray(0, size));
  new ValueWriter(type.btf, bytes, options).write(type.id, 0, input, at, 0);
  return bytes;
}

/**
 * As parseValue for a key or value without a type: an integer of up to 8 bytes, as number or as string (`5`, `"0x1f"`,
 * little-endian like any integer of a program); `10.0.0.1` for 4 bytes, a MAC address for 6, `2001:db8::1` for 16; or
 * `{ bytes: "0a 00 00 01" }`, in the order of memory.
 */
export function parseBytes(size: number, input: unknown, options: ParseOptions = {}): Uint8Array {
  const at: Place = new Place(options.what ?? 'value', []);
  const raw = rawBytes(size, input, at);
  if (raw !== undefined) return raw;
  const reference = referenceOf(input, options, at);
  if (reference !== undefined) {
    // What an address or a number does not fill is 0, as behind the first member of a struct.
    const bytes = new Uint8Array(size);
    const own = Math.min(size, typeof reference === 'string' ? 6 : 4);
    bytes.set(parseBytes(own, reference, { what: at.what }));
    return bytes;
  }
  const form = ADDRESS_OF_SIZE.get(size);
  if (typeof input === 'string' && form !== undefined) {
    const address = addressBytes(form, input);
    if (address !== undefined) return address;
  }
  if (size > 8) {
    at.fail(`${size} bytes without a type are expected as ${bytesExample(size)}, not ${describe(input)}`);
  }
  const bytes = new Uint8Array(size);
  writeBits(bytes, 0, size * 8, toInteger(input, at, size * 8, undefined));
  return bytes;
}

const ADDRESS_OF_SIZE: ReadonlyMap<number, ValueForm> = new Map([
  [4, 'ipv4'],
  [6, 'mac'],
  [16, 'ipv6'],
]);
const ADDRESS_EXAMPLES: Readonly<Record<'ipv4' | 'ipv6' | 'mac', string>> = {
  ipv4: 'an IPv4 address, 10.0.0.1',
  ipv6: 'an IPv6 address, 2001:db8::1',
  mac: 'a MAC address, 02:00:00:00:00:01',
};

const MAX_DEPTH = 32;

/** Where in the value we are: for messages. */
class Place {
  constructor(
    readonly what: string,
    readonly path: ValuePath,
  ) {}

  at(step: string | number): Place {
    return new Place(typeof step === 'number' ? `${this.what}[${step}]` : `${this.what}.${step}`, [
      ...this.path,
      step,
    ]);
  }

  fail(message: string, unknown?: { readonly name: string; readonly known: readonly string[] }): never {
    throw new ValueProblem(this.path, `${this.what}: ${message}`, unknown);
  }
}

class ValueWriter {
  constructor(
    readonly btf: Btf,
    readonly bytes: Uint8Array,
    readonly options: ParseOptions,
  ) {}

  write(typeId: number, offset: number, input: unknown, at: Place, depth: number): void {
    if (depth > MAX_DEPTH) at.fail('the type is nested too deep');
    const type = this.btf.type(this.btf.resolve(typeId));
    const isNamed = type.kind === 'STRUCT' || type.kind === 'UNION' || type.kind === 'DATASEC';
    if (!isNamed || !this.#hasOwnBytes(type, input)) {
      const size = this.btf.sizeOf(typeId);
      const raw = size === undefined ? undefined : rawBytes(size, input, at);
      if (raw !== undefined) return this.#copy(raw, offset, at);
    }
    const reference = type.kind === 'DATASEC' ? undefined : referenceOf(input, this.options, at);
    if (reference !== undefined) {
      if (type.kind !== 'STRUCT' && type.kind !== 'UNION')
        return this.write(typeId, offset, reference, at, depth + 1);
      return this.#refer(type, offset, input as object, reference, at, depth);
    }
    const form = valueForm(this.btf, typeId);
    if (form !== undefined && this.#inForm(form, typeId, offset, input, at)) return;
    switch (type.kind) {
      case 'INT':
        this.#integer(type, offset * 8 + type.bitOffset, type.bits, input, at);
        return;
      case 'ENUM':
      case 'ENUM64':
        this.#bits(offset * 8, type.size * 8, enumerator(type, input, at), at);
        return;
      case 'PTR':
        this.#bits(offset * 8, 64, toInteger(input, at, 64, false), at);
        return;
      case 'FLOAT':
        this.#float(type.size, offset, input, at);
        return;
      case 'ARRAY':
        this.#array(typeId, type.type, type.length, offset, input, at, depth);
        return;
      case 'STRUCT':
      case 'UNION':
        this.#members(type, offset, input, at, depth);
        return;
      case 'VAR':
        this.write(type.type, offset, input, at, depth + 1);
        return;
      case 'DATASEC': {
        const names = type.variables.map((variable) => this.btf.type(variable.type).name);
        for (const [name, value] of entries(input, at, 'variable')) {
          const inner: Place = at.at(name);
          const variable = type.variables[names.indexOf(name)];
          if (variable === undefined)
            inner.fail(`there is no variable ${name}, but ${list(names)}`, { name, known: names });
          this.write(variable.type, offset + variable.offset, value, inner, depth + 1);
        }
        return;
      }
      default:
        at.fail(`${this.btf.describe(typeId)} has no value`);
    }
  }

  /** Whether `bytes` of an input is a member of the type instead of the bytes of the whole. */
  #hasOwnBytes(type: BtfComposite | BtfDataSection, input: unknown): boolean {
    if (typeof input !== 'object' || input === null || !('bytes' in input)) return false;
    return type.kind === 'DATASEC'
      ? type.variables.some((variable) => this.btf.type(variable.type).name === 'bytes')
      : memberOf(this.btf, type, 'bytes') !== undefined;
  }

  /** A reference goes to the member of its name, or to the first one. */
  #refer(
    type: BtfComposite,
    offset: number,
    input: object,
    value: number | string,
    at: Place,
    depth: number,
  ): void {
    const [name] = Object.keys(input) as [string];
    const member = memberOf(this.btf, type, name) === undefined ? type.members[0]?.name : name;
    if (member === undefined) at.fail('there is no member');
    this.#members(type, offset, { [member]: value }, at, depth);
  }

  /** Network order and addresses; whether the input was of that form. */
  #inForm(form: ValueForm, typeId: number, offset: number, input: unknown, at: Place): boolean {
    const size = this.btf.sizeOf(typeId)!;
    const address = typeof input === 'string' ? addressBytes(form, input) : undefined;
    if (address !== undefined) {
      this.#copy(address, offset, at);
      return true;
    }
    const isNumber = this.btf.type(this.btf.resolve(typeId)).kind === 'INT';
    if (!isNumber) {
      // Else by member or as a list.
      if (typeof input === 'string' && (form === 'ipv6' || form === 'mac' || form === 'ipv4')) {
        at.fail(`${ADDRESS_EXAMPLES[form]}, is expected, not ${describe(input)}`);
      }
      return false;
    }
    if (form === 'ipv4' && typeof input === 'string' && !isNumeric(input)) {
      at.fail(`${ADDRESS_EXAMPLES.ipv4}, or a number is expected, not ${describe(input)}`);
    }
    const number = new Uint8Array(size);
    writeBits(number, 0, size * 8, toInteger(input, at, size * 8, false));
    this.#copy(number.reverse(), offset, at);
    return true;
  }

  #members(type: BtfComposite, offset: number, input: unknown, at: Place, depth: number): void {
    for (const [name, value] of entries(input, at, 'member')) {
      const member = memberOf(this.btf, type, name);
      const inner: Place = at.at(name);
      if (member === undefined) {
        const known = memberNames(this.btf, type);
        inner.fail(`there is no member ${name}, but ${list(known)}`, { name, known });
      }
      const bit = offset * 8 + member.bitOffset;
      if (member.bitSize === 0 && bit % 8 === 0) {
        this.write(member.type, bit / 8, value, inner, depth + 1);
        continue;
      }
      const memberType = this.btf.type(this.btf.resolve(member.type));
      if (memberType.kind === 'INT') {
        const width = member.bitSize === 0 ? memberType.bits : member.bitSize;
        this.#integer(memberType, bit, width, value, inner);
      } else if (memberType.kind === 'ENUM' || memberType.kind === 'ENUM64') {
        const number = enumerator(memberType, value, inner);
        this.#bits(bit, member.bitSize, fitting(number, member.bitSize, undefined, inner), inner);
      } else inner.fail('is a bit-field of a type that has no bits');
    }
  }

  #integer(type: BtfInt, bit: number, width: number, input: unknown, at: Place): void {
    const address =
      width === 32 && bit % 8 === 0 && typeof input === 'string' ? addressBytes('ipv4', input) : undefined;
    if (address !== undefined) {
      this.#copy(address, bit / 8, at);
      return;
    }
    // Whether C's char is signed is nobody's business here.
    const isChar = type.encoding === 'char' || type.name === 'char';
    const isSigned = isChar ? undefined : type.encoding === 'signed';
    const value = type.encoding === 'bool' ? toBool(input, at) : toInteger(input, at, width, isSigned);
    this.#bits(bit, width, value, at);
  }

  #array(
    typeId: number,
    elementId: number,
    length: number,
    offset: number,
    input: unknown,
    at: Place,
    depth: number,
  ): void {
    const elementSize = this.btf.sizeOf(elementId) ?? 0;
    const isText = isCharacter(this.btf, elementId);
    if (typeof input === 'string' && isText) {
      const text = new TextEncoder().encode(input);
      if (text.length > length) at.fail(`a string of ${text.length} bytes does not fit in ${length}`);
      const padded = new Uint8Array(length);
      padded.set(text);
      this.#copy(padded, offset, at);
      return;
    }
    if (typeof input === 'string' && elementSize * length === 16) {
      // `__u32 address[4]`
      const address = addressBytes('ipv6', input);
      if (address !== undefined) return this.#copy(address, offset, at);
    }
    if (!Array.isArray(input)) {
      const expected = isText ? 'a string or a list' : 'a list';
      at.fail(`${expected} is expected for ${this.btf.describe(typeId)}, not ${describe(input)}`);
    }
    if (input.length > length) at.fail(`${input.length} elements do not fit in ${length}`);
    input.forEach((item: unknown, index) => {
      this.write(elementId, offset + index * elementSize, item, at.at(index), depth + 1);
    });
  }

  #float(size: number, offset: number, input: unknown, at: Place): void {
    if (size !== 4 && size !== 8) at.fail(`floating point of ${size} bytes`);
    const isText = typeof input === 'string' && input.trim() !== '';
    const value = typeof input === 'number' ? input : isText ? Number(input) : NaN;
    if (typeof input !== 'number' && Number.isNaN(value) && input !== 'NaN') {
      at.fail(`a number is expected, not ${describe(input)}`);
    }
    if (size === 4 && Number.isFinite(value) && !Number.isFinite(Math.fround(value))) {
      at.fail(`${value} does not fit in 32 bits of floating point`);
    }
    this.#check(offset * 8, size * 8, at);
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    if (size === 4) view.setFloat32(offset, value, true);
    else view.setFloat64(offset, value, true);
  }

  #copy(raw: Uint8Array, offset: number, at: Place): void {
    this.#check(offset * 8, raw.length * 8, at);
    this.bytes.set(raw, offset);
  }

  #bits(bit: number, width: number, value: bigint, at: Place): void {
    this.#check(bit, width, at);
    writeBits(this.bytes, bit, width, value);
  }

  /** Hostile BTF can place a member outside its struct. */
  #check(bit: number, width: number, at: Place): void {
    if (bit + width > this.bytes.length * 8) at.fail('lies outside the value, by its BTF');
  }
}

function referenceOf(input: unknown, { reference }: ParseOptions, at: Place): number | string | undefined {
  if (reference === undefined || typeof input !== 'object' || input === null) return undefined;
  const [only, ...others] = Object.entries(input);
  if (only === undefined || others.length > 0 || typeof only[1] !== 'string') return undefined;
  try {
    return reference(only[0], only[1]);
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    throw new ValueProblem(at.path, error.message, undefined, error.hint);
  }
}

/** The bytes that `{ bytes: "0a 00" }` or a Uint8Array gives for all of a value; undefined for any other input. */
function rawBytes(size: number, input: unknown, at: Place): Uint8Array | undefined {
  if (input instanceof Uint8Array) {
    if (input.length !== size) at.fail(`${input.length} bytes instead of ${size}`);
    return input;
  }
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return undefined;
  const [only, ...others] = Object.entries(input);
  if (only?.[0] !== 'bytes' || others.length > 0) return undefined;
  const inner: Place = at.at('bytes');
  // YAML takes digits alone for a number, whose leading zeros are gone.
  if (typeof only[1] !== 'string') inner.fail(`hex in quotes is expected, ${bytesExample(size)}`);
  const digits = only[1].replace(/\s+/g, '');
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits))
    inner.fail(`${describe(only[1])} is not hex, ${bytesExample(size)}`);
  if (digits.length !== 2 * size) inner.fail(`${digits.length / 2} bytes instead of ${size}`);
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

function bytesExample(size: number): string {
  const shown = ['00', '01', '02', '03'].slice(0, Math.max(1, Math.min(size, 4)));
  return `{ bytes: "${shown.join(' ')}${size > 4 ? ' …' : ''}" }`;
}

/** The bytes of an address in that form, in network order; undefined when the text is none. */
function addressBytes(form: ValueForm, text: string): Uint8Array | undefined {
  try {
    if (form === 'ipv4') return parseIpv4Address(text.trim());
    if (form === 'ipv6') return parseIpv6Address(text.trim());
    return form === 'mac' ? parseMac(text.trim()) : undefined;
  } catch {
    return undefined;
  }
}

/** Names that a value may have members by, those of anonymous structs included. */
function memberNames(btf: Btf, type: BtfComposite, searched = new Set<BtfComposite>()): string[] {
  if (searched.has(type)) return [];
  searched.add(type);
  return type.members.flatMap((member) => {
    if (member.name !== '') return [member.name];
    const inner = btf.type(btf.resolve(member.type));
    return inner.kind === 'STRUCT' || inner.kind === 'UNION' ? memberNames(btf, inner, searched) : [];
  });
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

function enumerator(type: BtfEnum, input: unknown, at: Place): bigint {
  const value =
    typeof input === 'string' ? type.values.find((candidate) => candidate.name === input)?.value : undefined;
  if (value !== undefined) return value;
  if (typeof input === 'string' && !isNumeric(input)) {
    const known = type.values.map((candidate) => candidate.name);
    at.fail(`there is no ${input}, but ${list(known)}`, { name: input, known });
  }
  return toInteger(input, at, type.size * 8, undefined);
}

function toBool(input: unknown, at: Place): bigint {
  if (input === true || input === 1 || input === 'true') return 1n;
  if (input === false || input === 0 || input === 'false') return 0n;
  return at.fail(`true or false is expected, not ${describe(input)}`);
}

/** `signed` undefined: either reading of the bits is fine. */
function toInteger(input: unknown, at: Place, width: number, signed: boolean | undefined): bigint {
  let value: bigint;
  if (typeof input === 'bigint') value = input;
  else if (typeof input === 'boolean') value = input ? 1n : 0n;
  else if (typeof input === 'number') {
    if (!Number.isSafeInteger(input)) at.fail(`${input} is not an exact integer; write it as a string`);
    value = BigInt(input);
  } else if (typeof input === 'string' && isNumeric(input)) {
    const text = input.trim();
    value = text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
  } else return at.fail(`an integer is expected, not ${describe(input)}`);
  return fitting(value, width, signed, at);
}

function fitting(value: bigint, width: number, signed: boolean | undefined, at: Place): bigint {
  const bits = BigInt(width);
  const lowest = signed === false ? 0n : -(1n << (bits - 1n));
  const highest = signed === true ? (1n << (bits - 1n)) - 1n : (1n << bits) - 1n;
  if (value < lowest || value > highest) {
    at.fail(
      `${value} does not fit in ${width} ${signed === true ? 'signed ' : signed === false ? 'unsigned ' : ''}bits`,
    );
  }
  return value;
}

/** Decimal, or hex behind `0x`. */
function isNumeric(text: string): boolean {
  return /^\s*-?(?:\d+|0x[0-9a-f]+)\s*$/i.test(text);
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

function entries(input: unknown, at: Place, of: string): [string, unknown][] {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    return at.fail(`an object by ${of} name is expected, not ${describe(input)}`);
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
