import { beforeEach, describe, expect, it } from 'vitest';
import { GuestAllocator, GuestMemory } from './guest-memory.js';
import type { DriverQueueOptions } from './queue-options.js';
import { SplitDriverQueue } from './split-driver-queue.js';

const SIZE = 4;
// For four entries: descriptors 0..64, avail 64..78, used (aligned to 4) 80..118.
const AVAIL = 64;
const USED = 80;
const LAYOUT = { size: SIZE, descriptorTable: 0, availRing: AVAIL, usedRing: USED };

let memory: GuestMemory;
let view: DataView;

beforeEach(() => {
  memory = new GuestMemory(0x4000);
  view = memory.window(0, 0x4000)!;
});

function queueWith(options: DriverQueueOptions = {}): SplitDriverQueue {
  return new SplitDriverQueue(memory, LAYOUT, options);
}

function added(queue: SplitDriverQueue, writable = 8): number {
  const result = queue.addBuffer({
    readable: [{ address: 0x1000, length: 4 }],
    writable: [{ address: 0x2000, length: writable }],
  });
  if (result.kind !== 'added') throw new Error(result.kind);
  return result.token;
}

/** What a device writes: an element and the idx behind it. */
function use(slot: number, id: number, len: number, idx = slot + 1): void {
  view.setUint32(USED + 4 + 8 * slot, id, true);
  view.setUint32(USED + 8 + 8 * slot, len, true);
  view.setUint16(USED + 2, idx, true);
}

describe('what the driver writes', () => {
  it('is the layout of virtio 1.3, 2.7.5 and 2.7.6', () => {
    const queue = queueWith();
    const head = added(queue);
    expect(view.getUint16(AVAIL + 2, true)).toBe(0); // not before publish
    queue.publish();
    const next = view.getUint16(16 * head + 14, true);
    expect(view.getBigUint64(16 * head, true)).toBe(0x1000n);
    expect(view.getUint32(16 * head + 8, true)).toBe(4);
    expect(view.getUint16(16 * head + 12, true)).toBe(1); // NEXT
    expect(view.getBigUint64(16 * next, true)).toBe(0x2000n);
    expect(view.getUint32(16 * next + 8, true)).toBe(8);
    expect(view.getUint16(16 * next + 12, true)).toBe(2); // WRITE
    expect(view.getUint16(AVAIL + 2, true)).toBe(1);
    expect(view.getUint16(AVAIL + 4, true)).toBe(head);
  });

  it('holds addresses beyond 32 bits', () => {
    const high = new GuestMemory(0x4000, 0x12_0000_0000);
    const queue = new SplitDriverQueue(high, {
      size: SIZE,
      descriptorTable: 0x12_0000_0000,
      availRing: 0x12_0000_0040n,
      usedRing: 0x12_0000_0050n,
    });
    queue.addBuffer({ readable: [{ address: 0x12_0000_1000, length: 1 }] });
    expect(high.window(0x12_0000_0000, 16)!.getBigUint64(0, true)).toBe(0x12_0000_1000n);
  });

  it('with an indirect table takes one descriptor, and gives the table back', () => {
    const tables = new GuestAllocator(memory, { address: 0x3000, length: 0x400 });
    const queue = queueWith({ indirectTables: tables });
    const result = queue.addBuffer({
      readable: [{ address: 0x1000, length: 1 }],
      writable: [
        { address: 0x2000, length: 2 },
        { address: 0x2100, length: 3 },
      ],
      indirect: true,
    });
    if (result.kind !== 'added') throw new Error(result.kind);
    expect(queue.freeDescriptors).toBe(SIZE - 1);
    const at = 16 * result.token;
    const table = Number(view.getBigUint64(at, true));
    expect(view.getUint32(at + 8, true)).toBe(48);
    expect(view.getUint16(at + 12, true)).toBe(4); // INDIRECT alone
    expect([0, 1, 2].map((i) => view.getUint16(table + 16 * i + 12, true))).toEqual([1, 3, 2]);
    expect([0, 1].map((i) => view.getUint16(table + 16 * i + 14, true))).toEqual([1, 2]);
    queue.publish();
    use(0, result.token, 5);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: result.token, written: 5 });
    expect(tables.allocatedBytes).toBe(0);
    expect(queue.freeDescriptors).toBe(SIZE);
  });

  it('is refused at addresses that are no virtqueue', () => {
    expect(() => new SplitDriverQueue(memory, { ...LAYOUT, usedRing: 82 })).toThrow(
      expect.objectContaining({ code: 'virtio-violation' }),
    );
  });
});

