import { beforeEach, describe, expect, it } from 'vitest';
import { GuestMemory } from './guest-memory.js';
import { SplitDeviceQueue, type SplitDeviceQueueOptions } from './split-device-queue.js';
import { splitLayoutAt } from './split-layout.js';
import type { DriverViolationReason } from './violation.js';
import type { DescriptorChain } from './descriptor-chain.js';

const SIZE = 8;
const MEMORY_BYTES = 0x10000;
const DATA = 0x8000;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** Guest memory that counts what is read through its windows, as `offset of the byte in memory → reads`. */
class CountingMemory extends GuestMemory {
  readonly reads = new Map<number, number>();
  total = 0;

  override window(address: number | bigint, length: number): DataView | undefined {
    const window = super.window(address, length);
    if (window === undefined) return undefined;
    const base = Number(address);
    const count = (offset: number): void => {
      this.total += 1;
      this.reads.set(base + offset, (this.reads.get(base + offset) ?? 0) + 1);
    };
    const getUint16 = window.getUint16.bind(window);
    const getUint32 = window.getUint32.bind(window);
    window.getUint16 = (offset, littleEndian) => {
      count(offset);
      return getUint16(offset, littleEndian);
    };
    window.getUint32 = (offset, littleEndian) => {
      count(offset);
      return getUint32(offset, littleEndian);
    };
    return window;
  }
}

/** Writes a split virtqueue byte by byte, from the tables of virtio 1.3, 2.7: no code shared with what is tested. */
class RawRing {
  readonly memory: CountingMemory;
  readonly view: DataView;
  readonly avail = 16 * SIZE;
  // 6 + 2 × 8 bytes of avail ring end at 150; the used ring is aligned to 4.
  readonly used = 152;

