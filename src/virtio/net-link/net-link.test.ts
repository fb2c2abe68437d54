import { describe, expect, it } from 'vitest';
import {
  featureSet,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../index.js';
import { splitLayoutAt } from '../split-layout.js';
import { NetLink, receiveQueueIndex, transmitQueueIndex, type NetLinkState } from './net-link.js';

const PLAIN = featureSet(VIRTIO_F_VERSION_1);
const PACKED = featureSet(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED);
const FEATURES: Readonly<Record<string, bigint>> = {
  'no optional features': PLAIN,
  'INDIRECT_DESC and EVENT_IDX': PLAIN | featureSet(VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX),
  MRG_RXBUF: PLAIN | featureSet(VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF),
  RING_PACKED: PACKED,
  'RING_PACKED, INDIRECT_DESC and EVENT_IDX': PACKED | featureSet(VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX),
  'RING_PACKED and MRG_RXBUF': PACKED | featureSet(VIRTIO_NET_F_MRG_RXBUF),
};
/** One of each queue format. */
const FORMATS: readonly (readonly [string, bigint])[] = [
  ['split', PLAIN],
  ['packed', PACKED],
];

const open = (features: bigint, sizes = { queuePairs: 2, queueSize: 8 }): NetLink<number> =>
  new NetLink<number>({ label: 'guest0.eth0', features, ...sizes });

/** A frame of `length` bytes that differs from those of other seeds. */
function frame(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (seed * 31 + index * 7) & 0xff);
}

