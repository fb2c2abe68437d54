/** Ethernet II headers: dst 6 · src 6 · EtherType 2 (IEEE 802.3, 3.2). The FCS is never part of a frame here. */

import { formatMac, parseMac } from './mac-address.js';
import { readU16, writeU16 } from './network-order.js';

export const ETHERNET_HEADER_BYTES = 14;
/** The shortest frame as a driver sees it. With the FCS that is 64 bytes, the "64-byte packet" of benchmarks. */
export const ETHERNET_MIN_FRAME_BYTES = 60;
/** The longest frame without a tag that carries IPv4, whose total length has 16 bits (RFC 791). */
export const MAX_IPV4_FRAME_BYTES = ETHERNET_HEADER_BYTES + 65_535;
/** The frame check sequence: on the wire, but not in a driver's buffer. */
export const ETHERNET_FCS_BYTES = 4;
/** What a frame costs on the wire beside its own bytes: preamble and SFD 8, FCS 4, inter-packet gap 12. */
export const ETHERNET_WIRE_OVERHEAD_BYTES = 24;

/** EtherType numbers (IEEE registry), as they read in host order. */
export const ETHERTYPE = {
  IPV4: 0x0800,
  ARP: 0x0806,
  VLAN: 0x8100,
  IPV6: 0x86dd,
  /** IEEE 802.1ad service tag, the outer of two. */
  QINQ: 0x88a8,
  /** IEEE 802 local experimental EtherType 1. */
  EXPERIMENTAL: 0x88b5,
} as const;

/** Below this the field is an IEEE 802.3 length, not a type. */
export const ETHERTYPE_MIN = 0x0600;

export interface EthernetHeader {
  readonly dst: string;
  readonly src: string;
  readonly etherType: number;
}

/** The header at `offset`, or undefined when fewer than 14 bytes are left. */
export function readEthernet(bytes: Uint8Array, offset = 0): EthernetHeader | undefined {
  if (offset + ETHERNET_HEADER_BYTES > bytes.length) return undefined;
  return {
    dst: formatMac(bytes, offset),
    src: formatMac(bytes, offset + 6),
    etherType: readU16(bytes, offset + 12),
  };
}

/** Writes 14 bytes at `offset`. @throws XdpbedError `packet-invalid` for a malformed address */
export function writeEthernet(bytes: Uint8Array, offset: number, header: EthernetHeader): void {
  bytes.set(parseMac(header.dst), offset);
  bytes.set(parseMac(header.src), offset + 6);
  writeU16(bytes, offset + 12, header.etherType);
}
