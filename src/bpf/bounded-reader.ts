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
 * one decoded copy, so that many references into one long string cost no memory of their own. The work on all of them
 * together is bounded by the size of the table: a string is decoded once, and strings may overlap only so far.
 */
export class StringTable {
  readonly #reader: BoundedReader;
  readonly #latin1: string;
  /** Where the last string ends: what starts behind it has no end. */
  readonly #lastEnd: number;
  /** By start; a string that was cut in two ways counts as two. */
  readonly #decoded = new Map<number, { readonly end: number; readonly text: string }>();
  #decodedBytes = 0;

  constructor(reader: BoundedReader) {
    this.#reader = reader;
    this.#latin1 = Buffer.from(
      reader.bytes.buffer,
      reader.bytes.byteOffset,
      reader.bytes.byteLength,
    ).toString('latin1');
    this.#lastEnd = this.#latin1.lastIndexOf('\0');
  }

  get length(): number {
    return this.#latin1.length;
  }

  /** Bytes of the strings that were decoded so far, each counted once. */
  get decodedBytes(): number {
    return this.#decodedBytes;
  }

  /** The string at `offset`; `limit` is in bytes, and a longer one is an error. */
  at(offset: number, what: string, limit = MAX_NAME): string {
    const end = this.#end(offset, what, limit);
    if (end - offset > limit) this.#reader.fail(`${what} is a string of more than ${limit} bytes`, offset);
    return this.#decode(offset, end, what);
  }

  /** As `at`, but a string that is too long is cut. */
  cut(offset: number, what: string, limit = MAX_NAME): string {
    return this.#decode(offset, Math.min(this.#end(offset, what, limit), offset + limit), what);
  }

  /** Where the string at `offset` ends, or `limit + 1` bytes behind it: no further is looked. */
  #end(offset: number, what: string, limit: number): number {
    if (offset >= this.#latin1.length) {
      // An empty table still has its one well-known string.
      if (offset === 0) return 0;
      this.#reader.fail(
        `${what} is string ${offset} of a table of ${this.#latin1.length} bytes`,
        this.#latin1.length,
      );
    }
    if (offset > this.#lastEnd) this.#reader.fail(`${what} is a string without an end`, offset);
    const known = this.#decoded.get(offset);
    if (known !== undefined && known.end - offset <= limit && this.#latin1.charCodeAt(known.end) === 0) {
      return known.end;
    }
    const length = this.#latin1.slice(offset, offset + limit + 1).indexOf('\0');
    return offset + (length < 0 ? limit + 1 : length);
  }

  #decode(start: number, end: number, what: string): string {
    const known = this.#decoded.get(start);
    if (known?.end === end) return known.text;
    this.#decodedBytes += end - start;
    if (this.#decodedBytes > MAX_OVERLAP * this.#latin1.length + FREE_BYTES) {
      this.#reader.fail(`${what} is one of too many strings that overlap`, start);
    }
    const text = this.#decodeBytes(start, end);
    this.#decoded.set(start, { end, text });
    return text;
  }

  #decodeBytes(start: number, end: number): string {
    const text = this.#latin1.slice(start, end);
    // eslint-disable-next-line no-control-regex -- the question is exactly whether all bytes are ASCII
    if (/^[\x00-\x7f]*$/.test(text)) return text;
    return new TextDecoder().decode(this.#reader.bytes.subarray(start, end));
  }
}

/** Longest name taken seriously, in bytes; the kernel stops at 512 (KSYM_NAME_LEN). */
const MAX_NAME = 1024;
/**
 * How often the bytes of a table may be decoded on average, as parts of different strings. Linkers let a string share
 * the end of a longer one, which real tables do a few times at most.
 */
const MAX_OVERLAP = 8;
/** Bytes that are decoded in any case, however small the table. */
const FREE_BYTES = 1024 * 1024;
