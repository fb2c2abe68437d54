import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { SerialControlDriver } from './serial-control-driver.js';
import { encodeSerialMessage, SERIAL_KIND } from './serial-messages.js';

const { HELLO, COMMAND, RESET, ANSWER, BROKEN } = SERIAL_KIND;

/** A driver and what it wrote; the test plays the device. */
function driver() {
  const written: Uint8Array[] = [];
  const stream = new Duplex({
    read() {},
    write(bytes: Uint8Array, _encoding, done) {
      written.push(Uint8Array.from(bytes));
      done();
    },
  });
  const tell = async (...messages: Uint8Array[]): Promise<void> => {
    for (const message of messages) stream.push(message);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { driver: new SerialControlDriver('guest0.eth0', stream), written, tell, stream };
}

describe("the driver's end of a serial control channel", () => {
  it('greets, and sends what waits once it has been told the epoch', async () => {
    const { driver: client, written, tell } = driver();
    const sent = client.send([Uint8Array.of(1), Uint8Array.of(2, 3)], 2);
    expect(written).toEqual([encodeSerialMessage(HELLO, 0)]);
    await tell(encodeSerialMessage(RESET, 7));
    expect(written.slice(1)).toEqual([
      encodeSerialMessage(HELLO, 7),
      encodeSerialMessage(COMMAND, 1, [Uint8Array.of(1, 2, 3)], 2),
    ]);
    await tell(encodeSerialMessage(ANSWER, 1, [Uint8Array.of(5)]));
    expect(await sent).toEqual(Uint8Array.of(5));
  });

  it('hears a RESET twice without forgetting what it sent since', async () => {
    const { driver: client, written, tell } = driver();
    await tell(encodeSerialMessage(RESET, 7));
    const sent = client.send([Uint8Array.of(1)], 1);
    await tell(encodeSerialMessage(RESET, 7), encodeSerialMessage(ANSWER, 1, [Uint8Array.of(0)]));
    expect(await sent).toEqual(Uint8Array.of(0));
    expect(written).toHaveLength(3);
  });

  it('asks whether a broken channel works again before it sends', async () => {
    const { driver: client, written, tell } = driver();
    await tell(encodeSerialMessage(RESET, 7), encodeSerialMessage(BROKEN, 7, [Buffer.from('a rule')]));
    const sent = client.send([Uint8Array.of(1)], 1);
    expect(written.at(-1)).toEqual(encodeSerialMessage(HELLO, 7));
    const refused = expect(sent).rejects.toThrow('guest0.eth0: the link is broken: a rule');
    await tell(encodeSerialMessage(BROKEN, 7, [Buffer.from('a rule')]));
    await refused;
    const later = client.send([Uint8Array.of(1)], 1);
    await tell(encodeSerialMessage(RESET, 8), encodeSerialMessage(ANSWER, 1, [Uint8Array.of(3)]));
    expect(await later).toEqual(Uint8Array.of(3));
  });

  it.each([
    ['nonsense', Buffer.alloc(16, 1)],
    ['an answer that nobody waits for', encodeSerialMessage(ANSWER, 2, [Uint8Array.of(1)])],
    ['an answer that is longer than its room', encodeSerialMessage(ANSWER, 1, [new Uint8Array(3)])],
    ['a command', encodeSerialMessage(COMMAND, 1, [], 1)],
  ])('hangs up on %s', async (_what, nonsense) => {
    const { driver: client, tell, stream } = driver();
    await tell(encodeSerialMessage(RESET, 7));
    const sent = expect(client.send([Uint8Array.of(1)], 2)).rejects.toMatchObject({ name: 'XdpbedError' });
    await tell(nonsense);
    await sent;
    expect(stream.destroyed).toBe(true);
    await expect(client.send([Uint8Array.of(1)], 2)).rejects.toThrow('broke a rule');
  });

  it('ends when the device resets for ever and reads nothing', async () => {
    let resets = 0;
    const stream = new Duplex({ read() {}, write: () => undefined });
    const client = new SerialControlDriver('guest0.eth0', stream, { onReset: () => void resets++ });
    const messages = Array.from({ length: 10_000 }, (_, index) => encodeSerialMessage(RESET, index + 1));
    stream.push(Buffer.concat(messages));
    await new Promise((resolve) => setImmediate(resolve));
    expect(client.closed).toBe(true);
    await expect(client.send([Uint8Array.of(1)], 1)).rejects.toThrow(
      'guest0.eth0: the device asks for one greeting after another, and reads none',
    );
    expect(resets).toBeLessThan(256);
    expect(stream.destroyed).toBe(true);
  });

  it('goes on however often it is reset by a device that reads', async () => {
    const { driver: client, written, tell } = driver();
    for (let epoch = 1; epoch <= 1000; epoch++) await tell(encodeSerialMessage(RESET, epoch));
    expect(client.closed).toBe(false);
    expect(written).toHaveLength(1001);
  });

  it('rejects what waits when the device is gone', async () => {
    const { driver: client, stream } = driver();
    const sent = expect(client.send([Uint8Array.of(1)], 1)).rejects.toThrow('the device is gone');
    stream.push(null);
    await sent;
  });
});
