import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { transportConformance } from '../../src/conformance/transport/index.js';
import type { ControlHandler } from '../../src/core/contract/transport.js';
import {
  encodeSerialMessage,
  MAX_SERIAL_BYTES,
  SERIAL_HEADER_BYTES,
  SERIAL_KIND,
  type SerialControlDriver,
} from '../../src/virtio/index.js';
import type { ControlSocketChannel } from '../../src/core/offload/control-socket-channel.js';
import { VirtioSerialTransport } from './virtio-serial-transport.js';

transportConformance('virtio-serial', () => new VirtioSerialTransport());

const { HELLO, COMMAND, RESET, ANSWER, BROKEN } = SERIAL_KIND;
const FLIP: ControlHandler = (request) => request.toReversed();

const channels: ControlSocketChannel[] = [];
const guests: Guest[] = [];
afterEach(async () => {
  for (const guest of guests.splice(0)) guest.socket.destroy();
  for (const channel of channels.splice(0)) await channel.close();
});

async function open(handler: ControlHandler = FLIP) {
  const channel = await new VirtioSerialTransport().open({ label: 'guest0.eth0', features: 0n });
  channels.push(channel);
  const broken: string[] = [];
  channel.onBroken((reason) => void broken.push(reason));
  await channel.server.serve(handler);
  return { channel, broken };
}

/** A guest that writes what it likes. */
class Guest {
  received = Buffer.alloc(0);
  #changed: () => void = () => {};
  closed = false;

  constructor(readonly socket: Socket) {
    guests.push(this);
    socket.on('data', (bytes) => {
      this.received = Buffer.concat([this.received, bytes]);
      this.#changed();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.#changed();
    });
  }

  static async of(channel: ControlSocketChannel): Promise<Guest> {
    const socket = connect(channel.address);
    await new Promise((resolve) => socket.once('connect', resolve));
    return new Guest(socket);
  }

  /** One that has greeted, and may send command 1. */
  static async greeted(channel: ControlSocketChannel): Promise<Guest> {
    const guest = await Guest.of(channel);
    guest.socket.write(encodeSerialMessage(HELLO, 0));
    const { number } = await guest.message(RESET);
    guest.socket.write(encodeSerialMessage(HELLO, number));
    return guest;
  }

  command(number: number, bytes: Uint8Array, room: number): void {
    this.socket.write(encodeSerialMessage(COMMAND, number, [bytes], room));
  }

  /** The next message, which has to be of this kind. */
  async message(kind: number): Promise<{ number: number; bytes: Uint8Array }> {
    await this.#until(() => {
      const { received } = this;
      if (received.length < SERIAL_HEADER_BYTES) return false;
      return received.length >= SERIAL_HEADER_BYTES + received.readUint32LE(8);
    });
    const { received } = this;
    expect(received.toString('latin1', 0, 3)).toBe('XVC');
    expect(received[3]).toBe(kind);
    const end = SERIAL_HEADER_BYTES + received.readUint32LE(8);
    this.received = received.subarray(end);
    return { number: received.readUint32LE(4), bytes: received.subarray(SERIAL_HEADER_BYTES, end) };
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.closed) throw new Error('the channel hung up');
      await new Promise<void>((resolve) => (this.#changed = resolve));
    }
  }
}

describe("the channel's socket", () => {
  it('keeps its files where the run wants them', async () => {
    const run = mkdtempSync(join(tmpdir(), 'xdpbed-run-'));
    const options = { label: 'guest0.eth0', features: 0n, folder: () => run };
    const channel = await new VirtioSerialTransport().open(options);
    expect(dirname(dirname(channel.address))).toBe(run);
    await channel.close();
    expect(readdirSync(run)).toEqual([]);
    rmSync(run, { recursive: true });
  });

  it('lies in a folder of its own that nobody else may enter, and goes with the channel', async () => {
    const { channel } = await open();
    expect(statSync(channel.address).isSocket()).toBe(true);
    expect(statSync(dirname(channel.address)).mode & 0o777).toBe(0o700);
    await channel.close();
    expect(existsSync(dirname(channel.address))).toBe(false);
  });

  it('takes one driver at a time', async () => {
    const { channel } = await open();
    const first = await Guest.greeted(channel);
    const second = await Guest.of(channel);
    expect(Buffer.from((await second.message(BROKEN)).bytes).toString()).toBe('there is a driver already');
    await expect(second.message(RESET)).rejects.toThrow('hung up');
    first.command(1, Uint8Array.of(1, 2), 2);
    expect((await first.message(ANSWER)).bytes).toEqual(Buffer.of(2, 1));
  });

  it('takes another driver after the first one is gone, which gets no answer of the other', async () => {
    let answer: (bytes: Uint8Array) => void = () => {};
    let first = true;
    const { channel, broken } = await open((request) => {
      if (!first) return request;
      first = false;
      return new Promise((resolve) => (answer = resolve));
    });
    const gone = await Guest.greeted(channel);
    gone.command(1, Uint8Array.of(1), 1);
    await until(() => channel.statistics.commands === 1);
    gone.socket.destroy();
    // A reset does what noticing that it is gone would do later.
    channel.reset();
    const client = await connectAgain(channel);
    answer(Uint8Array.of(9));
    expect(await client.send([Uint8Array.of(7)], 1)).toEqual(Uint8Array.of(7));
    expect(broken).toEqual([]);
  });
});

