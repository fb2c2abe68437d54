import type { Frame } from '../frame-accounting.js';
import type { Timing } from '../timing.js';
import { goesOn, MAX_MERGED, mergeableBytes, mergeSegments } from './exchange-frames.js';

/** Streams that are held at the same time (MAX_GRO_SKBS). */
const MAX_HELD = 8;

interface Held {
  readonly frame: Frame;
  readonly parts: Uint8Array[];
  /** Of payload: of all parts, and of the first. */
  bytes: number;
  readonly each: number;
}

/**
 * GRO (net/core/gro.c, dev_gro_receive): TCP segments that follow each other in one NAPI poll become one long frame,
 * which goes on when the poll ends, when it is full, or when something comes that does not fit. It counts as the frames
 * that it is made of.
 */
export class ReceiveOffload {
  #held: Held[] = [];

  constructor(
    readonly timing: Timing,
    /** The way up. */
    readonly pass: (frame: Frame) => void,
  ) {}

  receive(frame: Frame): void {
    const { timing } = this;
    const bytes = mergeableBytes(frame.bytes);
    if (bytes === 0) {
      timing.charge(timing.costs['skb-receive']);
      this.pass(frame);
      return;
    }
    const held = this.#held.find(({ frame: { bytes: first }, bytes: sofar }) =>
      goesOn(first, sofar, frame.bytes),
    );
    if (held !== undefined && bytes <= held.each) {
      timing.charge(timing.costs['gro-merge']);
      held.parts.push(frame.bytes);
      held.bytes += bytes;
      held.frame.segments++;
      // A shorter one is the last of its kind.
      if (bytes < held.each || held.bytes + held.each > MAX_MERGED) this.#release(held);
      return;
    }
    timing.charge(timing.costs['skb-receive']);
    if (this.#held.length === MAX_HELD) this.#release(this.#held[0]!);
    this.#held.push({ frame, parts: [frame.bytes], bytes, each: bytes });
  }

  /** The poll is over. */
  flush(): void {
    while (this.#held.length > 0) this.#release(this.#held[0]!);
  }

  #release(held: Held): void {
    this.#held = this.#held.filter((other) => other !== held);
    if (held.parts.length > 1) held.frame.bytes = mergeSegments(held.parts);
    this.pass(held.frame);
  }
}
