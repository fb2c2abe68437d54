/** UDP: source port 2 · destination port 2 · length 2 · checksum 2 (RFC 768). */

import { readU16, writeU16 } from './network-order.js';

export const UDP_HEADER_BYTES = 8;

export interface UdpHeader {
  readonly srcPort: number;
  readonly dstPort: number;
  /** Header and payload, in bytes. */
  readonly length: number;
  /** 0: the sender computed none. */
  readonly checksum: number;
}

/** The header at `offset`, or undefined when fewer than 8 bytes are left. */
export function readUdp(bytes: Uint8Array, offset = 0): UdpHeader | undefined {
  if (offset + UDP_HEADER_BYTES > bytes.length) return undefined;
  return {
    srcPort: readU16(bytes, offset),
    dstPort: readU16(bytes, offset + 2),
    length: readU16(bytes, offset + 4),
    checksum: readU16(bytes, offset + 6),
  };
}

/** Writes 8 bytes at `offset`, the checksum as given: it covers the payload, which may not be there yet. */
export function writeUdp(bytes: Uint8Array, offset: number, header: UdpHeader): void {
  writeU16(bytes, offset, header.srcPort);
  writeU16(bytes, offset + 2, header.dstPort);
  writeU16(bytes, offset + 4, header.length);
  writeU16(bytes, offset + 6, header.checksum);
}
