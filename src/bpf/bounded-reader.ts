import { XdpbedError, type DiagnosticCode } from '../core/diagnostic.js';

/**
 * Reads little-endian fields out of hostile bytes: every read is checked first, and a failure is an
 * XdpbedError that says what was being read and at which offset of the file.
 */
export class BoundedReader {
  readonly #view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    readonly code: DiagnosticCode,
    /** Where `bytes` starts in the file that errors speak of. */
    readonly fileOffset = 0,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  fail(message: string, offset: number): never {
    throw new XdpbedError(this.code, `${message} (at offset 0x${(this.fileOffset + offset).toString(16)})`, {
      at: { offset: this.fileOffset + offset },
    });
  }

  /** Fails unless `size` bytes at `offset` are inside. */
  require(offset: number, size: number, what: string): void {
    if (offset < 0 || size < 0 || offset > this.length || size > this.length - offset) {
      this.fail(
        `${what} needs ${size} bytes at 0x${offset.toString(16)}, past the end at 0x${this.length.toString(16)}`,
        Math.min(Math.max(offset, 0), this.length),
      );
    }
  }

  u8(offset: number, what: string): number {
    this.require(offset, 1, what);
    return this.#view.getUint8(offset);
  }

  u16(offset: number, what: string): number {
    this.require(offset, 2, what);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number, what: string): number {
    this.require(offset, 4, what);
    return this.#view.getUint32(offset, true);
  }

  s32(offset: number, what: string): number {
    this.require(offset, 4, what);
    return this.#view.getInt32(offset, true);
  }

  u64(offset: number, what: string): bigint {
    this.require(offset, 8, what);
    return this.#view.getBigUint64(offset, true);
  }

  /** A u64 that has to be a plain number: an offset, a size or a count. */
  size64(offset: number, what: string): number {
    const value = this.u64(offset, what);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`${what} is 0x${value.toString(16)}`, offset);
    return Number(value);
  }

  slice(offset: number, size: number, what: string): Uint8Array {
    this.require(offset, size, what);
    return this.bytes.subarray(offset, offset + size);
  }
}

/**
 * A table of NUL-terminated strings addressed by byte offset, as ELF and BTF have them. Strings are cut out of
 * one decoded copy, so that many references into one long string cost no memory of their own.
 */
export class StringTable {
  readonly #reader: BoundedReader;
  readonly #latin1: string;

  constructor(reader: BoundedReader) {
    this.#reader = reader;
    this.#latin1 = Buffer.from(
      reader.bytes.buffer,
      reader.bytes.byteOffset,
      reader.bytes.byteLength,
    ).toString('latin1');
  }

  get length(): number {
    return this.#latin1.length;
  }

  /** The string at `offset`; `limit` is in bytes, and a longer one is an error. */
  at(offset: number, what: string, limit = MAX_NAME): string {
    const end = this.#end(offset, what);
    if (end - offset > limit) {
      this.#reader.fail(`${what} is a string of ${end - offset} bytes, more than ${limit}`, offset);
    }
    return this.#decode(offset, end);
  }

  /** As `at`, but a string that is too long is cut. */
  cut(offset: number, what: string, limit = MAX_NAME): string {
    return this.#decode(offset, Math.min(this.#end(offset, what), offset + limit));
  }

  #end(offset: number, what: string): number {
    if (offset >= this.#latin1.length) {
      // An empty table still has its one well-known string.
      if (offset === 0) return 0;
      this.#reader.fail(
        `${what} is string ${offset} of a table of ${this.#latin1.length} bytes`,
        this.#latin1.length,
      );
    }
    const end = this.#latin1.indexOf('\0', offset);
    if (end < 0) this.#reader.fail(`${what} is a string without an end`, offset);
    return end;
  }

  #decode(start: number, end: number): string {
    const text = this.#latin1.slice(start, end);
    // eslint-disable-next-line no-control-regex -- the question is exactly whether all bytes are ASCII
    if (/^[\x00-\x7f]*$/.test(text)) return text;
    return new TextDecoder().decode(this.#reader.bytes.subarray(start, end));
  }
}

/** Longest name taken seriously, in bytes; the kernel stops at 512 (KSYM_NAME_LEN). */
const MAX_NAME = 1024;
