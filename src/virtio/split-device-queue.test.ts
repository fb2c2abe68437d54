import { beforeEach, describe, expect, it } from 'vitest';
import { GuestMemory } from './guest-memory.js';
import type { DeviceQueueOptions } from './queue-options.js';
import { SplitDeviceQueue } from './split-device-queue.js';
import { splitLayoutAt } from './split-layout.js';
import type { DriverViolationReason } from './violation.js';
import type { DescriptorChain } from './descriptor-chain.js';

const SIZE = 8;
const MEMORY_BYTES = 0x10000;
const DATA = 0x8000;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** Writes a split virtqueue byte by byte, from the tables of virtio 1.3, 2.7: no code shared with what is tested. */
class RawRing {
  readonly memory: GuestMemory;
  readonly view: DataView;
  readonly avail = 16 * SIZE;
  // 6 + 2 × 8 bytes of avail ring end at 150; the used ring is aligned to 4.
  readonly used = 152;

  constructor() {
    this.memory = new GuestMemory(MEMORY_BYTES);
    this.view = this.memory.window(0, this.memory.size)!;
  }

  descriptor(index: number, address: bigint | number, length: number, flags = 0, next = 0, table = 0): void {
    const at = table + 16 * index;
    this.view.setBigUint64(at, BigInt(address), true);
    this.view.setUint32(at + 8, length, true);
    this.view.setUint16(at + 12, flags, true);
    this.view.setUint16(at + 14, next, true);
  }

  head(slot: number, head: number): void {
    this.view.setUint16(this.avail + 4 + 2 * slot, head, true);
  }

  set availIdx(idx: number) {
    this.view.setUint16(this.avail + 2, idx, true);
  }

  set availFlags(flags: number) {
    this.view.setUint16(this.avail, flags, true);
  }

  set usedEvent(idx: number) {
    this.view.setUint16(this.avail + 4 + 2 * SIZE, idx, true);
  }

  get usedFlags(): number {
    return this.view.getUint16(this.used, true);
  }

  get usedIdx(): number {
    return this.view.getUint16(this.used + 2, true);
  }

  get availEvent(): number {
    return this.view.getUint16(this.used + 4 + 8 * SIZE, true);
  }

  usedElement(slot: number): { id: number; len: number } {
    const at = this.used + 4 + 8 * slot;
    return { id: this.view.getUint32(at, true), len: this.view.getUint32(at + 4, true) };
  }

  open(options: DeviceQueueOptions = {}): SplitDeviceQueue {
    const layout = { size: SIZE, descriptorTable: 0, availRing: this.avail, usedRing: this.used };
    const opened = SplitDeviceQueue.open(this.memory, layout, options);
    if (!opened.ok) throw new Error(opened.violation.message);
    return opened.queue;
  }
}

function pop(queue: SplitDeviceQueue): DescriptorChain {
  const popped = queue.popChain();
  if (popped.kind !== 'chain') throw new Error(`expected a chain, got ${JSON.stringify(popped)}`);
  return popped.chain;
}

describe('a well-behaved driver', () => {
  let ring: RawRing;
  beforeEach(() => {
    ring = new RawRing();
  });

  it('finds the rings where virtio 1.3 puts them', () => {
    expect(splitLayoutAt(0, SIZE)).toEqual({
      size: SIZE,
      descriptorTable: 0,
      availRing: ring.avail,
      usedRing: ring.used,
    });
  });

  it('may put descriptors before an indirect one, whose WRITE flag is ignored (2.7.5.3.2)', () => {
    const table = 0x4000;
    ring.memory.write(DATA, Uint8Array.of(1, 2));
    ring.descriptor(0, DATA, 1, NEXT, 5);
    ring.descriptor(5, table, 48, INDIRECT | WRITE);
    ring.descriptor(0, DATA + 1, 1, NEXT, 2, table);
    ring.descriptor(2, DATA + 8, 4, WRITE, 0, table);
    ring.head(0, 0);
    ring.availIdx = 1;
    const chain = pop(ring.open({ indirect: true }));
    expect([...chain.readable]).toEqual([1, 2]);
    expect(chain.writer.capacity).toBe(4);
  });

  it("cannot move the device's used index, which is its own", () => {
    for (let i = 0; i < 2; i++) {
      ring.descriptor(i, DATA, 4, WRITE);
      ring.head(i, i);
    }
    ring.availIdx = 2;
    const queue = ring.open();
    queue.pushUsed(pop(queue));
    ring.view.setUint16(ring.used + 2, 0x1234, true);
    queue.pushUsed(pop(queue));
    expect(ring.usedIdx).toBe(2);
    expect(ring.usedElement(1)).toEqual({ id: 1, len: 0 });
  });
});

