import { describe, expect, it } from 'vitest';
import { GuestMemory } from './guest-memory.js';
import { PackedDeviceQueue } from './packed-device-queue.js';
import type { DeviceQueueOptions } from './queue-options.js';
import { INDIRECT, NEXT, popped as pop, RawPackedQueue, WRITE } from './testing-raw-queue.js';
import type { DriverViolationReason } from './violation.js';

// Five entries: no power of two. Descriptors 0..80, driver event suppression 80..84, device event suppression 84..88.
const SIZE = 5;
const DRIVER_EVENT = 80;
const DEVICE_EVENT = 84;
const DATA = 0x8000;

const readable = (length = 1): { address: number; length: number } => ({ address: DATA, length });
const writable = (length = 4): { address: number; length: number; flags: number } => ({
  address: DATA + 64,
  length,
  flags: WRITE,
});

function bytes(ring: RawPackedQueue, at: number, count = 16): number[] {
  return [...ring.memory.read(at, count)!];
}

/** Has buffers of one descriptor go through, so that the next one is `count` descriptors further. */
function goOn(ring: RawPackedQueue, queue: PackedDeviceQueue, count: number): void {
  for (let i = 0; i < count; i++) {
    ring.offer([readable()], i % SIZE);
    queue.pushUsed(pop(queue));
  }
}

function open(options: DeviceQueueOptions = {}): { ring: RawPackedQueue; queue: PackedDeviceQueue } {
  const ring = new RawPackedQueue(SIZE);
  return { ring, queue: ring.openDevice(options) as PackedDeviceQueue };
}

describe('what the device of a packed queue writes', () => {
  it('is a used descriptor over the first of the list: ID, length, WRITE, AVAIL and USED as its wrap counter (2.8.1)', () => {
    const { ring, queue } = open();
    ring.offer([readable(), writable(4)], 3);
    const chain = pop(queue);
    chain.writer.write(Uint8Array.of(7, 7, 7));
    queue.pushUsed(chain);
    // Address as it was (0x8000), 3 bytes written, ID 3, flags 0x8082: USED, AVAIL, WRITE.
    expect(bytes(ring, 0)).toEqual([0, 0x80, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0x82, 0x80]);
    // The rest of the list is skipped: as the driver left it (0x8040, 4 bytes, ID 3, AVAIL and WRITE).
    expect(bytes(ring, 16)).toEqual([0x40, 0x80, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0x82, 0]);
    // The next one is written behind it.
    ring.offer([readable()], 1);
    queue.pushUsed(pop(queue));
    // Nothing was written: no WRITE.
    expect(bytes(ring, 32).slice(8)).toEqual([0, 0, 0, 0, 1, 0, 0x80, 0x80]);
  });

  it('has AVAIL and USED clear in the second round, and set again in the third', () => {
    const { ring, queue } = open();
    goOn(ring, queue, SIZE);
    expect([0, 1, 2, 3, 4].map((slot) => ring.flags(slot))).toEqual(Array(5).fill(0x8080));
    goOn(ring, queue, SIZE);
    expect([0, 1, 2, 3, 4].map((slot) => ring.flags(slot))).toEqual(Array(5).fill(0));
    goOn(ring, queue, 1);
    expect([0, 1].map((slot) => ring.flags(slot))).toEqual([0x8080, 0]);
  });

  it('is in the order in which buffers are done, whatever the order in which they came', () => {
    const { ring, queue } = open();
    ring.offer([readable(1), readable(1)], 0);
    ring.offer([readable(3)], 1);
    ring.offer([readable(4)], 2);
    const [first, second, third] = [pop(queue), pop(queue), pop(queue)];
    queue.pushUsed(third);
    queue.pushUsed(first);
    queue.pushUsed(second);
    // Slot 0 by the third, of one descriptor; slot 1 by the first, of two; slot 3 by the second.
    expect([0, 1, 3].map((slot) => bytes(ring, 16 * slot)[12])).toEqual([2, 0, 1]);
    // 0x0080 in slot 2: what the driver wrote for the second buffer.
    expect([0, 1, 2, 3, 4].map((slot) => ring.flags(slot))).toEqual([0x8080, 0x8080, 0x80, 0x8080, 0]);
  });

  it('marks the first of several buffers used after the others (2.8.9)', () => {
    const { ring, queue } = open();
    ring.offer([writable()], 0);
    ring.offer([writable()], 1);
    const order: number[] = [];
    const { view } = ring;
    const window = PackedDeviceQueue.open(
      // The same memory, in which each write of flags is noted.
      new (class extends GuestMemory {
        override window(address: number | bigint, length: number): DataView | undefined {
          const inner = super.window(address, length);
          if (inner === undefined || length !== 16 * SIZE) return inner;
          const setUint16 = inner.setUint16.bind(inner);
          inner.setUint16 = (offset, value, littleEndian) => {
            if (offset % 16 === 14) order.push(offset / 16);
            setUint16(offset, value, littleEndian);
          };
          return inner;
        }
      })(new Uint8Array(view.buffer)),
      { size: SIZE, descriptorRing: 0, driverEvent: DRIVER_EVENT, deviceEvent: DEVICE_EVENT },
    );
    if (!window.ok) throw new Error(window.violation.message);
    const chains = [pop(window.queue), pop(window.queue)];
    expect(window.queue.pushUsedBatch(chains)).toBe(true);
    expect(order.map(Math.floor)).toEqual([1, 0]);
    expect(queue.inFlight).toBe(0);
  });
});

