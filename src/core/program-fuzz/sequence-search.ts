import type { PacketInput } from '../program-test/program-session.js';
import type { JumpOperands } from './coverage-frontier.js';
import type { PacketGenerator } from './packet-generator.js';
import type { RandomSource } from './random-source.js';
import { PACKET_INTERVAL_NS, type SentPacket } from './sent-packet.js';
import { EventLoopTurns } from '../clock/event-loop-turns.js';
import { solveComparisons } from './solve-comparisons.js';

/** Of sequences that reached nothing new, one in so many has its comparisons solved. */
const SOLVED_EVERY = 16;
/** Of a sequence that reached something new, so many packets are repeated, so many times. */
const REPEATED_PACKETS = 8;
const REPEATS = 8;
/** Variations that wait to be tried, at most. */
const MOST_WAITING = 5000;
/** Packets of the longest sequence. */
const LONGEST_SEQUENCE = 64;

export interface SearchOptions {
  readonly generator: PacketGenerator;
  readonly random: RandomSource;
  /** What every packet comes with; the clock goes on by a millisecond from packet to packet. */
  readonly input: PacketInput;
  /** Sequences that are tried first and whose packets are changed then, such as captures. */
  readonly seeds?: readonly (readonly SentPacket[])[] | undefined;
  /** Packets after which to give up; those of `seeds` do not count. */
  readonly packets: number;
  /** Milliseconds after which to give up. Default: none. */
  readonly milliseconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Is told before each sequence how many packets were generated. */
  readonly onProgress?: ((generated: number) => void) | undefined;
}

export interface SearchTarget {
  /** Runs a sequence from the state in which everything began; whether it shows what is looked for. */
  shows(packets: readonly SentPacket[]): Promise<boolean>;
  /** Whether what was run since the last call reached something new. */
  hasAdvanced(): boolean;
  /** What jumps compared that have gone one way only so far, in what ran last. */
  comparisons(): readonly JumpOperands[];
}

export interface SearchResult {
  /** As it was found, not yet made small. */
  readonly found: readonly SentPacket[] | undefined;
  /** Packets run. */
  readonly packets: number;
  readonly sequences: number;
  readonly interrupted: boolean;
}

/**
 * Looks for a sequence of packets that shows something: the seeds first, then generated packets and variations of
 * sequences that reached something new. The same choices for the same stream of random numbers.
 */
export async function searchSequences(target: SearchTarget, options: SearchOptions): Promise<SearchResult> {
  const { seeds = [], milliseconds = Infinity, signal, onProgress } = options;
  const sequences = new SequenceSource(options);
  const start = performance.now();
  const turns = new EventLoopTurns(signal);
  let [packets, count, generated] = [0, 0, 0];
  const seedQueue = [...seeds];
  const end = (found?: readonly SentPacket[]): SearchResult => ({
    found,
    packets,
    sequences: count,
    interrupted: found === undefined && signal?.aborted === true,
  });
  for (;;) {
    const seed = seedQueue.shift();
    if (!(await turns.goOn())) return end();
    const now = performance.now();
    if (seed === undefined && (generated >= options.packets || now - start >= milliseconds)) return end();
    onProgress?.(generated);
    const sequence = seed ?? sequences.next();
    if (seed === undefined) generated += sequence.length;
    const shows = await target.shows(sequence);
    // Of one that was broken off nobody knows what it would have shown.
    if (!shows && signal?.aborted === true) return end();
    packets += sequence.length;
    count++;
    if (shows) return end(sequence);
    const advanced = target.hasAdvanced();
    if (advanced) sequences.keep(sequence);
    // The others are looked at now and then: a packet may be right but for what the last jump asks for.
    if (advanced || count % SOLVED_EVERY === 0) sequences.solve(sequence, target.comparisons());
  }
}

/** New sequences, and variations of those that are worth it. */
class SequenceSource {
  readonly #kept: (readonly Uint8Array[])[] = [];

  /** Variations that are tried before anything else, as bytes. */
  readonly #waiting: (readonly Uint8Array[])[] = [];

  constructor(readonly options: SearchOptions) {}

  /** Has variations of the last packet tried that answer what jumps asked for. */
  solve(packets: readonly SentPacket[], comparisons: readonly JumpOperands[]): void {
    const before = packets.slice(-LONGEST_SEQUENCE, -1).map(({ data }) => new Uint8Array(data));
    const { data } = packets.at(-1)!;
    const longest = this.options.generator.longest;
    for (const solved of solveComparisons(new Uint8Array(data), comparisons, longest)) {
      this.#wait([...before, solved]);
    }
  }

  #wait(packets: readonly Uint8Array[]): void {
    if (this.#waiting.length < MOST_WAITING) this.#waiting.push(packets);
  }

  keep(packets: readonly SentPacket[]): void {
    const kept = packets.slice(0, LONGEST_SEQUENCE).map(({ data }) => new Uint8Array(data));
    this.#kept.push(kept);
    // Counters and limits are reached by the same packet over and over: each a few times, one of them often.
    const repeated = kept.slice(-REPEATED_PACKETS);
    for (const packet of repeated) this.#wait(Array.from({ length: REPEATS }, () => packet));
    const often = this.options.random.pick(repeated);
    this.#wait(Array.from({ length: LONGEST_SEQUENCE }, () => often));
  }

  next(): SentPacket[] {
    const { random, generator } = this.options;
    // In turns, so that a program with many comparisons does not see nothing but solutions of the first.
    const waiting = this.#waiting.length > 0 && random.chance(50) ? this.#waiting.pop() : undefined;
    if (waiting !== undefined) return this.#sent(waiting);
    const kept = this.#kept.length > 0 && random.chance(60) ? random.pick(this.#kept) : undefined;
    const packets =
      kept === undefined
        ? Array.from({ length: this.#length() }, () => generator.packet())
        : this.#vary(kept);
    return this.#sent(packets);
  }

  #sent(packets: readonly Uint8Array[]): SentPacket[] {
    const { input } = this.options;
    return packets.map((data, index) => ({
      data,
      input: { ...input, now: (input.now ?? 0n) + BigInt(index + 1) * PACKET_INTERVAL_NS },
    }));
  }

  #length(): number {
    const { random } = this.options;
    return random.chance(50) ? 1 : random.between(2, 8);
  }

  #vary(kept: readonly Uint8Array[]): Uint8Array[] {
    const { random, generator } = this.options;
    const packets = [...kept];
    const at = random.below(packets.length);
    switch (random.below(8)) {
      case 0:
        packets.splice(at, 0, generator.packet());
        break;
      case 1:
        if (packets.length > 1) packets.splice(at, 1);
        break;
      case 2: {
        // Some states are reached by the same packet over and over.
        const copies = random.between(1, LONGEST_SEQUENCE);
        packets.splice(at, 0, ...Array.from({ length: copies }, () => packets[at]!));
        break;
      }
      case 3:
        packets.push(...random.pick(this.#kept));
        break;
      default:
        packets[at] = generator.mutate(packets[at]!);
    }
    return packets.slice(0, LONGEST_SEQUENCE);
  }
}
