import { XdpbedError } from '../../core/diagnostic.js';

/**
 * The memory in which programs run: one wasm32 linear memory of fixed size. Everything a program can reach
 * (contexts, packets, stacks, map elements) lies in it, at the same address for every executor and for host
 * code, so that the interpreter, the wasm code and the map backend work on the same bytes.
 *
 * ```
 *   0x0000_0000  NULL page: nothing is ever placed here, so that the address 0 is no object
 *   0x0001_0000  objects, placed by `allocate`
 *   byteLength   end; an access beyond it faults in every executor
 * ```
 *
 * A program's 64-bit pointers are these addresses, zero-extended. Which bytes belong to which object is kept
 * on the host's side of the wall, where no program can change it.
 */
export class AddressSpace {
  readonly memory: WebAssembly.Memory;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly view: DataView;
  readonly byteLength: number;

  /** Free ranges by address, never adjacent to one another. */
  #free: { start: number; size: number }[];
  /** Live regions, sorted by start. */
  readonly #regions: Region[] = [];
  #bytesInUse = 0;
  /** From here on nothing was ever placed: still the zeros that the memory was made of, without physical memory. */
  #untouched = WASM_PAGE;
  readonly #releaseListeners = new Set<(region: Region) => void>();
  /** What big objects left behind and {@link tidy} has not looked at: apart from one another. */
  #left: { readonly start: number; readonly end: number }[] = [];
  /** The same bytes as `u8`, with the comparison of a Buffer. */
  readonly bytes: Buffer;

  /**
   * @param byteLength size in bytes, rounded up to 64 KiB pages, at most `MAX_ADDRESS_SPACE`. Pages that nobody writes
   * to cost no physical memory, so the default is generous.
   */
  constructor(byteLength = 256 * 1024 * 1024) {
    if (byteLength > MAX_ADDRESS_SPACE) {
      throw new RangeError(
        `an address space of ${byteLength} bytes exceeds the limit of ${MAX_ADDRESS_SPACE}`,
      );
    }
    this.memory = reserve(byteLength);
    this.bytes = Buffer.from(this.memory.buffer);
    this.u8 = new Uint8Array(this.memory.buffer);
    this.i32 = new Int32Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.byteLength = this.memory.buffer.byteLength;
    this.#free = [{ start: WASM_PAGE, size: this.byteLength - WASM_PAGE }];
  }

  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  get regions(): readonly Region[] {
    return this.#regions;
  }

  /**
   * Places an object, zeroed, at an address that is a multiple of 16. Memory is written only where an object was
   * before, so that the cost does not depend on the size. Throws `out-of-memory` when no free range is large enough.
   */
  allocate(size: number, description: RegionDescription): Region {
    const rounded = allocationSize(size);
    const index = this.#free.findIndex((range) => range.size >= rounded);
    if (!Number.isSafeInteger(size) || size < 0 || index < 0) {
      throw new XdpbedError(
        'out-of-memory',
        `${size} bytes for ${description.label} exceed the ${this.byteLength - WASM_PAGE - this.#bytesInUse} bytes left of the address space`,
      );
    }
    const range = this.#free[index]!;
    const region: Region = { start: range.start, size, ...description };
    range.start += rounded;
    range.size -= rounded;
    if (range.size === 0) this.#free.splice(index, 1);
    this.#clear(region.start, region.start + rounded);
    this.#regions.splice(this.#indexAfter(region.start), 0, region);
    this.#bytesInUse += rounded;
    return region;
  }

