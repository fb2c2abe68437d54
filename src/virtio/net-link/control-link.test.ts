import { describe, expect, it } from 'vitest';
import {
  featureSet,
  SPLIT_QUEUE,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  type QueueFormat,
} from '../index.js';
import { ControlLink } from './control-link.js';

describe.each([
  ['split', featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ)],
  ['packed', featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_F_RING_PACKED)],
])('ControlLink over a %s queue', (_format, FEATURES) => {
  it('has no control queue unless it was negotiated', async () => {
    const link = new ControlLink({ label: 'g', features: featureSet(VIRTIO_F_VERSION_1) });
    await expect(link.send([Uint8Array.of(0, 0)], 1)).rejects.toThrow('VIRTIO_NET_F_CTRL_VQ');
  });

  it('keeps commands until somebody serves, and while nobody does any more', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES });
    const early = link.send([Uint8Array.of(1)], 1);
    const stop = link.serve((request) => Uint8Array.of(request[0]! + 1));
    expect(await early).toEqual(Uint8Array.of(2));
    stop();
    const late = link.send([Uint8Array.of(5)], 1);
    let answered = false;
    void late.then(() => (answered = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(answered).toBe(false);
    link.serve((request) => Uint8Array.of(request[0]! * 2));
    expect(await late).toEqual(Uint8Array.of(10));
  });

  it('has an answer that needs no waiting in the queue when the kick returns', () => {
    const link = new ControlLink({ label: 'g', features: FEATURES });
    link.serve((_request, room) => new Uint8Array(room));
    void link.send([Uint8Array.of(0, 0)], 1);
    expect(link.statistics).toMatchObject({ commands: 1, kicks: 1, interrupts: 1 });
  });

  it('does not answer a command of before a reset, however late the device is done with it', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES, now: () => 0 });
    let finish = (_response: Uint8Array): void => {};
    link.serve(() => new Promise((resolve) => (finish = resolve)));
    const old = link.send([Uint8Array.of(0, 0)], 1);
    const queued = link.send([Uint8Array.of(0, 1)], 1);
    const finishOld = finish;
    link.reset();
    await expect(old).rejects.toThrow('the link was reset');
    await expect(queued).rejects.toThrow('the link was reset');
    const fresh = link.send([Uint8Array.of(0, 2)], 1);
    finishOld(Uint8Array.of(7));
    finish(Uint8Array.of(9));
    expect(await fresh).toEqual(Uint8Array.of(9));
    expect(link.status.violations).toBe(0);
  });

  it('survives a handler that resets it', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES });
    let resets = 0;
    link.serve((_request, room) => {
      if (resets++ === 0) link.reset();
      return new Uint8Array(room);
    });
    await expect(link.send([Uint8Array.of(0, 0)], 1)).rejects.toThrow('the link was reset');
    expect(await link.send([Uint8Array.of(0, 0)], 1)).toEqual(Uint8Array.of(0));
  });

  it('breaks when the device answers more than there is room for', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES });
    link.serve(() => new Uint8Array(9));
    await expect(link.send([Uint8Array.of(0, 0)], 1)).rejects.toThrow('the device answered 9 bytes into 1');
    expect(link.status.violations).toBe(1);
  });

  it('leaves what waits behind a slow command to the next who serves, and blames nobody', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES });
    let finish = (_response: Uint8Array): void => {};
    const stop = link.serve(() => new Promise((resolve) => (finish = resolve)));
    const first = link.send([Uint8Array.of(1)], 1);
    const second = link.send([Uint8Array.of(2)], 1);
    stop();
    finish(Uint8Array.of(10));
    expect(await first).toEqual(Uint8Array.of(10));
    expect(link.status).toMatchObject({ violations: 0, isDown: false });
    link.serve((request) => Uint8Array.of(request[0]! * 10));
    expect(await second).toEqual(Uint8Array.of(20));
  });

  it('refuses a command that no queue can hold, also when its turn comes later', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES, queueSize: 4, now: () => 0 });
    let finish = (_response: Uint8Array): void => {};
    link.serve(() => new Promise((resolve) => (finish = resolve)));
    const first = link.send([Uint8Array.of(1)], 1);
    const five = Array.from({ length: 5 }, () => Uint8Array.of(1));
    const impossible = Promise.allSettled([link.send([], 0), link.send(five, 1)]);
    const last = link.send([Uint8Array.of(3)], 1);
    finish(Uint8Array.of(10));
    expect(await first).toEqual(Uint8Array.of(10));
    const refused = { status: 'rejected', reason: { code: 'virtio-violation' } };
    expect(await impossible).toMatchObject([refused, refused]);
    finish(Uint8Array.of(30));
    expect(await last).toEqual(Uint8Array.of(30));
  });

  it.each([
    ['at once', (room: number) => new Uint8Array(room)],
    ['in a microtask', async (room: number) => new Uint8Array(room)],
  ])(
    'gives others their turn after a queue of commands, of a guest that always has one more: answered %s',
    async (_when, answer) => {
      const link = new ControlLink({ label: 'g', features: FEATURES, queueSize: 16, now: () => 0 });
      let commands = 0;
      const more = (): void => void link.send([Uint8Array.of(0, 0)], 1).catch(() => {});
      const stop = link.serve((_request, room) => {
        if (++commands > 1000) throw new Error('nobody else got a turn');
        more();
        return answer(room);
      });
      more();
      for (let turn = 1; turn <= 4; turn++) {
        await new Promise((resolve) => setImmediate(resolve));
        expect(commands).toBeGreaterThan(0);
        expect(commands).toBeLessThanOrEqual(16 * (turn + 1));
      }
      expect(commands).toBeGreaterThan(32);
      stop();
      expect(link.status).toMatchObject({ violations: 0, isDown: false });
    },
  );

  /** How many of `count` commands were carried out by the end of each turn, of a kick that brings all of them. */
  async function turns(count: number, bytes: number, now: () => number, work: () => void): Promise<number[]> {
    const link = new ControlLink({ label: 'g', features: FEATURES, now });
    let carriedOut = 0;
    for (let n = 0; n < count; n++) void link.send([new Uint8Array(bytes)], bytes).catch(() => {});
    link.serve((request) => {
      carriedOut++;
      work();
      return request;
    });
    const seen = [carriedOut];
    while (carriedOut < count) {
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(carriedOut);
    }
    return seen;
  }

  it('gives others their turn after 2 ms of work', async () => {
    let now = 0;
    expect(
      await turns(
        9,
        1,
        () => now,
        () => void (now += 1),
      ),
    ).toEqual([2, 4, 6, 8, 9]);
  });

  it('gives others their turn after 256 KiB of commands and answers', async () => {
    expect(
      await turns(
        5,
        64 * 1024,
        () => 0,
        () => {},
      ),
    ).toEqual([2, 4, 5]);
  });

  it('goes on after a turn with whoever serves then, and not after a reset', async () => {
    const link = new ControlLink({ label: 'g', features: FEATURES, queueSize: 2, now: () => 0 });
    const served: string[] = [];
    const by =
      (name: string) =>
      (request: Uint8Array, room: number): Uint8Array => {
        served.push(`${request[0]} by ${name}`);
        return new Uint8Array(room);
      };
    const sent = [1, 2, 3, 4, 5, 6].map((n) => link.send([Uint8Array.of(n)], 1));
    const settled = Promise.allSettled(sent);
    const stop = link.serve(by('one'));
    expect(served).toEqual(['1 by one', '2 by one']);
    stop();
    link.serve(by('two'));
    expect(served).toHaveLength(2);
    await new Promise((resolve) => setImmediate(resolve));
    expect(served.slice(2)).toEqual(['3 by two', '4 by two']);
    link.reset();
    await new Promise((resolve) => setImmediate(resolve));
    expect(served).toHaveLength(4);
    expect((await settled).map(({ status }) => status)).toEqual([
      ...Array.from({ length: 4 }, () => 'fulfilled'),
      'rejected',
      'rejected',
    ]);
    await link.send([Uint8Array.of(7)], 1);
    expect(served.at(-1)).toBe('7 by two');
  });

  it('does not serve a device that wants to look at chains where the queue does not say where they lie', () => {
    const format: QueueFormat = {
      ...SPLIT_QUEUE,
      name: 'silent',
      openDevice: (...given) => {
        const opened = SPLIT_QUEUE.openDevice(...given);
        if (opened.ok) Object.defineProperty(opened.queue, 'readableParts', { value: undefined });
        return opened;
      },
    };
    const link = new ControlLink({ label: 'g', features: FEATURES, format });
    expect(() => link.serveUnguarded(() => new Uint8Array())).toThrow(
      'a silent queue does not say where chains lie',
    );
  });
});

