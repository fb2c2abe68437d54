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
    const link = new ControlLink({ label: 'g', features: FEATURES });
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
    const link = new ControlLink({ label: 'g', features: FEATURES, queueSize: 4 });
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
