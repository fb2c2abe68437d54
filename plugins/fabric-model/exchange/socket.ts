import type { Picoseconds } from '../../../src/core/contract/clock.js';
import type { Timing } from '../timing.js';

/** What a socket stands on: the kernel of one end. */
export interface SocketHost {
  readonly timing: Timing;
  /** Bytes of payload that the driver takes in one go and cuts into segments by itself (TSO). */
  readonly longestSegment: number;
  /** Gives frames to the driver, at the expense of the CPU that works; returns when the last of them will have left. */
  transmit(frames: readonly Uint8Array[]): Picoseconds;
  /** Has this happen in the softirq when it is that time: frames have left, and make room for others. */
  whenSent(time: Picoseconds, done: () => void): void;
}

/** One end of a stream, as the process that has it sees it. */
export interface Socket {
  /** Has the process look again: there is something to read, or room to write. */
  onReady: (() => void) | undefined;
  /** Whether `write` would not block. */
  canWrite(bytes: number): boolean;
  /** Sends, at the expense of the CPU that works. */
  write(bytes: number): void;
  /** Whether there is something to read. */
  readonly canRead: boolean;
  /** Takes out of it: of UDP a message, of TCP all that is there, up to `most` bytes. Returns how many bytes. */
  read(most: number): number;
  /** A frame of the stream has come through the stack. */
  receive(frame: Uint8Array): void;
}
