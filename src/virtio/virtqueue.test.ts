import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CopyingDriver } from './copying-driver.js';
import type { DescriptorChain } from './descriptor-chain.js';
import { GuestAllocator, GuestMemory } from './guest-memory.js';
import { PACKED_QUEUE, SPLIT_QUEUE, type QueueFormat } from './queue-format.js';
import { crossedEvent } from './split-layout.js';
import type { DeviceQueue } from './virtqueue.js';

interface Pair {
  readonly driver: CopyingDriver;
  readonly device: DeviceQueue;
  readonly buffers: GuestAllocator;
}

const BASE = 0x1_0000_0000; // above 32 bits, as a guest with 4 GiB has it

function pairOf(format: QueueFormat, size: number, eventIdx: boolean): Pair {
  const ringBytes = Math.ceil(format.bytes(size) / 16) * 16;
  const memory = new GuestMemory(ringBytes + 0x10000, BASE);
  const buffers = new GuestAllocator(memory, { address: BASE + ringBytes, length: 0x10000 }, 16);
  const queue = format.openDriver(memory, BASE, size, { eventIdx, indirectTables: buffers });
  const opened = format.openDevice(memory, BASE, size, { eventIdx, indirect: true });
  if (!opened.ok) throw new Error(opened.violation.message);
  return { driver: new CopyingDriver(memory, queue, buffers), device: opened.queue, buffers };
}

/** Sizes that each format takes, and how many buffers go through before: near the end of what split indices count. */
const FORMATS = [
  { format: SPLIT_QUEUE, sizes: [1, 2, 8, 32], start: { min: 65500, max: 65536 } },
  { format: PACKED_QUEUE, sizes: [1, 2, 3, 7, 8, 31], start: { min: 0, max: 64 } },
] as const;

/** Sends `count` one-byte buffers through, a queueful at a time, so that the indices come near their wrap. */
function advance({ driver: { queue }, device }: Pair, count: number): void {
  const request = { readable: [{ address: BASE, length: 1 }] };
  for (let left = count; left > 0;) {
    const batch = Math.min(left, device.size);
    for (let i = 0; i < batch; i++) queue.addBuffer(request);
    queue.publish();
    queue.shouldKick();
    for (let i = 0; i < batch; i++) {
      const popped = device.popChain();
      if (popped.kind !== 'chain') throw new Error(popped.kind);
      device.pushUsed(popped.chain);
    }
    device.shouldInterrupt();
    for (let i = 0; i < batch; i++) {
      if (queue.getUsed().kind !== 'used') throw new Error('not used');
    }
    left -= batch;
  }
}

type Step =
  | { kind: 'submit'; parts: Uint8Array[]; room: number[]; indirect: boolean }
  | { kind: 'publish' }
  | { kind: 'pop' }
  | { kind: 'push'; which: number; reply: number }
  | { kind: 'collect' }
  | { kind: 'kicks'; on: boolean }
  | { kind: 'interrupts'; on: boolean };

const part = fc.uint8Array({ minLength: 1, maxLength: 40 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({
        kind: fc.constant('submit' as const),
        parts: fc.array(part, { maxLength: 3 }),
        room: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 2 }),
        indirect: fc.boolean(),
      })
      .filter(({ parts, room }) => parts.length + room.length > 0),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('publish' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('pop' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('push' as const), which: fc.nat(7), reply: fc.nat(80) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('collect' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('kicks' as const), on: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('interrupts' as const), on: fc.boolean() }) },
);

