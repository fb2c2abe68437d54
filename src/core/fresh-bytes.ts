/*
 * Memory for what is made often and soon goes, such as the bytes of a frame: pieces of larger blocks, because above 64
 * bytes a buffer of its own costs V8 about ten times as much as a view. No byte is handed out twice, so all are zeros
 * and none shows what another piece held; a block goes when the last of its pieces does.
 */

/** Bytes of a block: what a single piece can keep alive, at most. */
const BLOCK_BYTES = 32 * 1024;
/** V8 keeps up to so many bytes in the object itself, for no more than a view costs. */
const IN_OBJECT_BYTES = 64;
/** So many bytes are copied word by word, which takes less than the view that any other way to copy needs. */
const MOST_BY_WORDS = 256;
/** Longer pieces get memory of their own: their cost is that of their bytes. */
const LONGEST_PIECE = 2 * 1024;

/** Memory that pieces are cut from. */
export class FreshBlock {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;

  constructor(length: number) {
    this.buffer = new ArrayBuffer(length);
    this.bytes = new Uint8Array(this.buffer);
    this.words = new Int32Array(this.buffer, 0, length >> 2);
  }
}

let block = new FreshBlock(BLOCK_BYTES);
let used = 0;

/** Where in the block so many bytes are now taken; in another block than before when there was no room. */
function reserve(length: number): number {
  if (used + length > BLOCK_BYTES) {
    block = new FreshBlock(BLOCK_BYTES);
    used = 0;
  }
  const start = used;
  // Words begin at multiples of 8.
  used += (length + 7) & ~7;
  return start;
}

/**
 * So many zeros in a block. A piece costs a third of what a view does: for bytes of which a part is read where they lie
 * and only the rest handed on.
 */
export class FreshPiece {
  readonly block: FreshBlock;
  /** Of its first byte in the block. */
  readonly start: number;

  constructor(readonly length: number) {
    const own = length > LONGEST_PIECE;
    this.start = own ? 0 : reserve(length);
    this.block = own ? new FreshBlock(length) : block;
  }

  /** A view of the bytes from `offset` on. */
  from(offset: number): Uint8Array {
    return new Uint8Array(this.block.buffer, this.start + offset, this.length - offset);
  }
}

/** Bytes, and the words that they are: of the same memory, from its first byte on. */
export interface Memory {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

/** Copies `length` bytes from one memory to another; the caller has checked that they are there and have room. */
export function copyBetween(from: Memory, at: number, to: Memory, toAt: number, length: number): void {
  if (length > MOST_BY_WORDS || ((at | toAt) & 3) !== 0) {
    to.bytes.set(from.bytes.subarray(at, at + length), toAt);
    return;
  }
  const source = from.words;
  const target = to.words;
  const word = at >> 2;
  const toWord = toAt >> 2;
  const words = length >> 2;
  for (let i = 0; i < words; i++) target[toWord + i] = source[word + i]!;
  for (let i = words << 2; i < length; i++) to.bytes[toAt + i] = from.bytes[at + i]!;
}

/** A copy of `length` bytes of a memory, from byte `at` on. */
export function freshCopyFrom(memory: Memory, at: number, length: number): Uint8Array {
  const piece = new FreshPiece(length);
  copyBetween(memory, at, piece.block, piece.start, length);
  return piece.from(0);
}

/** A copy as a piece. */
export function pieceOf(bytes: Uint8Array): FreshPiece {
  const piece = new FreshPiece(bytes.length);
  piece.block.bytes.set(bytes, piece.start);
  return piece;
}

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
  const start = reserve(length);
  return new Uint8Array(block.buffer, start, length);
}

/** A copy in memory of its own. */
export function freshCopy(bytes: Uint8Array): Uint8Array {
  const copy = freshBytes(bytes.length);
  copy.set(bytes);
  return copy;
}
