import { XdpbedError } from '../core/diagnostic.js';

/** Length of a MAC address in bytes (IEEE 802, EUI-48). */
export const MAC_BYTES = 6;

export const MAC_BROADCAST = 'ff:ff:ff:ff:ff:ff';

const MAC_TEXT = /^[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$/i;

/**
 * Reads `02:00:00:00:00:01` or `02-00-00-00-00-01`, in either case; separators may not be mixed.
 * @throws XdpbedError `packet-invalid`
 */
export function parseMac(text: string): Uint8Array {
  if (!MAC_TEXT.test(text)) {
    throw new XdpbedError('packet-invalid', `"${text}" is not a MAC address`, {
      hint: 'six hexadecimal bytes, as in 02:00:00:00:00:01',
    });
  }
  return Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16));
}

/** The six bytes at `offset` in lower case with colons. The caller has checked that they are there. */
export function formatMac(bytes: Uint8Array, offset = 0): string {
  return Array.from(bytes.subarray(offset, offset + MAC_BYTES), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join(':');
}

/**
 * The six bytes at `offset` as an integer below 2^48, the first the most significant: a key that costs no text. The
 * caller has checked that they are there.
 */
export function macNumber(bytes: Uint8Array, offset = 0): number {
  const high = (bytes[offset]! << 8) | bytes[offset + 1]!;
  const low =
    (bytes[offset + 2]! << 24) | (bytes[offset + 3]! << 16) | (bytes[offset + 4]! << 8) | bytes[offset + 5]!;
  return high * 2 ** 32 + (low >>> 0);
}

/** True for multicast and broadcast: the I/G bit, bit 0 of the first byte (IEEE 802, 8.2.2). */
export function isGroupMac(bytes: Uint8Array, offset = 0): boolean {
  return offset < bytes.length && (bytes[offset]! & 1) === 1;
}
