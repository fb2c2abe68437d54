import { freshCopy } from '../../../src/core/fresh-bytes.js';
import { formatMac } from '../../../src/packet/mac-address.js';
import { buildFrame, IP_PROTOCOL, updateChecksum } from '../../../src/packet/index.js';
import { SENDER_MAC } from '../../../src/core/contract/workload.js';
import type { GuestNicPlan } from '../../../src/core/contract/plan.js';

/*
 *   0          14        34         54 (TCP only)   66
 *   | Ethernet | IPv4    | UDP 8    | payload …
 *   |          |         | TCP 20   | options 12    | payload …
 *
 * All frames of an exchange are of this form: no tags, no IP options, and of TCP the time stamps that Linux negotiates.
 */
const IP = 14;
const TRANSPORT = IP + 20;
const UDP_PAYLOAD = TRANSPORT + 8;
const TCP_PAYLOAD = TRANSPORT + 20 + 12;
/** Bytes of TCP's payload in a frame of an MTU of 1500. */
export const MAX_SEGMENT = 1500 + IP - TCP_PAYLOAD;
/** NOP, NOP, time stamps (RFC 7323). The model has no use for them but their room. */
const TIME_STAMPS = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0);
/** What a field of 16 bits has to be multiplied by to say how large a window is (RFC 7323), as a shift. */
const WINDOW_SHIFT = 8;

const CLIENT_PORT = 40_000;
/** netserver's data port is any; this one is its control port. */
const SERVER_PORT = 12_865;

export type Protocol = 'udp' | 'tcp';
/** Towards the server in the guest, or towards the client at the other end of the wire. */
export type Direction = 'to-server' | 'to-client';

/** What of a TCP frame its receiver looks at. */
export interface SegmentFields {
  /** Modulo 2^32. */
  readonly seq: number;
  readonly ack: number;
  /** Bytes that its sender has room for, from `ack` on. */
  readonly window: number;
  /** Bytes of payload. */
  readonly length: number;
}

/** Makes the frames of one stream in one direction. Payloads are zeros. */
export class FrameMaker {
  readonly #templates = new Map<number, Uint8Array>();

  constructor(
    readonly protocol: Protocol,
    readonly direction: Direction,
    readonly stream: number,
    readonly guest: Pick<GuestNicPlan, 'mac' | 'ipv4'>,
  ) {}

  /** A UDP message of so many bytes. Equal ones are the same. */
  message(bytes: number): Uint8Array {
    return this.#template(bytes);
  }

  /** A TCP segment, with the right checksum. */
  segment({ seq, ack, window, length }: SegmentFields): Uint8Array {
    const frame = freshCopy(this.#template(length));
    let checksum = u16(frame, TRANSPORT + 16);
    const put = (offset: number, value: number): void => {
      checksum = updateChecksum(checksum, u16(frame, offset), value);
      frame[offset] = value >> 8;
      frame[offset + 1] = value & 0xff;
    };
    put(TRANSPORT + 4, seq >>> 16);
    put(TRANSPORT + 6, seq & 0xffff);
    put(TRANSPORT + 8, ack >>> 16);
    put(TRANSPORT + 10, ack & 0xffff);
    put(TRANSPORT + 14, Math.min(0xffff, window >> WINDOW_SHIFT));
    frame[TRANSPORT + 16] = checksum >> 8;
    frame[TRANSPORT + 17] = checksum & 0xff;
    return frame;
  }

  #template(payload: number): Uint8Array {
    let template = this.#templates.get(payload);
    if (template === undefined) this.#templates.set(payload, (template = this.#build(payload)));
    return template;
  }

  #build(bytes: number): Uint8Array {
    const { protocol, direction, stream, guest } = this;
    const there = { mac: formatMac(SENDER_MAC), ipv4: peerOf(guest.ipv4), port: CLIENT_PORT + stream };
    const here = { mac: guest.mac, ipv4: guest.ipv4, port: SERVER_PORT };
    const [from, to] = direction === 'to-server' ? [there, here] : [here, there];
    const ports = { srcPort: from.port, dstPort: to.port };
    return buildFrame({
      eth: { src: from.mac, dst: to.mac },
      ipv4: { src: from.ipv4, dst: to.ipv4, dontFragment: true },
      ...(protocol === 'udp'
        ? { udp: ports }
        : { tcp: { ...ports, flags: ['ACK'], window: 0, options: TIME_STAMPS } }),
      payload: new Uint8Array(bytes),
    });
  }
}