describe('ControlLink with a ring that its answers are written to', () => {
  it('serves the commands that they make available, but no more in one turn than the queue has entries', async () => {
    const features = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ);
    const link = new ControlLink({ label: 'g', features, queueSize: 16, now: () => 0 });
    const { memory, layout } = link;
    const { descriptorTable, availRing } = link.splitLayout!;
    // Every entry of the avail ring is head 0: a command of two bytes, whose answer is avail.idx.
    const descriptors = new DataView(new ArrayBuffer(32));
    const describe = (at: number, address: number, flags: number, next: number): void => {
      descriptors.setBigUint64(at, BigInt(address), true);
      descriptors.setUint32(at + 8, 2, true);
      descriptors.setUint16(at + 12, flags, true);
      descriptors.setUint16(at + 14, next, true);
    };
    describe(0, layout.buffers, 1, 1);
    describe(16, availRing + 2, 2, 0);
    memory.write(descriptorTable, new Uint8Array(descriptors.buffer));
    memory.write(availRing + 2, Uint8Array.of(1, 0));
    let commands = 0;
    link.serve(() => {
      if (++commands > 1000) throw new Error('nobody else got a turn');
      const next = commands < 100 ? commands + 1 : commands;
      return Uint8Array.of(next & 0xff, next >> 8);
    });
    expect(commands).toBe(16);
    await new Promise((resolve) => setImmediate(resolve));
    expect(commands).toBe(32);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(commands).toBe(100);
    expect(link.status.violations).toBe(0);
  });
});
