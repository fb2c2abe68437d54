import { duplexPair, type Duplex } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AgentClient } from './agent-client.js';
import {
  AGENT_PROTOCOL,
  AgentMessageReader,
  encodeAgentMessage,
  FROM_GUEST,
  FROM_HOST,
  type AgentRequest,
  type NicSettings,
} from './agent-messages.js';
import { RemoteNicDriver } from './remote-nic-driver.js';

const HELLO = { hello: { protocol: AGENT_PROTOCOL, kernel: '6.1.0', node: 'v20' } };
const NIC: NicSettings = {
  guest: 'guest0',
  name: 'eth0',
  index: 0,
  mac: '52:54:00:00:00:02',
  ifindex: 2,
  queues: undefined,
  hostile: false,
  features: '0',
};

type Reply = (stream: Duplex, request: AgentRequest) => void;

/** The host's end, and a guest that answers each request as the test likes. */
function guest(reply: Reply, hello: object | undefined = HELLO) {
  const [hostEnd, guestEnd] = duplexPair();
  const reader = new AgentMessageReader(FROM_HOST);
  guestEnd.on('error', () => {});
  guestEnd.on('data', (bytes: Uint8Array) => {
    reader.push(bytes);
    for (let message = reader.next(); message !== undefined; message = reader.next()) {
      reply(guestEnd, message.json as AgentRequest);
    }
  });
  const failures: string[] = [];
  const client = new AgentClient(
    hostEnd,
    'guest g0',
    (message) => `${message}; the console`,
    (error) => void failures.push(error.message),
  );
  if (hello !== undefined) guestEnd.write(encodeAgentMessage(hello));
  return { client, guestEnd, failures };
}

const answer = (stream: Duplex, message: object, attached?: Uint8Array): void =>
  void stream.write(encodeAgentMessage(message, attached));

/** A driver whose guest was honest until now, with a program that has one map. */
async function opened(reply: Reply) {
  const made = guest((stream, request) => {
    if (request.method === 'open-nic') return answer(stream, { id: request.id, result: null });
    if (request.method === 'install') return answer(stream, { id: request.id, result: { attached: true } });
    return reply(stream, request);
  });
  const driver = await RemoteNicDriver.open(made.client, NIC);
  const text =
    '.license GPL\n.map counts array key=4 value=8 entries=4\n.program p\nr1 = map[counts]\nr0 = 2\nexit\n';
  await driver.install({
    program: { name: 'p', object: 'p.s', function: 'p', presets: {} },
    object: Buffer.from(text),
    placement: 'guest',
  });
  return { ...made, driver };
}

const MAP = { name: 'counts', type: 2, readFrom: 'guest-kernel', keySize: 4, valueSize: 8 };

