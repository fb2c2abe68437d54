/**
 * The header in front of every frame in a receive or transmit queue (virtio 1.3, 5.1.6): 12 bytes,
 * little-endian. VIRTIO_NET_F_HASH_REPORT, which makes it 20, is not modelled.
 *
 * ```
 *   0      1         2        4         6           8            10           12
 *   | u8   | u8      | u16    | u16     | u16       | u16        | u16        |
 *   | flags| gso_type| hdr_len| gso_size| csum_start| csum_offset| num_buffers|
 * ```
 */

import { XdpbedError } from '../core/diagnostic.js';

/** Bytes; with VERSION_1 always all of them, with or without MRG_RXBUF. */
export const VIRTIO_NET_HDR_BYTES = 12;

export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;
export const VIRTIO_NET_HDR_F_RSC_INFO = 4;

export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
/** A flag within `gso_type`: the TCP packet has ECN set. */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

export interface NetHeader {
  /** VIRTIO_NET_HDR_F_* */
  readonly flags: number;
  /** VIRTIO_NET_HDR_GSO_* */
  readonly gsoType: number;
  /** Bytes of all headers up to the payload; a hint unless GUEST_HDRLEN is negotiated. */
  readonly hdrLen: number;
  /** Bytes of payload per segment (MSS). */
  readonly gsoSize: number;
  /** Byte of the frame at which checksumming starts. */
  readonly csumStart: number;
  /** Bytes after `csumStart` at which the checksum is stored. */
  readonly csumOffset: number;
  /** Received: chains that hold the frame, at least 1. Transmitted: 0. */
  readonly numBuffers: number;
}

/** The header of a frame that needs nothing done to it, on its way to the device. */
export const PLAIN_NET_HEADER: NetHeader = {
  flags: 0,
  gsoType: VIRTIO_NET_HDR_GSO_NONE,
  hdrLen: 0,
  gsoSize: 0,
  csumStart: 0,
  csumOffset: 0,
  numBuffers: 0,
};

/** @throws XdpbedError `virtio-violation` when a value does not fit its field */
export function encodeNetHeader(header: NetHeader): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_NET_HDR_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, fits(header.flags, 0xff, 'flags'));
  view.setUint8(1, fits(header.gsoType, 0xff, 'gso_type'));
  view.setUint16(2, fits(header.hdrLen, 0xffff, 'hdr_len'), true);
  view.setUint16(4, fits(header.gsoSize, 0xffff, 'gso_size'), true);
  view.setUint16(6, fits(header.csumStart, 0xffff, 'csum_start'), true);
  view.setUint16(8, fits(header.csumOffset, 0xffff, 'csum_offset'), true);
  view.setUint16(10, fits(header.numBuffers, 0xffff, 'num_buffers'), true);
  return bytes;
}

/** The header at byte `at` of `bytes`, or `undefined` when there are fewer than 12. Judges no value. */
export function decodeNetHeader(bytes: Uint8Array, at = 0): NetHeader | undefined {
  if (bytes.length - at < VIRTIO_NET_HDR_BYTES) return undefined;
  // Once per frame and direction: byte by byte costs less than a DataView.
  return {
    flags: bytes[at]!,
    gsoType: bytes[at + 1]!,
    hdrLen: readU16(bytes, at + 2),
    gsoSize: readU16(bytes, at + 4),
    csumStart: readU16(bytes, at + 6),
    csumOffset: readU16(bytes, at + 8),
    numBuffers: readU16(bytes, at + 10),
  };
}

/** Little-endian. */
function readU16(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8);
}

/** What a device can find wrong with the header of a transmitted frame (virtio 1.3, 5.1.6.2). */
export const NET_HEADER_PROBLEMS = {
  'csum-outside-frame': 'the checksum field, or where checksumming starts, is not in the frame',
  'gso-type-unknown': 'gso_type is none of the defined types',
  'gso-without-csum': 'gso_type is set without NEEDS_CSUM',
  'gso-size-zero': 'gso_type is set with a gso_size of 0',
} as const;

export type NetHeaderProblem = keyof typeof NET_HEADER_PROBLEMS;

const GSO_TYPES: ReadonlySet<number> = new Set([
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
]);

/**
 * What a device checks before it acts on the header of a transmitted frame of `frameBytes` bytes (without
 * the header). Flags that it does not know and fields that are not in use are ignored, as the spec demands.
 */
export function checkTransmitHeader(header: NetHeader, frameBytes: number): NetHeaderProblem | undefined {
  const needsCsum = (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
  // The checksum field has two bytes.
  if (needsCsum && header.csumStart + header.csumOffset + 2 > frameBytes) return 'csum-outside-frame';
  const gsoType = header.gsoType & ~VIRTIO_NET_HDR_GSO_ECN;
  if (!GSO_TYPES.has(gsoType)) return 'gso-type-unknown';
  if (gsoType === VIRTIO_NET_HDR_GSO_NONE) return undefined;
  if (!needsCsum) return 'gso-without-csum';
  return header.gsoSize === 0 ? 'gso-size-zero' : undefined;
}

function fits(value: number, max: number, field: string): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new XdpbedError('virtio-violation', `${field} ${value} is not an integer from 0 to ${max}`);
}
