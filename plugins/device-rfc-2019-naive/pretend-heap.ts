/** Bytes beyond a block that an access may reach before a real process would be killed for it. */
const GUARD_BYTES = 64 * 1024;
/** Bytes of a block that are really there; a chain has no more, and what is beyond them nobody ever wrote. */
const BACKED_BYTES = 1 << 20;
/** Stray accesses that are described; further ones are counted. */
const DESCRIBED = 16;

/** What lies where a block of somebody else's would: a guest that sees it has read what is not its own. */
export const RESIDUE = Uint8Array.from(Buffer.from('the host’s secret / '));

interface Block {
  readonly address: number;
  /** Bytes that were asked for. */
  readonly size: number;
  readonly bytes: Uint8Array;
}

/**
 * A heap as C has one, but for show: each block lies between guard zones, and an access that leaves its block is written
 * down and goes nowhere. What it would have read is {@link RESIDUE}, what it would have written is dropped. However much a
 * command asks for, no more than a chain holds is taken of the real memory.
 */
export class PretendHeap {
  readonly #blocks = new Map<number, Block>();
  #next = 0x10_0000;
  #inUse = 0;
  #peak = 0;
  #strays = 0;
  readonly #described: string[] = [];

  /** The most that was allocated at the same time, in bytes, as the process would count. */
  get peak(): number {
    return this.#peak;
  }

  /** Accesses beyond a block so far, in words; the first few. */
  get strayAccesses(): readonly string[] {
    const more = this.#strays - this.#described.length;
    return [...this.#described, ...(more === 0 ? [] : [`and ${more} more`])];
  }

  /** malloc(3), which here never fails: as with overcommitted memory. */
  allocate(size: number): number {
    const address = this.#next;
    this.#next += size + 2 * GUARD_BYTES;
    this.#blocks.set(address, { address, size, bytes: new Uint8Array(Math.min(size, BACKED_BYTES)) });
    this.#inUse += size;
    if (this.#inUse > this.#peak) this.#peak = this.#inUse;
    return address;
  }

  free(address: number): void {
    const block = this.#blocks.get(address);
    if (block === undefined) return;
    this.#blocks.delete(address);
    this.#inUse -= block.size;
  }

  /** What memcpy(3) would read from `offset` bytes into the block on. */
  load(address: number, offset: number, length: number, what: string): Uint8Array {
    const block = this.#blocks.get(address);
    const copy = new Uint8Array(length);
    const inside = this.#inside(block, offset, length);
    if (block !== undefined) copy.set(block.bytes.subarray(offset, offset + inside));
    if (inside < length) {
      this.#stray(`${what} reads ${beyond(block, offset, length, inside)}`, length - inside);
      for (let at = inside; at < length; at++) copy[at] = RESIDUE[(at - inside) % RESIDUE.length]!;
    }
    return copy;
  }

  u32(address: number, offset: number, what: string): number {
    const bytes = this.load(address, offset, 4, what);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  /** What memcpy(3) would write. */
  store(address: number, offset: number, bytes: Uint8Array, what: string): void {
    const block = this.#blocks.get(address);
    const inside = this.#inside(block, offset, bytes.length);
    if (block !== undefined && offset < block.bytes.length) {
      block.bytes.set(bytes.subarray(0, Math.min(inside, block.bytes.length - offset)), offset);
    }
    if (inside < bytes.length) {
      this.#stray(`${what} writes ${beyond(block, offset, bytes.length, inside)}`, bytes.length - inside);
    }
  }

  #inside(block: Block | undefined, offset: number, length: number): number {
    return block === undefined ? 0 : Math.max(0, Math.min(length, block.size - offset));
  }

  #stray(what: string, beyondBytes: number): void {
    this.#strays++;
    if (this.#described.length >= DESCRIBED) return;
    const killed = beyondBytes > GUARD_BYTES ? ', for which a real process would be killed' : '';
    this.#described.push(`${what}${killed}`);
  }
}

function beyond(block: Block | undefined, offset: number, length: number, inside: number): string {
  return block === undefined
    ? `${length} bytes of freed memory`
    : `${length - inside} bytes beyond a block of ${block.size}, at ${offset + inside}`;
}
