import type { Picoseconds } from '../../src/core/contract/clock.js';
import { HOP_LIMIT, HOPS_OF_A_FLOOD } from '../../src/core/contract/fabric.js';
import { LOSSES, type EndResult, type Fate } from '../../src/core/contract/result.js';
import { MAX_LINK_FRAME_BYTES } from '../../src/virtio/index.js';

/** What one frame that was sent has become. */
interface Lineage {
  copies: number;
  /** Where it is counted, and with it all that becomes of it. */
  readonly account: FrameAccount;
}

/** Frames that were sent, and where they ended. */
export class FrameAccount {
  sent = 0;
  copied = 0;
  readonly #ends = new Map<string, Map<Fate, number>>();

  /** Frames that came to an end that is no loss. */
  get ended(): number {
    let ended = 0;
    for (const fates of this.#ends.values()) {
      for (const [fate, frames] of fates) if (!LOSSES.has(fate)) ended += frames;
    }
    return ended;
  }

  /** Frames that are still somewhere. */
  get underWay(): number {
    return this.sent + this.copied - this.ends().reduce((sum, { frames }) => sum + frames, 0);
  }

  count(place: string, fate: Fate, frames: number): void {
    let fates = this.#ends.get(place);
    if (fates === undefined) this.#ends.set(place, (fates = new Map<Fate, number>()));
    fates.set(fate, (fates.get(fate) ?? 0) + frames);
  }

  /** Frames that were sent and lost before anybody had them. */
  lostOnArrival(place: string, fate: Fate, frames: number): void {
    this.sent += frames;
    this.count(place, fate, frames);
  }

  /** Sorted by place, then fate. */
  ends(): EndResult[] {
    return [...this.#ends]
      .flatMap(([place, fates]) => [...fates].map(([fate, frames]) => ({ place, fate, frames })))
      .sort((a, b) => compare(a.place, b.place) || compare(a.fate, b.fate));
  }
}

/**
 * A frame on its way. Whoever holds it either hands it on or ends it, exactly once. It remains itself while its bytes
 * change, and goes through virtqueues beside them.
 */
export class Frame {
  /** Frames of the wire that it is made of: more than one once GRO has merged them. */
  segments = 1;

  constructor(
    /** From the destination MAC on, without FCS. Never changed in place, for frames share them: hooks replace them. */
    public bytes: Uint8Array,
    /** When the frame that this one comes from was sent. */
    readonly born: Picoseconds,
    /** Hooks that may still run on it before it counts as caught in a loop. */
    public hopsLeft: number,
    /** Shared by all that one frame that was sent has become. */
    readonly lineage: Lineage,
  ) {}
}

/**
 * Copies that may go on of one frame that was sent: beyond them what is copied ends at the next hook. Programs that
 * send what is flooded to them back to be flooded again would else make more of it than anybody could wait for.
 */
export const COPY_LIMIT = 1024;

/** Told of each frame's end, when it is measured. */
export type EndObserver = (frame: Frame, fate: Fate) => void;

/**
 * Counts where frames begin and end. The conservation check rests on it, so it counts nothing by itself: each
 * part of the model that consumes a frame says so here.
 */
export class FrameAccounting {
  #whole = new FrameAccount();
  #accounts = new Map<string, FrameAccount>();
  onEnd: EndObserver | undefined;

  /** Of frames that no guest nic has an account for: all of them, unless they were asked for. */
  get whole(): FrameAccount {
    return this.#whole;
  }

  /** From now on everything is counted anew, and frames for these guest nics apart. Nothing is under way. */
  restart(nodes: readonly string[] = []): void {
    this.#whole = new FrameAccount();
    this.#accounts = new Map(nodes.map((node) => [node, new FrameAccount()]));
  }

  /** Of frames for this guest nic. */
  of(node: string): FrameAccount {
    return this.#accounts.get(node) ?? this.#whole;
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

  begin(bytes: Uint8Array, born: Picoseconds, account = this.#whole): Frame {
    account.sent++;
    return new Frame(bytes, born, HOP_LIMIT, { copies: 0, account });
  }

  /** A bridge does not know where it is to go, and sends it to all: one that has met programs, as if to more of them. */
  flooded(frame: Frame): void {
    if (frame.hopsLeft < HOP_LIMIT) frame.hopsLeft -= HOPS_OF_A_FLOOD;
  }

  /** A second frame with the same bytes, as flooding makes it; no hook may run on one beyond the limit. */
  copy({ bytes, born, hopsLeft, lineage }: Frame): Frame {
    lineage.account.copied++;
    const beyond = ++lineage.copies > COPY_LIMIT;
    return new Frame(bytes, born, beyond ? 0 : hopsLeft, lineage);
  }

  end(frame: Frame, place: string, fate: Fate): void {
    frame.lineage.account.count(place, fate, frame.segments);
    this.onEnd?.(frame, fate);
  }

  /** Frames on a guest nic's link that nothing is left of but their number. */
  lost(node: string, fate: Fate, frames: number): void {
    this.of(node).count(node, fate, frames);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
