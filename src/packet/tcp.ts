/** TCP headers (RFC 9293, section 3.1). */

import { XdpbedError } from '../core/diagnostic.js';
import { readU16, readU32, writeU16, writeU32 } from './network-order.js';

/** The header without options. */
export const TCP_MIN_HEADER_BYTES = 20;
export const TCP_MAX_OPTION_BYTES = 40;

export const TCP_FLAG = {
  FIN: 0x01,
  SYN: 0x02,
  RST: 0x04,
  PSH: 0x08,
  ACK: 0x10,
  URG: 0x20,
  ECE: 0x40,
  CWR: 0x80,
} as const;

export type TcpFlagName = keyof typeof TCP_FLAG;

export interface TcpHeader {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  /** Data offset in bytes: 20 to 60 in a valid segment. */
  readonly headerLength: number;
  /** The eight bits of {@link TCP_FLAG}. */
  readonly flags: number;
  readonly window: number;
  readonly checksum: number;
  readonly urgent: number;
  /** As they lie in the header, padding included; as many of them as the input still has. */
  readonly options: Uint8Array;
}

/** The header at `offset`, or undefined when fewer than 20 bytes are left. Judges nothing. */
export function readTcp(bytes: Uint8Array, offset = 0): TcpHeader | undefined {
  if (offset + TCP_MIN_HEADER_BYTES > bytes.length) return undefined;
  const headerLength = (bytes[offset + 12]! >> 4) * 4;
  return {
    srcPort: readU16(bytes, offset),
    dstPort: readU16(bytes, offset + 2),
    seq: readU32(bytes, offset + 4),
    ack: readU32(bytes, offset + 8),
    headerLength,
    flags: bytes[offset + 13]!,
    window: readU16(bytes, offset + 14),
    checksum: readU16(bytes, offset + 16),
    urgent: readU16(bytes, offset + 18),
    options: bytes.subarray(
      offset + TCP_MIN_HEADER_BYTES,
      offset + Math.max(headerLength, TCP_MIN_HEADER_BYTES),
    ),
  };
}

/**
 * Writes the header at `offset`, the checksum as given, and returns its length in bytes.
 * @throws XdpbedError `packet-invalid` for options that do not fit
 */
export function writeTcp(bytes: Uint8Array, offset: number, header: Omit<TcpHeader, 'headerLength'>): number {
  if (header.options.length % 4 !== 0 || header.options.length > TCP_MAX_OPTION_BYTES) {
    throw new XdpbedError(
      'packet-invalid',
      `${header.options.length} bytes of TCP options are not a multiple of 4 up to ${TCP_MAX_OPTION_BYTES}`,
    );
  }
  const length = TCP_MIN_HEADER_BYTES + header.options.length;
  writeU16(bytes, offset, header.srcPort);
  writeU16(bytes, offset + 2, header.dstPort);
  writeU32(bytes, offset + 4, header.seq);
  writeU32(bytes, offset + 8, header.ack);
  bytes[offset + 12] = (length / 4) << 4;
  bytes[offset + 13] = header.flags;
  writeU16(bytes, offset + 14, header.window);
  writeU16(bytes, offset + 16, header.checksum);
  writeU16(bytes, offset + 18, header.urgent);
  bytes.set(header.options, offset + TCP_MIN_HEADER_BYTES);
  return length;
}

/** The names of the set flags in the order of RFC 9293, lowest bit first. */
export function tcpFlagNames(flags: number): TcpFlagName[] {
  return (Object.keys(TCP_FLAG) as TcpFlagName[]).filter((name) => (flags & TCP_FLAG[name]) !== 0);
}
