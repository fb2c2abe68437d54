import type { JumpOperands } from './coverage-frontier.js';
import { SHORTEST_FRAME } from './sent-packet.js';

/** Bytes from the start of a packet in which fields are looked for. */
const HEADER_BYTES = 256;
/** Places of a value that are tried: of a small one there are many that have nothing to do with it. */
const MOST_PLACES = 6;
/** Addresses of the runtime are above this, lengths and offsets are not. */
const LEAST_ADDRESS = 0x1_0000n;
const MOST_LENGTH = 4096n;

/**
 * Variations of a packet that may send a jump its other way: where one side of what it compared lies in the packet, the
 * other side is put in its place, and its neighbours; where two addresses were compared, the packet is made as much longer
 * or shorter as they are apart.
 */
export function* solveComparisons(
  packet: Uint8Array,
  comparisons: readonly JumpOperands[],
  longest: number,
): Generator<Uint8Array> {
  for (const { left, right } of comparisons) {
    const apart = left - right;
    const size = apart < 0n ? -apart : apart;
    if (left >= LEAST_ADDRESS && right >= LEAST_ADDRESS && size < MOST_LENGTH) {
      for (const more of [0, 1, -1]) {
        const length = packet.length + Number(apart) + more;
        if (length >= SHORTEST_FRAME && length <= longest && length !== packet.length)
          yield resized(packet, length);
      }
    }
    yield* replaced(packet, left, right);
    yield* replaced(packet, right, left);
  }
}

function* replaced(packet: Uint8Array, from: bigint, to: bigint): Generator<Uint8Array> {
  const head = Buffer.from(packet.buffer, packet.byteOffset, Math.min(packet.length, HEADER_BYTES));
  for (const bytes of [1, 2, 4, 8]) {
    const limit = 1n << BigInt(8 * bytes);
    if (from >= limit) continue;
    for (const isBig of bytes === 1 ? [false] : [false, true]) {
      const word = encode(from, bytes, isBig);
      let at = head.indexOf(word);
      for (let places = 0; at >= 0 && places < MOST_PLACES; places++) {
        for (const more of [0n, 1n, -1n]) {
          const changed = new Uint8Array(packet);
          changed.set(encode(BigInt.asUintN(8 * bytes, to + more), bytes, isBig), at);
          yield changed;
        }
        at = head.indexOf(word, at + 1);
      }
    }
  }
}

function encode(value: bigint, bytes: number, isBig: boolean): Uint8Array {
  const word = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) word[isBig ? bytes - 1 - i : i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return word;
}

function resized(packet: Uint8Array, length: number): Uint8Array {
  const changed = new Uint8Array(length);
  changed.set(packet.subarray(0, length));
  return changed;
}
