import { beforeEach, describe, expect, it } from 'vitest';
import { GuestAllocator, GuestMemory } from './guest-memory.js';
import { PackedDriverQueue } from './packed-driver-queue.js';

// Three entries: descriptors 0..48, driver event suppression 48..52, device event suppression 52..56.
const SIZE = 3;
const DRIVER_EVENT = 48;
const DEVICE_EVENT = 52;
const LAYOUT = { size: SIZE, descriptorRing: 0, driverEvent: DRIVER_EVENT, deviceEvent: DEVICE_EVENT };

let memory: GuestMemory;
let view: DataView;
beforeEach(() => {
  memory = new GuestMemory(0x4000);
  view = memory.window(0, 0x4000)!;
});

const flags = (slot: number): number => view.getUint16(16 * slot + 14, true);
const bytes = (at: number, count: number): number[] => [...memory.read(at, count)!];

/** What a device writes. */
function use(slot: number, id: number, len: number, mark: number): void {
  view.setUint32(16 * slot + 8, len, true);
  view.setUint16(16 * slot + 12, id, true);
  view.setUint16(16 * slot + 14, mark, true);
}

function add(queue: PackedDriverQueue, parts = 1): number {
  const readable = Array.from({ length: parts }, () => ({ address: 0x1000, length: 4 }));
  const result = queue.addBuffer({ readable });
  if (result.kind !== 'added') throw new Error(result.kind);
  return result.token;
}

/** Buffers of one descriptor, there and back. */
function goOn(queue: PackedDriverQueue, count: number, from = 0): void {
  for (let position = from; position < from + count; position++) {
    const id = add(queue);
    queue.publish();
    queue.shouldKick();
    use(position % SIZE, id, 0, Math.floor(position / SIZE) % 2 === 0 ? 0x8080 : 0);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: id, written: 0 });
  }
}

describe('what the driver of a packed queue writes', () => {
  it('is the layout of virtio 1.3, 2.8.13, with the flags of the first descriptor last', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    const result = queue.addBuffer({
      readable: [{ address: 0x1000, length: 4 }],
      writable: [{ address: 0x2000, length: 8 }],
    });
    expect(result).toEqual({ kind: 'added', token: 0 });
    expect(flags(0)).toBe(0); // not before publish
    queue.publish();
    // 0x1000, 4 bytes, ID 0, AVAIL and NEXT; then 0x2000, 8 bytes, ID 0, AVAIL and WRITE.
    expect(bytes(0, 16)).toEqual([0, 0x10, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x81, 0]);
    expect(bytes(16, 16)).toEqual([0, 0x20, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x82, 0]);
    expect(bytes(32, 24)).toEqual(new Array(24).fill(0));
  });

  it('shows several buffers by the flags of the first: what is behind it is written before', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    const ids = [add(queue), add(queue, 2)];
    expect(ids).toEqual([0, 1]);
    // Of the second buffer's list the second descriptor is there, of either buffer the first is not.
    expect([0, 1, 2].map(flags)).toEqual([0, 0, 0x80]);
    queue.publish();
    expect([0, 1, 2].map(flags)).toEqual([0x80, 0x81, 0x80]);
  });

  it('marks a list that goes round the end of the ring by the counter of each round', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    goOn(queue, 2);
    const id = add(queue, 3);
    queue.publish();
    // Slot 2 in round 1: AVAIL, NEXT. Slots 0 and 1 in round 0: USED, the first with NEXT.
    expect([2, 0, 1].map(flags)).toEqual([0x81, 0x8001, 0x8000]);
    use(2, id, 0, 0x8080);
    expect(queue.getUsed().kind).toBe('used');
    expect(queue.freeDescriptors).toBe(3);
    // It goes on at slot 2 of round 0, where used means neither bit.
    const next = add(queue);
    queue.publish();
    expect(flags(2)).toBe(0x8000);
    expect(queue.getUsed()).toEqual({ kind: 'empty' });
    use(2, next, 0, 0);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: next, written: 0 });
  });

  it('with an indirect table takes one descriptor; in the table there is no flag but WRITE', () => {
    const tables = new GuestAllocator(memory, { address: 0x3000, length: 0x400 });
    const queue = new PackedDriverQueue(memory, LAYOUT, { indirectTables: tables });
    memory.fill(0x3000, 0x400, 0xff);
    const result = queue.addBuffer({
      readable: [{ address: 0x1000, length: 1 }],
      writable: [
        { address: 0x2000, length: 2 },
        { address: 0x2100, length: 3 },
      ],
      indirect: true,
    });
    if (result.kind !== 'added') throw new Error(result.kind);
    queue.publish();
    expect(queue.freeDescriptors).toBe(SIZE - 1);
    // 48 bytes at 0x3000, ID 0, AVAIL and INDIRECT.
    expect(bytes(0, 16)).toEqual([0, 0x30, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0x84, 0]);
    expect(bytes(0x3000, 16)).toEqual([0, 0x10, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    expect(bytes(0x3010, 16)).toEqual([0, 0x20, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0]);
    expect(bytes(0x3020, 16)).toEqual([0, 0x21, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 2, 0]);
    use(0, 0, 5, 0x8082);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: 0, written: 5 });
    expect(tables.allocatedBytes).toBe(0);
  });

  it('holds addresses beyond 32 bits', () => {
    const high = new GuestMemory(0x4000, 0x12_0000_0000);
    const queue = new PackedDriverQueue(high, {
      size: SIZE,
      descriptorRing: 0x12_0000_0000,
      driverEvent: 0x12_0000_0030n,
      deviceEvent: 0x12_0000_0034n,
    });
    queue.addBuffer({ readable: [{ address: 0x12_0000_1000, length: 1 }] });
    expect(high.window(0x12_0000_0000, 16)!.getBigUint64(0, true)).toBe(0x12_0000_1000n);
  });
});

