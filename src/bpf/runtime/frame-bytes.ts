import type { AddressSpace } from './address-space.js';
import { FRAME_SLOT } from './xdp-frame.js';

/*
 * The packet of a frame as one string of bytes, wherever they lie: the linear part, then the frags. Frames must be
 * intact (`frameIntact`); offsets and lengths are in bytes and must lie within the packet.
 */

const FRAGS_LENGTH = FRAME_SLOT.fragsLength >> 2;
const FRAGS = FRAME_SLOT.frags >> 2;

/** Bytes of the packet, its frags included (include/net/xdp.h xdp_get_buff_len). */
export function frameLength(i32: Int32Array, frame: number): number {
  const word = frame >>> 2;
  return i32[word + 1]! - i32[word]! + i32[word + FRAGS_LENGTH]!;
}

/** A copy of `length` bytes of the packet. */
export function readFrame(space: AddressSpace, frame: number, offset: number, length: number): Uint8Array {
  const linear = linearAddress(space.i32, frame, offset, length);
  if (linear !== 0) return space.read(linear, length);
  const bytes = new Uint8Array(length);
  let at = 0;
  eachPart(space.i32, frame, offset, length, (start, count) => {
    bytes.set(space.u8.subarray(start, start + count), at);
    at += count;
  });
  return bytes;
}

/** Copies `length` bytes of the packet to memory at `address`. */
export function loadFromFrame(
  space: AddressSpace,
  frame: number,
  offset: number,
  address: number,
  length: number,
): void {
  const linear = linearAddress(space.i32, frame, offset, length);
  if (linear !== 0) {
    space.u8.copyWithin(address, linear, linear + length);
    return;
  }
  let to = address;
  eachPart(space.i32, frame, offset, length, (start, count) => {
    space.u8.copyWithin(to, start, start + count);
    to += count;
  });
}

/** Copies `length` bytes of memory at `address` into the packet. */
export function storeToFrame(
  space: AddressSpace,
  frame: number,
  offset: number,
  address: number,
  length: number,
): void {
  const linear = linearAddress(space.i32, frame, offset, length);
  if (linear !== 0) {
    space.u8.copyWithin(linear, address, address + length);
    return;
  }
  let from = address;
  eachPart(space.i32, frame, offset, length, (start, count) => {
    space.u8.copyWithin(start, from, from + count);
    from += count;
  });
}

/** Where a range of the packet lies that is in the linear part, as nearly always; 0 when it is not. */
function linearAddress(i32: Int32Array, frame: number, offset: number, length: number): number {
  const word = frame >>> 2;
  const address = i32[word]! + offset;
  return address + length <= i32[word + 1]! ? address : 0;
}

/** Visits the one or two runs of memory in which a range of the packet lies, in the order of the packet. */
function eachPart(
  i32: Int32Array,
  frame: number,
  offset: number,
  length: number,
  visit: (address: number, count: number) => void,
): void {
  const word = frame >>> 2;
  const data = i32[word]!;
  const linear = i32[word + 1]! - data;
  const end = offset + length;
  if (offset < linear) visit(data + offset, Math.min(end, linear) - offset);
  if (end > linear) {
    const first = Math.max(offset - linear, 0);
    visit(i32[word + FRAGS]! + first, end - linear - first);
  }
}
