/** The bytes of a capture file, wherever they lie: readers need no more of them at once than a packet has. */
export interface CaptureBytes {
  readonly length: number;
  /** What `place` gives indices of. */
  readonly view: DataView;
  /** Index in `view` of the byte at `offset`, with `length` bytes there that are all the capture's; good until the next call. */
  place(offset: number, length: number): number;
  /** A packet's bytes: to be kept, so a view of bytes that stay or a copy. */
  bytes(offset: number, length: number): Uint8Array;
}

/** A whole capture in memory. Packets are views of it. */
export class CaptureInMemory implements CaptureBytes {
  readonly view: DataView;

  constructor(readonly data: Uint8Array) {
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  get length(): number {
    return this.data.length;
  }

  place(offset: number): number {
    return offset;
  }

  bytes(offset: number, length: number): Uint8Array {
    return this.data.subarray(offset, offset + length);
  }
}