describe('a list that goes round the end of a packed ring', () => {
  it('has its descriptors marked by the counter of their round, and is used where it began', () => {
    const { ring, queue } = open();
    goOn(ring, queue, 4);
    // Slot 4 in the first round (AVAIL), slots 0 and 1 in the second (USED).
    ring.memory.write(DATA, Uint8Array.of(1, 2, 3));
    ring.offer([readable(1), { address: DATA + 1, length: 2 }, writable(2)], 2);
    expect([4, 0, 1].map((slot) => ring.flags(slot))).toEqual([0x81, 0x8001, 0x8002]);
    const chain = pop(queue);
    expect([...chain.readable]).toEqual([1, 2, 3]);
    chain.writer.write(Uint8Array.of(9, 9));
    queue.pushUsed(chain);
    expect(bytes(ring, 64).slice(8)).toEqual([2, 0, 0, 0, 2, 0, 0x82, 0x80]);
    // The device goes on behind it, in the second round.
    ring.offer([readable()], 0);
    queue.pushUsed(pop(queue));
    expect(bytes(ring, 32).slice(8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(queue.violation).toBeUndefined();
  });

  it('can be given back and popped again', () => {
    const { ring, queue } = open();
    goOn(ring, queue, 4);
    ring.offer([readable(1), readable(2)], 2);
    const chain = pop(queue);
    expect(queue.unpop(chain)).toBe(true);
    expect(pop(queue).readable.length).toBe(3);
    expect(queue.inFlight).toBe(1);
  });
});

describe('an indirect table of a packed queue', () => {
  it('is read one descriptor after the other, whatever flags but WRITE are there (2.8.7)', () => {
    const { ring, queue } = open({ indirect: true });
    ring.memory.write(DATA, Uint8Array.of(1, 2, 3));
    const odd = NEXT | INDIRECT | 0x8080;
    ring.table(0x4000, [
      { address: DATA, length: 1, flags: odd },
      { address: DATA + 1, length: 2, flags: 0 },
      { address: DATA + 64, length: 5, flags: WRITE | INDIRECT },
    ]);
    ring.offer([{ address: 0x4000, length: 48, flags: INDIRECT }], 4);
    const chain = pop(queue);
    expect([...chain.readable]).toEqual([1, 2, 3]);
    expect(chain.writer.capacity).toBe(5);
    queue.pushUsed(chain);
    // It took one descriptor of the ring.
    ring.offer([readable()], 0);
    queue.pushUsed(pop(queue));
    expect([0, 1].map((slot) => ring.flags(slot))).toEqual([0x8080, 0x8080]);
  });
});

describe('event suppression of a packed queue', () => {
  /** The driver's wish: offset, wrap counter, flags. */
  const wish = (ring: RawPackedQueue, off: number, wrap: 0 | 1, flags: number): void => {
    ring.view.setUint16(DRIVER_EVENT, off | (wrap << 15), true);
    ring.view.setUint16(DRIVER_EVENT + 2, flags, true);
  };
  const use = (ring: RawPackedQueue, queue: PackedDeviceQueue): boolean => {
    goOn(ring, queue, 1);
    return queue.shouldInterrupt();
  };

  it('follows ENABLE and DISABLE, with EVENT_IDX as without', () => {
    for (const eventIdx of [false, true]) {
      const { ring, queue } = open({ eventIdx });
      expect(queue.shouldInterrupt()).toBe(false); // nothing used yet
      expect(use(ring, queue)).toBe(true);
      expect(queue.shouldInterrupt()).toBe(false); // nothing new
      wish(ring, 0, 1, 1);
      expect(use(ring, queue)).toBe(false);
      // Fourteen reserved bits beside the flags mean nothing.
      wish(ring, 0, 1, 0xfffc | 1);
      expect(use(ring, queue)).toBe(false);
    }
  });

  it('with DESC interrupts for the descriptor at that offset in that round alone, across the end of the ring', () => {
    const { ring, queue } = open({ eventIdx: true });
    wish(ring, 1, 0, 2);
    // Slots 0 to 4 in round 1, then 0, 1 and 2 in round 0.
    const asked = Array.from({ length: 8 }, () => use(ring, queue));
    expect(asked).toEqual([false, false, false, false, false, false, true, false]);
    // Round 1 again: slots 3 and 4 of round 0 first.
    wish(ring, 0, 1, 2);
    expect(Array.from({ length: 4 }, () => use(ring, queue))).toEqual([false, false, true, false]);
  });

  it('with DESC interrupts when the descriptor is one of several that were used, or was skipped in a list', () => {
    const { ring, queue } = open({ eventIdx: true });
    wish(ring, 2, 1, 2);
    ring.offer([readable(), readable()], 0);
    ring.offer([readable(), readable()], 1);
    queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(false); // 0 and 1
    queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(true); // 2 and 3
    // 4 of this round, 0 of the next: 0 of this round was long ago, 0 of the next is among them.
    ring.offer([readable(), readable()], 0);
    wish(ring, 0, 1, 2);
    queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(false);
    ring.offer([readable(), readable(), readable(), readable()], 0);
    wish(ring, 4, 0, 2);
    queue.pushUsed(pop(queue));
    expect(queue.shouldInterrupt()).toBe(true); // 1 to 4
  });

  it('is not had by what is reserved: DESC without EVENT_IDX, 3, an offset that the ring has not', () => {
    const { ring, queue } = open();
    wish(ring, 4, 0, 2);
    expect(use(ring, queue)).toBe(true);
    const event = open({ eventIdx: true });
    wish(event.ring, 4, 0, 3);
    expect(use(event.ring, event.queue)).toBe(true);
    wish(event.ring, SIZE, 1, 2);
    expect(use(event.ring, event.queue)).toBe(true);
  });

  it('is asked for by DISABLE, and taken back by ENABLE or by the next descriptor to come', () => {
    for (const [eventIdx, on] of [
      [false, [0, 0, 0, 0]],
      // Offset 2, round 1; DESC.
      [true, [2, 0x80, 2, 0]],
    ] as const) {
      const { ring, queue } = open({ eventIdx });
      goOn(ring, queue, 2);
      queue.disableKicks();
      expect(bytes(ring, DEVICE_EVENT + 2, 2)).toEqual([1, 0]);
      expect(queue.enableKicks()).toBe(false);
      expect(bytes(ring, DEVICE_EVENT, 4)).toEqual(on);
      goOn(ring, queue, 4);
      // Offset 1, round 0: moved along with what was popped.
      expect(bytes(ring, DEVICE_EVENT, 4)).toEqual(eventIdx ? [1, 0, 2, 0] : [0, 0, 0, 0]);
      ring.offer([readable()], 0);
      expect(queue.enableKicks()).toBe(true);
    }
  });
});

describe('a hostile driver of a packed queue', () => {
  const attacks: readonly (readonly [string, DriverViolationReason, (ring: RawPackedQueue) => void])[] = [
    [
      'a buffer ID that is the queue size',
      'buffer-id-out-of-range',
      (ring) => ring.offer([readable()], SIZE),
    ],
    ['a buffer ID of 0xffff', 'buffer-id-out-of-range', (ring) => ring.offer([readable()], 0xffff)],
    [
      'a list that goes on in a descriptor that was never written',
      'list-not-available',
      (ring) => ring.descriptor(0, readable(), 0, NEXT | 0x80),
    ],
    [
      'a list that goes on in a descriptor marked for the next round',
      'list-not-available',
      (ring) => {
        ring.offer([readable(), readable()], 0);
        ring.view.setUint16(16 + 14, 0x8000, true);
      },
    ],
    [
      'a list that goes on in a used descriptor',
      'list-not-available',
      (ring) => {
        ring.offer([readable(), readable()], 0);
        ring.view.setUint16(16 + 14, 0x8080, true);
      },
    ],
    [
      'a list without end',
      'chain-too-long',
      (ring) => {
        for (let slot = 0; slot < SIZE; slot++) ring.descriptor(slot, readable(), 0, NEXT | 0x80);
      },
    ],
    [
      'INDIRECT at the end of a list of direct descriptors',
      'indirect-with-next',
      (ring) => ring.offer([readable(), { address: 0x4000, length: 16, flags: INDIRECT }], 0),
    ],
  ];
  it.each(attacks)('%s → %s', (_name, reason, attack) => {
    const { ring, queue } = open({ indirect: true });
    attack(ring);
    expect(queue.popChain()).toMatchObject({ kind: 'violation', violation: { reason } });
  });

  it('gets no more descriptors in than the ring has: what is with the device cannot be available anew', () => {
    const { ring, queue } = open();
    for (let id = 0; id < 4; id++) ring.offer([readable()], id);
    for (let id = 0; id < 4; id++) pop(queue);
    // Slot 4, then slot 0 of the next round, whose buffer the device still holds: six are one too many.
    ring.offer([readable(), readable()], 4);
    expect(queue.popChain()).toMatchObject({ violation: { reason: 'ring-overrun' } });
  });

  it('may use an ID again as soon as it came back, and not before', () => {
    const { ring, queue } = open();
    ring.offer([readable(1)], 3);
    queue.pushUsed(pop(queue));
    ring.offer([readable(2)], 3);
    expect(pop(queue).readable.length).toBe(2);
    ring.offer([readable(3)], 3);
    expect(queue.popChain()).toMatchObject({ violation: { reason: 'buffer-id-in-flight' } });
  });

  it("cannot move the device's positions by what it writes over used descriptors", () => {
    const { ring, queue } = open();
    goOn(ring, queue, 2);
    ring.memory.fill(0, 32, 0xff);
    goOn(ring, queue, 2);
    expect([2, 3].map((slot) => ring.flags(slot))).toEqual([0x8080, 0x8080]);
    expect(queue.violation).toBeUndefined();
  });

  it.each([
    ['a size of 0', { size: 0 }, 'queue-size-invalid'],
    ['a size of 2.5', { size: 2.5 }, 'queue-size-invalid'],
    ['a size of 32769', { size: 32769 }, 'queue-size-invalid'],
    ['a descriptor ring at 8', { descriptorRing: 8 }, 'queue-misaligned'],
    ['a driver event suppression at 82', { driverEvent: 82 }, 'queue-misaligned'],
    ['a device event suppression at 86', { deviceEvent: 86 }, 'queue-misaligned'],
    ['a device event suppression that ends outside', { deviceEvent: 0xfffe }, 'queue-outside-memory'],
    ['a descriptor ring near 2^64', { descriptorRing: 0xffff_ffff_ffff_fff0n }, 'queue-outside-memory'],
  ])('%s → %s', (_name, change, reason) => {
    const layout = { size: SIZE, descriptorRing: 0, driverEvent: 80, deviceEvent: 84, ...change };
    const opened = PackedDeviceQueue.open(new GuestMemory(0x10000), layout);
    expect(opened).toMatchObject({ ok: false, violation: { reason } });
  });

  it('takes a queue of 32768 entries, and of 1', () => {
    for (const size of [1, 32768]) {
      const ring = new RawPackedQueue(size, 0x100000);
      const queue = ring.openDevice();
      for (let i = 0; i < 3; i++) {
        ring.offer([{ address: 0xf0000, length: i + 1 }], 0);
        const chain = pop(queue);
        expect(chain.readable.length).toBe(i + 1);
        queue.pushUsed(chain);
      }
    }
  });
});
