import { describe, expect, it } from 'vitest';
import type { ControlClient, Transport } from '../../src/core/contract/transport.js';
import { TRANSPORTS } from '../control/transports.js';
import { fuzzControl, GENERATORS } from './control-fuzz.js';

const COMMANDS = 12_000;
const transports = new Map(TRANSPORTS.map((each) => [each.name, each]));

/** Slices of what `npm run fuzz:control` does a million times. */
describe.each(Object.entries(GENERATORS))('hostile control commands of %s', (_protocol, generator) => {
  it.each([...transports.keys()])(
    'over %s: none throws, each is answered, accounts are exact, and nothing is left',
    async (name) => {
      const report = await fuzzControl(transports.get(name)!, generator, {
        commands: COMMANDS,
        seed: 20191126,
      });
      expect(report.problems).toEqual([]);
      expect(report.commands).toBe(COMMANDS);
      // It is worth something only while it gets somewhere.
      expect(report.acks.ok).toBeGreaterThan(COMMANDS / 20);
      expect(report.mostObjects).toBeGreaterThan(20);
      for (const kind of ['malformed', 'denied', 'rejected', 'failed', 'answer']) {
        expect(report.refusals[kind], kind).toBeGreaterThan(0);
      }
    },
  );

  it('end the same over every transport, since the same commands come', async () => {
    const outcomes = await Promise.all(
      [...transports.values()].map(async (transport) => {
        const { acks, refusals, names } = await fuzzControl(transport, generator, {
          commands: 2000,
          seed: 3,
        });
        return { refusals, ok: acks.ok, names };
      }),
    );
    for (const outcome of outcomes) expect(outcome).toEqual(outcomes[0]);
  });
});

describe('a campaign', () => {
  const { transport, features } = transports.get('virtqueue')!;
  /** The same, with a driver's end that does something else. */
  const bent = (bend: (client: ControlClient) => ControlClient) => {
    const other: Transport = {
      name: 'bent',
      open: async (options) => {
        const channel = await transport.open(options);
        const connect = channel.connect.bind(channel);
        channel.connect = async () => bend(await connect());
        return channel;
      },
    };
    return fuzzControl({ name: 'bent', transport: other, features }, GENERATORS['rfc-2019']!, {
      commands: 300,
      seed: 1,
    });
  };

  it('finds an answer that is too short', async () => {
    const { problems } = await bent((client) => ({
      send: async (parts, room) => (await client.send(parts, room)).subarray(1),
    }));
    expect(problems.join()).toContain('bytes came back into a room of');
  });

  it('finds a command that is not answered', async () => {
    let left = 100;
    const { problems } = await bent((client) => ({
      send: (parts, room) =>
        left-- > 0 ? client.send(parts, room) : Promise.reject(new Error('lost on the way')),
    }));
    expect(problems.join()).toContain('a command was not answered: lost on the way');
  });
});