describe.each(FORMATS)('driver and device of a $format.name queue', ({ format, sizes, start: begin }) => {
  it('exchange every byte, out of order and across the wrap of all indices', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...sizes),
        fc.boolean(),
        fc.integer(begin),
        fc.array(step, { minLength: 60, maxLength: 200 }),
        (size, eventIdx, start, steps) => {
          const pair = pairOf(format, size, eventIdx);
          const { driver, device, buffers } = pair;
          advance(pair, start);

          const sent = new Map<number, { bytes: number[]; room: number }>();
          const unpublished: number[] = [];
          const inAvail: number[] = [];
          const held: DescriptorChain[] = [];
          const inUsed: { token: number; reply: number[] }[] = [];
          for (const action of steps) {
            switch (action.kind) {
              case 'submit': {
                const descriptors = action.indirect ? 1 : action.parts.length + action.room.length;
                if (action.parts.length + action.room.length > size) break; // a rule for drivers, tested elsewhere
                const free = driver.queue.freeDescriptors;
                const result = driver.submit({
                  readable: action.parts,
                  writable: action.room,
                  indirect: action.indirect,
                });
                expect(result.kind).toBe(free >= descriptors ? 'added' : 'full');
                if (result.kind !== 'added') break;
                expect(sent.has(result.token)).toBe(false);
                sent.set(result.token, {
                  bytes: action.parts.flatMap((bytes) => [...bytes]),
                  room: action.room.reduce((total, length) => total + length, 0),
                });
                unpublished.push(result.token);
                break;
              }
              case 'publish':
                driver.publish();
                inAvail.push(...unpublished.splice(0));
                break;
              case 'pop': {
                const popped = device.popChain();
                const expected = inAvail.shift();
                if (expected === undefined) {
                  expect(popped).toEqual({ kind: 'empty' });
                  break;
                }
                if (popped.kind !== 'chain') throw new Error(JSON.stringify(popped));
                expect(popped.chain.head).toBe(expected);
                expect([...popped.chain.readable]).toEqual(sent.get(expected)!.bytes);
                expect(popped.chain.writer.capacity).toBe(sent.get(expected)!.room);
                held.push(popped.chain);
                break;
              }
              case 'push': {
                const [chain] = held.splice(action.which % Math.max(1, held.length), 1);
                if (chain === undefined) break;
                const reply = Array.from(
                  { length: Math.min(action.reply, chain.writer.capacity) },
                  (_, i) => (chain.head + i) & 0xff,
                );
                expect(chain.writer.write(Uint8Array.from(reply))).toBe(true);
                expect(device.pushUsed(chain)).toBe(true);
                inUsed.push({ token: chain.head, reply });
                break;
              }
              case 'collect': {
                const collected = driver.collect();
                const expected = inUsed.shift();
                if (expected === undefined) {
                  expect(collected).toEqual({ kind: 'empty' });
                  break;
                }
                if (collected.kind !== 'used') throw new Error(JSON.stringify(collected));
                expect(collected.token).toBe(expected.token);
                expect([...collected.response]).toEqual(expected.reply);
                sent.delete(expected.token);
                break;
              }
              case 'kicks':
                if (action.on) expect(device.enableKicks()).toBe(inAvail.length > 0);
                else device.disableKicks();
                break;
              case 'interrupts':
                if (action.on) expect(driver.queue.enableInterrupts()).toBe(inUsed.length > 0);
                else driver.queue.disableInterrupts();
                break;
            }
            expect(device.inFlight).toBe(held.length);
          }

          // Drain: nothing may be left behind, neither descriptors nor guest memory.
          driver.publish();
          for (let popped = device.popChain(); popped.kind === 'chain'; popped = device.popChain()) {
            held.push(popped.chain);
          }
          expect(device.pushUsedBatch(held)).toBe(true);
          while (driver.collect().kind === 'used');
          expect(driver.queue.freeDescriptors).toBe(size);
          expect(buffers.allocatedBytes).toBe(0);
          expect(device.violation).toBeUndefined();
          expect(driver.queue.violation).toBeUndefined();
        },
      ),
      { numRuns: 25, seed: 20191126 },
    );
  });

  it.each([false, true])('never lose a wake-up while both sleep when idle (EVENT_IDX %s)', (eventIdx) => {
    fc.assert(
      fc.property(
        fc.constantFrom(...sizes),
        fc.integer(begin),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.boolean(), fc.boolean()), {
          minLength: 20,
          maxLength: 60,
        }),
        (size, start, bursts) => {
          const pair = pairOf(format, size, eventIdx);
          const { driver, device } = pair;
          advance(pair, start);
          device.enableKicks();
          driver.queue.enableInterrupts();
          let left = 0;
          let returned = 0;
          let deviceAwake = false;
          let driverAwake = false;
          const runDevice = (suppress: boolean): void => {
            if (suppress) device.disableKicks();
            do {
              for (let popped = device.popChain(); popped.kind === 'chain'; popped = device.popChain()) {
                device.pushUsed(popped.chain);
                if (device.shouldInterrupt()) driverAwake = true;
              }
            } while (device.enableKicks());
            deviceAwake = false;
          };
          const runDriver = (suppress: boolean): void => {
            if (suppress) driver.queue.disableInterrupts();
            do {
              while (driver.collect().kind === 'used') returned += 1;
            } while (driver.queue.enableInterrupts());
            driverAwake = false;
          };
          let total = 0;
          for (const [count, quietDevice, quietDriver] of bursts) {
            left = count;
            total += count;
            while (left > 0) {
              while (left > 0 && driver.submit({ readable: [Uint8Array.of(1)] }).kind === 'added') left -= 1;
              if (driver.publish()) deviceAwake = true;
              // Asleep on both sides with work to do would be a lost notification.
              expect(deviceAwake).toBe(true);
              runDevice(quietDevice);
              expect(driverAwake).toBe(true);
              runDriver(quietDriver);
            }
          }
          expect(returned).toBe(total);
        },
      ),
      { numRuns: 15, seed: 20191126 },
    );
  });

  it.each([false, true])('stay quiet while suppressed (EVENT_IDX %s)', (eventIdx) => {
    const pair = pairOf(format, 16, eventIdx);
    const { driver, device } = pair;
    device.disableKicks();
    driver.queue.disableInterrupts();
    let notifications = 0;
    for (let i = 0; i < 70_000; i++) {
      driver.submit({ readable: [Uint8Array.of(1)] });
      if (driver.publish()) notifications += 1;
      const popped = device.popChain();
      if (popped.kind !== 'chain') throw new Error(popped.kind);
      device.pushUsed(popped.chain);
      if (device.shouldInterrupt()) notifications += 1;
      driver.collect();
    }
    expect(notifications).toBe(0);
  });
});

describe('crossedEvent', () => {
  it('is membership of the event index in the last entries, modulo 2^16', () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(0xffff), fc.nat(300), (event, idx, count) => {
        const last = Array.from({ length: count }, (_, i) => (idx - 1 - i) & 0xffff);
        expect(crossedEvent(event, idx, count)).toBe(last.includes(event));
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(5), fc.integer({ min: 1, max: 5 }), (event, behind, count) => {
        expect(crossedEvent(event, (event + 1 + behind) & 0xffff, count)).toBe(behind < count);
      }),
    );
    expect(crossedEvent(7, 7, 0x10000)).toBe(true);
    expect(crossedEvent(7, 7, 0xffff)).toBe(false);
  });

  it('agrees with the example of virtio 1.3, 2.7.7.2: used_event 0 is the 1st and the 65537th buffer', () => {
    expect(crossedEvent(0, 1, 1)).toBe(true);
    expect(crossedEvent(0, 2, 1)).toBe(false);
    expect(crossedEvent(0, 0, 1)).toBe(false); // the 65536th has index 65535
    expect(crossedEvent(0, 65537 & 0xffff, 1)).toBe(true);
  });
});
