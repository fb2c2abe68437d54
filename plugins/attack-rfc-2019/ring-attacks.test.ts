import { describe, expect, it } from 'vitest';
import { pieceOf } from '../../src/core/fresh-bytes.js';
import { OffloadRig, RIG_FEATURES } from '../../src/conformance/offload/offload-rig.js';
import type { HostileGuest, Invariant } from '../../src/core/contract/attack.js';
import {
  ChainWriter,
  ControlLink,
  ControlLinkChannel,
  DescriptorChain,
  SPLIT_QUEUE,
  splitLayoutAt,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  type DeviceQueue,
  type GuestMemory,
  type PopResult,
  type QueueFormat,
} from '../../src/virtio/index.js';
import { Attacker } from './attacker.js';
import { RING_ATTACKS } from './ring-attacks.js';
import { testingParty } from '../../src/core/offload/testing-party.js';

/** Descriptors that it follows before it is taken to be hanging. */
const HANGING = 1000;

/**
 * The device's end of a split queue as it must not be written: it believes every index, address and length, goes by the used
 * index that it finds, and clears the room for the answer before it reads the command. What lies outside of the guest's
 * memory reads as zeros: nothing of the host's is in its reach.
 */
class TrustingQueue implements DeviceQueue {
  readonly inFlight = 0;
  readonly violation = undefined;
  readonly #table: number;
  readonly #avail: number;
  readonly #used: number;
  #next = 0;

  constructor(
    readonly memory: GuestMemory,
    address: number,
    readonly size: number,
  ) {
    const layout = splitLayoutAt(address, size);
    this.#table = Number(layout.descriptorTable);
    this.#avail = Number(layout.availRing);
    this.#used = Number(layout.usedRing);
  }

  popChain(): PopResult {
    if (this.#u16(this.#avail + 2) === this.#next) return { kind: 'empty' };
    const position = this.#next;
    const head = this.#u16(this.#avail + 4 + 2 * (position % this.size));
    this.#next = (position + 1) & 0xffff;
    const parts: { address: number; length: number; flags: number }[] = [];
    this.#walk(this.#table, head, parts);
    const writable = parts.filter(({ flags }) => (flags & VIRTQ_DESC_F_WRITE) !== 0);
    for (const { address, length } of writable) this.memory.fill(address, length);
    const readable = parts
      .filter(({ flags }) => (flags & VIRTQ_DESC_F_WRITE) === 0)
      .flatMap(({ address, length }) => [
        ...(this.memory.read(address, length) ?? new Uint8Array(Math.min(length, 64))).subarray(0, 4096),
      ]);
    const writer = new ChainWriter(
      this.memory,
      writable.map(({ address }) => address),
      writable.map(({ length }) => length),
    );
    const copied = pieceOf(Uint8Array.from(readable));
    return { kind: 'chain', chain: new DescriptorChain(head, position, copied, writer) };
  }

  #walk(table: number, first: number, parts: { address: number; length: number; flags: number }[]): void {
    for (let index = first, steps = 0; steps < HANGING && parts.length < HANGING; steps++) {
      const bytes = this.memory.read(table + 16 * index, 16) ?? new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      const address = Number(view.getBigUint64(0, true));
      const length = view.getUint32(8, true);
      const flags = view.getUint16(12, true);
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) this.#walk(address, 0, parts);
      else parts.push({ address, length, flags });
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return;
      index = view.getUint16(14, true);
    }
  }

  pushUsed({ head, writer }: DescriptorChain): boolean {
    const idx = this.#u16(this.#used + 2);
    const element = new DataView(new ArrayBuffer(8));
    element.setUint32(0, head, true);
    element.setUint32(4, writer.written, true);
    this.memory.write(this.#used + 4 + 8 * (idx % this.size), new Uint8Array(element.buffer));
    this.memory.write(this.#used + 2, Uint8Array.of((idx + 1) & 0xff, ((idx + 1) >> 8) & 0xff));
    return true;
  }

  pushUsedBatch(chains: readonly DescriptorChain[]): boolean {
    return chains.every((chain) => this.pushUsed(chain));
  }

  enableKicks(): boolean {
    return this.#u16(this.#avail + 2) !== this.#next;
  }

  unpop = (): boolean => false;
  shouldInterrupt = (): boolean => true;
  disableKicks = (): void => {};
  save = (): Record<string, unknown> => ({});
  held = (): DescriptorChain[] => [];
  reset(): void {
    this.#next = 0;
  }

  #u16(address: number): number {
    return new DataView(this.memory.read(address, 2)!.buffer).getUint16(0, true);
  }
}

const TRUSTING: QueueFormat = {
  ...SPLIT_QUEUE,
  openDevice: (memory, address, size) => ({ ok: true, queue: new TrustingQueue(memory, address, size) }),
};

/** Carries an attack out on a device behind such a queue: what the attacker saw that must not be. */
async function seen(
  name: string,
  format: QueueFormat,
): Promise<{ saw: Map<Invariant, string>; did: string; aims: readonly Invariant[] }> {
  const rig = new OffloadRig({ host: testingParty('host'), guest: testingParty('guest') });
  const link = new ControlLink({
    label: 'mallory.eth0',
    features: RIG_FEATURES | (1n << 28n),
    format,
    now: () => 0,
  });
  link.serve((request, room) => rig.device.handle(request, room));
  const layout = splitLayoutAt(link.layout.queue, 64);
  const sound = new ControlLinkChannel({ label: 'sound', features: RIG_FEATURES }, SPLIT_QUEUE);
  const saw = new Map<Invariant, string>();
  let did = '';
  const guest: HostileGuest = {
    node: 'mallory.eth0',
    queuePairs: 1,
    control: await sound.connect(),
    ring: {
      memory: link.memory,
      layout: {
        size: 64,
        descriptorTable: Number(layout.descriptorTable),
        availRing: Number(layout.availRing),
        usedRing: Number(layout.usedRing),
      },
      buffers: link.layout.buffers,
      kick: () => link.kicked(),
      get isDown() {
        return link.status.isDown;
      },
    },
    random: () => 1,
    neighbour: { ask: async () => {}, askInTime: async () => {} },
    reset: async () => {
      link.reset();
      await rig.device.reset();
    },
    offload: async () => undefined,
    turn: () => new Promise((resolve) => setImmediate(resolve)),
    saw: (invariant, what) => void saw.set(invariant, what),
    did: (what) => void (did = what),
  };
  const entry = RING_ATTACKS.find((each) => each.name === name)!;
  await entry.run(new Attacker(guest));
  return { saw, did, aims: entry.aims };
}

describe.each(RING_ATTACKS.map(({ name }) => name))('attack %s on a ring', (name) => {
  it('that believes nothing shows nothing', async () => {
    const { saw, did } = await seen(name, SPLIT_QUEUE);
    expect([...saw]).toEqual([]);
    expect(did).not.toBe('');
  });

  it('that believes everything bites', async () => {
    const { saw, aims } = await seen(name, TRUSTING);
    expect(aims.filter((aim) => saw.has(aim))).not.toEqual([]);
  }, 30_000);
});
