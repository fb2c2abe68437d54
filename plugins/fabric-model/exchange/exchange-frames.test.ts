import { describe, expect, it } from 'vitest';
import { dissect, internetChecksum } from '../../../src/packet/index.js';
import {
  FrameMaker,
  goesOn,
  MAX_MERGED,
  MAX_SEGMENT,
  mergeableBytes,
  mergeSegments,
  messageBytes,
  readSegment,
  streamOf,
} from './exchange-frames.js';

const GUEST = { mac: '52:54:00:00:01:00', ipv4: '192.0.2.10' };
const make = (protocol: 'udp' | 'tcp', direction: 'to-server' | 'to-client', stream = 0): FrameMaker =>
  new FrameMaker(protocol, direction, stream, GUEST);
/** What is left of a packet's checksum when it is right: 0. */
const tcpRest = (frame: Uint8Array): number => {
  const length = frame.length - 34;
  const pseudo = [26, 28, 30, 32].reduce((sum, at) => sum + frame[at]! * 256 + frame[at + 1]!, 6 + length);
  return internetChecksum(frame, 34, frame.length, pseudo);
};

describe('the frames of an exchange', () => {
  it('are what the wire carries: 1472 bytes of UDP or 1448 of TCP in 1514', () => {
    expect(make('udp', 'to-server').message(1472)).toHaveLength(1514);
    expect(MAX_SEGMENT).toBe(1448);
    const full = make('tcp', 'to-server').segment({ seq: 0, ack: 0, window: 0, length: MAX_SEGMENT });
    expect(full).toHaveLength(1514);
    // RFC 791: 65,535 bytes of IP packet; 45 segments.
    expect(MAX_MERGED).toBe(45 * 1448);
  });

  it('of TCP say what they were made of, with the right checksums', () => {
    const maker = make('tcp', 'to-server', 3);
    for (const fields of [
      { seq: 0, ack: 0, window: 0, length: 1 },
      { seq: 0xfffffa58, ack: 0x80000000, window: 256 * 1024, length: 1448 },
      { seq: 1, ack: 0xffffffff, window: 65_535 * 256, length: 0 },
    ]) {
      const frame = maker.segment(fields);
      expect(readSegment(frame)).toEqual(fields);
      expect(tcpRest(frame)).toBe(0);
      expect(internetChecksum(frame, 14, 34)).toBe(0);
      expect(streamOf(frame, 'to-server')).toBe(3);
      expect(streamOf(frame, 'to-client')).toBeUndefined();
    }
  });

  it('of UDP say how long they are, padding or not', () => {
    const frame = make('udp', 'to-client', 15).message(1);
    expect(frame).toHaveLength(60);
    expect(messageBytes(frame)).toBe(1);
    expect(streamOf(frame, 'to-client')).toBe(15);
    expect(streamOf(new Uint8Array(20), 'to-server')).toBeUndefined();
  });
});

describe('a frame that a program has changed', () => {
  it.each([
    ['cut short', 'tcp', (frame: Uint8Array) => frame.subarray(0, 200)],
    ['without IP', 'udp', (frame: Uint8Array) => frame.fill(0, 12, 14)],
    ['of another protocol', 'udp', (frame: Uint8Array) => frame.fill(1, 23, 24)],
    ['with a UDP length of less than a header', 'udp', (frame: Uint8Array) => frame.fill(0, 38, 40)],
    ['with a UDP length beyond its end', 'udp', (frame: Uint8Array) => frame.fill(0xff, 38, 40)],
    ['with an IP length beyond its end', 'tcp', (frame: Uint8Array) => frame.fill(0xff, 16, 18)],
    ['with an IP length of nothing', 'tcp', (frame: Uint8Array) => frame.fill(0, 16, 18)],
    ['with other TCP options', 'tcp', (frame: Uint8Array) => frame.fill(0x50, 46, 47)],
  ] as const)('%s is of no stream, and nothing to merge', (_, protocol, change) => {
    const maker = make(protocol, 'to-server');
    const frame =
      protocol === 'udp'
        ? maker.message(300).slice()
        : maker.segment({ seq: 0, ack: 0, window: 0, length: 300 });
    expect(streamOf(frame, 'to-server')).toBe(0);
    const changed = change(frame);
    expect(streamOf(changed, 'to-server')).toBeUndefined();
    expect(mergeableBytes(changed)).toBe(0);
  });
});

describe('merging', () => {
  const maker = make('tcp', 'to-server');
  const at = (seq: number, length = MAX_SEGMENT, ack = 7): Uint8Array =>
    maker.segment({ seq, ack, window: 0, length });

  it('is for TCP that carries something', () => {
    expect(mergeableBytes(at(0))).toBe(1448);
    // Padded to 60 bytes it is still nothing.
    expect(mergeableBytes(at(0, 0))).toBe(0);
    expect(mergeableBytes(make('udp', 'to-server').message(1472))).toBe(0);
  });

  it('is for segments of one stream that follow each other, and acknowledge the same', () => {
    expect(goesOn(at(0), 1448, at(1448))).toBe(true);
    expect(goesOn(at(0), 2896, at(2896))).toBe(true);
    expect(goesOn(at(0xfffffff0), 1448, at(1432))).toBe(true);
    expect(goesOn(at(0), 1448, at(2896))).toBe(false);
    expect(goesOn(at(0), 1448, at(1448, 1448, 8))).toBe(false);
    const other = make('tcp', 'to-server', 1).segment({ seq: 1448, ack: 7, window: 0, length: 1448 });
    expect(goesOn(at(0), 1448, other)).toBe(false);
  });

  it('makes one packet of all their bytes', () => {
    const parts = Array.from({ length: 45 }, (_, index) => {
      const part = at(index * 1448);
      part.fill(index + 1, 66);
      return part;
    });
    const merged = mergeSegments(parts);
    expect(merged).toHaveLength(66 + MAX_MERGED);
    expect(readSegment(merged)).toEqual({ seq: 0, ack: 7, window: 0, length: MAX_MERGED });
    expect(internetChecksum(merged, 14, 34)).toBe(0);
    expect(merged.subarray(66 + 44 * 1448).every((byte) => byte === 45)).toBe(true);
    expect(dissect(merged)).toBeDefined();
  });
});