describe('used descriptors of a packed queue', () => {
  it('come at the device’s place in the ring, in its order, and an ID is given out again at once', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    expect([add(queue, 2), add(queue)]).toEqual([0, 1]);
    queue.publish();
    // The second buffer first: at slot 0; then the first, at slot 1, which takes slots 1 and 2.
    use(0, 1, 0, 0x8080);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: 1, written: 0 });
    expect(queue.getUsed()).toEqual({ kind: 'empty' });
    expect(queue.freeDescriptors).toBe(1);
    expect(add(queue)).toBe(1); // in slot 0, round 0
    queue.publish();
    expect(flags(0)).toBe(0x8000);
    use(1, 0, 0, 0x8080);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: 0, written: 0 });
    use(0, 1, 0, 0);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: 1, written: 0 });
    expect(queue.freeDescriptors).toBe(SIZE);
  });

  it('without WRITE say nothing of a length (2.8.4)', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    const id = add(queue);
    queue.publish();
    use(0, id, 0xffff_ffff, 0x8080);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: id, written: 0 });
  });

  it('are none while one of AVAIL and USED is of the other round', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    const id = add(queue);
    queue.publish();
    for (const mark of [0, 0x80, 0x8000]) {
      use(0, id, 0, mark);
      expect(queue.getUsed()).toEqual({ kind: 'empty' });
    }
  });

  it('of a device that holds nothing are a violation', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    use(0, 0, 0, 0x8080);
    expect(queue.getUsed()).toMatchObject({ violation: { reason: 'used-id-not-outstanding' } });
  });
});

describe('event suppression of a packed queue, by the driver', () => {
  const wish = (off: number, wrap: 0 | 1, mode: number): void => {
    view.setUint16(DEVICE_EVENT, off | (wrap << 15), true);
    view.setUint16(DEVICE_EVENT + 2, mode, true);
  };
  /** Publishes buffers of one descriptor, one after the other; whether each was kicked for. */
  const kicks = (queue: PackedDriverQueue, count: number, from = 0): boolean[] =>
    Array.from({ length: count }, (_, i) => {
      const id = add(queue);
      queue.publish();
      const kick = queue.shouldKick();
      const position = from + i;
      use(position % SIZE, id, 0, Math.floor(position / SIZE) % 2 === 0 ? 0x8080 : 0);
      expect(queue.getUsed().kind).toBe('used');
      return kick;
    });

  it('kicks, or not, by ENABLE and DISABLE', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT);
    add(queue);
    expect(queue.shouldKick()).toBe(false); // not published
    queue.publish();
    expect(queue.shouldKick()).toBe(true);
    expect(queue.shouldKick()).toBe(false);
    wish(0, 1, 1);
    add(queue);
    queue.publish();
    expect(queue.shouldKick()).toBe(false);
  });

  it('kicks for the descriptor at that offset in that round alone', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT, { eventIdx: true });
    wish(1, 0, 2);
    // Slots 0, 1, 2 in round 1, then 0, 1, 2 in round 0, then 0 and 1 in round 1.
    expect(kicks(queue, 8)).toEqual([false, false, false, false, true, false, false, false]);
  });

  it('counts what was published, not what was added', () => {
    const queue = new PackedDriverQueue(memory, LAYOUT, { eventIdx: true });
    wish(1, 1, 2);
    add(queue);
    queue.publish();
    add(queue); // slot 1, which is not available yet
    expect(queue.shouldKick()).toBe(false);
    queue.publish();
    expect(queue.shouldKick()).toBe(true);
  });

  it('asks for interrupts by ENABLE, or with EVENT_IDX for the next used descriptor, and not by DISABLE', () => {
    const plain = new PackedDriverQueue(memory, LAYOUT);
    plain.disableInterrupts();
    expect(bytes(DRIVER_EVENT, 4)).toEqual([0, 0, 1, 0]);
    expect(plain.enableInterrupts()).toBe(false);
    expect(bytes(DRIVER_EVENT, 4)).toEqual([0, 0, 0, 0]);

    const event = new PackedDriverQueue(memory, LAYOUT, { eventIdx: true });
    goOn(event, 2);
    event.disableInterrupts();
    expect(bytes(DRIVER_EVENT + 2, 2)).toEqual([1, 0]);
    expect(event.enableInterrupts()).toBe(false);
    // Offset 2, round 1, DESC; after two more, offset 1, round 0.
    expect(bytes(DRIVER_EVENT, 4)).toEqual([2, 0x80, 2, 0]);
    goOn(event, 2, 2);
    expect(bytes(DRIVER_EVENT, 4)).toEqual([1, 0, 2, 0]);
  });
});