for (const [what, features] of Object.entries(FEATURES)) {
  describe(`with ${what}`, () => {
    it('frames reach the guest on each queue, unchanged, in order, with their tags', () => {
      const link = open(features);
      for (const queue of [0, 1]) {
        link.driver.refill(queue);
        const frames = [frame(14, 1 + queue), frame(60, 2), frame(1514, 3), frame(3520, 4)];
        const received = frames.flatMap((bytes, tag) => {
          expect(link.device.deliver(queue, bytes, tag)).toBe(true);
          link.device.notify(queue);
          const taken = link.driver.receive(queue, 64);
          link.driver.refill(queue);
          return taken;
        });
        expect(received).toEqual(frames.map((bytes, tag) => ({ bytes, tag })));
      }
      expect(link.statistics.framesToGuest).toBe(8);
    });

    it('frames reach the device on each queue, unchanged, in order, with their tags', () => {
      const link = open(features);
      for (const queue of [1, 0]) {
        const frames = [14, 60, 1514, 3520].map((length) => frame(length, length + queue));
        frames.forEach((bytes, tag) => expect(link.driver.send(queue, bytes, tag)).toBe(true));
        link.driver.kick(queue);
        expect(link.device.poll(queue, 64)).toEqual(frames.map((bytes, tag) => ({ bytes, tag })));
      }
      expect(link.statistics.framesFromGuest).toBe(8);
    });

    it('the device does not see what was queued and not yet kicked', () => {
      const link = open(features);
      expect(link.driver.send(0, frame(60, 1), 1)).toBe(true);
      expect(link.device.poll(0, 64)).toEqual([]);
      link.driver.kick(0);
      expect(link.device.poll(0, 64)).toHaveLength(1);
    });

    it('both sides keep to their budgets', () => {
      const link = open(features);
      link.driver.refill(0);
      for (let i = 0; i < 5; i++) {
        expect(link.device.deliver(0, frame(60, i), i)).toBe(true);
        expect(link.driver.send(0, frame(60, i), i)).toBe(true);
      }
      link.driver.kick(0);
      expect(link.driver.receive(0, 2).map(({ tag }) => tag)).toEqual([0, 1]);
      expect(link.driver.receive(0, 64).map(({ tag }) => tag)).toEqual([2, 3, 4]);
      expect(link.device.poll(0, 2).map(({ tag }) => tag)).toEqual([0, 1]);
      expect(link.device.poll(0, 64).map(({ tag }) => tag)).toEqual([2, 3, 4]);
      expect(link.device.poll(0, 64)).toEqual([]);
    });

    it('a full queue says so, and goes on once there is room', () => {
      const link = open(features);
      expect(link.device.deliver(0, frame(60, 1), 0), 'no buffer was offered yet').toBe(false);
      link.driver.refill(0);
      let delivered = 0;
      while (link.device.deliver(0, frame(60, delivered), delivered)) delivered++;
      let sent = 0;
      while (link.driver.send(0, frame(60, sent), sent)) sent++;
      expect([delivered, sent]).toEqual([8, 8]);
      link.driver.kick(0);
      expect(link.driver.receive(0, 1000)).toHaveLength(delivered);
      expect(link.device.poll(0, 1000)).toHaveLength(sent);
      link.driver.refill(0);
      expect(link.device.deliver(0, frame(60, 9), 9)).toBe(true);
      expect(link.driver.send(0, frame(60, 9), 9)).toBe(true);
    });

    it('goes on for much longer than its queues are long', () => {
      const link = open(features, { queuePairs: 1, queueSize: 4 });
      let last: unknown;
      for (let round = 0; round < 20_000; round++) {
        link.driver.refill(0);
        if (!link.device.deliver(0, frame(64, round), round)) throw new Error(`round ${round}: no buffer`);
        link.device.notify(0);
        const [received] = link.driver.receive(0, 8);
        if (!link.driver.send(0, received!.bytes, received!.tag!)) throw new Error(`round ${round}: full`);
        link.driver.kick(0);
        [last] = link.device.poll(0, 8);
      }
      expect(last).toEqual({ bytes: frame(64, 19_999), tag: 19_999 });
      expect(link.status.violations).toBe(0);
    });

    it('works again after a reset, and has forgotten what was outstanding', () => {
      const link = open(features);
      link.driver.send(0, frame(60, 1), 1);
      link.driver.kick(0);
      link.reset();
      expect(link.device.poll(0, 8)).toEqual([]);
      link.driver.refill(0);
      expect(link.device.deliver(0, frame(60, 2), 2)).toBe(true);
      expect(link.driver.receive(0, 8)).toEqual([{ bytes: frame(60, 2), tag: 2 }]);
      link.driver.send(0, frame(60, 3), 3);
      link.driver.kick(0);
      expect(link.device.poll(0, 8)).toEqual([{ bytes: frame(60, 3), tag: 3 }]);
    });

    it('goes on elsewhere from plain data and a copy of the memory, with frames under way on both sides', () => {
      const link = open(features);
      // Long enough that indices are somewhere, and buffers not in their first order.
      for (let round = 0; round < 13; round++) {
        link.driver.refill(0);
        link.device.deliver(0, frame(200, round), round);
        link.driver.receive(0, 8);
        link.driver.send(0, frame(60, round), round);
        link.driver.kick(0);
        link.device.poll(0, 8);
      }
      link.driver.refill(0);
      for (let i = 0; i < 3; i++) link.device.deliver(0, frame(1514, 100 + i), 100 + i);
      for (let i = 0; i < 4; i++) link.driver.send(1, frame(300, 200 + i), 200 + i);
      link.driver.kick(1);
      link.device.poll(1, 1);
      link.driver.send(1, frame(301, 299), 299);

      const text = JSON.stringify(link.save());
      const memory = link.memory.read(link.memory.base, link.memory.size)!;
      const options = { label: 'elsewhere', features, queuePairs: 2, queueSize: 8 };
      const moved = new NetLink<number>(options, { state: JSON.parse(text) as NetLinkState<number>, memory });

      const goOn = (on: NetLink<number>): unknown => {
        on.driver.kick(1);
        const seen = [on.driver.receive(0, 64), on.device.poll(1, 64)];
        for (let round = 0; round < 40; round++) {
          on.driver.refill(0);
          on.device.deliver(0, frame(90, round), round);
          on.device.notify(0);
          on.driver.send(0, frame(91, round), round);
          on.driver.kick(0);
          seen.push(on.driver.receive(0, 64), on.device.poll(0, 64));
        }
        return seen;
      };
      const before = { ...link.statistics };
      const expected = goOn(link);
      expect(goOn(moved)).toEqual(expected);
      // Notifications go on as well: what was suppressed stays so.
      const since = Object.entries(link.statistics).map(([key, count]) => [
        key,
        count - before[key as keyof typeof before],
      ]);
      expect(Object.entries(moved.statistics)).toEqual(since);
    });
  });
}

