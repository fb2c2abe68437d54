import { XdpbedError } from '../../../diagnostic.js';
import { readLe32, readLe64, writeLe32, writeLe64 } from './little-endian.js';

/** Of a field: an unsigned integer in little-endian, or so many bytes. */
export type FieldType = 'u8' | 'le16' | 'le32' | 'le64' | `u8[${number}]`;

type FieldValue<T extends FieldType> = T extends 'le64'
  ? bigint
  : T extends `u8[${number}]`
    ? Uint8Array
    : number;
type Values<Fields extends Readonly<Record<string, FieldType>>> = {
  -readonly [Name in keyof Fields]: FieldValue<Fields[Name]>;
};

interface Field {
  readonly name: string;
  readonly type: FieldType;
  /** Bytes from the start. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

const INTEGER_BYTES = { u8: 1, le16: 2, le32: 4, le64: 8 } as const;
const LIMITS = { u8: 0xff, le16: 0xffff } as const;

/**
 * A structure as it is on the wire: its fields in order, without padding. Both ends and the specification's listings
 * (docs/spec) are made from the same one, so that they cannot differ.
 */
export class StructLayout<Fields extends Readonly<Record<string, FieldType>>> {
  readonly fields: readonly Field[];
  /** Where each field begins, in bytes from the start, for who takes single ones. */
  readonly offsets: { readonly [Name in keyof Fields]: number };
  /** Bytes. */
  readonly size: number;

  constructor(
    /** As the specification calls it, without `struct`. */
    readonly name: string,
    fields: Fields,
  ) {
    let offset = 0;
    this.fields = Object.entries(fields).map(([field, type]) => {
      const size =
        type in INTEGER_BYTES
          ? INTEGER_BYTES[type as keyof typeof INTEGER_BYTES]
          : Number(/\d+/.exec(type.slice(2))![0]);
      const placed = { name: field, type, offset, size };
      offset += size;
      return placed;
    });
    this.offsets = Object.fromEntries(this.fields.map(({ name, offset }) => [name, offset])) as {
      [Name in keyof Fields]: number;
    };
    this.size = offset;
  }

  /** Of at least `size` bytes from `at` on; byte arrays are copied. */
  read(bytes: Uint8Array, at = 0): Values<Fields> {
    const values: Record<string, number | bigint | Uint8Array> = {};
    for (const { name, type, offset, size } of this.fields) {
      const from = at + offset;
      if (type === 'le32') values[name] = readLe32(bytes, from);
      else if (type === 'le64') values[name] = readLe64(bytes, from);
      else if (type === 'le16') values[name] = bytes[from]! | (bytes[from + 1]! << 8);
      else if (type === 'u8') values[name] = bytes[from]!;
      else values[name] = bytes.slice(from, from + size);
    }
    return values as Values<Fields>;
  }

  /**
   * Writes into `bytes` from `at` on.
   * @throws XdpbedError `virtio-violation` for a number that its field cannot hold, or more or fewer bytes than it has
   */
  write(values: Values<Fields>, bytes: Uint8Array, at = 0): void {
    for (const { name, type, offset, size } of this.fields) {
      const value = (values as Record<string, number | bigint | Uint8Array>)[name]!;
      if (value instanceof Uint8Array) {
        if (value.length !== size) throw this.#invalid(name, `${value.length} bytes, not ${size}`);
        bytes.set(value, at + offset);
      } else if (typeof value === 'bigint') {
        writeLe64(bytes, at + offset, value, name);
      } else if (type === 'le32') {
        writeLe32(bytes, at + offset, value, name);
      } else {
        const limit = LIMITS[type as keyof typeof LIMITS];
        if (!Number.isInteger(value) || value < 0 || value > limit) {
          throw this.#invalid(name, `${value} is not an integer from 0 to ${limit}`);
        }
        bytes[at + offset] = value;
        if (type === 'le16') bytes[at + offset + 1] = value >>> 8;
      }
    }
  }

  /** The bytes of one, and room behind it. */
  encode(values: Values<Fields>, room = 0): Uint8Array {
    const bytes = new Uint8Array(this.size + room);
    this.write(values, bytes);
    return bytes;
  }

  #invalid(field: string, problem: string): XdpbedError {
    return new XdpbedError('virtio-violation', `${field}: ${problem}`);
  }
}