describe('the protocol', () => {
  it('answers a HELLO of any epoch but the one that it is at with the one that it is at', async () => {
    const { channel } = await open();
    const guest = await Guest.of(channel);
    guest.socket.write(encodeSerialMessage(HELLO, 12345));
    const { number } = await guest.message(RESET);
    guest.socket.write(encodeSerialMessage(HELLO, number));
    guest.command(1, Uint8Array.of(1, 2, 3), 3);
    expect(await guest.message(ANSWER)).toEqual({ number: 1, bytes: Buffer.of(3, 2, 1) });
    // A driver that was started anew.
    guest.socket.write(encodeSerialMessage(HELLO, 0));
    expect((await guest.message(RESET)).number).toBeGreaterThan(number);
    expect(channel.statistics).toEqual({
      commands: 1,
      kicks: 1,
      interrupts: 1,
      suppressedNotifications: 0,
      violations: 0,
    });
  });

  it('takes commands in pieces of one byte', async () => {
    const { channel } = await open();
    const guest = await Guest.of(channel);
    const hello = encodeSerialMessage(HELLO, 0);
    for (const byte of hello) {
      guest.socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { number } = await guest.message(RESET);
    const rest = [
      encodeSerialMessage(HELLO, number),
      encodeSerialMessage(COMMAND, 1, [Uint8Array.of(4, 5)], 2),
    ];
    for (const byte of Buffer.concat(rest)) {
      guest.socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await guest.message(ANSWER)).bytes).toEqual(Buffer.of(5, 4));
  });

  it.each([
    ['no message', Buffer.alloc(16, 0x55), 'no message'],
    ['an ANSWER', encodeSerialMessage(ANSWER, 1), 'kind 4'],
    ['a command out of order', encodeSerialMessage(COMMAND, 2, [], 1), 'command 2 came where 1'],
    [
      'a command that is too long',
      header(COMMAND, 1, MAX_SERIAL_BYTES + 1, 1),
      `${MAX_SERIAL_BYTES + 1} bytes`,
    ],
    ['too much room', header(COMMAND, 1, 1, 0xffff_ffff), 'room for 4294967295'],
  ])('breaks on %s, says so, and works again after a reset', async (_what, nonsense, reason) => {
    const { channel, broken } = await open();
    const guest = await Guest.greeted(channel);
    guest.socket.write(nonsense);
    const told = await guest.message(BROKEN);
    expect(Buffer.from(told.bytes).toString()).toContain(reason);
    expect(broken).toHaveLength(1);
    expect(broken[0]).toContain(reason);
    expect(channel.statistics).toMatchObject({ commands: 0, violations: 1 });
    guest.socket.write(encodeSerialMessage(HELLO, told.number));
    expect(await guest.message(BROKEN)).toEqual(told);
    // The rest of the nonsense, and a command of the old epoch.
    guest.socket.write(Buffer.concat([Buffer.alloc(1000, 0x58), encodeSerialMessage(COMMAND, 1, [], 1)]));
    channel.reset();
    const { number } = await guest.message(RESET);
    guest.socket.write(encodeSerialMessage(HELLO, number));
    guest.command(1, Uint8Array.of(1, 2), 2);
    expect((await guest.message(ANSWER)).bytes).toEqual(Buffer.of(2, 1));
    expect(channel.statistics).toMatchObject({ commands: 1, violations: 1 });
  });

  it('tells no driver an answer that is longer than its room', async () => {
    const { channel, broken } = await open(() => new Uint8Array(3));
    const guest = await Guest.greeted(channel);
    guest.command(1, new Uint8Array(1), 2);
    await guest.message(BROKEN);
    expect(broken).toEqual(['the device answered 3 bytes into 2']);
  });

  it('carries the largest command and the largest answer there may be, and refuses to send a larger one', async () => {
    const { channel } = await open((request) => request);
    const client = await channel.connect();
    const large = new Uint8Array(MAX_SERIAL_BYTES).map((_, index) => index * 7);
    expect(Buffer.compare(await client.send([large], MAX_SERIAL_BYTES), large)).toBe(0);
    for (const [bytes, room] of [
      [MAX_SERIAL_BYTES + 1, 1],
      [1, MAX_SERIAL_BYTES + 1],
    ] as const) {
      await expect(client.send([new Uint8Array(bytes)], room)).rejects.toMatchObject({ name: 'XdpbedError' });
    }
    expect(channel.statistics.violations).toBe(0);
  });
});

