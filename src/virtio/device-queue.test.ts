import { describe, expect, it } from 'vitest';
import type { DescriptorChain } from './descriptor-chain.js';
import type { DeviceQueueOptions } from './queue-options.js';
import {
  INDIRECT,
  NEXT,
  popped as pop,
  RAW_QUEUES,
  WRITE,
  type RawDescriptor,
  type RawQueue,
} from './testing-raw-queue.js';
import type { DriverViolationReason } from './violation.js';

const SIZE = 8;
const MEMORY_BYTES = 0x10000;
const DATA = 0x8000;
const TABLE = 0x4000;

/** What a hostile driver offers in a ring that is otherwise in order, and what the device has to call it. */
interface Attack {
  readonly name: string;
  readonly reason: DriverViolationReason;
  readonly options?: DeviceQueueOptions;
  readonly offer: readonly RawDescriptor[];
  /** What is in the indirect table. */
  readonly table?: readonly RawDescriptor[];
}

const one = (address: number | bigint, length: number, flags = 0): RawDescriptor[] => [
  { address, length, flags },
];

const ATTACKS: readonly Attack[] = [
  {
    name: 'an indirect table longer than the queue',
    reason: 'chain-too-long',
    options: { indirect: true },
    offer: one(TABLE, 16 * (SIZE + 1), INDIRECT),
    table: Array.from({ length: SIZE + 1 }, () => ({ address: DATA, length: 1 })),
  },
  {
    name: 'INDIRECT without the feature',
    reason: 'indirect-not-negotiated',
    offer: one(TABLE, 16, INDIRECT),
    table: one(DATA, 1),
  },
  {
    name: 'INDIRECT with NEXT',
    reason: 'indirect-with-next',
    options: { indirect: true },
    offer: [
      { address: TABLE, length: 16, flags: INDIRECT },
      { address: DATA, length: 1 },
    ],
    table: one(DATA, 1),
  },
  {
    name: 'an indirect table of no bytes',
    reason: 'indirect-length-invalid',
    options: { indirect: true },
    offer: one(TABLE, 0, INDIRECT),
  },
  {
    name: 'an indirect table of 24 bytes',
    reason: 'indirect-length-invalid',
    options: { indirect: true },
    offer: one(TABLE, 24, INDIRECT),
  },
  {
    name: 'an indirect table that ends outside memory',
    reason: 'address-outside-memory',
    options: { indirect: true },
    offer: one(MEMORY_BYTES - 16, 32, INDIRECT),
  },
  {
    name: 'an indirect table that wraps the address space',
    reason: 'address-overflow',
    options: { indirect: true },
    offer: one(0xffff_ffff_ffff_fff0n, 32, INDIRECT),
  },
  {
    name: 'a descriptor outside memory in an indirect table',
    reason: 'address-outside-memory',
    options: { indirect: true },
    offer: one(TABLE, 32, INDIRECT),
    table: [...one(DATA, 4), ...one(MEMORY_BYTES - 4, 5, WRITE)],
  },
  { name: 'a descriptor of no bytes', reason: 'zero-length', offer: one(DATA, 0) },
  { name: 'a writable descriptor of no bytes', reason: 'zero-length', offer: one(DATA, 0, WRITE) },
  {
    name: 'readable after writable',
    reason: 'readable-after-writable',
    offer: [...one(DATA, 1, WRITE), ...one(DATA, 1)],
  },
  {
    name: 'address plus length wrapping 2^64',
    reason: 'address-overflow',
    offer: one(0xffff_ffff_ffff_ffffn, 2),
  },
  {
    name: 'a descriptor that ends exactly at 2^64',
    reason: 'address-outside-memory',
    offer: one(0xffff_ffff_ffff_ffffn, 1),
  },
  {
    name: 'an address that is in memory modulo 2^32',
    reason: 'address-outside-memory',
    offer: one(0x1_0000_0000n + BigInt(DATA), 1),
  },
  {
    name: 'an address that is in memory modulo 2^53',
    reason: 'address-outside-memory',
    offer: one((1n << 53n) + BigInt(DATA), 1),
  },
  {
    name: 'a descriptor that ends one byte outside memory',
    reason: 'address-outside-memory',
    offer: one(MEMORY_BYTES - 4, 5),
  },
  {
    name: 'a length that would wrap 32 bits',
    reason: 'address-outside-memory',
    offer: one(DATA, 0xffffffff),
  },
  {
    name: 'more readable bytes than the device takes',
    reason: 'chain-bytes-over-limit',
    options: { maxChainBytes: 100 },
    offer: one(DATA, 101),
  },
  {
    name: 'the same bytes over and over until they are too many',
    reason: 'chain-bytes-over-limit',
    options: { maxChainBytes: 100 },
    offer: [...one(DATA, 60), ...one(DATA, 41, WRITE)],
  },
];

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

