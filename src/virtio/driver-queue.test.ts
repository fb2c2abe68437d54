import { describe, expect, it } from 'vitest';
import { CopyingDriver } from './copying-driver.js';
import { GuestAllocator } from './guest-memory.js';
import { RAW_QUEUES } from './testing-raw-queue.js';
import type { DriverQueue } from './virtqueue.js';

const SIZE = 4;

/** A buffer of two descriptors. */
function added(queue: DriverQueue, writable = 8): number {
  const result = queue.addBuffer({
    readable: [{ address: 0x1000, length: 4 }],
    writable: [{ address: 0x2000, length: writable }],
  });
  if (result.kind !== 'added') throw new Error(result.kind);
  return result.token;
}

describe.each(RAW_QUEUES)('the driver of a %s queue', (_name, make) => {
  const open = () => make(SIZE, 0x4000);

  it('is full when the descriptors are, and free again after use', () => {
    const ring = open();
    const queue = ring.openDriver();
    const first = added(queue);
    const second = added(queue);
    expect(second).not.toBe(first);
    expect(queue.addBuffer({ readable: [{ address: 0x1000, length: 1 }] })).toEqual({ kind: 'full' });
    queue.publish();
    ring.use(second, 0, 2);
    expect(queue.getUsed()).toEqual({ kind: 'used', token: second, written: 0 });
    expect(queue.freeDescriptors).toBe(2);
    expect(added(queue)).toBe(second);
  });

  it.each([
    ['no parts', {}],
    ['an empty part', { readable: [{ address: 0x1000, length: 0 }] }],
    ['a part outside memory', { writable: [{ address: 0x3fff, length: 2 }] }],
    ['more parts than entries', { readable: new Array(5).fill({ address: 0x1000, length: 1 }) }],
    ['an indirect table that is not negotiated', { readable: [{ address: 0, length: 1 }], indirect: true }],
  ])('refuses a request for %s', (_what, request) => {
    expect(() => open().openDriver().addBuffer(request)).toThrow(
      expect.objectContaining({ code: 'virtio-violation' }),
    );
  });

  it.each([false, true])(
    'takes one part without a request, writable %s, as it takes it with one',
    (writable) => {
      const part = { address: 0x2000, length: 12 };
      const [asPart, asRequest] = [open(), open()].map((ring) => ({ ring, queue: ring.openDriver() }));
      for (let round = 0; round < SIZE; round++) {
        const one = asPart!.queue.addPart(part, writable);
        expect(one.kind).toBe('added');
        const request = writable ? { writable: [part] } : { readable: [part] };
        expect(asRequest!.queue.addBuffer(request)).toEqual(one);
      }
      expect(asPart!.queue.addPart(part, writable)).toEqual({ kind: 'full' });
      for (const { queue } of [asPart!, asRequest!]) queue.publish();
      const bytes = ({ ring }: NonNullable<typeof asPart>) => ring.memory.read(0, ring.memory.size);
      expect(bytes(asPart!)).toEqual(bytes(asRequest!));
      expect(asPart!.queue.save()).toEqual(asRequest!.queue.save());
    },
  );

  it.each([
    ['an empty part', { address: 0x1000, length: 0 }],
    ['a part outside memory', { address: 0x3fff, length: 2 }],
  ])('refuses %s without a request', (_what, part) => {
    expect(() => open().openDriver().addPart(part, false)).toThrow(
      expect.objectContaining({ code: 'virtio-violation' }),
    );
  });

  it('says when used buffers came in before interrupts were enabled', () => {
    const ring = open();
    const queue = ring.openDriver();
    const token = added(queue);
    queue.publish();
    queue.disableInterrupts();
    ring.use(token, 0, 2);
    expect(queue.enableInterrupts()).toBe(true);
  });

  it.each([
    ['an id that is the queue size', 'used-id-out-of-range', SIZE, 0],
    ['an id of 0xffff', 'used-id-out-of-range', 0xffff, 0],
    ['an id that names no buffer', 'used-id-not-outstanding', 3, 0],
    ['an id that was added but not published', 'used-id-not-outstanding', undefined, 0],
    ['more bytes than are writable', 'used-len-over-writable', 0, 9],
  ])('does not believe a device that returns %s → %s', (_what, reason, id, len) => {
    const ring = open();
    const queue = ring.openDriver();
    expect(added(queue)).toBe(0);
    queue.publish();
    const unpublished = added(queue);
    ring.use(id ?? unpublished, len, 2);
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

  it('does not believe a device that returns a buffer twice → used-id-not-outstanding', () => {
    const ring = open();
    const queue = ring.openDriver();
    const token = added(queue);
    added(queue);
    queue.publish();
    ring.use(token, 0, 2);
    expect(queue.getUsed().kind).toBe('used');
    ring.use(token, 0, 2);
    expect(queue.getUsed()).toMatchObject({ violation: { reason: 'used-id-not-outstanding' } });
  });

  it('keeps its own record of what is free, whatever is in the descriptors', () => {
    const ring = open();
    const queue = ring.openDriver();
    const token = added(queue);
    queue.publish();
    ring.memory.fill(0, 64, 0xff);
    ring.use(token, 8, 2);
    expect(queue.getUsed().kind).toBe('used');
    expect(queue.freeDescriptors).toBe(SIZE);
    expect([added(queue), added(queue)].every((head) => head < SIZE)).toBe(true);
  });

  describe('under CopyingDriver', () => {
    it('recycles buffers, and copies only what was written', () => {
      const ring = open();
      const buffers = new GuestAllocator(ring.memory, { address: 0x1000, length: 0x1000 });
      const queue = ring.openDriver();
      const device = ring.openDevice();
      const driver = new CopyingDriver(ring.memory, queue, buffers);
      for (let round = 0; round < 20; round++) {
        const result = driver.submit({ readable: [Uint8Array.of(round)], writable: [4, 4] });
        if (result.kind !== 'added') throw new Error(result.kind);
        driver.publish();
        const popped = device.popChain();
        if (popped.kind !== 'chain') throw new Error(popped.kind);
        expect([...popped.chain.readable]).toEqual([round]);
        popped.chain.writer.write(Uint8Array.of(1, 2, 3));
        device.pushUsed(popped.chain);
        expect(driver.collect()).toMatchObject({
          kind: 'used',
          token: result.token,
          response: Uint8Array.of(1, 2, 3),
        });
      }
      expect(buffers.allocatedBytes).toBe(0);
    });

    it('is full when guest memory is, and leaks nothing then', () => {
      const ring = open();
      const buffers = new GuestAllocator(ring.memory, { address: 0x1000, length: 128 });
      const driver = new CopyingDriver(ring.memory, ring.openDriver(), buffers);
      expect(driver.submit({ readable: [new Uint8Array(64)], writable: [65] })).toEqual({ kind: 'full' });
      expect(buffers.allocatedBytes).toBe(0);
      expect(() => driver.submit({ readable: [] })).toThrow('a buffer has no parts');
      expect(driver.submit({ readable: [new Uint8Array(64)], writable: [64] }).kind).toBe('added');
      driver.releaseAll();
      expect(buffers.allocatedBytes).toBe(0);
    });
  });
});
