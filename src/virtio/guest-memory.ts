/**
 * A guest's physical memory as the device sees it, and an allocator for the driver's buffers in it.
 */

import { XdpbedError } from '../core/diagnostic.js';
import { copyBetween, freshBytes, type FreshPiece, type Memory } from '../core/fresh-bytes.js';

/** So few are copied one by one sooner than a view of them is made: 48 bytes take as long either way. */
const FEW_BYTES = 48;

/**
 * One bounded region of guest-physical memory.
 *
 * ```
 *   guest-physical   0 ......... base ................... base + size ......... 2^64
 *                      outside   |<------ in the region ------>|    outside
 * ```
 *
 * Addresses are bytes. Descriptors hold 64-bit addresses, of which a JavaScript number holds only those below
 * 2^53 exactly; the region therefore ends at or below 2^53 - 1, and every address above that is outside by
 * definition. A number that was rounded from such an address stays at or above 2^53 (rounding is monotonic),
 * so it is refused as well.
 *
 * Every accessor checks its range first and answers `undefined` or `false` when a byte of it is outside:
 * the ranges come from a driver that is not trusted. What is read is copied and never aliases the region;
 * the one exception is {@link window}.
 */
export class GuestMemory {
  /** Guest-physical address of the first byte. */
  readonly base: number;
  /** Bytes. */
  readonly size: number;
  readonly #bytes: Uint8Array;
  /** The same and its words, if it begins at one. */
  readonly #memory: Memory | undefined;
  /**
   * Called when bytes have been copied out: what a hostile guest's other CPU does in the instant between two reads, tests do
   * here. Nobody else sets it.
   */
  afterRead: ((address: number, length: number) => void) | undefined;

  /**
   * @param backing size in bytes of a fresh zeroed region, or the bytes that are to be the region
   * @param base guest-physical address of the first byte
   * @throws XdpbedError `virtio-violation` when the region does not fit below 2^53
   */
  constructor(backing: number | Uint8Array, base = 0) {
    const size = typeof backing === 'number' ? backing : backing.length;
    if (!Number.isSafeInteger(size) || size < 0 || !Number.isSafeInteger(base) || base < 0) {
      throw new XdpbedError(
        'virtio-violation',
        `a guest memory of ${size} bytes at ${base} is not a range of bytes`,
      );
    }
    if (!Number.isSafeInteger(base + size)) {
      throw new XdpbedError('virtio-violation', `guest memory at ${base} ends beyond 2^53 - 1`);
    }
    this.#bytes = typeof backing === 'number' ? new Uint8Array(size) : backing;
    const { buffer, byteOffset } = this.#bytes;
    if (byteOffset % 4 === 0) {
      this.#memory = { bytes: this.#bytes, words: new Int32Array(buffer, byteOffset, size >> 2) };
    }
    this.base = base;
    this.size = size;
  }

  /** Whether all of `[address, address + length)` is in the region. Total: any two values may be asked about. */
  contains(address: number | bigint, length: number): boolean {
    const start = typeof address === 'bigint' ? Number(address) : address;
    const offset = start - this.base;
    // Subtraction cannot overflow here, where adding address and length could. An offset beyond the region
    // leaves a negative room, for which no length is short enough.
    return (
      Number.isSafeInteger(start) &&
      Number.isSafeInteger(length) &&
      length >= 0 &&
      offset >= 0 &&
      length <= this.size - offset
    );
  }

