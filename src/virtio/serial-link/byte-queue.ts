/** Bytes that arrived and were not taken yet, in one buffer that grows with them and shrinks when it is empty. */
export class ByteQueue {
  #buffer: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Copies the bytes in. Linear in all that ever comes, however small the pieces are. */
  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#buffer.length) this.#makeRoom(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** The first bytes, at most `count`, where they lie: valid until the next `push`. */
  peek(count = this.length): Buffer {
    return this.#buffer.subarray(this.#start, Math.min(this.#start + count, this.#end));
  }

  /** Takes the first `count` bytes away; a copy. */
  take(count: number): Uint8Array {
    const bytes = Uint8Array.from(this.peek(count));
    this.skip(count);
    return bytes;
  }

  skip(count: number): void {
    this.#start = Math.min(this.#start + count, this.#end);
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = Buffer.alloc(0);
  }

  #makeRoom(more: number): void {
    const { length } = this;
    const source = this.#buffer;
    // Half of it must be free afterwards, or moving would cost more than what came is worth.
    const capacity =
      2 * (length + more) > source.length ? Math.max(MIN_BYTES, 2 * (length + more)) : source.length;
    const target = capacity === source.length ? source : Buffer.allocUnsafe(capacity);
    source.copy(target, 0, this.#start, this.#end);
    this.#buffer = target;
    this.#start = 0;
    this.#end = length;
  }
}

const MIN_BYTES = 4096;
/** An empty buffer that is larger is given back. */
const KEPT_BYTES = 128 * 1024;
