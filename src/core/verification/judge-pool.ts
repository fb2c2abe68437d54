import { JudgeProcess, type Judgement, type JudgeLimits } from './judge-process.js';
import type { JudgeRecipe } from './judge-messages.js';
import type { VerifyRequest } from '../contract/verifier.js';

/** Judges that are kept though nobody needs them now: one takes a tenth of a second to start. */
const MAX_IDLE = 2;
/** Milliseconds for which an idle judge is kept. */
const MS_IDLE = 5_000;

interface Idle {
  readonly judge: JudgeProcess;
  readonly timer: NodeJS.Timeout;
}

/** Processes with verifiers in each; how many there are at once is for the caller to say. */
export class JudgePool {
  readonly #idle: Idle[] = [];

  /**
   * @param onCost told the milliseconds of CPU time that it took, however it ended; and those of the start of a process that
   *   there had to be for it, as soon as they are known, which may be later
   */
  async verify(
    recipe: JudgeRecipe,
    limits: JudgeLimits,
    request: VerifyRequest,
    onCost?: (milliseconds: number) => void,
  ): Promise<Judgement> {
    let judge = this.#take(limits, [recipe]);
    if (judge === undefined) {
      judge = new JudgeProcess(limits);
      void judge.started.then((milliseconds) => onCost?.(milliseconds));
    }
    try {
      return await judge.verify(recipe, request);
    } finally {
      onCost?.(judge.cpuMilliseconds);
      if (judge.usable) this.#put(judge);
    }
  }

  /**
   * Has an idle judge make ready what these recipes say, and a process start for it where there is none. Nothing waits for
   * it but the next verification.
   */
  prepare(limits: JudgeLimits, recipes: readonly JudgeRecipe[] = []): void {
    const judge = this.#take(limits, recipes) ?? new JudgeProcess(limits);
    for (const recipe of recipes) judge.prepare(recipe);
    this.#put(judge);
  }

  /** Idle judges. */
  get idle(): number {
    return this.#idle.length;
  }

  /** Ends the idle ones. */
  close(): void {
    for (const idle of [...this.#idle]) this.#drop(idle);
  }

  /** The idle one with these limits that has the most of these recipes ready, of equals the last. */
  #take(limits: JudgeLimits, recipes: readonly JudgeRecipe[]): JudgeProcess | undefined {
    let best: Idle | undefined;
    let most = 0;
    for (const each of this.#idle) {
      if (!each.judge.usable || !isSame(each.judge.limits, limits)) continue;
      const known = recipes.filter((recipe) => each.judge.knows(recipe)).length;
      if (best !== undefined && known < most) continue;
      [best, most] = [each, known];
    }
    if (best === undefined) return undefined;
    clearTimeout(best.timer);
    this.#idle.splice(this.#idle.indexOf(best), 1);
    return best.judge;
  }

  #put(judge: JudgeProcess): void {
    const timer = setTimeout(() => this.#drop(idle), MS_IDLE).unref();
    const idle: Idle = { judge, timer };
    this.#idle.push(idle);
    if (this.#idle.length > MAX_IDLE) this.#drop(this.#idle[0]!);
  }

  #drop(idle: Idle): void {
    clearTimeout(idle.timer);
    const index = this.#idle.indexOf(idle);
    if (index >= 0) this.#idle.splice(index, 1);
    idle.judge.close();
  }
}

function isSame(one: JudgeLimits, other: JudgeLimits): boolean {
  return one.milliseconds === other.milliseconds && one.memoryMiB === other.memoryMiB;
}

/** This process's own. Idle ones do not keep it from ending, and end with it. */
export const JUDGES = new JudgePool();