  /** A copy of the bytes, or `undefined` when the range is not in the region. */
  read(address: number | bigint, length: number): Uint8Array | undefined {
    if (!this.contains(address, length)) return undefined;
    const offset = Number(address) - this.base;
    // Not `Uint8Array.prototype.slice` of the backing: a Buffer's slice is a view, not a copy.
    const copy = freshBytes(length);
    copy.set(this.#bytes.subarray(offset, offset + length));
    this.afterRead?.(Number(address), length);
    return copy;
  }

  /**
   * Copies `length` bytes into `target` from index `at` on, all of it unless it is said otherwise; `false`, with
   * `target` as it was, when out of range of either.
   */
  readInto(
    address: number | bigint,
    target: Uint8Array,
    at = 0,
    length: number = target.length - at,
  ): boolean {
    if (at < 0 || length > target.length - at || !this.contains(address, length)) return false;
    const offset = Number(address) - this.base;
    const bytes = this.#bytes;
    if (length <= FEW_BYTES) for (let i = 0; i < length; i++) target[at + i] = bytes[offset + i]!;
    else target.set(bytes.subarray(offset, offset + length), at);
    this.afterRead?.(Number(address), length);
    return true;
  }

  /** The same into a piece, from its byte `at` on. */
  readPiece(address: number, piece: FreshPiece, at: number, length: number): boolean {
    if (at < 0 || length > piece.length - at || !this.contains(address, length)) return false;
    if (this.#memory === undefined)
      return this.readInto(address, piece.block.bytes, piece.start + at, length);
    copyBetween(this.#memory, address - this.base, piece.block, piece.start + at, length);
    this.afterRead?.(address, length);
    return true;
  }

  /** Copies all of `bytes` into the region; `false`, with nothing written, when out of range. */
  write(address: number | bigint, bytes: Uint8Array): boolean {
    if (!this.contains(address, bytes.length)) return false;
    this.#bytes.set(bytes, Number(address) - this.base);
    return true;
  }

  /** Sets `length` bytes to `value`; `false`, with nothing written, when out of range. */
  fill(address: number | bigint, length: number, value = 0): boolean {
    if (!this.contains(address, length)) return false;
    const offset = Number(address) - this.base;
    this.#bytes.fill(value, offset, offset + length);
    return true;
  }

  /**
   * A live view of exactly this range, for the parts of a virtqueue that driver and device share.
   * An index that is wrong by any amount ends at the window's edge and cannot reach other memory.
   */
  window(address: number | bigint, length: number): DataView | undefined {
    if (!this.contains(address, length)) return undefined;
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset + (Number(address) - this.base), length);
  }
}

/**
 * Hands out pieces of guest memory for the driver's buffers and takes them back: first fit over a list of
 * free ranges that is kept in address order and merged on every free, so recycling does not fragment.
 *
 * The driver owns it; what the device does cannot reach it.
 */
export class GuestAllocator {
  readonly #alignment: number;
  /** Free ranges in address order; no two of them touch. */
  readonly #free: { address: number; length: number }[];
  /** The first address that can be handed out. */
  readonly #start: number;
  /**
   * Units of the piece that begins at each unit; 0: none does. No map: one from which all is taken out again and again
   * costs more than all else here.
   */
  readonly #pieces: Uint32Array;
  /** What was restored and nobody has claimed yet. */
  readonly #unclaimed = new Set<number>();

  /**
   * @param range the addresses to hand out, in bytes
   * @param alignment bytes, a power of two; every piece starts at a multiple and is rounded up to one
   * @throws XdpbedError `virtio-violation` when the range is not in `memory` or the alignment no power of two
   */
  constructor(
    memory: GuestMemory,
    range: { readonly address: number; readonly length: number } = {
      address: memory.base,
      length: memory.size,
    },
    alignment = 64,
  ) {
    if (!memory.contains(range.address, range.length)) {
      throw new XdpbedError(
        'virtio-violation',
        `${range.length} bytes at ${range.address} are not in guest memory`,
      );
    }
    if (!isPowerOfTwo(alignment)) {
      throw new XdpbedError('virtio-violation', `an alignment of ${alignment} is not a power of two`);
    }
    this.#alignment = alignment;
    const start = roundUp(range.address, alignment);
    const length = Math.floor((range.address + range.length - start) / alignment) * alignment;
    this.#free = length > 0 ? [{ address: start, length }] : [];
    this.#start = start;
    this.#pieces = new Uint32Array(Math.max(0, length / alignment));
  }

  /** What is handed out, as `[address, bytes]`. */
  save(): readonly (readonly [address: number, bytes: number])[] {
    const saved: [address: number, bytes: number][] = [];
    this.#pieces.forEach((units, index) => {
      if (units > 0) saved.push([this.#start + index * this.#alignment, units * this.#alignment]);
    });
    return saved;
  }

  /**
   * Hands out again what was handed out when it was saved; nothing may be handed out now. Who holds a piece claims it.
   * @throws XdpbedError `virtio-violation` for a piece that is not in the range, or not free
   */
  restore(saved: readonly (readonly [address: number, bytes: number])[]): void {
    for (const [address, bytes] of saved) {
      const range = this.#free.find(
        (each) => each.address <= address && address + bytes <= each.address + each.length,
      );
      if (
        range === undefined ||
        bytes <= 0 ||
        bytes % this.#alignment !== 0 ||
        address % this.#alignment !== 0
      ) {
        throw new XdpbedError('virtio-violation', `${bytes} bytes at ${address} cannot have been handed out`);
      }
      const rest = { address: address + bytes, length: range.address + range.length - address - bytes };
      range.length = address - range.address;
      const at = this.#free.indexOf(range);
      this.#free.splice(at, 1, ...[range, rest].filter(({ length }) => length > 0));
      this.#pieces[this.#indexOf(address)] = bytes / this.#alignment;
      this.#unclaimed.add(address);
    }
  }

  /**
   * Whether a piece of at least `length` bytes was restored at `address` and is held by nobody else: from then on it
   * is the caller's, to be freed once.
   */
  claim(address: number, length: number): boolean {
    return length <= this.#bytesAt(address) && this.#unclaimed.delete(address);
  }

  /** Pieces that were restored and that nobody holds. */
  get unclaimed(): number {
    return this.#unclaimed.size;
  }

  /** Bytes handed out and not yet freed, rounding included. */
  get allocatedBytes(): number {
    return this.#alignment * this.#pieces.reduce((total, units) => total + units, 0);
  }

  /** Bytes left, in however many pieces. */
  get freeBytes(): number {
    return this.#free.reduce((total, range) => total + range.length, 0);
  }

  /** The address of `length` bytes (at least one unit), or `undefined` when no free range is long enough. */
  allocate(length: number): number | undefined {
    const wanted = roundUp(Math.max(1, length), this.#alignment);
    let index = 0;
    while (index < this.#free.length && this.#free[index]!.length < wanted) index++;
    const range = this.#free[index];
    if (range === undefined) return undefined;
    const { address } = range;
    if (range.length === wanted) {
      this.#free.splice(index, 1);
    } else {
      range.address += wanted;
      range.length -= wanted;
    }
    this.#pieces[this.#indexOf(address)] = wanted / this.#alignment;
    return address;
  }

  /**
   * Takes a piece back.
   * @throws XdpbedError `virtio-violation` when `address` is not one that was handed out and is still held
   */
  free(address: number): void {
    const length = this.#bytesAt(address);
    if (length === 0) {
      throw new XdpbedError('virtio-violation', `no buffer is allocated at 0x${address.toString(16)}`);
    }
    this.#pieces[this.#indexOf(address)] = 0;

    let low = 0;
    let high = this.#free.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#free[middle]!.address < address) low = middle + 1;
      else high = middle;
    }
    const before = this.#free[low - 1];
    const after = this.#free[low];
    const joinsBefore = before !== undefined && before.address + before.length === address;
    const joinsAfter = after !== undefined && address + length === after.address;
    if (joinsBefore) {
      before.length += length + (joinsAfter ? after.length : 0);
      if (joinsAfter) this.#free.splice(low, 1);
    } else if (joinsAfter) {
      after.address = address;
      after.length += length;
    } else {
      this.#free.splice(low, 0, { address, length });
    }
  }

  /** Of the unit that begins there; no index of the array's for any other address. */
  #indexOf(address: number): number {
    return (address - this.#start) / this.#alignment;
  }

  /** Bytes of the piece that begins there; 0: none does. */
  #bytesAt(address: number): number {
    return this.#alignment * (this.#pieces[this.#indexOf(address)] ?? 0);
  }
}

/** The first multiple that is not below `value`. */
export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** Whether `value` is 1, 2, 4, … */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}
