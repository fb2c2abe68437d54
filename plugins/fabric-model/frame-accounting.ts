import { MAX_FRAME_LENGTH } from '../../src/bpf/runtime/xdp-frame.js';
import type { EndResult, Fate } from '../../src/core/contract/result.js';

/** A frame on its way. Whoever holds it either hands it on or ends it, exactly once. */
export interface Frame {
  /** From the destination MAC on, without FCS. Never changed in place: hooks replace it. */
  readonly bytes: Uint8Array;
  /** Virtual nanoseconds at which the workload sent the frame that this one comes from. */
  readonly at: bigint;
  /** Hooks that may still run on it before it counts as caught in a loop. */
  readonly hopsLeft: number;
}

/** Hooks one frame may meet. A frame that meets more goes round between programs that send it to each other. */
export const HOP_LIMIT = 16;

/**
 * Counts where frames begin and end. The conservation check rests on it, so it counts nothing by itself: each
 * part of the model that consumes a frame says so here.
 */
export class FrameAccounting {
  #sent = 0;
  #copied = 0;
  readonly #ends = new Map<string, EndResult>();

  get sent(): number {
    return this.#sent;
  }

  get copied(): number {
    return this.#copied;
  }

  /** Set while frames that go round for ever are got rid of: wherever one of them is met next, it ends. */
  draining = false;

  /** Why no hook may run on the frame any more, if there is a reason. */
  refusal(frame: Frame): Fate | undefined {
    if (this.draining || frame.hopsLeft <= 0) return 'hop-limit';
    // From the wire, or from a program: bpf_xdp_adjust_head and _tail can make more than a buffer takes on arrival.
    if (frame.bytes.length > MAX_FRAME_LENGTH) return 'frame-too-long';
    return undefined;
  }

  begin(bytes: Uint8Array, at: bigint): Frame {
    this.#sent++;
    return { bytes, at, hopsLeft: HOP_LIMIT };
  }

  /** A frame comes back out of a virtqueue, which carries bytes only: the same frame, counted once already. */
  resume(bytes: Uint8Array, at: bigint): Frame {
    return { bytes, at, hopsLeft: HOP_LIMIT };
  }

  /** A second frame with the same bytes, as flooding makes it. */
  copy(frame: Frame): Frame {
    this.#copied++;
    return { ...frame };
  }

  end(place: string, fate: Fate): void {
    const key = `${place} ${fate}`;
    const end = this.#ends.get(key);
    this.#ends.set(key, { place, fate, frames: (end?.frames ?? 0) + 1 });
  }

  /** Sorted by place, then fate. */
  ends(): EndResult[] {
    return [...this.#ends.values()].sort((a, b) => compare(a.place, b.place) || compare(a.fate, b.fate));
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
