import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../../src/core/clock/virtual-clock.js';
import { costModel, readCalibration } from '../../../src/core/cost-model/index.js';
import { Timing } from '../timing.js';
import { FrameMaker, MAX_SEGMENT, readSegment } from './exchange-frames.js';
import type { SocketHost } from './socket.js';
import { TcpSocket } from './tcp-socket.js';

const bytes = readFileSync(new URL('../../../testbeds/calibration/rfc-2019.yaml', import.meta.url));
const COSTS = costModel(readCalibration('rfc-2019.yaml', bytes));
const GUEST = { mac: '52:54:00:00:01:00', ipv4: '192.0.2.10' };
const WINDOW = 20 * MAX_SEGMENT;

/** An end whose driver sends at once, or never. */
function end(direction: 'to-server' | 'to-client', longestSegment = 10 * MAX_SEGMENT, leaves = 0) {
  const timing = new Timing(new VirtualClock());
  timing.start(COSTS);
  const sent: Uint8Array[] = [];
  const waiting: (() => void)[] = [];
  const host: SocketHost = {
    timing,
    longestSegment,
    transmit: (frames) => {
      sent.push(...frames);
      return leaves;
    },
    whenSent: (_, done) => waiting.push(done),
  };
  const socket = new TcpSocket(host, new FrameMaker('tcp', direction, 0, GUEST), WINDOW);
  const lengths = (): number[] => sent.map((frame) => readSegment(frame).length);
  return { socket, sent, lengths, waiting };
}

/** Everything that was sent so far comes to the other end. */
function deliver(from: { sent: Uint8Array[] }, to: { socket: TcpSocket }): void {
  for (const frame of from.sent.splice(0)) to.socket.receive(frame);
}

describe('TCP', () => {
  it('sends what is written in whole segments, and of short ones one at a time', () => {
    const client = end('to-server');
    client.socket.write(3 * MAX_SEGMENT + 5);
    expect(client.lengths()).toEqual([MAX_SEGMENT, MAX_SEGMENT, MAX_SEGMENT, 5]);
    client.socket.write(7);
    expect(client.sent).toHaveLength(4);
    client.socket.write(MAX_SEGMENT);
    expect(client.lengths().slice(4)).toEqual([MAX_SEGMENT]);
  });

  it('acknowledges every second full segment, and a request with its answer', () => {
    const [client, server] = [end('to-server'), end('to-client')];
    client.socket.write(4 * MAX_SEGMENT);
    for (const frame of client.sent.splice(0)) server.socket.receive(frame);
    expect(server.sent.map((frame) => readSegment(frame))).toMatchObject([
      { ack: 2 * MAX_SEGMENT, length: 0 },
      { ack: 4 * MAX_SEGMENT, length: 0 },
    ]);
    deliver(server, client);
    expect(server.socket.read(1e6)).toBe(4 * MAX_SEGMENT);
    client.socket.write(1);
    deliver(client, server);
    expect([server.sent.length, server.socket.read(1e6)]).toEqual([0, 1]);
    server.socket.write(1);
    expect(readSegment(server.sent[0]!)).toMatchObject({ ack: 4 * MAX_SEGMENT + 1, length: 1 });
  });

  it('sends no more than the other end has room for, until that reads', () => {
    const [client, server] = [end('to-server'), end('to-client')];
    client.socket.write(30 * MAX_SEGMENT);
    expect(client.sent).toHaveLength(20);
    expect(client.socket.canWrite()).toBe(false);
    deliver(client, server);
    deliver(server, client);
    // All is acknowledged and nothing read.
    expect(client.sent).toHaveLength(0);
    expect(server.socket.read(1e6)).toBe(20 * MAX_SEGMENT);
    expect(server.sent).toHaveLength(1);
    deliver(server, client);
    expect(client.sent).toHaveLength(10);
    expect(client.socket.canWrite()).toBe(true);
  });

  it('has 128 KiB below it at most, and goes on when some have left', () => {
    const busy = end('to-server', 10 * MAX_SEGMENT, 1e12);
    const wide = new TcpSocket(busy.socket.host, new FrameMaker('tcp', 'to-server', 0, GUEST), 1e6);
    wide.write(400_000);
    // Nine times ten segments are 130,320 bytes; ten would be more than 131,072.
    expect(busy.sent).toHaveLength(90);
    expect(busy.waiting).toHaveLength(1);
  });

  it('takes no acknowledgement of what was never sent', () => {
    const client = end('to-server');
    client.socket.write(30 * MAX_SEGMENT);
    expect(client.sent).toHaveLength(20);
    const claim = new FrameMaker('tcp', 'to-client', 0, GUEST);
    client.socket.receive(claim.segment({ seq: 0, ack: 25 * MAX_SEGMENT, window: WINDOW, length: 0 }));
    expect(client.sent).toHaveLength(20);
  });

  it('notices a segment that does not come', () => {
    const [client, server] = [end('to-server'), end('to-client')];
    client.socket.write(3 * MAX_SEGMENT);
    client.sent.splice(1, 1);
    deliver(client, server);
    expect(server.socket.isBroken).toBe(true);
    expect(server.socket.read(1e6)).toBe(MAX_SEGMENT);
  });
});