describe.each(FORMATS)('notifications of %s queues', (_format, base) => {
  for (const eventIdx of [false, true]) {
    it(`are suppressed while the other side is at work (${eventIdx ? 'event index' : 'flags'})`, () => {
      const link = open(base | (eventIdx ? featureSet(VIRTIO_F_EVENT_IDX) : 0n));
      const told: string[] = [];
      link.onKick(receiveQueueIndex(0), () => told.push('kick for receiveq1'));
      link.onKick(transmitQueueIndex(0), () => told.push('kick for transmitq1'));
      link.onInterrupt(receiveQueueIndex(0), () => told.push('interrupt for receiveq1'));
      link.onInterrupt(receiveQueueIndex(1), () => told.push('another queue'));
      link.driver.refill(0);
      link.driver.kick(0);
      expect(link.statistics).toMatchObject({ kicks: 1, suppressedNotifications: 0 });
      link.device.deliver(0, new Uint8Array(60), 0);
      link.device.deliver(0, new Uint8Array(60), 0);
      expect(link.device.notify(0)).toBe(true);
      expect(link.device.notify(0), 'there is nothing new').toBe(false);
      expect(link.driver.receive(0, 1)).toHaveLength(1);
      // The driver's budget ended: it polls, and does not want to be told.
      link.device.deliver(0, new Uint8Array(60), 0);
      expect(link.device.notify(0)).toBe(false);
      expect(link.driver.receive(0, 8)).toHaveLength(2);
      link.device.deliver(0, new Uint8Array(60), 0);
      expect(link.device.notify(0)).toBe(true);
      expect(link.statistics.interrupts).toBe(2);

      link.driver.send(0, new Uint8Array(60), 0);
      link.driver.kick(0);
      // The device's budget ended as well.
      expect(link.device.poll(0, 1)).toHaveLength(1);
      link.driver.send(0, new Uint8Array(60), 0);
      link.driver.kick(0);
      expect(told).toEqual([
        'kick for receiveq1',
        'interrupt for receiveq1',
        'interrupt for receiveq1',
        'kick for transmitq1',
      ]);
    });
  }
});

describe.each(FORMATS)('merged receive buffers of %s queues', (_format, base) => {
  it('are all or none: a frame for which there is no room leaves the buffers for the next one', () => {
    const link = open(base | featureSet(VIRTIO_NET_F_MRG_RXBUF));
    link.driver.refill(0);
    const large = new Uint8Array(3520).fill(1);
    const small = new Uint8Array(60).fill(2);
    // Eight buffers of 2048 bytes: three times two, then one.
    [large, large, large, small].forEach((bytes, tag) => {
      expect(link.device.deliver(0, bytes, tag)).toBe(true);
    });
    expect(link.device.deliver(0, large, 4)).toBe(false);
    expect(link.device.deliver(0, small, 5)).toBe(true);
    expect(link.device.deliver(0, small, 6)).toBe(false);
    const received = link.driver.receive(0, 64);
    expect(received.map(({ bytes }) => bytes)).toEqual([large, large, large, small, small]);
    expect(received.map(({ tag }) => tag)).toEqual([0, 1, 2, 3, 5]);
  });
});

describe.each(FORMATS)('frames of more than a page in %s queues', (_format, base) => {
  const MERGEABLE = base | featureSet(VIRTIO_NET_F_MRG_RXBUF);

  it('reach the guest in as many merged buffers as they take', () => {
    const link = open(MERGEABLE, { queuePairs: 1, queueSize: 64 });
    link.driver.refill(0);
    expect(link.device.deliver(0, frame(73_729, 1), 0)).toBe(false);
    // 64 buffers of 2048 bytes, the first of which begins with the net header: 37 for the first frame, 5 for the second.
    const frames = [frame(73_728, 1), frame(9000, 2)];
    frames.forEach((bytes, tag) => expect(link.device.deliver(0, bytes, tag)).toBe(true));
    expect(link.device.deliver(0, frame(22 * 2048, 3), 2)).toBe(false);
    const received = link.driver.receive(0, 64);
    expect(received.map(({ tag }) => tag)).toEqual([0, 1]);
    received.forEach(({ bytes }, index) => expect(Buffer.compare(bytes, frames[index]!)).toBe(0));
  });

  it('reach the device, as many as there is memory for', () => {
    const link = open(MERGEABLE, { queuePairs: 1, queueSize: 8 });
    const long = frame(9000, 3);
    let sent = 0;
    while (sent < 8 && link.driver.send(0, long, sent)) sent++;
    expect(sent).toBeGreaterThan(1);
    expect(sent).toBeLessThan(8);
    link.driver.kick(0);
    const polled = link.device.poll(0, 64);
    expect(polled).toHaveLength(sent);
    for (const { bytes } of polled) expect(Buffer.compare(bytes, long)).toBe(0);
    // What was taken gives its memory back.
    expect(link.driver.send(0, long, 9)).toBe(true);
    expect(link.status.isDown).toBe(false);
  });
});