describe.each(RAW_QUEUES)('the device of a %s queue', (name, make) => {
  const open = (backing: number | Uint8Array = MEMORY_BYTES): RawQueue => make(SIZE, backing);

  describe('with a well-behaved driver', () => {
    it('gets readable bytes in chain order, wherever they lie', () => {
      const ring = open();
      ring.memory.write(DATA, Uint8Array.of(1, 2, 3));
      ring.memory.write(DATA + 100, Uint8Array.of(4, 5));
      ring.offer([...one(DATA + 100, 2), ...one(DATA, 3)], 3);
      const chain = pop(ring.openDevice());
      expect(chain.head).toBe(3);
      expect([...chain.readable]).toEqual([4, 5, 1, 2, 3]);
      expect(chain.writer.capacity).toBe(0);
    });

    it('fills its buffers front to back, and says how many bytes it wrote', () => {
      const ring = open();
      ring.offer([...one(DATA, 1), ...one(DATA + 16, 2, WRITE), ...one(DATA + 32, 3, WRITE)], 0);
      const queue = ring.openDevice();
      const chain = pop(queue);
      expect(chain.writer.capacity).toBe(5);
      expect(chain.writer.write(Uint8Array.of(9, 8, 7))).toBe(true);
      expect(chain.writer.writeZeros(1)).toBe(true);
      expect(chain.writer.remaining).toBe(1);
      expect(chain.writer.write(Uint8Array.of(1, 1))).toBe(false);
      expect(ring.used()).toEqual([]);
      expect(queue.pushUsed(chain)).toBe(true);
      expect([...ring.memory.read(DATA + 16, 3)!]).toEqual([9, 8, 0]);
      expect([...ring.memory.read(DATA + 32, 3)!]).toEqual([7, 0, 0]);
      expect(ring.used()).toEqual([{ id: 0, len: 4 }]);
    });

    it('reads every field of a chain exactly once, so that it cannot change between check and use', () => {
      const ring = open();
      ring.offer([...one(DATA, 1), ...one(DATA + 1, 2), ...one(DATA + 8, 4, WRITE)], 2);
      const queue = ring.openDevice();
      ring.memory.reads.clear();
      pop(queue);
      const sorted = (fields: Iterable<number>): number[] => [...fields].sort((a, b) => a - b);
      expect(sorted(ring.memory.reads.keys())).toEqual(sorted(ring.fields));
      expect(new Set(ring.memory.reads.values())).toEqual(new Set([1]));
    });

    it('reads every field of an indirect table exactly once', () => {
      const ring = open();
      ring.table(TABLE, [...one(DATA + 1, 1), ...one(DATA + 8, 4, WRITE)]);
      ring.offer(one(TABLE, 32, INDIRECT), 5);
      const queue = ring.openDevice({ indirect: true });
      ring.memory.reads.clear();
      pop(queue);
      const sorted = (fields: Iterable<number>): number[] => [...fields].sort((a, b) => a - b);
      const expected = [...ring.fields, ...ring.tableFields(TABLE, 2)];
      expect(sorted(ring.memory.reads.keys())).toEqual(sorted(expected));
      expect(new Set(ring.memory.reads.values())).toEqual(new Set([1]));
    });

    it('keeps what it has popped, whatever the driver changes', () => {
      const ring = open();
      ring.memory.write(DATA, Uint8Array.of(1, 2, 3, 4));
      ring.offer([...one(DATA, 4), ...one(DATA + 64, 4, WRITE)], 0);
      const queue = ring.openDevice();
      const chain = pop(queue);
      ring.memory.write(DATA, Uint8Array.of(9, 9, 9, 9));
      // Address and length of the second descriptor.
      ring.view.setBigUint64(16, BigInt(DATA + 128), true);
      ring.view.setUint32(24, 4000, true);
      chain.writer.write(Uint8Array.of(5, 5, 5, 5));
      expect([...chain.readable]).toEqual([1, 2, 3, 4]);
      expect(chain.writer.capacity).toBe(4);
      expect([...ring.memory.read(DATA + 64, 4)!]).toEqual([5, 5, 5, 5]);
      expect([...ring.memory.read(DATA + 128, 4)!]).toEqual([0, 0, 0, 0]);
    });

    it('ignores WRITE of an indirect descriptor (2.7.5.3.2, 2.8.7)', () => {
      const ring = open();
      ring.memory.write(DATA, Uint8Array.of(1, 2));
      ring.table(TABLE, [...one(DATA, 2), ...one(DATA + 8, 4, WRITE)]);
      ring.offer(one(TABLE, 32, INDIRECT | WRITE), 5);
      const chain = pop(ring.openDevice({ indirect: true }));
      expect([...chain.readable]).toEqual([1, 2]);
      expect(chain.writer.capacity).toBe(4);
    });

    it('takes a chain of as many descriptors as the queue has', () => {
      const ring = open();
      ring.offer(
        Array.from({ length: SIZE }, (_, i) => ({ address: DATA + i, length: 1 })),
        0,
      );
      expect(pop(ring.openDevice()).readable.length).toBe(SIZE);
    });

    it('takes exactly the limit of bytes', () => {
      const ring = open();
      ring.offer([...one(DATA, 60), ...one(DATA, 40, WRITE)], 0);
      expect(pop(ring.openDevice({ maxChainBytes: 100 })).readable.length).toBe(60);
    });

    it('gets unpopped chains again, in order', () => {
      const ring = open();
      for (let i = 0; i < 3; i++) ring.offer(one(DATA, i + 1), i);
      const queue = ring.openDevice();
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

    it('returns merged buffers together, and no chain twice', () => {
      const ring = open();
      for (let i = 0; i < 2; i++) ring.offer(one(DATA, 4, WRITE), i);
      const queue = ring.openDevice();
      const chains = [pop(queue), pop(queue)];
      expect(queue.pushUsedBatch([chains[0]!, chains[0]!])).toBe(false);
      expect(ring.used()).toEqual([]);
      expect(queue.pushUsedBatch(chains)).toBe(true);
      expect(ring.used()).toHaveLength(2);
      expect(queue.pushUsed(chains[0]!)).toBe(false);
      expect(ring.used()).toHaveLength(2);
    });

    it('leaves it alone after a reset, chains from before included', () => {
      const ring = open();
      ring.offer(one(DATA, 4, WRITE), 0);
      const queue = ring.openDevice();
      const chain = pop(queue);
      queue.reset();
      expect(chain.writer.write(Uint8Array.of(1))).toBe(false);
      expect(queue.pushUsed(chain)).toBe(false);
      expect(ring.used()).toEqual([]);
      expect([...ring.memory.read(DATA, 1)!]).toEqual([0]);
      expect(pop(queue).head).toBe(0);
    });
  });

  describe('with a hostile driver', () => {
    it.each(ATTACKS)('$name → $reason', ({ offer, table, options, reason }) => {
      const ring = open();
      if (table !== undefined) ring.table(TABLE, table);
      ring.offer(offer, 0);
      const before = ring.memory.read(0, MEMORY_BYTES);
      const queue = ring.openDevice(options);
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

    it('breaks when a head that it holds is available again, and its chain is revoked', () => {
      const ring = open();
      ring.offer(one(DATA, 4, WRITE), 0);
      ring.offer(one(DATA, 4, WRITE), 0);
      const queue = ring.openDevice();
      const chain = pop(queue);
      const reason = name === 'split' ? 'head-in-flight' : 'buffer-id-in-flight';
      expect(queue.popChain()).toMatchObject({ violation: { reason } });
      expect(queue.inFlight).toBe(0);
      expect(chain.writer.write(Uint8Array.of(1))).toBe(false);
      expect(queue.pushUsed(chain)).toBe(false);
      expect(ring.used()).toEqual([]);
    });

    it('serves it again after a reset', () => {
      const ring = open();
      ring.offer(one(DATA, 0), 0);
      const queue = ring.openDevice();
      expect(queue.popChain().kind).toBe('violation');
      // The length of the first descriptor.
      ring.view.setUint32(8, 4, true);
      queue.reset();
      expect(queue.violation).toBeUndefined();
      expect(pop(queue).readable.length).toBe(4);
    });
  });

  it('never throws, never works without bound, never leaves guest memory (fuzz)', () => {
    const pick = random(0x2019_1126);
    const fence = 4096;
    const guestBytes = 4096;
    const outer = new Uint8Array(fence + guestBytes + fence).fill(0xa5);
    const guest = outer.subarray(fence, fence + guestBytes);
    const seen = new Map<string, number>();
    for (let iteration = 0; iteration < 4000; iteration++) {
      guest.fill(0);
      const ring = open(guest);
      // A valid start: two direct chains and one indirect, so that mutations get past the first check.
      ring.table(1024, [
        ...[0, 1, 2].map((i) => ({ address: 3000 + 8 * i, length: 8, flags: i > 1 ? WRITE : 0 })),
        { address: 3100, length: 8, flags: WRITE },
      ]);
      ring.offer([...one(2048, 64), ...one(2200, 100, WRITE)], 0);
      ring.offer(one(1024, 64, INDIRECT), 2);
      ring.offer(one(2500, 64, WRITE), 3);
      const queue = ring.openDevice({
        eventIdx: pick(2) === 0,
        indirect: pick(4) !== 0,
        maxChainBytes: 1024,
      });
      const mutate = (): void => {
        for (let count = pick(4); count > 0; count--) {
          // Mostly ring memory and the indirect table, mostly by bytes that mean something.
          const at = [ring.mutable(pick), ring.mutable(pick), 1024 + pick(64), pick(guestBytes)][pick(4)]!;
          guest[at] = [0, 1, 2, 4, 0x80, 0x81, 0xff, pick(256)][pick(8)]!;
        }
      };

      const held: DescriptorChain[] = [];
      for (let step = 0; step < 12; step++) {
        mutate();
        ring.memory.total = 0;
        const popped = queue.popChain();
        // Two reads at most to find it, and five for each descriptor: of the ring, then of one indirect table.
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
        if (pick(8) === 0 && held.length > 0 && queue.unpop(held.at(-1)!)) held.pop();
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
    expect(seen.size, [...seen.keys()].join()).toBeGreaterThanOrEqual(12);
  });

  it('tells a loop of NEXT from nothing: an end there always is', () => {
    const ring = open();
    const endless = Array.from({ length: SIZE }, () => ({ address: DATA, length: 1, flags: NEXT }));
    ring.offer(endless, 0);
    const reason = name === 'split' ? 'descriptor-loop' : 'chain-too-long';
    expect(ring.openDevice().popChain()).toMatchObject({ violation: { reason } });
  });
});