  /** Removes an object; its bytes may be reused at once. A region that is not live is a programming error. */
  free(region: Region): void {
    const at = this.#indexAfter(region.start) - 1;
    if (this.#regions[at] !== region) throw new RangeError(`${region.label} is not a live region`);
    this.#regions.splice(at, 1);
    for (const listener of this.#releaseListeners) listener(region);
    const size = allocationSize(region.size);
    this.#bytesInUse -= size;
    if (size >= BIG) this.#leave(region.start, region.start + size);
    let index = this.#free.findIndex((range) => range.start > region.start);
    if (index < 0) index = this.#free.length;
    this.#free.splice(index, 0, { start: region.start, size });
    this.#mergeWithNext(index);
    if (index > 0) this.#mergeWithNext(index - 1);
  }

  /**
   * Has `listener` told of each object that is removed, before its bytes are reused: for who remembers where objects
   * lie. Returns what ends that.
   */
  onRelease(listener: (region: Region) => void): () => void {
    this.#releaseListeners.add(listener);
    return () => void this.#releaseListeners.delete(listener);
  }

  /**
   * Zeroes up to so many bytes of what big objects left behind, so that who is placed there next need not wait for it:
   * whether there is more. Nobody has to call it.
   */
  tidy(most: number): boolean {
    const first = this.#left.shift();
    if (first === undefined) return false;
    const end = Math.min(first.start + most, first.end);
    for (let at = first.start; at < end;) {
      const next = this.#indexAfter(at);
      const before = this.#regions[next - 1];
      // Somebody may have been placed there since.
      const taken = before === undefined ? 0 : before.start + allocationSize(before.size);
      if (taken > at) {
        at = taken;
        continue;
      }
      const to = Math.min(end, this.#regions[next]?.start ?? end);
      this.#zero(at, to);
      at = to;
    }
    if (end < first.end) this.#left.unshift({ start: end, end: first.end });
    return this.#left.length > 0;
  }

  /** The region that holds `address`, or undefined: what a checked executor asks before each access. */
  regionAt(address: number): Region | undefined {
    const region = this.#regions[this.#indexAfter(address) - 1];
    return region !== undefined && address < region.start + region.size ? region : undefined;
  }

  /**
   * Judges an access of `size` bytes at `address`: undefined when it lies within one object (and within one
   * element of a region that is made of elements), else why not.
   */
  accessFault(address: number, size: number, write: boolean): string | undefined {
    if (address < WASM_PAGE) return `null pointer dereference at 0x${address.toString(16)}`;
    const region = this.regionAt(address);
    if (region === undefined) return `0x${address.toString(16)} belongs to no object`;
    const offset = address - region.start;
    const verb = write ? 'write' : 'read';
    if (region.elements !== undefined) {
      const { first, stride, size: elementSize, count, lane } = region.elements;
      const index = Math.floor((offset - first) / stride);
      const within = offset - first - index * stride;
      if (index < 0 || index >= count || within + size > elementSize) {
        return `${verb} of ${size} bytes at offset ${within} overruns the ${elementSize}-byte element ${index} of ${region.label}`;
      }
      if (lane !== undefined && (within % lane.stride) + size > lane.size) {
        return `${verb} of ${size} bytes at offset ${within % lane.stride} overruns the ${lane.size}-byte value of CPU ${Math.floor(within / lane.stride)} in element ${index} of ${region.label}`;
      }
    } else if (offset + size > region.size) {
      return `${verb} of ${size} bytes at offset ${offset} overruns ${region.label} (${region.size} bytes)`;
    }
    if (region.access === 'none') return `${region.label} is not accessible to a program`;
    if (write && region.access === 'read') return `write to read-only ${region.label}`;
    return undefined;
  }

  /**
   * The bytes around an address in which an access is judged as there: of the whole object, or of the element or the CPU's
   * value that it falls into. The address is one that `accessFault` let pass.
   */
  boundsAt(address: number): { readonly start: number; readonly end: number } {
    const region = this.regionAt(address)!;
    if (region.elements === undefined) return { start: region.start, end: region.start + region.size };
    const { first, stride, size, lane } = region.elements;
    const within = (address - region.start - first) % stride;
    const start = address - (lane === undefined ? within : within % lane.stride);
    return { start, end: start + (lane ?? { size }).size };
  }

  /** A copy of `size` bytes at `address`. */
  read(address: number, size: number): Uint8Array {
    const { u8 } = this;
    if (size > FEW_BYTES) return u8.slice(address, address + size);
    const copy = new Uint8Array(size);
    for (let i = 0; i < size; i++) copy[i] = u8[address + i]!;
    return copy;
  }

  write(address: number, bytes: Uint8Array): void {
    this.u8.set(bytes, address);
  }

  /**
   * A copy of all live objects' bytes, to be put back by `restore` any number of times: how two executors are run from
   * the same state, and packets from that in which a program was loaded. Pages of zeros take no room in it. Only valid
   * while no object is added or removed.
   */
  snapshot(): SpaceSnapshot {
    const pages: { start: number; bytes: Buffer }[] = [];
    for (const region of this.#regions) {
      const end = region.start + region.size;
      for (let at = region.start; at < end; at += WASM_PAGE) {
        const to = Math.min(at + WASM_PAGE, end);
        const isZero = this.bytes.compare(ZEROS, 0, to - at, at, to) === 0;
        pages.push({
          start: at,
          bytes: isZero ? ZEROS.subarray(0, to - at) : Buffer.from(this.bytes.subarray(at, to)),
        });
      }
    }
    return pages;
  }

  /** Writes only to pages that changed, so that a big map that is hardly used costs little. */
  restore(snapshot: SpaceSnapshot): void {
    for (const { start, bytes } of snapshot) {
      const { length } = bytes;
      if (this.bytes.compare(bytes, 0, length, start, start + length) !== 0) this.write(start, bytes);
    }
  }

  /** What a released object left behind, page by page: what it did not write to stays without physical memory. */
  #clear(start: number, end: number): void {
    this.#zero(start, Math.min(end, this.#untouched));
    this.#untouched = Math.max(this.#untouched, end);
  }

  #zero(start: number, end: number): void {
    for (let at = start; at < end; at += WASM_PAGE) {
      const to = Math.min(at + WASM_PAGE, end);
      if (this.bytes.compare(ZEROS, 0, to - at, at, to) !== 0) this.u8.fill(0, at, to);
    }
  }

  #leave(start: number, end: number): void {
    const apart = this.#left.filter((range) => range.end < start || range.start > end);
    const joined = this.#left.filter((range) => range.end >= start && range.start <= end);
    this.#left = apart;
    apart.push({
      start: Math.min(start, ...joined.map((range) => range.start)),
      end: Math.max(end, ...joined.map((range) => range.end)),
    });
  }

