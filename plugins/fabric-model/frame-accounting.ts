import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { EndResult, Fate } from '../../src/core/contract/result.js';
import { MAX_LINK_FRAME_BYTES } from '../../src/virtio/index.js';

/** What a frame remains itself by while its bytes change: it goes through virtqueues beside them. */
export interface FrameIdentity {
  /** When the frame that this one comes from was sent. */
  readonly born: Picoseconds;
  /** Hooks that may still run on it before it counts as caught in a loop. */
  readonly hopsLeft: number;
  /** Shared by all that one frame that was sent has become. */
  readonly lineage: Lineage;
}

/** Counts what one frame that was sent has become. */
export interface Lineage {
  copies: number;
}

/** A frame on its way. Whoever holds it either hands it on or ends it, exactly once. */
export interface Frame extends FrameIdentity {
  /** From the destination MAC on, without FCS. Never changed in place: hooks replace it. */
  readonly bytes: Uint8Array;
}

/** Hooks one frame may meet. A frame that meets more goes round between programs that send it to each other. */
export const HOP_LIMIT = 16;

/**
 * Copies that may go on of one frame that was sent: beyond them what is copied ends at the next hook. Programs that
 * send what is flooded to them back to be flooded again would else make more of it than anybody could wait for.
 */
export const COPY_LIMIT = 1024;

/**
 * Counts where frames begin and end. The conservation check rests on it, so it counts nothing by itself: each
 * part of the model that consumes a frame says so here.
 */
export class FrameAccounting {
  #sent = 0;
  #copied = 0;
  readonly #ends = new Map<string, Map<Fate, number>>();

  get sent(): number {
    return this.#sent;
  }

  get copied(): number {
    return this.#copied;
  }

  /**
   * Why the frame can go no further, if there is a reason: no hook may run on it any more, or it has more than
   * `longest` bytes, from the wire or from a program (bpf_xdp_adjust_head and _tail can make more of a frame than
   * buffers take on arrival).
   */
  refusal(frame: Frame, longest = MAX_LINK_FRAME_BYTES): Fate | undefined {
    if (frame.hopsLeft <= 0) return 'hop-limit';
    if (frame.bytes.length > longest) return 'frame-too-long';
    return undefined;
  }

  begin(bytes: Uint8Array, born: Picoseconds): Frame {
    this.#sent++;
    return { bytes, born, hopsLeft: HOP_LIMIT, lineage: { copies: 0 } };
  }

  /** A second frame with the same bytes, as flooding makes it; no hook may run on one beyond the limit. */
  copy(frame: Frame): Frame {
    this.#copied++;
    const beyond = ++frame.lineage.copies > COPY_LIMIT;
    return beyond ? { ...frame, hopsLeft: 0 } : { ...frame };
  }

  end(place: string, fate: Fate): void {
    let fates = this.#ends.get(place);
    if (fates === undefined) this.#ends.set(place, (fates = new Map<Fate, number>()));
    fates.set(fate, (fates.get(fate) ?? 0) + 1);
  }

  /** Sorted by place, then fate. */
  ends(): EndResult[] {
    return [...this.#ends]
      .flatMap(([place, fates]) => [...fates].map(([fate, frames]) => ({ place, fate, frames })))
      .sort((a, b) => compare(a.place, b.place) || compare(a.fate, b.fate));
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
