import { unlessInterrupted } from '../../core/clock/interrupted.js';
import type { ProgramRejection } from '../../core/offload/load-program.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import {
  searchSequences,
  type SearchOptions,
  type SearchResult,
  type SearchTarget,
} from '../../core/program-fuzz/sequence-search.js';
import { shrinkSequence } from '../../core/program-fuzz/shrink-sequence.js';
import { Subject, type SubjectOptions } from '../../core/program-fuzz/subject.js';
import type { CliContext } from '../cli-context.js';
import { ElapsedLine } from '../elapsed-line.js';
import { Progress } from '../progress.js';
import { duration, trafficWords } from '../run-progress.js';

/** The steps of a search for packets, each of which shows on a terminal how far it is and ends with an interruption. */
export class SearchRun {
  readonly #line: ElapsedLine;

  constructor(readonly context: CliContext) {
    this.#line = new ElapsedLine(new Progress(context.terminal));
  }

  get interrupted(): boolean {
    return this.context.interruption().aborted;
  }

  /** Verifies and loads; a rejection is a value. Throws what loading throws, and `interrupted`. */
  open(options: SubjectOptions): Promise<Subject | ProgramRejection> {
    const { registry, interruption } = this.context;
    const { name } = options.spec;
    return this.#shown(`${name}: verifying`, () =>
      unlessInterrupted(interruption(), `program ${name} was verified`, Subject.open(registry, options)),
    );
  }

  /** Interrupted, it ends with what it has so far. */
  search(name: string, target: SearchTarget, options: SearchOptions): Promise<SearchResult> {
    let generated = 0;
    const onProgress = (packets: number): void => void (generated = packets);
    return this.#shown(
      (seconds) => `${name}: ${searchWords(generated, options, seconds)}`,
      () => searchSequences(target, { ...options, onProgress }),
    );
  }

  /** As small as it can be; interrupted, as small as it is by then. */
  shrink(name: string, found: readonly SentPacket[], target: SearchTarget): Promise<readonly SentPacket[]> {
    return this.#shown(`${name}: found, making it small`, () =>
      shrinkSequence(found, (packets) => target.shows(packets), this.context.interruption()),
    );
  }

  async #shown<T>(what: string | ((seconds: number) => string), work: () => Promise<T>): Promise<T> {
    this.#line.begin(what);
    try {
      return await work();
    } finally {
      this.#line.end();
    }
  }
}

/** `12 000 of 20 000 packets (60 %), 3 000/s, 3 s left`; where time is up before, with what is left of that. */
export function searchWords(
  generated: number,
  { packets, milliseconds = Infinity }: Pick<SearchOptions, 'packets' | 'milliseconds'>,
  seconds: number,
): string {
  const left = Math.max(0, milliseconds / 1000 - seconds);
  const isShort = left < Infinity && (packets - generated) * seconds > left * generated;
  return isShort
    ? `${trafficWords(generated, undefined, seconds, 'packets')}, ${duration(left)} left`
    : trafficWords(generated, packets, seconds, 'packets');
}