  /** Index of the first region that starts after `address`. */
  #indexAfter(address: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#regions[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #mergeWithNext(index: number): void {
    const range = this.#free[index]!;
    const next = this.#free[index + 1];
    if (next !== undefined && range.start + range.size === next.start) {
      range.size += next.size;
      this.#free.splice(index + 1, 1);
    }
  }
}

/** Bytes of a WebAssembly page, and of the unmapped range at address 0. */
export const WASM_PAGE = 65_536;
/** Half of what 32-bit addresses reach: an address has the same value whether it is taken for signed or not. */
export const MAX_ADDRESS_SPACE = 2 ** 31;
const ZEROS = Buffer.alloc(WASM_PAGE);
/** So few are copied one by one sooner than by V8's `slice`: keys, and the values of most maps. */
const FEW_BYTES = 32;
/** Bytes of an object from which on it is worth to look later at what it left: so many of less are zeroed in some milliseconds. */
const BIG = 16 * 1024;

/** As many bytes as were asked for, or half, a quarter … of that when the machine does not let a process have more. */
function reserve(byteLength: number): WebAssembly.Memory {
  const pages = Math.max(2, Math.ceil(byteLength / WASM_PAGE));
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (error) {
    if (pages <= LEAST_PAGES) throw error;
    return reserve(byteLength / 2);
  }
}

/** 16 MiB: who does not get that much cannot work. */
const LEAST_PAGES = 256;
/** Every object starts at a multiple of this, so that 64-bit atomics on its fields are aligned. */
export const ALIGNMENT = 16;

export interface RegionDescription {
  readonly kind: 'context' | 'packet' | 'frags' | 'stack' | 'map' | 'map-element' | 'run-state' | 'scratch';
  /** How messages call it, e.g. `the value of map rxcnt`. */
  readonly label: string;
  /** What a program may do with it. `none`: host-side bookkeeping that merely lies in the same memory. */
  readonly access: 'read-write' | 'read' | 'none';
  /**
   * The region is an array of `count` elements, the first at byte `first`, `stride` bytes apart, of which a
   * program may touch `size` bytes each. Bytes between elements belong to the map's own bookkeeping.
   */
  readonly elements?: {
    readonly first: number;
    readonly stride: number;
    readonly size: number;
    readonly count: number;
    /**
     * Per-CPU elements: within an element's `size` bytes lie values of `lane.size` bytes, `lane.stride` bytes
     * apart, and an access must stay within one. Who does not know of lanes checks the element only.
     */
    readonly lane?: { readonly stride: number; readonly size: number } | undefined;
  };
}

export interface Region extends RegionDescription {
  readonly start: number;
  readonly size: number;
}

/** Bytes by where they lie, a page each at most. */
export type SpaceSnapshot = readonly { readonly start: number; readonly bytes: Uint8Array }[];

/** Bytes that `allocate(size, …)` takes of the space. */
export function allocationSize(size: number): number {
  return roundUp(Math.max(size, 1), ALIGNMENT);
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