/** The other address of the network of two that the guest's is in (RFC 3021). */
function peerOf(ipv4: string): string {
  const bytes = ipv4.split('.').map(Number);
  return [...bytes.slice(0, 3), bytes[3]! ^ 1].join('.');
}

/**
 * Which stream a frame is of, by the client's port; undefined for one that is of no exchange, or that a stack would not take:
 * programs may have changed it.
 */
export function streamOf(frame: Uint8Array, direction: Direction): number | undefined {
  if (!isSound(frame)) return undefined;
  const [client, server] = direction === 'to-server' ? [0, 2] : [2, 0];
  if (u16(frame, TRANSPORT + server) !== SERVER_PORT) return undefined;
  return u16(frame, TRANSPORT + client) - CLIENT_PORT;
}

/** Whether a frame is of the form that those of exchanges have, with lengths that fit into each other. */
function isSound(frame: Uint8Array): boolean {
  if (frame.length < UDP_PAYLOAD || frame[12] !== 8 || frame[13] !== 0 || frame[IP] !== 0x45) return false;
  const end = IP + u16(frame, IP + 2);
  if (end > frame.length) return false;
  switch (frame[IP + 9]) {
    case IP_PROTOCOL.UDP: {
      const length = u16(frame, TRANSPORT + 4);
      return length >= 8 && TRANSPORT + length <= end;
    }
    case IP_PROTOCOL.TCP:
      return end >= TCP_PAYLOAD && frame[TRANSPORT + 12]! >> 4 === 8;
    default:
      return false;
  }
}

/** Bytes of a UDP message. */
export function messageBytes(frame: Uint8Array): number {
  return u16(frame, TRANSPORT + 4) - 8;
}

export function readSegment(frame: Uint8Array): SegmentFields {
  return {
    seq: u32(frame, TRANSPORT + 4),
    ack: u32(frame, TRANSPORT + 8),
    window: u16(frame, TRANSPORT + 14) << WINDOW_SHIFT,
    length: IP + u16(frame, IP + 2) - TCP_PAYLOAD,
  };
}

/** The bytes of TCP payload that a frame carries and GRO may merge; 0 for a frame that is nothing for it. */
export function mergeableBytes(frame: Uint8Array): number {
  return isSound(frame) && frame[IP + 9] === IP_PROTOCOL.TCP ? IP + u16(frame, IP + 2) - TCP_PAYLOAD : 0;
}

/** Whether one goes on where the other ends, in the same stream. */
export function goesOn(first: Uint8Array, bytes: number, next: Uint8Array): boolean {
  for (let at = IP + 12; at < TRANSPORT + 4; at++) if (first[at] !== next[at]) return false;
  const { seq, ack } = readSegment(next);
  const before = readSegment(first);
  return seq === (before.seq + bytes) >>> 0 && ack === before.ack;
}

/**
 * One frame with the payload of several that follow each other, as GRO makes it. TCP's checksum is left to whoever
 * segments it (CHECKSUM_PARTIAL): here it is the first one's.
 */
export function mergeSegments(frames: readonly Uint8Array[]): Uint8Array {
  const payload = frames.reduce((sum, frame) => sum + mergeableBytes(frame), 0);
  const merged = new Uint8Array(TCP_PAYLOAD + payload);
  merged.set(frames[0]!.subarray(0, TCP_PAYLOAD));
  let at = TCP_PAYLOAD;
  for (const frame of frames) {
    const bytes = frame.subarray(TCP_PAYLOAD, TCP_PAYLOAD + mergeableBytes(frame));
    merged.set(bytes, at);
    at += bytes.length;
  }
  const length = TCP_PAYLOAD + payload - IP;
  const checksum = updateChecksum(u16(merged, IP + 10), u16(merged, IP + 2), length);
  merged[IP + 2] = length >> 8;
  merged[IP + 3] = length & 0xff;
  merged[IP + 10] = checksum >> 8;
  merged[IP + 11] = checksum & 0xff;
  return merged;
}

/** Bytes of TCP's payload in the longest frame that GRO and TSO make: an IP packet of 65,535 bytes, in whole segments. */
export const MAX_MERGED = Math.floor((65_535 + IP - TCP_PAYLOAD) / MAX_SEGMENT) * MAX_SEGMENT;

function u16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

function u32(bytes: Uint8Array, offset: number): number {
  return u16(bytes, offset) * 0x10000 + u16(bytes, offset + 2);
}