describe('a hostile guest', () => {
  it('is not read from while it does not take its answers', async () => {
    const { channel } = await open((_request, room) => new Uint8Array(room));
    const guest = await Guest.greeted(channel);
    guest.socket.pause();
    // 64 answers of 1 MiB, of which no socket's buffer holds many.
    for (let number = 1; number <= 64; number++) guest.command(number, new Uint8Array(0), MAX_SERIAL_BYTES);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(channel.statistics.commands).toBeLessThan(8);
    guest.socket.resume();
    for (let number = 1; number <= 64; number++) {
      expect((await guest.message(ANSWER)).number).toBe(number);
    }
  });

  it('leaves others their turn while it sends commands without end', async () => {
    let turns = 0;
    let counting = true;
    const count = (): void => {
      turns++;
      if (counting) setImmediate(count);
    };
    const { channel } = await open(() => new Uint8Array(0));
    const guest = await Guest.greeted(channel);
    setImmediate(count);
    const messages = Array.from({ length: 6400 }, (_, index) =>
      encodeSerialMessage(COMMAND, index + 1, [], 0),
    );
    guest.socket.write(Buffer.concat(messages));
    await until(() => channel.statistics.commands === 6400);
    counting = false;
    // 64 at a turn at most.
    expect(turns).toBeGreaterThanOrEqual(90);
  });

  it('costs nothing but its channel, whatever it sends (fuzz)', async () => {
    const message = fc
      .record({
        kind: fc.integer({ min: 0, max: 6 }),
        number: fc.oneof(fc.integer({ min: 0, max: 4 }), fc.nat(0xffff_ffff)),
        length: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.nat(0xffff_ffff)),
        room: fc.oneof(fc.integer({ min: 0, max: 64 }), fc.nat(0xffff_ffff)),
        bytes: fc.uint8Array({ maxLength: 48 }),
      })
      .map(({ kind, number, length, room, bytes }) =>
        Buffer.concat([header(kind, number, length, room), bytes]),
      );
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
      message,
      fc
        .constantFrom(encodeSerialMessage(HELLO, 0), encodeSerialMessage(HELLO, 1))
        .map((bytes) => Buffer.from(bytes)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 24 }), async (pieces) => {
        const rooms: boolean[] = [];
        const { channel } = await open((request, room) => {
          rooms.push(request.length <= MAX_SERIAL_BYTES && room <= MAX_SERIAL_BYTES);
          return request.subarray(0, room);
        });
        const guest = await Guest.of(channel);
        for (const bytes of pieces) guest.socket.write(bytes);
        guest.socket.destroy();
        await new Promise((resolve) => guest.socket.once('close', resolve));
        channel.reset();
        // An honest driver is served as if nothing had been.
        const client = await connectAgain(channel);
        expect(await client.send([Uint8Array.of(1, 2, 3)], 3)).toEqual(Uint8Array.of(1, 2, 3));
        expect(rooms).not.toContain(false);
        client.close();
        await channel.close();
      }),
      { numRuns: 150, seed: 9 },
    );
  });
});

function header(kind: number, number: number, length: number, room: number): Buffer {
  const bytes = Buffer.from([0x58, 0x56, 0x43, kind, ...new Uint8Array(12)]);
  bytes.writeUint32LE(number, 4);
  bytes.writeUint32LE(length, 8);
  bytes.writeUint32LE(room, 12);
  return bytes;
}

/** A driver, as soon as the channel has noticed that the one before is gone. */
async function connectAgain(channel: ControlSocketChannel): Promise<SerialControlDriver> {
  for (;;) {
    const client = (await channel.connect()) as SerialControlDriver;
    try {
      await client.send([new Uint8Array(0)], 0);
      return client;
    } catch {
      client.close();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}
