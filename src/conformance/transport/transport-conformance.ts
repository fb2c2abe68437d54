import { describe, expect, it } from 'vitest';
import type { DeviceHandlers, Transport, TransportLink } from '../../core/contract/transport.js';
import {
  featureSet,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../virtio/index.js';

const BASE = [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ];
const FEATURES: Readonly<Record<string, bigint>> = {
  'no optional features': featureSet(...BASE),
  'INDIRECT_DESC and EVENT_IDX': featureSet(...BASE, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX),
  MRG_RXBUF: featureSet(...BASE, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MRG_RXBUF),
};

/** What a device under test has seen. */
interface Seen {
  readonly commands: { readonly readable: Uint8Array; readonly writableLength: number }[];
  readonly frames: { readonly queue: number; readonly frame: Uint8Array }[];
  readonly broken: string[];
}

/**
 * What every transport must do, as tests: commands and frames arrive unchanged, in order and once; a full queue
 * says so and goes on afterwards; what has been reset or closed forgets.
 */
export function transportConformance(name: string, make: () => Transport | Promise<Transport>): void {
  for (const [what, features] of Object.entries(FEATURES)) {
    describe(`transport ${name} conforms with ${what}`, () => {
      const open = async (
        device: Partial<DeviceHandlers> = {},
        sizes = { queuePairs: 2, queueSize: 8 },
      ): Promise<{ link: TransportLink; seen: Seen }> => {
        const seen: Seen = { commands: [], frames: [], broken: [] };
        const transport = await make();
        const link = await transport.open({
          label: 'guest0.eth0',
          ...sizes,
          features,
          device: {
            control: (readable, writableLength) => {
              seen.commands.push({ readable, writableLength });
              return new Uint8Array(writableLength);
            },
            transmit: (queue, frame) => void seen.frames.push({ queue, frame: frame.slice() }),
            broken: (reason) => void seen.broken.push(reason),
            ...device,
          },
        });
        return { link, seen };
      };

      it('carries a control command there and what the device writes back', async () => {
        const { link, seen } = await open({
          control: (readable, writableLength) => {
            seen.commands.push({ readable, writableLength });
            return Uint8Array.of(...readable.subarray(0, writableLength - 1).toReversed(), 0);
          },
        });
        const response = await link.driver.control([Uint8Array.of(6, 2), frame(5, 3)], 4);
        expect(seen.commands).toEqual([{ readable: Uint8Array.of(6, 2, ...frame(5, 3)), writableLength: 4 }]);
        expect(response.at(-1)).toBe(0);
        expect(response).toHaveLength(4);
        expect(link.statistics.controlCommands).toBe(1);
        await link.close();
      });

      it('carries large commands, and many, in order, also when the device takes its time', async () => {
        const { link, seen } = await open({
          control: async (readable, writableLength) => {
            await Promise.resolve();
            seen.commands.push({ readable, writableLength });
            return Uint8Array.of(readable[0]!);
          },
        });
        const large = frame(100_000, 7);
        expect(await link.driver.control([Uint8Array.of(9), large], 1)).toEqual(Uint8Array.of(9));
        const answers = await Promise.all(
          Array.from({ length: 200 }, (_, index) => link.driver.control([Uint8Array.of(index)], 1)),
        );
        expect(answers.map((answer) => answer[0])).toEqual(Array.from({ length: 200 }, (_, index) => index));
        expect(seen.commands[0]!.readable.subarray(1)).toEqual(large);
        expect(seen.commands).toHaveLength(201);
        await link.close();
      });

      it('lets the device write less than there is room for', async () => {
        const { link } = await open({ control: () => Uint8Array.of(1, 2) });
        expect(await link.driver.control([Uint8Array.of(0, 0)], 10)).toEqual(Uint8Array.of(1, 2));
        await link.close();
      });

      it('carries frames to the guest on each queue, unchanged and in order', async () => {
        const { link } = await open();
        for (const queue of [0, 1]) {
          link.driver.refill(queue);
          const frames = [frame(14, 1 + queue), frame(60, 2), frame(1514, 3), frame(3520, 4)];
          const received: Uint8Array[] = [];
          for (const sent of frames) {
            expect(link.device.deliver(queue, sent)).toBe(true);
            link.device.notify(queue);
            received.push(...link.driver.receive(queue, 64));
            link.driver.refill(queue);
          }
          expect(received).toEqual(frames);
        }
        expect(link.statistics.framesToGuest).toBe(8);
        await link.close();
      });

      it('carries frames from the guest on each queue, unchanged and in order', async () => {
        const { link, seen } = await open();
        for (const queue of [1, 0]) {
          for (const length of [14, 60, 1514, 3520]) {
            expect(link.driver.send(queue, frame(length, length + queue))).toBe(true);
          }
          link.driver.kick(queue);
          expect(link.device.poll(queue, 64)).toBe(4);
        }
        expect(seen.frames).toEqual(
          [1, 0].flatMap((queue) =>
            [14, 60, 1514, 3520].map((length) => ({ queue, frame: frame(length, length + queue) })),
          ),
        );
        expect(link.statistics.framesFromGuest).toBe(8);
        await link.close();
      });

      it('does not show the device what was queued and not yet kicked', async () => {
        const { link } = await open();
        expect(link.driver.send(0, frame(60, 1))).toBe(true);
        expect(link.device.poll(0, 64)).toBe(0);
        link.driver.kick(0);
        expect(link.device.poll(0, 64)).toBe(1);
        await link.close();
      });

      it('keeps to the budget of both sides', async () => {
        const { link } = await open();
        link.driver.refill(0);
        for (let i = 0; i < 5; i++) {
          expect(link.device.deliver(0, frame(60, i))).toBe(true);
          expect(link.driver.send(0, frame(60, i))).toBe(true);
        }
        link.driver.kick(0);
        expect(link.driver.receive(0, 2)).toEqual([frame(60, 0), frame(60, 1)]);
        expect(link.driver.receive(0, 64)).toEqual([frame(60, 2), frame(60, 3), frame(60, 4)]);
        expect(link.device.poll(0, 2)).toBe(2);
        expect(link.device.poll(0, 64)).toBe(3);
        expect(link.device.poll(0, 64)).toBe(0);
        await link.close();
      });

      it('says when a queue is full and goes on once there is room', async () => {
        const { link, seen } = await open();
        expect(link.device.deliver(0, frame(60, 1)), 'no buffer was offered yet').toBe(false);
        link.driver.refill(0);
        let delivered = 0;
        while (link.device.deliver(0, frame(60, delivered))) delivered++;
        expect(delivered).toBeGreaterThan(0);
        let sent = 0;
        while (link.driver.send(0, frame(60, sent))) sent++;
        expect(sent).toBeGreaterThan(0);
        link.driver.kick(0);
        expect(link.driver.receive(0, 1000)).toHaveLength(delivered);
        expect(link.device.poll(0, 1000)).toBe(sent);
        expect(seen.frames).toHaveLength(sent);
        link.driver.refill(0);
        expect(link.device.deliver(0, frame(60, 9))).toBe(true);
        expect(link.driver.send(0, frame(60, 9))).toBe(true);
        await link.close();
      });

      it('goes on for much longer than its queues are long', async () => {
        const { link, seen } = await open({}, { queuePairs: 1, queueSize: 4 });
        for (let round = 0; round < 20_000; round++) {
          link.driver.refill(0);
          if (!link.device.deliver(0, frame(64, round))) throw new Error(`round ${round}: no buffer`);
          link.device.notify(0);
          const [received] = link.driver.receive(0, 8);
          if (!link.driver.send(0, received!)) throw new Error(`round ${round}: the queue is full`);
          link.driver.kick(0);
          link.device.poll(0, 8);
        }
        expect(seen.frames).toHaveLength(20_000);
        expect(seen.frames.at(-1)!.frame).toEqual(frame(64, 19_999));
        const { kicks, interrupts, violations } = link.statistics;
        expect(violations).toBe(0);
        expect(kicks).toBeGreaterThan(0);
        expect(interrupts).toBeGreaterThan(0);
        await link.close();
      });

      it('breaks, and tells why, when the device throws', async () => {
        const { link, seen } = await open({
          control: () => {
            throw new Error('boom');
          },
        });
        await expect(link.driver.control([Uint8Array.of(0, 0)], 1)).rejects.toMatchObject({
          name: 'XdpbedError',
        });
        expect(seen.broken).toHaveLength(1);
        expect(seen.broken[0]).toContain('boom');
        expect(link.statistics.violations).toBe(1);
        expect(link.device.deliver(0, frame(60, 1))).toBe(false);
        expect(link.device.poll(0, 8)).toBe(0);
        await link.close();
      });

      it('works again after a reset, and has forgotten what was outstanding', async () => {
        let stuck = true;
        const { link, seen } = await open({
          control: (_readable, writableLength) =>
            stuck ? new Promise<Uint8Array>(() => {}) : new Uint8Array(writableLength),
        });
        const pending = link.driver.control([Uint8Array.of(0, 0)], 1);
        // The command has reached the device, which never answers.
        await new Promise((resolve) => setImmediate(resolve));
        expect(link.driver.send(0, frame(60, 1))).toBe(true);
        link.driver.kick(0);
        link.reset();
        await expect(pending).rejects.toMatchObject({ name: 'XdpbedError' });
        expect(link.device.poll(0, 8)).toBe(0);
        stuck = false;
        expect(await link.driver.control([Uint8Array.of(0, 0)], 1)).toEqual(Uint8Array.of(0));
        link.driver.refill(0);
        expect(link.device.deliver(0, frame(60, 2))).toBe(true);
        expect(link.driver.receive(0, 8)).toEqual([frame(60, 2)]);
        expect(link.driver.send(0, frame(60, 3))).toBe(true);
        link.driver.kick(0);
        link.device.poll(0, 8);
        expect(seen.frames).toEqual([{ queue: 0, frame: frame(60, 3) }]);
        expect(seen.broken).toEqual([]);
        await link.close();
      });

      it('can be closed at any time and more than once', async () => {
        const { link } = await open({ control: () => new Promise<Uint8Array>(() => {}) });
        const pending = link.driver.control([Uint8Array.of(0, 0)], 1);
        await new Promise((resolve) => setImmediate(resolve));
        await link.close();
        await expect(pending).rejects.toMatchObject({ name: 'XdpbedError' });
        await link.close();
        await expect(link.driver.control([Uint8Array.of(0, 0)], 1)).rejects.toMatchObject({
          name: 'XdpbedError',
        });
        expect(link.device.deliver(0, frame(60, 1))).toBe(false);
        expect(link.driver.receive(0, 8)).toEqual([]);
      });
    });
  }
}

/** A frame of `length` bytes that differs from those of other seeds. */
function frame(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (seed * 31 + index * 7) & 0xff);
}
