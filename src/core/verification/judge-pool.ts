import { JudgeProcess, type Judgement, type JudgeLimits } from './judge-process.js';
import type { JudgeRecipe } from './judge-messages.js';
import type { VerifyRequest } from '../contract/verifier.js';

/** Judges that are kept though nobody needs them now: one takes a tenth of a second to start. */
const MAX_IDLE = 2;
/** Milliseconds for which an idle judge is kept. */
const MS_IDLE = 5_000;

interface Idle {
  readonly key: string;
  readonly judge: JudgeProcess;
  readonly timer: NodeJS.Timeout;
}

/** Processes with a verifier in each; how many there are at once is for the caller to say. */
export class JudgePool {
  readonly #idle: Idle[] = [];

  async verify(recipe: JudgeRecipe, limits: JudgeLimits, request: VerifyRequest): Promise<Judgement> {
    const key = JSON.stringify([recipe, limits]);
    const judge = this.#take(key) ?? new JudgeProcess(recipe, limits);
    try {
      return await judge.verify(request);
    } finally {
      if (judge.usable) this.#put(key, judge);
    }
  }

  /** Idle judges. */
  get idle(): number {
    return this.#idle.length;
  }

  /** Ends the idle ones. */
  close(): void {
    for (const idle of [...this.#idle]) this.#drop(idle);
  }

  #take(key: string): JudgeProcess | undefined {
    const index = this.#idle.findLastIndex((each) => each.key === key && each.judge.usable);
    if (index < 0) return undefined;
    const [{ judge, timer }] = this.#idle.splice(index, 1) as [Idle];
    clearTimeout(timer);
    return judge;
  }

  #put(key: string, judge: JudgeProcess): void {
    const timer = setTimeout(() => this.#drop(idle), MS_IDLE).unref();
    const idle: Idle = { key, judge, timer };
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

/** This process's own. Idle ones do not keep it from ending, and end with it. */
export const JUDGES = new JudgePool();
