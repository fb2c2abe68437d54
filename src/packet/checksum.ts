/** The Internet checksum: RFC 1071, updated incrementally as in RFC 1624. */

import { readU16 } from './network-order.js';

/** Adds the carries back in until 16 bits are left. */
function fold(sum: number): number {
  // Not `sum >>> 16`: a sum over a large buffer has more than 32 bits.
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/**
 * One's-complement sum of the big-endian 16-bit words in `[start, end)`, folded to 16 bits. An odd
 * last byte counts as the high half of a word. `initial` carries the sum of an earlier part, which
 * must have had an even length.
 */
export function onesComplementSum(bytes: Uint8Array, start = 0, end = bytes.length, initial = 0): number {
  const last = Math.min(end, bytes.length);
  let sum = initial;
  let at = start;
  for (; at + 1 < last; at += 2) sum += readU16(bytes, at);
  if (at < last) sum += bytes[at]! << 8;
  return fold(sum);
}

/** The checksum as it stands in a header: the complement of {@link onesComplementSum}. */
export function internetChecksum(bytes: Uint8Array, start = 0, end = bytes.length, initial = 0): number {
  return ~onesComplementSum(bytes, start, end, initial) & 0xffff;
}

/**
 * The checksum after one 16-bit word went from `before` to `after`: RFC 1624, equation 3, which has
 * none of the −0 trouble of RFC 1141.
 */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return ~fold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
}

/**
 * Sum of a pseudo-header, to be passed as `initial`: both addresses as they lie in the IP header
 * (`addressBytes` 8 for IPv4, 32 for IPv6), the protocol and the length of the upper-layer packet in
 * bytes. RFC 9293 section 3.1 for IPv4, RFC 8200 section 8.1 for IPv6.
 */
export function pseudoHeaderSum(
  bytes: Uint8Array,
  addressOffset: number,
  addressBytes: 8 | 32,
  protocol: number,
  length: number,
): number {
  return onesComplementSum(bytes, addressOffset, addressOffset + addressBytes, protocol + length);
}
