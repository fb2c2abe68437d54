import { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ControlHandler } from '../net-link/control-link.js';
import { SerialControlDevice } from './serial-control-device.js';
import { encodeSerialMessage, SERIAL_KIND } from './serial-messages.js';

const { HELLO, COMMAND } = SERIAL_KIND;

/** Sends `count` commands of `bytes` bytes in one piece: how many were carried out by the end of each turn. */
async function turns(
  count: number,
  bytes: number,
  handler: ControlHandler,
  now?: () => number,
): Promise<number[]> {
  const device = new SerialControlDevice('g', { now });
  const stream = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  device.attach(stream);
  let carriedOut = 0;
  device.serve((request, room) => {
    carriedOut++;
    return handler(request, room);
  });
  await new Promise((resolve) => setImmediate(resolve));
  const commands = Array.from({ length: count }, (_, index) =>
    encodeSerialMessage(COMMAND, index + 1, [new Uint8Array(bytes)], 1),
  );
  stream.push(Buffer.concat([encodeSerialMessage(HELLO, 1), ...commands]));
  for (let microtask = 0; microtask < 10 * count; microtask++) await Promise.resolve();
  const seen = [carriedOut];
  for (let turn = 0; carriedOut < count && turn < 1000; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(carriedOut);
  }
  expect(carriedOut).toBe(count);
  expect(device.status).toMatchObject({ violations: 0, isDown: false });
  device.close();
  return seen;
}

const largestStep = (seen: number[]): number =>
  Math.max(...seen.map((carriedOut, index) => carriedOut - (seen[index - 1] ?? 0)));

describe("the device's end of a serial control channel", () => {
  it.each<[string, ControlHandler]>([
    ['at once', (_request, room) => new Uint8Array(room)],
    ['in a microtask', async (_request, room) => new Uint8Array(room)],
  ])('gives others their turn after 64 messages that are answered %s', async (_when, handler) => {
    expect(largestStep(await turns(300, 1, handler, () => 0))).toBeLessThanOrEqual(64);
  });

  it('gives others their turn after 2 ms of work', async () => {
    let now = 0;
    const seen = await turns(
      9,
      1,
      (_request, room) => {
        now += 1;
        return new Uint8Array(room);
      },
      () => now,
    );
    // The HELLO was looked at in the first turn as well, and took no time.
    expect(seen).toEqual([2, 4, 6, 8, 9]);
  });

  it('gives others their turn after 256 KiB of commands', async () => {
    const seen = await turns(
      6,
      100 * 1024,
      (_request, room) => new Uint8Array(room),
      () => 0,
    );
    expect(seen).toEqual([3, 6]);
  });
});

describe('the time that a driver has', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => void vi.useRealTimers());

  const STALL_MS = 1000;

  /** A device that answers at once, and what a driver writes to it now. */
  function setUp() {
    const device = new SerialControlDevice('g', { stallMs: STALL_MS });
    const stream = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    device.attach(stream);
    device.serve((_request, room) => new Uint8Array(room));
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const send = async (bytes: Uint8Array): Promise<void> => {
      if (!stream.destroyed) stream.push(bytes);
      await turn();
      await turn();
    };
    return { device, stream, send };
  }

  const badHello = encodeSerialMessage(HELLO, 1, [new Uint8Array(1)]);
  it.each<[string, Uint8Array]>([
    ['of another epoch', encodeSerialMessage(HELLO, 7)],
    ['with a length', badHello.subarray(0, -1)],
    ['with room for an answer', encodeSerialMessage(HELLO, 1, [], 1)],
    ['of all these kinds', Buffer.concat([encodeSerialMessage(HELLO, 7), badHello, Uint8Array.of(1, 2)])],
  ])('to greet does not begin anew with a greeting %s', async (_what, bytes) => {
    const { stream, send } = setUp();
    for (let sent = 0; sent < 9; sent++) {
      await send(bytes);
      vi.advanceTimersByTime(STALL_MS / 10);
    }
    expect(stream.destroyed).toBe(false);
    await send(bytes);
    vi.advanceTimersByTime(STALL_MS / 10);
    expect(stream.destroyed).toBe(true);
  });

  it('is its own again once it has greeted, with each command, and after a reset of the device', async () => {
    const { device, stream, send } = setUp();
    vi.advanceTimersByTime(STALL_MS - 1);
    await send(encodeSerialMessage(HELLO, 1));
    vi.advanceTimersByTime(10 * STALL_MS);
    const command = encodeSerialMessage(COMMAND, 1, [new Uint8Array(4)], 1);
    await send(command.subarray(0, -1));
    vi.advanceTimersByTime(STALL_MS - 1);
    await send(command.subarray(-1));
    vi.advanceTimersByTime(10 * STALL_MS);
    expect([device.statistics.commands, stream.destroyed]).toEqual([1, false]);
    // It has to greet again from here on, and is to have its time for that each time.
    device.reset();
    vi.advanceTimersByTime(STALL_MS - 1);
    device.reset();
    vi.advanceTimersByTime(STALL_MS - 1);
    expect(stream.destroyed).toBe(false);
    vi.advanceTimersByTime(1);
    expect(stream.destroyed).toBe(true);
  });

  it('to greet anew is whole for a driver that was started anew', async () => {
    const { stream, send } = setUp();
    await send(encodeSerialMessage(HELLO, 1));
    const again = encodeSerialMessage(HELLO, 0);
    await send(again.subarray(0, 9));
    vi.advanceTimersByTime(STALL_MS - 1);
    await send(again.subarray(9));
    vi.advanceTimersByTime(STALL_MS - 1);
    expect(stream.destroyed).toBe(false);
    vi.advanceTimersByTime(1);
    expect(stream.destroyed).toBe(true);
  });
});
