import { ETHERNET_HEADER_BYTES, ETHERTYPE } from './ethernet.js';
import { IP_PROTOCOL, IPV4_MIN_HEADER_BYTES } from './ipv4.js';
import { IPV6_EXTENSION, IPV6_HEADER_BYTES } from './ipv6.js';
import { readU16 } from './network-order.js';
import { TCP_MIN_HEADER_BYTES } from './tcp.js';
import { UDP_HEADER_BYTES } from './udp.js';
import { isVlanTpid, VLAN_TAG_BYTES } from './vlan.js';

/** FNV-1a, 32 bits: offset basis and prime. */
const FNV_BASIS = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/**
 * A hash of what makes a flow: IP addresses, and the ports of UDP or TCP. The same for both directions, as tun's
 * automatic queue selection expects: source and destination are combined by xor. Unsigned, 32 bits; a constant for a
 * frame without a whole IP header. Total, as `dissect`, and of the same mind about where headers are, but it makes
 * nothing: a frame passes here at each device with several queues.
 */
export function flowHash(frame: Uint8Array): number {
  if (frame.length < ETHERNET_HEADER_BYTES) return FNV_BASIS;
  let offset = ETHERNET_HEADER_BYTES;
  let etherType = readU16(frame, 12);
  while (isVlanTpid(etherType)) {
    if (offset + VLAN_TAG_BYTES > frame.length) return FNV_BASIS;
    etherType = readU16(frame, offset + 2);
    offset += VLAN_TAG_BYTES;
  }
  if (etherType === ETHERTYPE.IPV4) return hashIpv4(frame, offset);
  if (etherType === ETHERTYPE.IPV6) return hashIpv6(frame, offset);
  return FNV_BASIS;
}

function hashIpv4(frame: Uint8Array, offset: number): number {
  if (offset + IPV4_MIN_HEADER_BYTES > frame.length || frame[offset]! >> 4 !== 4) return FNV_BASIS;
  const headerLength = (frame[offset]! & 0xf) * 4;
  const totalLength = readU16(frame, offset + 2);
  if (headerLength < IPV4_MIN_HEADER_BYTES || totalLength < headerLength) return FNV_BASIS;
  if (offset + headerLength > frame.length) return FNV_BASIS;
  const hash = mixPairs(FNV_BASIS, frame, offset + 12, 4);
  const isFirst = (readU16(frame, offset + 6) & 0x1fff) === 0;
  const end = Math.min(frame.length, offset + totalLength);
  return isFirst ? mixPorts(hash, frame, offset + headerLength, end, frame[offset + 9]!) : hash >>> 0;
}

function hashIpv6(frame: Uint8Array, offset: number): number {
  if (offset + IPV6_HEADER_BYTES > frame.length || frame[offset]! >> 4 !== 6) return FNV_BASIS;
  const hash = mixPairs(FNV_BASIS, frame, offset + 8, 16);
  let at = offset + IPV6_HEADER_BYTES;
  const end = Math.min(frame.length, at + readU16(frame, offset + 4));
  let type = frame[offset + 6]!;
  // Ends: every extension header takes at least 8 bytes of the frame.
  for (;;) {
    switch (type) {
      case IPV6_EXTENSION.HOP_BY_HOP:
      case IPV6_EXTENSION.ROUTING:
      case IPV6_EXTENSION.DESTINATION_OPTIONS: {
        if (at + 8 > end) return hash >>> 0;
        const length = (frame[at + 1]! + 1) * 8;
        if (at + length > end) return hash >>> 0;
        type = frame[at]!;
        at += length;
        break;
      }
      case IPV6_EXTENSION.FRAGMENT:
        if (at + 8 > end || (readU16(frame, at + 2) & 0xfff8) !== 0) return hash >>> 0;
        type = frame[at]!;
        at += 8;
        break;
      default:
        return mixPorts(hash, frame, at, end, type);
    }
  }
}

/** @param end where the IP packet, or the frame, ends */
function mixPorts(hash: number, frame: Uint8Array, offset: number, end: number, protocol: number): number {
  return hasPorts(frame, offset, end, protocol) ? mixPairs(hash, frame, offset, 2) >>> 0 : hash >>> 0;
}

/** Whether there is a whole header of UDP or TCP. */
function hasPorts(frame: Uint8Array, offset: number, end: number, protocol: number): boolean {
  if (protocol === IP_PROTOCOL.UDP) {
    return offset + UDP_HEADER_BYTES <= end && readU16(frame, offset + 4) >= UDP_HEADER_BYTES;
  }
  if (protocol !== IP_PROTOCOL.TCP || offset + TCP_MIN_HEADER_BYTES > end) return false;
  const length = (frame[offset + 12]! >> 4) * 4;
  return length >= TCP_MIN_HEADER_BYTES && offset + length <= end;
}

/** Two fields of `length` bytes that follow each other, xored. */
function mixPairs(hash: number, frame: Uint8Array, offset: number, length: number): number {
  let mixed = hash;
  for (let at = offset; at < offset + length; at++) {
    mixed = Math.imul(mixed ^ frame[at]! ^ frame[at + length]!, FNV_PRIME);
  }
  return mixed;
}
