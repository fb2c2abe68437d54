import type { Picoseconds } from '../../../src/core/contract/clock.js';
import type { CostModel } from '../../../src/core/cost-model/index.js';
import type { ReceiveQueue, ReceivedFrame } from '../nic-queue.js';

/**
 * A receive queue of a NIC that gets what somebody sends: frames that are on the wire, and behind them, those that have
 * found a descriptor. As with `NicQueue`, which of them found one is worked out when somebody looks.
 */
export class ArrivalQueue implements ReceiveQueue {
  /** On the wire, in the order in which they arrive. */
  #coming: ReceivedFrame[] = [];
  #nextComing = 0;
  #arrived: ReceivedFrame[] = [];
  #nextArrived = 0;
  lost = 0;
  /** Called when a frame is on the wire and none was on its way before. */
  onComing: (() => void) | undefined;

  constructor(readonly capacity: number) {}

  /** A frame will have arrived then, not before those that are already on their way. */
  push(frame: ReceivedFrame): void {
    const wasEmpty = this.#nextComing === this.#coming.length && this.length === 0;
    this.#coming.push(frame);
    if (wasEmpty) this.onComing?.();
  }

  get nextAt(): Picoseconds {
    return this.#coming[this.#nextComing]?.arrived ?? Infinity;
  }

  get length(): number {
    return this.#arrived.length - this.#nextArrived;
  }

  take(now: Picoseconds): ReceivedFrame | undefined {
    this.#receive(now);
    const frame = this.#arrived[this.#nextArrived];
    if (frame === undefined) return undefined;
    if (++this.#nextArrived === this.#arrived.length) {
      this.#arrived = [];
      this.#nextArrived = 0;
    }
    return frame;
  }

  #receive(now: Picoseconds): void {
    for (;;) {
      const frame = this.#coming[this.#nextComing];
      if (frame === undefined || frame.arrived > now) return;
      if (++this.#nextComing === this.#coming.length) {
        this.#coming = [];
        this.#nextComing = 0;
      }
      if (this.length < this.capacity) this.#arrived.push(frame);
      else this.lost++;
    }
  }
}

/** One direction of a wire: a frame after the other, each for as long as its bytes and the framing take. */
export class WireDirection {
  /** When the last frame that was given to it has left. */
  #freeAt: Picoseconds = 0;
  /** How long it carried something. */
  busy: Picoseconds = 0;

  constructor(
    readonly costs: CostModel,
    /** Where a frame goes at the other end. */
    readonly queueOf: (bytes: Uint8Array) => ArrivalQueue,
  ) {}

  /** When it will have left, and arrived. */
  send(bytes: Uint8Array, now: Picoseconds): Picoseconds {
    const { framing, 'line-rate': psPerByte } = this.costs.of;
    const takes = (bytes.length + framing) * psPerByte;
    this.busy += takes;
    this.#freeAt = Math.max(this.#freeAt, now) + takes;
    this.queueOf(bytes).push({ bytes, arrived: this.#freeAt });
    return this.#freeAt;
  }
}
