/** IPv4 (RFC 791, section 3.1). */

import { XdpbedError } from '../core/diagnostic.js';
import { internetChecksum } from './checksum.js';
import { readU16, writeU16 } from './network-order.js';

/** The header without options. */
export const IPV4_MIN_HEADER_BYTES = 20;
export const IPV4_MAX_OPTION_BYTES = 40;

/** IANA protocol numbers, which IPv6 shares as its next headers. */
export const IP_PROTOCOL = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ICMPV6: 58,
} as const;

export interface Ipv4Header {
  /** Must be 4 in a valid packet; reported as it is found. */
  readonly version: number;
  /** IHL in bytes: 20 to 60 in a valid packet. */
  readonly headerLength: number;
  readonly dscp: number;
  readonly ecn: number;
  /** Header and payload, in bytes. */
  readonly totalLength: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly checksum: number;
  readonly src: string;
  readonly dst: string;
  /** As they lie in the header, padding included; as many of them as the input still has. */
  readonly options: Uint8Array;
}

/**
 * Reads dotted decimal: four numbers without leading zeros, which some readers take for octal.
 * @throws XdpbedError `packet-invalid`
 */
export function parseIpv4Address(text: string): Uint8Array {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) {
    throw new XdpbedError('packet-invalid', `"${text}" is not an IPv4 address`, {
      hint: 'four numbers of 0 to 255, as in 192.0.2.1',
    });
  }
  return Uint8Array.from(parts, Number);
}

export function formatIpv4Address(bytes: Uint8Array, offset = 0): string {
  return bytes.subarray(offset, offset + 4).join('.');
}

/** The header at `offset`, or undefined when fewer than 20 bytes are left. Judges nothing. */
export function readIpv4(bytes: Uint8Array, offset = 0): Ipv4Header | undefined {
  if (offset + IPV4_MIN_HEADER_BYTES > bytes.length) return undefined;
  const headerLength = (bytes[offset]! & 0xf) * 4;
  const fragment = readU16(bytes, offset + 6);
  return {
    version: bytes[offset]! >> 4,
    headerLength,
    dscp: bytes[offset + 1]! >> 2,
    ecn: bytes[offset + 1]! & 3,
    totalLength: readU16(bytes, offset + 2),
    id: readU16(bytes, offset + 4),
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    ttl: bytes[offset + 8]!,
    protocol: bytes[offset + 9]!,
    checksum: readU16(bytes, offset + 10),
    src: formatIpv4Address(bytes, offset + 12),
    dst: formatIpv4Address(bytes, offset + 16),
    options: bytes.subarray(
      offset + IPV4_MIN_HEADER_BYTES,
      offset + Math.max(headerLength, IPV4_MIN_HEADER_BYTES),
    ),
  };
}

/** What {@link writeIpv4} needs: version and header length follow, the checksum is computed unless given. */
export type Ipv4Fields = Omit<Ipv4Header, 'version' | 'headerLength' | 'checksum'> & {
  readonly checksum?: number | undefined;
};

/**
 * Writes the header at `offset` and returns its length in bytes.
 * @throws XdpbedError `packet-invalid` for a malformed address or options that do not fit
 */
export function writeIpv4(bytes: Uint8Array, offset: number, header: Ipv4Fields): number {
  if (header.options.length % 4 !== 0 || header.options.length > IPV4_MAX_OPTION_BYTES) {
    throw new XdpbedError(
      'packet-invalid',
      `${header.options.length} bytes of IPv4 options are not a multiple of 4 up to ${IPV4_MAX_OPTION_BYTES}`,
    );
  }
  const length = IPV4_MIN_HEADER_BYTES + header.options.length;
  bytes[offset] = 0x40 | (length / 4);
  bytes[offset + 1] = (header.dscp << 2) | header.ecn;
  writeU16(bytes, offset + 2, header.totalLength);
  writeU16(bytes, offset + 4, header.id);
  const flags = (header.dontFragment ? 0x4000 : 0) | (header.moreFragments ? 0x2000 : 0);
  writeU16(bytes, offset + 6, flags | (header.fragmentOffset >> 3));
  bytes[offset + 8] = header.ttl;
  bytes[offset + 9] = header.protocol;
  writeU16(bytes, offset + 10, 0);
  bytes.set(parseIpv4Address(header.src), offset + 12);
  bytes.set(parseIpv4Address(header.dst), offset + 16);
  bytes.set(header.options, offset + IPV4_MIN_HEADER_BYTES);
  writeU16(bytes, offset + 10, header.checksum ?? internetChecksum(bytes, offset, offset + length));
  return length;
}
