import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { FrameAccount } from './frame-accounting.js';

/** Frames for one guest nic. */
export interface WireStream {
  readonly account: FrameAccount;
  /** Those that arrived, and of them those that found no descriptor. */
  arrived: number;
  lost: number;
}

/** Frames that come by the wire over and over. */
export interface WireTraffic {
  readonly frames: readonly {
    readonly bytes: Uint8Array;
    /** When it arrives, from the beginning of a round. */
    readonly offset: Picoseconds;
    readonly stream: WireStream;
  }[];
  /** Of a round. */
  readonly period: Picoseconds;
}

/** A frame that the NIC has put into memory. */
export interface ReceivedFrame {
  readonly bytes: Uint8Array;
  readonly arrived: Picoseconds;
  /** Where it is counted; with all others, unless it is said. */
  readonly account?: FrameAccount | undefined;
}

/** A receive queue of a NIC as the CPU that polls it sees it. */
export interface ReceiveQueue {
  /** When the next frame arrives; Infinity when none is on its way. */
  readonly nextAt: Picoseconds;
  /** The oldest frame that has arrived by now. */
  take(now: Picoseconds): ReceivedFrame | undefined;
}

/**
 * A receive queue of a NIC while it is measured: what arrives by the wire fills its descriptors, and is lost when none
 * is free. Arrivals are no events: which of them found room is worked out when somebody looks.
 */
export class NicQueue implements ReceiveQueue {
  /** Of the next frame to arrive: its round and its place there. */
  #round: Picoseconds;
  #place = 0;
  /** No frame arrives from then on. */
  #end = Infinity;
  /** Frames in memory: place in the round, and when each arrived. */
  readonly #places: Int32Array;
  readonly #times: Float64Array;
  #head = 0;
  #length = 0;

  constructor(
    readonly capacity: number,
    readonly traffic: WireTraffic,
    start: Picoseconds,
  ) {
    this.#round = start;
    this.#places = new Int32Array(capacity);
    this.#times = new Float64Array(capacity);
  }

  /** When the next frame arrives; Infinity when none does. */
  get nextAt(): Picoseconds {
    const frame = this.traffic.frames[this.#place];
    const time = frame === undefined ? Infinity : this.#round + frame.offset;
    return time < this.#end ? time : Infinity;
  }

  get length(): number {
    return this.#length;
  }

  /** The wire falls silent. */
  stop(now: Picoseconds): void {
    this.receive(now);
    this.#end = now;
  }

  /** Takes in what has arrived by now. */
  receive(now: Picoseconds): void {
    const { frames, period } = this.traffic;
    const { capacity } = this;
    const last = Math.min(now, this.#end - 1);
    for (;;) {
      const frame = frames[this.#place];
      if (frame === undefined) return;
      const time = this.#round + frame.offset;
      if (time > last) return;
      frame.stream.arrived++;
      if (this.#length < capacity) {
        let tail = this.#head + this.#length++;
        if (tail >= capacity) tail -= capacity;
        this.#places[tail] = this.#place;
        this.#times[tail] = time;
      } else frame.stream.lost++;
      if (++this.#place === frames.length) {
        this.#place = 0;
        this.#round += period;
      }
    }
  }

  /** The oldest frame that has arrived by now. */
  take(now: Picoseconds): ReceivedFrame | undefined {
    this.receive(now);
    if (this.#length === 0) return undefined;
    const place = this.#places[this.#head]!;
    const arrived = this.#times[this.#head]!;
    if (++this.#head === this.capacity) this.#head = 0;
    this.#length--;
    const { bytes, stream } = this.traffic.frames[place]!;
    return { bytes, arrived, account: stream.account };
  }
}
