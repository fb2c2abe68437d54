import { afterEach, describe, expect, it } from 'vitest';
import type {
  ControlChannel,
  ControlClient,
  ControlHandler,
  Transport,
} from '../../core/contract/transport.js';
import {
  featureSet,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
} from '../../virtio/index.js';

const BASE = [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ];
const FEATURES: Readonly<Record<string, bigint>> = {
  'no optional features': featureSet(...BASE),
  'INDIRECT_DESC and EVENT_IDX': featureSet(...BASE, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX),
};

export interface TransportConformanceOptions {
  /** Feature bits that are negotiated beside those that the suite varies. */
  readonly features?: bigint;
  /**
   * The driver's end, for a transport whose drivers are in other processes; default `channel.connect()`. What it
   * gives is closed with the channel.
   */
  readonly connect?: (channel: ControlChannel) => Promise<ControlClient>;
}

/**
 * What every transport must do, as tests: commands and answers arrive unchanged, in order and once, whether the
 * device answers at once or takes its time; what has been reset or closed forgets.
 */
export function transportConformance(
  name: string,
  make: () => Transport | Promise<Transport>,
  options: TransportConformanceOptions = {},
): void {
  const connect = options.connect ?? ((channel: ControlChannel) => channel.connect());

  for (const [what, features] of Object.entries(FEATURES)) {
    describe(`transport ${name} conforms with ${what}`, () => {
      const opened: ControlChannel[] = [];
      afterEach(async () => {
        for (const channel of opened.splice(0)) await channel.close();
      });

      const open = async (handler: ControlHandler) => {
        const broken: string[] = [];
        const transport = await make();
        const channel = await transport.open({
          label: 'guest0.eth0',
          features: features | (options.features ?? 0n),
        });
        opened.push(channel);
        channel.onBroken((reason) => void broken.push(reason));
        const stop = await channel.server.serve(handler);
        return { channel, client: await connect(channel), broken, stop };
      };

      it('carries a command there and what the device writes back', async () => {
        const seen: { request: Uint8Array; room: number }[] = [];
        const { channel, client } = await open((request, room) => {
          seen.push({ request, room });
          return Uint8Array.of(...request.subarray(0, room - 1).toReversed(), 0);
        });
        const response = await client.send([Uint8Array.of(6, 2), bytes(5, 3)], 4);
        expect(seen).toEqual([{ request: Uint8Array.of(6, 2, ...bytes(5, 3)), room: 4 }]);
        // The last three of 6, 2 and what follows, turned round, and the ack.
        expect(response).toEqual(Uint8Array.of(bytes(5, 3)[0]!, 2, 6, 0));
        expect(channel.statistics.commands).toBe(1);
      });

      it.each([
        ['at once', (request: Uint8Array) => request],
        ['later', (request: Uint8Array) => Promise.resolve(request)],
        [
          'in its own time',
          (request: Uint8Array) => new Promise<Uint8Array>((resolve) => setImmediate(() => resolve(request))),
        ],
      ])('carries many commands in order when the device answers %s', async (_what, settle) => {
        const seen: number[] = [];
        const { client } = await open((request) => {
          seen.push(request[0]!);
          return settle(request.subarray(0, 1));
        });
        const sent = Array.from({ length: 200 }, (_, index) => index);
        const answers = await Promise.all(sent.map((index) => client.send([Uint8Array.of(index)], 1)));
        expect(answers.map((answer) => answer[0])).toEqual(sent);
        expect(seen).toEqual(sent);
      });

      it('carries large commands', async () => {
        let seen: Uint8Array | undefined;
        const { client } = await open((request) => {
          seen = request;
          return Uint8Array.of(9);
        });
        const large = bytes(100_000, 7);
        expect(await client.send([Uint8Array.of(6, 1), large], 1)).toEqual(Uint8Array.of(9));
        expect(seen!.length).toBe(100_002);
        expect(seen!.subarray(2)).toEqual(large);
      });

      it('shows a device the guest’s memory only when it asks for it', async () => {
        const seen: unknown[][] = [];
        const { client, channel, stop } = await open((...given: unknown[]) => {
          seen.push(given);
          return Uint8Array.of(0);
        });
        await client.send([Uint8Array.of(6, 2), bytes(5, 3)], 1);
        expect(seen.map((given) => given.length)).toEqual([2]);
        const { server } = channel;
        if (server.serveUnguarded === undefined) return;

        await stop();
        const stopUnguarded = await server.serveUnguarded((_request, _room, chain) => {
          // Across two descriptors, and no further than they reach.
          expect(chain.readableBytes).toBe(7);
          expect(chain.read(1, 3)).toEqual(Uint8Array.of(2, ...bytes(5, 3).subarray(0, 2)));
          expect(chain.read(5, 100)).toEqual(bytes(5, 3).subarray(3));
          expect(chain.read(7, 1)).toHaveLength(0);
          expect(chain.read(100, 1)).toHaveLength(0);
          chain.overwrite(1, Uint8Array.of(9, 8));
          chain.overwrite(6, Uint8Array.of(7, 7, 7));
          chain.overwrite(100, Uint8Array.of(1));
          return Uint8Array.of(...chain.read(0, 7), 0);
        });
        const changed = Uint8Array.of(6, 9, 8, ...bytes(5, 3).subarray(1, 4), 7);
        const answer = await client.send([Uint8Array.of(6, 2), bytes(5, 3)], 8);
        expect(answer).toEqual(Uint8Array.of(...changed, 0));
        await stopUnguarded();
      });

      it('shows the driver configuration space, if it has any, as far as that goes, and keeps it', async () => {
        const { channel, client } = await open(() => Uint8Array.of(0));
        expect(client.readConfig === undefined).toBe(channel.server.configure === undefined);
        if (channel.server.configure === undefined) return;
        expect(client.readConfig!(0, 4)).toHaveLength(0);
        const space = bytes(20, 5);
        channel.server.configure(space);
        // Neither side has hold of the other's bytes.
        const said = space.slice();
        space.fill(0);
        client.readConfig!(0, 20).fill(0);
        expect(client.readConfig!(0, 20)).toEqual(said);
        expect(client.readConfig!(18, 4)).toEqual(said.subarray(18));
        expect(client.readConfig!(20, 1)).toHaveLength(0);
        channel.reset();
        expect(client.readConfig!(6, 2)).toEqual(said.subarray(6, 8));
      });

      it('lets the device write less than there is room for', async () => {
        const { client } = await open(() => Uint8Array.of(1, 2));
        expect(await client.send([Uint8Array.of(0, 0)], 10)).toEqual(Uint8Array.of(1, 2));
      });

      it.each([
        [
          'throws',
          () => {
            throw new Error('boom');
          },
        ],
        ['rejects', () => Promise.reject(new Error('boom'))],
      ])('breaks, and tells why, when the device %s', async (_what, handler) => {
        const { channel, client, broken } = await open(handler);
        await expect(client.send([Uint8Array.of(0, 0)], 1)).rejects.toMatchObject({ name: 'XdpbedError' });
        expect(broken).toHaveLength(1);
        expect(broken[0]).toContain('boom');
        expect(channel.statistics.violations).toBe(1);
        await expect(client.send([Uint8Array.of(0, 0)], 1)).rejects.toMatchObject({ name: 'XdpbedError' });
      });

      it('is down when it is broken from outside, until it is reset', async () => {
        const { channel, client, broken } = await open((_request, room) => new Uint8Array(room));
        channel.break('a rule of the data queues');
        expect(broken).toEqual(['a rule of the data queues']);
        expect(channel.statistics.violations, 'not a rule of this channel').toBe(0);
        await expect(client.send([Uint8Array.of(0, 0)], 1)).rejects.toMatchObject({ name: 'XdpbedError' });
        channel.reset();
        expect(await client.send([Uint8Array.of(0, 0)], 1)).toEqual(Uint8Array.of(0));
      });

      it('works again after a reset, and has forgotten what was outstanding', async () => {
        let stuck = true;
        const { channel, client, broken } = await open((_request, room) =>
          stuck ? new Promise<Uint8Array>(() => {}) : new Uint8Array(room),
        );
        const pending = client.send([Uint8Array.of(0, 0)], 1);
        const failure = expect(pending).rejects.toMatchObject({ name: 'XdpbedError' });
        // The command has reached the device, which never answers.
        await arrived(channel, 1);
        channel.reset();
        await failure;
        stuck = false;
        expect(await client.send([Uint8Array.of(0, 0)], 1)).toEqual(Uint8Array.of(0));
        expect(broken).toEqual([]);
      });

      it('can be closed at any time and more than once', async () => {
        const { channel, client } = await open(() => new Promise<Uint8Array>(() => {}));
        const pending = client.send([Uint8Array.of(0, 0)], 1);
        const failure = expect(pending).rejects.toMatchObject({ name: 'XdpbedError' });
        await arrived(channel, 1);
        await channel.close();
        await failure;
        await channel.close();
        await expect(client.send([Uint8Array.of(0, 0)], 1)).rejects.toMatchObject({ name: 'XdpbedError' });
      });
    });
  }
}

/** Waits until as many commands have reached the device, which may be in another process than the driver. */
async function arrived(channel: ControlChannel, commands: number): Promise<void> {
  for (let turn = 0; turn < 1000 && channel.statistics.commands < commands; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(channel.statistics.commands).toBe(commands);
}

/** Bytes that differ from those of other seeds. */
function bytes(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (seed * 31 + index * 7) & 0xff);
}