describe('opening', () => {
  it('refuses a queue size that is no power of two, unless queues are packed', () => {
    const sizes = { queuePairs: 1, queueSize: 12 };
    expect(() => open(PLAIN, sizes)).toThrow(expect.objectContaining({ code: 'virtio-violation' }));
    const link = open(PACKED, sizes);
    let sent = 0;
    while (link.driver.send(0, frame(60, sent), sent)) sent++;
    expect(sent).toBe(12);
    expect(() => open(PACKED, { queuePairs: 1, queueSize: 32769 })).toThrow(
      expect.objectContaining({ code: 'virtio-violation' }),
    );
  });

  it('refuses frames that the link cannot carry', () => {
    const link = open(PLAIN);
    expect(() => link.driver.send(0, new Uint8Array(0), 0)).toThrow('a frame of 0 bytes');
    expect(() => link.driver.send(0, new Uint8Array(73_729), 0)).toThrow('a frame of 73729 bytes');
    link.driver.refill(0);
    expect(link.device.deliver(0, new Uint8Array(4097), 0)).toBe(false);
    expect(link.device.deliver(0, new Uint8Array(4096), 0)).toBe(true);
  });

  it('is down for good once it is closed', () => {
    const link = open(PLAIN);
    link.close();
    link.reset();
    expect(link.device.deliver(0, frame(60, 1), 1)).toBe(false);
    expect(link.driver.receive(0, 8)).toEqual([]);
  });

  it('tells how many frames it lost when it went down, each once', () => {
    const lost: number[] = [];
    const link = open(PLAIN);
    link.onLost((frames) => lost.push(frames));
    link.driver.refill(0);
    for (let i = 0; i < 3; i++) link.device.deliver(0, frame(60, i), i);
    expect(link.driver.receive(0, 1)).toHaveLength(1);
    for (let i = 0; i < 5; i++) link.driver.send(1, frame(60, i), i);
    link.driver.kick(1);
    expect(link.device.poll(1, 1)).toHaveLength(1);
    link.status.violate('a test');
    expect(lost).toEqual([2 + 4]);
    link.reset();
    link.driver.send(0, frame(60, 1), 1);
    link.close();
    expect(lost).toEqual([6, 1]);
  });

  it.each(FORMATS)(
    'counts a frame as lost that breaks a link of %s queues in being received',
    (format, base) => {
      const lost: number[] = [];
      const link = open(base | featureSet(VIRTIO_NET_F_MRG_RXBUF));
      link.onLost((frames) => lost.push(frames));
      link.driver.refill(0);
      link.device.deliver(0, frame(60, 1), 1);
      // num_buffers of the header: more than were used.
      const { descriptorTable, usedRing } = splitLayoutAt(link.layout.receive[0]!, 8);
      // Packed, the used descriptor lies over the available one, whose address is still there.
      const id =
        format === 'packed'
          ? 0
          : new DataView(link.memory.read(Number(usedRing) + 4, 4)!.buffer).getUint32(0, true);
      const descriptor = new DataView(link.memory.read(Number(descriptorTable) + 16 * id, 16)!.buffer);
      link.memory.write(Number(descriptor.getBigUint64(0, true)) + 10, Uint8Array.of(2, 0));
      expect(link.driver.receive(0, 8)).toEqual([]);
      expect(link.status.violations).toBe(1);
      expect(lost).toEqual([1]);
    },
  );

  it.each(FORMATS)(
    'refuses saved state of %s queues that is none, whichever field is wrong',
    (_format, features) => {
      const options = { label: 'g', features, queuePairs: 1, queueSize: 8 };
      const link = new NetLink<number>(options);
      link.driver.refill(0);
      link.device.deliver(0, frame(60, 1), 1);
      link.driver.send(0, frame(60, 2), 2);
      link.driver.kick(0);
      const memory = link.memory.read(link.memory.base, link.memory.size)!;
      const text = JSON.stringify(link.save());
      const reopen = (state: unknown): NetLink<number> =>
        new NetLink<number>(options, { state: state as NetLinkState<number>, memory });
      expect(() => reopen(JSON.parse(text))).not.toThrow();
      expect(() => new NetLink<number>(options, { state: link.save(), memory: memory.subarray(1) })).toThrow(
        'are not the',
      );

      /** Every number in it, replaced by one that no queue of 8 entries can have. */
      const places: (readonly (string | number)[])[] = [];
      const visit = (value: unknown, path: readonly (string | number)[]): void => {
        if (typeof value === 'number') places.push(path);
        else if (Array.isArray(value)) value.forEach((item, index) => visit(item, [...path, index]));
        else if (typeof value === 'object' && value !== null) {
          for (const [key, item] of Object.entries(value)) visit(item, [...path, key]);
        }
      };
      visit(JSON.parse(text), []);
      expect(places.length).toBeGreaterThan(50);
      for (const path of places) {
        // A tag is the user's, and means nothing here.
        if (path.includes('tags')) continue;
        const state = JSON.parse(text) as Record<string | number, unknown>;
        let at = state;
        for (const step of path.slice(0, -1)) at = at[step] as Record<string | number, unknown>;
        at[path.at(-1)!] = -1;
        expect(() => reopen(state), path.join('.')).toThrow(
          expect.objectContaining({ code: 'virtio-violation' }),
        );
      }
    },
  );
});
