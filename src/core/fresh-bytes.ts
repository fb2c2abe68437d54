/*
 * Memory for what is made often and soon goes, such as the bytes of a frame: pieces of larger blocks, because above 64
 * bytes a buffer of its own costs V8 about ten times as much as a view. No byte is handed out twice, so all are zeros
 * and none shows what another piece held; a block goes when the last of its pieces does.
 */

/** Bytes of a block: what a single piece can keep alive, at most. */
const BLOCK_BYTES = 32 * 1024;
/** V8 keeps up to so many bytes in the object itself, for no more than a view costs. */
const IN_OBJECT_BYTES = 64;
/** Longer pieces get memory of their own: their cost is that of their bytes. */
const LONGEST_PIECE = 2 * 1024;

let block = new ArrayBuffer(BLOCK_BYTES);
let used = 0;

/** So many zeros. */
export function freshBytes(length: number): Uint8Array {
  return length <= IN_OBJECT_BYTES ? new Uint8Array(length) : freshViewable(length);
}

/**
 * So many zeros, of which views will be made. V8 moves bytes that are in the object out of it for the first view, which
 * costs ten times what it saved.
 */
export function freshViewable(length: number): Uint8Array {
  if (length > LONGEST_PIECE) return new Uint8Array(length);
  if (used + length > BLOCK_BYTES) {
    block = new ArrayBuffer(BLOCK_BYTES);
    used = 0;
  }
  const bytes = new Uint8Array(block, used, length);
  // Words begin at multiples of 8.
  used += (length + 7) & ~7;
  return bytes;
}

/** A copy in memory of its own. */
export function freshCopy(bytes: Uint8Array): Uint8Array {
  const copy = freshBytes(bytes.length);
  copy.set(bytes);
  return copy;
}
