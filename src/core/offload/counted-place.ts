import type { LoadedProgram } from '../contract/executor.js';
import type { Attachment, HookPlace } from '../contract/hook-place.js';
import { addVerdicts, emptyVerdictCounts, type VerdictCounts } from '../contract/result.js';

/** A place that remembers what was ever attached there, so that its verdicts can be told when nothing is any more. */
export class CountedPlace implements HookPlace {
  /** What those that were detached had returned. */
  readonly #past = emptyVerdictCounts();
  #current: Attachment | undefined;
  #used = false;
  #countsWork = false;

  constructor(readonly place: HookPlace) {}

  get replacesAtOnce(): boolean {
    return this.place.replacesAtOnce === true;
  }

  async attach(program: LoadedProgram): Promise<Attachment> {
    const attachment = await this.place.attach(program);
    this.#used = true;
    this.#countsWork = program.work !== undefined;
    this.#current = attachment;
    let detached = false;
    return {
      replace: async (other) => {
        await attachment.replace(other);
        this.#countsWork = other.work !== undefined;
      },
      counters: () => attachment.counters(),
      detach: async () => {
        await attachment.detach();
        if (detached) return;
        detached = true;
        // Before the counters are asked for: who attaches meanwhile must not be forgotten again.
        if (this.#current === attachment) this.#current = undefined;
        addVerdicts(this.#past, await attachment.counters());
      },
    };
  }

  /** A program is in the place now. */
  get isOccupied(): boolean {
    return this.#current !== undefined;
  }

  /** What the last program that was put here does is counted (`LoadedProgram.work`). */
  get countsWork(): boolean {
    return this.#countsWork;
  }

  /** Verdicts of all programs that were ever here; undefined when there was none. */
  async counters(): Promise<VerdictCounts | undefined> {
    if (!this.#used) return undefined;
    const current = await this.#current?.counters();
    const total = { ...this.#past };
    if (current !== undefined) addVerdicts(total, current);
    return total;
  }
}
