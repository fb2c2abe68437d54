import { pieceOf } from '../core/fresh-bytes.js';
import { ChainWriter, DescriptorChain } from './descriptor-chain.js';
import type { GuestMemory } from './guest-memory.js';
import type { StateReader } from './state-reader.js';
import type { QueueState } from './virtqueue.js';

/** The chains that a device has popped and not yet pushed, by head. */
export class HeldChains {
  /** How many there are. */
  count = 0;
  readonly #chains: (DescriptorChain | undefined)[];

  constructor(
    /** Entries of the queue: heads are below. */
    readonly size: number,
  ) {
    this.#chains = new Array<DescriptorChain | undefined>(size).fill(undefined);
  }

  /** Whether there is one with this head. */
  hasHead(head: number): boolean {
    return this.#chains[head] !== undefined;
  }

  has(chain: DescriptorChain): boolean {
    return this.#chains[chain.head] === chain;
  }

  add(chain: DescriptorChain): void {
    this.#chains[chain.head] = chain;
    this.count += 1;
  }

  /** The chain is the driver's again. */
  release(chain: DescriptorChain): void {
    chain.writer.close();
    this.#chains[chain.head] = undefined;
    this.count -= 1;
  }

  releaseAll(): void {
    for (const chain of this.#chains) if (chain !== undefined) this.release(chain);
  }

  /** Oldest first, where `position` is that of the next one. */
  inOrder(position: number): DescriptorChain[] {
    const order = (chain: DescriptorChain): number => (chain.position - position) & 0xffff;
    return this.#chains.filter((chain) => chain !== undefined).sort((a, b) => order(a) - order(b));
  }

  /** In that order, each with what `extra` adds. */
  save(position: number, extra: (chain: DescriptorChain) => QueueState = () => ({})): QueueState[] {
    return this.inOrder(position).map((chain) => ({
      head: chain.head,
      position: chain.position,
      readable: Buffer.from(chain.readable).toString('hex'),
      ...chain.writer.save(),
      ...extra(chain),
    }));
  }

  /**
   * Holds what was saved, each with what `extra` reads of it; there may be none now. Throws for what no queue of this
   * size can hold; segments outside memory are refused as when popped.
   */
  restore(
    state: StateReader,
    memory: GuestMemory,
    maxBytes: number,
    extra: (item: StateReader, head: number) => void = () => {},
  ): void {
    const { size } = this;
    state.list('held', size, (item) => {
      const addresses = item.integers('addresses', size, Number.MAX_SAFE_INTEGER);
      const lengths = item.integers('lengths', size, maxBytes);
      const capacity = lengths.reduce((total, length) => total + length, 0);
      const outside = addresses.some((address, index) => !memory.contains(address, lengths[index] ?? -1));
      if (outside || addresses.length !== lengths.length) throw item.invalid('addresses');
      const head = item.integer('head', size - 1);
      if (this.hasHead(head)) throw state.invalid('held');
      const position = item.integer('position', 0xffff);
      const readable = item.bytes('readable', maxBytes);
      const writer = new ChainWriter(memory, addresses, lengths, item.integer('written', capacity));
      extra(item, head);
      this.add(new DescriptorChain(head, position, pieceOf(readable), writer));
    });
  }
}