  constructor(backing: number | Uint8Array = MEMORY_BYTES) {
    this.memory = new CountingMemory(backing);
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

  open(options: SplitDeviceQueueOptions = {}): SplitDeviceQueue {
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

  it('gets readable bytes in chain order, wherever they lie', () => {
    ring.memory.write(DATA, Uint8Array.of(1, 2, 3));
    ring.memory.write(DATA + 100, Uint8Array.of(4, 5));
    ring.descriptor(3, DATA, 3, NEXT, 6);
    ring.descriptor(6, DATA + 100, 2);
    ring.head(0, 3);
    ring.availIdx = 1;
    const chain = pop(ring.open());
    expect(chain.head).toBe(3);
    expect([...chain.readable]).toEqual([1, 2, 3, 4, 5]);
    expect(chain.writer.capacity).toBe(0);
  });

  it('sees its buffers filled front to back, and used.len counted', () => {
    ring.descriptor(0, DATA, 1, NEXT, 1);
    ring.descriptor(1, DATA + 16, 2, NEXT | WRITE, 2);
    ring.descriptor(2, DATA + 32, 3, WRITE);
    ring.head(0, 0);
    ring.availIdx = 1;
    const queue = ring.open();
    const chain = pop(queue);
    expect(chain.writer.capacity).toBe(5);
    expect(chain.writer.write(Uint8Array.of(9, 8, 7))).toBe(true);
    expect(chain.writer.writeZeros(1)).toBe(true);
    expect(chain.writer.remaining).toBe(1);
    expect(chain.writer.write(Uint8Array.of(1, 1))).toBe(false);
    expect(queue.pushUsed(chain)).toBe(true);
    expect([...ring.memory.read(DATA + 16, 3)!]).toEqual([9, 8, 0]);
    expect([...ring.memory.read(DATA + 32, 3)!]).toEqual([7, 0, 0]);
    expect(ring.usedIdx).toBe(1);
    expect(ring.usedElement(0)).toEqual({ id: 0, len: 4 });
  });

  it('has every field of a chain read exactly once, so that it cannot change between check and use', () => {
    const table = 0x4000;
    ring.descriptor(0, DATA, 1, NEXT, 5);
    ring.descriptor(5, table, 32, INDIRECT);
    ring.descriptor(0, DATA + 1, 1, NEXT, 1, table);
    ring.descriptor(1, DATA + 8, 4, WRITE, 0, table);
    ring.head(0, 0);
    ring.availIdx = 1;
    const queue = ring.open({ indirect: true });
    ring.memory.reads.clear();
    pop(queue);
    const fields = (descriptor: number): number[] => [0, 4, 8, 12, 14].map((field) => descriptor + field);
    const expected = [ring.avail + 2, ring.avail + 4, ...[0, 80, table, table + 16].flatMap(fields)];
    expect([...ring.memory.reads.keys()].sort((a, b) => a - b)).toEqual(expected.sort((a, b) => a - b));
    expect(new Set(ring.memory.reads.values())).toEqual(new Set([1]));
  });

  it('cannot change what the device has popped', () => {
    ring.memory.write(DATA, Uint8Array.of(1, 2, 3, 4));
    ring.descriptor(0, DATA, 4, NEXT, 1);
    ring.descriptor(1, DATA + 64, 4, WRITE);
    ring.head(0, 0);
    ring.availIdx = 1;
    const queue = ring.open();
    const chain = pop(queue);
    ring.memory.write(DATA, Uint8Array.of(9, 9, 9, 9));
    ring.descriptor(1, DATA + 128, 4000, WRITE);
    chain.writer.write(Uint8Array.of(5, 5, 5, 5));
    expect([...chain.readable]).toEqual([1, 2, 3, 4]);
    expect(chain.writer.capacity).toBe(4);
    expect([...ring.memory.read(DATA + 64, 4)!]).toEqual([5, 5, 5, 5]);
    expect([...ring.memory.read(DATA + 128, 4)!]).toEqual([0, 0, 0, 0]);
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

  it('may use every descriptor of the queue in one chain', () => {
    for (let i = 0; i < SIZE; i++) ring.descriptor(i, DATA + i, 1, i === SIZE - 1 ? 0 : NEXT, i + 1);
    ring.head(0, 0);
    ring.availIdx = 1;
    expect(pop(ring.open()).readable.length).toBe(SIZE);
  });

  it('gets unpopped chains again, in order', () => {
    for (let i = 0; i < 3; i++) {
      ring.descriptor(i, DATA, i + 1);
      ring.head(i, i);
    }
    ring.availIdx = 3;
    const queue = ring.open();
    const first = pop(queue);
    const second = pop(queue);
    expect(queue.unpop(first)).toBe(false);
    expect(queue.unpop(second)).toBe(true);
    expect(queue.unpop(second)).toBe(false);
    expect(queue.unpop(first)).toBe(true);
    expect(queue.inFlight).toBe(0);
    expect([0, 1, 2].map(() => pop(queue).readable.length)).toEqual([1, 2, 3]);
    expect(queue.popChain()).toEqual({ kind: 'empty' });
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

  it('sees merged buffers together, and no chain twice', () => {
    for (let i = 0; i < 2; i++) {
      ring.descriptor(i, DATA, 4, WRITE);
      ring.head(i, i);
    }
    ring.availIdx = 2;
    const queue = ring.open();
    const chains = [pop(queue), pop(queue)];
    expect(queue.pushUsedBatch([chains[0]!, chains[0]!])).toBe(false);
    expect(ring.usedIdx).toBe(0);
    expect(queue.pushUsedBatch(chains)).toBe(true);
    expect(ring.usedIdx).toBe(2);
    expect(queue.pushUsed(chains[0]!)).toBe(false);
    expect(ring.usedIdx).toBe(2);
  });

  it('is left alone by chains from before a reset', () => {
    ring.descriptor(0, DATA, 4, WRITE);
    ring.head(0, 0);
    ring.availIdx = 1;
    const queue = ring.open();
    const chain = pop(queue);
    queue.reset();
    expect(chain.writer.write(Uint8Array.of(1))).toBe(false);
    expect(queue.pushUsed(chain)).toBe(false);
    expect(ring.usedIdx).toBe(0);
    expect([...ring.memory.read(DATA, 1)!]).toEqual([0]);
    expect(pop(queue).head).toBe(0);
  });
});

describe('notification suppression', () => {
  function withUsed(options: SplitDeviceQueueOptions): { ring: RawRing; queue: SplitDeviceQueue } {
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
  readonly options?: SplitDeviceQueueOptions;
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
    name: 'INDIRECT without the feature',
    reason: 'indirect-not-negotiated',
    attack: (ring) => {
      ring.descriptor(0, TABLE, 16, INDIRECT);
      ring.descriptor(0, DATA, 1, 0, 0, TABLE);
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
  {
    name: 'INDIRECT with NEXT',
    reason: 'indirect-with-next',
    options: { indirect: true },
    attack: (ring) => {
      ring.descriptor(0, TABLE, 16, INDIRECT | NEXT, 1);
      ring.descriptor(0, DATA, 1, 0, 0, TABLE);
    },
  },
  {
    name: 'an indirect table of no bytes',
    reason: 'indirect-length-invalid',
    options: { indirect: true },
    attack: (ring) => ring.descriptor(0, TABLE, 0, INDIRECT),
  },
  {
    name: 'an indirect table of 24 bytes',
    reason: 'indirect-length-invalid',
    options: { indirect: true },
    attack: (ring) => ring.descriptor(0, TABLE, 24, INDIRECT),
  },
  {
    name: 'an indirect table that ends outside memory',
    reason: 'address-outside-memory',
    options: { indirect: true },
    attack: (ring) => ring.descriptor(0, MEMORY_BYTES - 16, 32, INDIRECT),
  },
  {
    name: 'an indirect table that wraps the address space',
    reason: 'address-overflow',
    options: { indirect: true },
    attack: (ring) => ring.descriptor(0, 0xffff_ffff_ffff_fff0n, 32, INDIRECT),
  },
  {
    name: 'a descriptor of no bytes',
    reason: 'zero-length',
    attack: (ring) => ring.descriptor(0, DATA, 0),
  },
  {
    name: 'a writable descriptor of no bytes',
    reason: 'zero-length',
    attack: (ring) => ring.descriptor(0, DATA, 0, WRITE),
  },
  {
    name: 'readable after writable',
    reason: 'readable-after-writable',
    attack: (ring) => {
      ring.descriptor(0, DATA, 1, NEXT | WRITE, 1);
      ring.descriptor(1, DATA, 1);
    },
  },
  {
    name: 'address plus length wrapping 2^64',
    reason: 'address-overflow',
    attack: (ring) => ring.descriptor(0, 0xffff_ffff_ffff_ffffn, 2),
  },
  {
    name: 'a descriptor that ends exactly at 2^64',
    reason: 'address-outside-memory',
    attack: (ring) => ring.descriptor(0, 0xffff_ffff_ffff_ffffn, 1),
  },
  {
    name: 'an address that is in memory modulo 2^32',
    reason: 'address-outside-memory',
    attack: (ring) => ring.descriptor(0, 0x1_0000_0000n + BigInt(DATA), 1),
  },
  {
    name: 'an address that is in memory modulo 2^53',
    reason: 'address-outside-memory',
    attack: (ring) => ring.descriptor(0, (1n << 53n) + BigInt(DATA), 1),
  },
  {
    name: 'a descriptor that ends one byte outside memory',
    reason: 'address-outside-memory',
    attack: (ring) => ring.descriptor(0, MEMORY_BYTES - 4, 5),
  },
  {
    name: 'a length that would wrap 32 bits',
    reason: 'address-outside-memory',
    attack: (ring) => ring.descriptor(0, DATA, 0xffffffff),
  },
  {
    name: 'more readable bytes than the device takes',
    reason: 'chain-bytes-over-limit',
    options: { maxChainBytes: 100 },
    attack: (ring) => ring.descriptor(0, DATA, 101),
  },
  {
    name: 'the same bytes over and over until they are too many',
    reason: 'chain-bytes-over-limit',
    options: { maxChainBytes: 100 },
    attack: (ring) => {
      ring.descriptor(0, DATA, 60, NEXT, 1);
      ring.descriptor(1, DATA, 41, WRITE);
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

  it('takes exactly the limit of bytes', () => {
    const ring = new RawRing();
    ring.descriptor(0, DATA, 60, NEXT, 1);
    ring.descriptor(1, DATA, 40, WRITE);
    ring.head(0, 0);
    ring.availIdx = 1;
    expect(pop(ring.open({ maxChainBytes: 100 })).readable.length).toBe(60);
  });

  it('reusing a head that the device holds → head-in-flight, and its chain is revoked', () => {
    const ring = new RawRing();
    ring.descriptor(0, DATA, 4, WRITE);
    ring.head(0, 0);
    ring.head(1, 0);
    ring.availIdx = 2;
    const queue = ring.open();
    const chain = pop(queue);
    expect(queue.popChain()).toMatchObject({ violation: { reason: 'head-in-flight' } });
    expect(queue.inFlight).toBe(0);
    expect(chain.writer.write(Uint8Array.of(1))).toBe(false);
    expect(queue.pushUsed(chain)).toBe(false);
    expect(ring.usedIdx).toBe(0);
  });

  it('is served again after a reset', () => {
    const ring = new RawRing();
    ring.descriptor(0, DATA, 4);
    ring.head(0, 0xffff);
    ring.availIdx = 1;
    const queue = ring.open();
    expect(queue.popChain().kind).toBe('violation');
    ring.head(0, 0);
    queue.reset();
    expect(queue.violation).toBeUndefined();
    expect(pop(queue).readable.length).toBe(4);
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

/** Small, seeded and good enough for mutations: xorshift32. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

describe('mutation fuzzing', () => {
  it('never throws, never works without bound, never leaves guest memory', () => {
    const pick = random(0x2019_1126);
    const fence = 4096;
    const guestBytes = 4096;
    const outer = new Uint8Array(fence + guestBytes + fence).fill(0xa5);
    const guest = outer.subarray(fence, fence + guestBytes);
    const seen = new Map<string, number>();
    for (let iteration = 0; iteration < 4000; iteration++) {
      guest.fill(0);
      const ring = new RawRing(guest);
      // A valid start: two direct chains and one indirect, so that mutations get past the first check.
      ring.descriptor(0, 2048, 64, NEXT, 1);
      ring.descriptor(1, 2200, 100, WRITE);
      ring.descriptor(2, 1024, 64, INDIRECT);
      ring.descriptor(3, 2500, 64, WRITE);
      for (let i = 0; i < 3; i++)
        ring.descriptor(i, 3000 + 8 * i, 8, NEXT | (i > 1 ? WRITE : 0), i + 1, 1024);
      ring.descriptor(3, 3100, 8, WRITE, 0, 1024);
      for (const [slot, head] of [0, 2, 3].entries()) ring.head(slot, head);
      ring.availIdx = 3;
      const queue = ring.open({
        eventIdx: pick(2) === 0,
        indirect: pick(4) !== 0,
        maxChainBytes: 1024,
      });
      const mutate = (): void => {
        for (let count = pick(4); count > 0; count--) {
          // Mostly ring memory and the indirect table, mostly by bytes that mean something.
          const at = [pick(16 * SIZE), ring.avail + pick(22), 1024 + pick(64), pick(guestBytes)][pick(4)]!;
          guest[at] = [0, 1, 2, 4, 0xff, pick(256)][pick(6)]!;
        }
      };

      const held: DescriptorChain[] = [];
      for (let step = 0; step < 12; step++) {
        mutate();
        ring.memory.total = 0;
        const popped = queue.popChain();
        // idx, head, and five reads for each descriptor: of the queue's table, then of one indirect table.
        expect(ring.memory.total).toBeLessThanOrEqual(2 + 5 * (SIZE + SIZE + 1));
        const outcome = popped.kind === 'violation' ? popped.violation.reason : popped.kind;
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        if (popped.kind === 'violation') break;
        if (popped.kind === 'chain') {
          const { chain } = popped;
          expect(chain.readable.length + chain.writer.capacity).toBeLessThanOrEqual(1024);
          mutate();
          chain.writer.write(new Uint8Array(pick(chain.writer.capacity + 1)).fill(0x5a));
          held.push(chain);
        }
        if (pick(2) === 0 && held.length > 0) queue.pushUsed(held.shift()!);
        queue.shouldInterrupt();
        if (pick(2) === 0) queue.enableKicks();
        else queue.disableKicks();
        expect(queue.inFlight).toBeLessThanOrEqual(SIZE);
      }
    }
    expect(outer.subarray(0, fence).every((byte) => byte === 0xa5)).toBe(true);
    expect(outer.subarray(fence + guestBytes).every((byte) => byte === 0xa5)).toBe(true);
    // The slice is worth something only while it reaches deep: most reasons, and chains as well.
    expect(seen.get('chain')).toBeGreaterThan(1000);
    expect(seen.size).toBeGreaterThanOrEqual(12);
  });
});