describe('notification suppression', () => {
  it('without EVENT_IDX follows NO_NOTIFY of the used flags', () => {
    const queue = queueWith();
    added(queue);
    expect(queue.shouldKick()).toBe(false); // not published
    queue.publish();
    expect(queue.shouldKick()).toBe(true);
    expect(queue.shouldKick()).toBe(false);
    view.setUint16(USED, 1, true);
    added(queue);
    queue.publish();
    expect(queue.shouldKick()).toBe(false);
  });

  it('with EVENT_IDX kicks exactly for the entry with index avail_event', () => {
    const queue = queueWith({ eventIdx: true });
    view.setUint16(USED, 1, true); // ignored
    view.setUint16(USED + 4 + 8 * SIZE, 1, true);
    const kicks = [0, 1, 2].map((slot) => {
      queue.addBuffer({ readable: [{ address: 0x1000, length: 1 }] });
      queue.publish();
      const kick = queue.shouldKick();
      use(slot, slot === 0 ? 0 : view.getUint16(AVAIL + 4 + 2 * slot, true), 0);
      expect(queue.getUsed().kind).toBe('used');
      return kick;
    });
    expect(kicks).toEqual([false, true, false]);
  });

  it('tells the device through NO_INTERRUPT, or through used_event', () => {
    const flags = queueWith();
    flags.disableInterrupts();
    expect(view.getUint16(AVAIL, true)).toBe(1);
    expect(flags.enableInterrupts()).toBe(false);
    expect(view.getUint16(AVAIL, true)).toBe(0);

    const event = queueWith({ eventIdx: true });
    const token = added(event);
    event.publish();
    use(0, token, 0);
    event.getUsed();
    expect(view.getUint16(AVAIL + 4 + 2 * SIZE, true)).toBe(1);
    event.disableInterrupts();
    expect(view.getUint16(AVAIL, true)).toBe(0);
    expect(view.getUint16(AVAIL + 4 + 2 * SIZE, true)).not.toBe(1);
    expect(event.enableInterrupts()).toBe(false);
    expect(view.getUint16(AVAIL + 4 + 2 * SIZE, true)).toBe(1);
  });
});

describe('a hostile device', () => {
  it.each([
    ['used idx ahead of what it holds', 'used-idx-jump', (): void => use(0, 0, 0, 2)],
    ['used idx going backwards', 'used-idx-jump', (): void => use(0, 0, 0, 0xffff)],
    ['an id of 2^32 - 1', 'used-id-out-of-range', (): void => use(0, 0xffffffff, 0)],
    ['an id in the middle of a chain', 'used-id-not-outstanding', (): void => use(0, 1, 0)],
  ])('%s → %s', (_name, reason, attack) => {
    const queue = queueWith();
    expect(added(queue)).toBe(0);
    queue.publish();
    expect(added(queue)).toBe(2);
    attack();
    const used = queue.getUsed();
    expect(used).toMatchObject({ kind: 'violation', violation: { reason } });
    expect(queue.getUsed()).toEqual(used);
    expect(queue.addBuffer({ readable: [{ address: 0x1000, length: 1 }] })).toEqual(used);
    expect(queue.violation?.reason).toBe(reason);
    queue.reset();
    expect(queue.violation).toBeUndefined();
    expect(queue.freeDescriptors).toBe(SIZE);
    expect(queue.getUsed()).toEqual({ kind: 'empty' });
  });
});