describe('notification suppression', () => {
  function withUsed(options: DeviceQueueOptions): { ring: RawRing; queue: SplitDeviceQueue } {
    const ring = new RawRing();
    for (let i = 0; i < SIZE; i++) {
      ring.descriptor(i, DATA, 1);
      ring.head(i, i);
    }
    ring.availIdx = SIZE;
    return { ring, queue: ring.open(options) };
  }

  it('without EVENT_IDX: NO_INTERRUPT of the avail flags, and used_event is ignored', () => {
    const { ring, queue } = withUsed({});
    ring.usedEvent = 5;
    expect(queue.shouldInterrupt()).toBe(false); // nothing used yet
    queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(true);
    expect(queue.shouldInterrupt()).toBe(false);
    ring.availFlags = 1;
    queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(false);
  });

  it('with EVENT_IDX: exactly when the entry with index used_event was written, and flags are ignored', () => {
    const { ring, queue } = withUsed({ eventIdx: true });
    ring.availFlags = 1;
    ring.usedEvent = 2;
    const asked = [0, 1, 2, 3].map(() => {
      queue.pushUsed(pop(queue));
      return queue.shouldInterrupt();
    });
    expect(asked).toEqual([false, false, true, false]);
    ring.usedEvent = 5;
    for (let i = 4; i < 8; i++) queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(true); // 5 is among the four that came since
  });

  it('without EVENT_IDX: NO_NOTIFY in the used flags', () => {
    const { ring, queue } = withUsed({});
    queue.disableKicks();
    expect(ring.usedFlags).toBe(1);
    expect(queue.enableKicks()).toBe(true); // eight chains wait
    expect(ring.usedFlags).toBe(0);
    for (let i = 0; i < SIZE; i++) pop(queue);
    expect(queue.enableKicks()).toBe(false);
  });

  it('with EVENT_IDX: avail_event is the next index to pop, the flags stay 0', () => {
    const { ring, queue } = withUsed({ eventIdx: true });
    pop(queue);
    pop(queue);
    expect(ring.availEvent).toBe(2);
    queue.disableKicks();
    expect(ring.usedFlags).toBe(0);
    expect(ring.availEvent).not.toBe(2);
    pop(queue);
    expect(queue.enableKicks()).toBe(true);
    expect(ring.availEvent).toBe(3);
  });
});

/** What a hostile driver does to a ring that is otherwise in order, and what the device has to call it. */
interface Attack {
  readonly name: string;
  readonly reason: DriverViolationReason;
  readonly options?: DeviceQueueOptions;
  readonly attack: (ring: RawRing) => void;
}