describe('the conversation with a hostile guest', () => {
  it.each<[string, object, string]>([
    [
      'says hello in another protocol',
      { hello: { ...HELLO.hello, protocol: AGENT_PROTOCOL + 1 } },
      `speaks protocol ${AGENT_PROTOCOL + 1}, not ${AGENT_PROTOCOL}`,
    ],
    ['does not say hello', { id: 1, result: null }, 'did not say hello'],
    ['says hello at length', { hello: { ...HELLO.hello, kernel: 'x'.repeat(1000) } }, 'did not say hello'],
  ])('ends with one that %s', async (_what, hello, reason) => {
    const { client, failures } = guest(() => {}, hello);
    await expect(client.hello).rejects.toMatchObject({ code: 'guest-failed' });
    expect(failures).toHaveLength(1);
    expect(failures[0]).toContain(reason);
    expect(failures[0]).toMatch(/^guest g0: .*; the console$/);
  });

  it.each<[string, Reply, string]>([
    ['answers what was not asked', (stream) => answer(stream, { id: 99, result: null }), 'nobody asked'],
    [
      'sends no JSON',
      (stream) => void stream.write(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0x7b)),
      'makes no sense',
    ],
    [
      'announces more than there may be',
      (stream) => void stream.write(Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0)),
      '16777216 and 0 bytes, more than there may be',
    ],
    [
      'attaches more than there may be',
      (stream) => void stream.write(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 1)),
      '2 and 16777216 bytes, more than there may be',
    ],
    [
      'answers in another shape',
      (stream, { id }) => answer(stream, { id, result: { XDP_PASS: 1 } }),
      'not of the shape asked for',
    ],
    [
      'counts below zero',
      (stream, { id }) =>
        answer(stream, {
          id,
          result: { XDP_ABORTED: 0, XDP_DROP: -1, XDP_PASS: 0, XDP_TX: 0, XDP_REDIRECT: 0 },
        }),
      'not of the shape asked for',
    ],
    ['answers in parts', (stream, { id }) => answer(stream, { id, part: { entries: 0 } }), 'in parts'],
    ['hangs up', (stream) => void stream.end(), 'hung up'],
  ])('ends with one that %s', async (_what, reply, reason) => {
    const { driver, failures } = await opened(reply);
    await expect(driver.counters()).rejects.toMatchObject({ code: 'guest-failed' });
    expect(failures).toHaveLength(1);
    expect(failures[0]).toContain(reason);
    await expect(driver.control()).rejects.toThrow(reason);
  });

  it('ends with one that does not answer in time', async () => {
    const { client, failures } = guest(() => {});
    await client.hello;
    const asked = client.ask('counters', { nic: 0 }, {} as never, { within: 20 });
    await expect(asked).rejects.toThrow('it did not answer counters within 20 ms');
    expect(failures).toHaveLength(1);
  });

  it.each<[string, object[], Uint8Array, string]>([
    ['of another name', [{ map: { ...MAP, name: 'others' } }], Buffer.alloc(0), 'none of the program'],
    ['of another type', [{ map: { ...MAP, type: 1 } }], Buffer.alloc(0), 'none of the program'],
    ['of other sizes', [{ map: { ...MAP, valueSize: 4 } }], Buffer.alloc(0), 'none of the program'],
    ['twice', [{ map: MAP }, { map: MAP }], Buffer.alloc(0), 'comes too often'],
    ['with entries cut off', [{ map: MAP }, { entries: 2 }], Buffer.alloc(23), '2 entries in 23 bytes'],
    ['without a beginning', [{ entries: 1 }], Buffer.alloc(12), '1 entries in 12 bytes'],
    [
      'with more entries than there can be',
      [{ map: MAP }, { entries: 5000 }],
      Buffer.alloc(60_000),
      'more entries than its maps have',
    ],
    ['in another shape', [{ map: { ...MAP, keySize: -1 } }], Buffer.alloc(0), 'no part of a map'],
  ])('ends with one that tells of a map %s', async (_what, parts, attached, reason) => {
    const { driver, failures } = await opened((stream, { id }) => {
      parts.forEach((part, index) =>
        answer(stream, { id, part }, index === parts.length - 1 ? attached : Buffer.alloc(0)),
      );
      answer(stream, { id, result: null });
    });
    await expect(driver.readMaps()).rejects.toMatchObject({ code: 'guest-failed' });
    expect(failures[0]).toContain(reason);
  });

  it('takes values of per-CPU maps, one for each CPU', async () => {
    const { driver } = await opened((stream, { id }) => {
      answer(stream, { id, part: { map: { ...MAP, valueSize: 24 } } });
      answer(stream, { id, part: { entries: 1 } }, Buffer.alloc(28, 7));
      answer(stream, { id, result: null });
    });
    expect((await driver.readMaps())[0]!.entries[0]!.value).toHaveLength(24);
  });

  it('passes on what the guest refuses, without what a terminal would take for commands', async () => {
    const { driver, failures } = await opened((stream, { id }) =>
      answer(stream, {
        id,
        error: { code: 'object-invalid', message: 'no \u001b[31mred\u001b[0m\u0007 program\nhere' },
      }),
    );
    await expect(driver.counters()).rejects.toMatchObject({
      code: 'object-invalid',
      message: 'guest g0: no red program\nhere',
    });
    expect(failures).toEqual([]);
  });

  it.each(['interrupted', 'leftovers', 'no-such-code', '__proto__'])(
    'takes an error of code %s for a failure of the guest',
    async (code) => {
      const { driver } = await opened((stream, { id }) =>
        answer(stream, { id, error: { code, message: 'x' } }),
      );
      await expect(driver.counters()).rejects.toMatchObject({ code: 'guest-failed' });
    },
  );

  it('never throws past, whatever comes (fuzz)', async () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(fc.jsonValue(), fc.uint8Array({ maxLength: 20 }))
        .map(([json, attached]) => Buffer.from(encodeAgentMessage({ json }, attached))),
      fc
        .record({
          id: fc.integer({ min: 0, max: 3 }),
          what: fc.constantFrom('part', 'result', 'error'),
          json: fc.oneof(fc.jsonValue(), fc.constant({ map: MAP }), fc.record({ entries: fc.nat(3) })),
          attached: fc.uint8Array({ maxLength: 36 }),
        })
        .map(({ id, what, json, attached }) =>
          Buffer.from(encodeAgentMessage({ id, [what]: json }, attached)),
        ),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const { driver, guestEnd, client } = await opened(() => {});
        const reading = driver.readMaps().then(
          (maps) => maps.every(({ entries }) => entries.length <= 4096),
          (error: Error) => error.name === 'XdpbedError',
        );
        for (const bytes of pieces) guestEnd.write(bytes);
        await new Promise((resolve) => setImmediate(resolve));
        client.fail('over');
        expect(await reading).toBe(true);
      }),
      { numRuns: 300, seed: 11 },
    );
  });
});

describe('messages', () => {
  it('are cut out of a stream in pieces of any size', () => {
    const reader = new AgentMessageReader(FROM_GUEST);
    const bytes = Buffer.concat([
      encodeAgentMessage({ a: 'ü' }, Uint8Array.of(1, 2)),
      encodeAgentMessage({ b: 1 }),
    ]);
    const messages = [...bytes].flatMap((byte) => {
      reader.push(Uint8Array.of(byte));
      const message = reader.next();
      return message === undefined ? [] : [message];
    });
    expect(messages).toEqual([
      { json: { a: 'ü' }, attached: Uint8Array.of(1, 2) },
      { json: { b: 1 }, attached: new Uint8Array(0) },
    ]);
  });
});
