import { XdpbedError } from '../../../diagnostic.js';

/*
 * Single integers in little-endian. Of what there is one of in each command, making a view costs more than reading it. The
 * caller has checked that the bytes are there.
 */

export function readLe32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function readLe64(bytes: Uint8Array, at: number): bigint {
  const low = readLe32(bytes, at);
  const high = readLe32(bytes, at + 4);
  // Mostly flags, and mostly none.
  return low === 0 && high === 0 ? 0n : (BigInt(high) << 32n) | BigInt(low);
}

/** @throws XdpbedError `virtio-violation`, naming the field, for what is no integer from 0 to 2^32 - 1 */
export function writeLe32(bytes: Uint8Array, at: number, value: number, field: string): void {
  if (value >>> 0 !== value) {
    throw new XdpbedError(
      'virtio-violation',
      `${field}: ${value} is not an integer from 0 to ${0xffff_ffff}`,
    );
  }
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** @throws XdpbedError `virtio-violation`, naming the field, for what is not from 0 to 2^64 - 1 */
export function writeLe64(bytes: Uint8Array, at: number, value: bigint, field: string): void {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) {
    throw new XdpbedError('virtio-violation', `${field}: ${value} is no le64`);
  }
  const isZero = value === 0n;
  writeLe32(bytes, at, isZero ? 0 : Number(value & 0xffff_ffffn), field);
  writeLe32(bytes, at + 4, isZero ? 0 : Number(value >> 32n), field);
}