const TABLE = 0x4000;
const ATTACKS: readonly Attack[] = [
  {
    name: 'avail idx one more than the queue size ahead',
    reason: 'avail-idx-jump',
    attack: (ring) => (ring.availIdx = SIZE + 1),
  },
  {
    name: 'avail idx going backwards',
    reason: 'avail-idx-jump',
    attack: (ring) => (ring.availIdx = 0xffff),
  },
  {
    name: 'a head that is the queue size',
    reason: 'head-out-of-range',
    attack: (ring) => ring.head(0, SIZE),
  },
  { name: 'a head of 0xffff', reason: 'head-out-of-range', attack: (ring) => ring.head(0, 0xffff) },
  {
    name: 'a next that is the queue size',
    reason: 'next-out-of-range',
    attack: (ring) => ring.descriptor(0, DATA, 1, NEXT, SIZE),
  },
  {
    name: 'a next beyond the indirect table',
    reason: 'next-out-of-range',
    options: { indirect: true },
    attack: (ring) => {
      ring.descriptor(0, TABLE, 32, INDIRECT);
      ring.descriptor(0, DATA, 1, NEXT, 2, TABLE);
    },
  },
  {
    name: 'a descriptor that is its own next',
    reason: 'descriptor-loop',
    attack: (ring) => ring.descriptor(0, DATA, 1, NEXT, 0),
  },
  {
    name: 'a loop of two huge descriptors',
    reason: 'descriptor-loop',
    attack: (ring) => {
      ring.descriptor(0, 0, 0xffffffff, NEXT, 1);
      ring.descriptor(1, 0, 0xffffffff, NEXT, 0);
    },
  },
  {
    name: 'a loop within an indirect table',
    reason: 'descriptor-loop',
    options: { indirect: true },
    attack: (ring) => {
      ring.descriptor(0, TABLE, 32, INDIRECT);
      ring.descriptor(0, DATA, 1, NEXT, 1, TABLE);
      ring.descriptor(1, DATA, 1, NEXT, 0, TABLE);
    },
  },
  {
    name: 'an indirect chain longer than the queue',
    reason: 'chain-too-long',
    options: { indirect: true },
    attack: (ring) => {
      ring.descriptor(0, TABLE, 16 * (SIZE + 1), INDIRECT);
      for (let i = 0; i <= SIZE; i++) ring.descriptor(i, DATA, 1, i === SIZE ? 0 : NEXT, i + 1, TABLE);
    },
  },
  {
    name: 'direct and indirect descriptors that are too many together',
    reason: 'chain-too-long',
    options: { indirect: true },
    attack: (ring) => {
      ring.descriptor(0, DATA, 1, NEXT, 1);
      ring.descriptor(1, TABLE, 16 * SIZE, INDIRECT);
      for (let i = 0; i < SIZE; i++) ring.descriptor(i, DATA, 1, i === SIZE - 1 ? 0 : NEXT, i + 1, TABLE);
    },
  },
  {
    name: 'INDIRECT inside INDIRECT',
    reason: 'indirect-nested',
    options: { indirect: true },
    attack: (ring) => {
      ring.descriptor(0, TABLE, 16, INDIRECT);
      ring.descriptor(0, TABLE, 16, INDIRECT, 0, TABLE);
    },
  },
];

describe('a hostile driver', () => {
  it.each(ATTACKS)('$name → $reason', ({ attack, options, reason }) => {
    const ring = new RawRing();
    ring.descriptor(0, DATA, 4);
    ring.head(0, 0);
    ring.availIdx = 1;
    attack(ring);
    const before = ring.memory.read(0, MEMORY_BYTES);
    const queue = ring.open(options);
    const popped = queue.popChain();
    expect(popped).toMatchObject({ kind: 'violation', violation: { reason } });
    expect(queue.violation?.reason).toBe(reason);
    // The device has stopped: same answer, nothing written.
    expect(queue.popChain()).toEqual(popped);
    expect(queue.enableKicks()).toBe(false);
    queue.disableKicks();
    expect(queue.shouldInterrupt()).toBe(false);
    expect(Buffer.compare(ring.memory.read(0, MEMORY_BYTES)!, before!)).toBe(0);
  });

  it.each([
    ['a size of 0', { size: 0 }, 'queue-size-invalid'],
    ['a size of 12', { size: 12 }, 'queue-size-invalid'],
    ['a size of 65536', { size: 65536 }, 'queue-size-invalid'],
    ['a descriptor table at 8', { descriptorTable: 8 }, 'queue-misaligned'],
    ['an avail ring at 129', { availRing: 129 }, 'queue-misaligned'],
    ['a used ring at 154', { usedRing: 154 }, 'queue-misaligned'],
    ['a used ring that ends outside', { usedRing: MEMORY_BYTES - 68 }, 'queue-outside-memory'],
    ['a descriptor table near 2^64', { descriptorTable: 0xffff_ffff_ffff_fff0n }, 'queue-outside-memory'],
  ])('%s → %s', (_name, change, reason) => {
    const layout = { size: SIZE, descriptorTable: 0, availRing: 128, usedRing: 152, ...change };
    const opened = SplitDeviceQueue.open(new GuestMemory(MEMORY_BYTES), layout);
    expect(opened).toMatchObject({ ok: false, violation: { reason } });
  });
});
