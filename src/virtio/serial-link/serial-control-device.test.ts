import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
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
