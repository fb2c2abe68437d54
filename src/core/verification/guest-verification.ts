import type { Verification, Verifier, VerifyRequest } from '../contract/verifier.js';
import type { VerificationPlan } from '../contract/plan.js';
import type { VerificationResult } from '../contract/result.js';
import { FairQueue } from './fair-queue.js';
import { JUDGES } from './judge-pool.js';
import type { JudgeRecipe } from './judge-messages.js';
import type { JudgeLimits } from './judge-process.js';

/**
 * The verifying that the host does on behalf of the guests of one run. What a guest sends is made to be slow, if need
 * be, and to take memory: so each program is judged in a process of its own, under limits of time and memory that hold whatever the
 * verifier does, only so many at once for one guest and in all, and the event loop, on which the other guests' commands
 * are answered, does not take part.
 */
export class GuestVerification {
  readonly #plan: VerificationPlan;
  readonly #recipe: JudgeRecipe | undefined;
  readonly #runSignal: AbortSignal;
  readonly #queue: FairQueue;
  #cost: VerificationResult = {
    programs: 0,
    outOfTime: 0,
    outOfMemory: 0,
    cancelled: 0,
    longestMs: 0,
    peakMemoryMiB: 0,
  };

  /**
   * @param recipe the verifiers as another process makes them; undefined when one of them works only where the run is. It is
   *   then asked there and has to keep the limits by itself.
   * @param runSignal fires when the run is interrupted; then nobody waits for any answer.
   */
  constructor(plan: VerificationPlan, recipe: JudgeRecipe | undefined, runSignal: AbortSignal) {
    this.#plan = plan;
    this.#recipe = recipe;
    this.#runSignal = runSignal;
    this.#queue = new FairQueue({ atOnce: plan.atOnce, atOncePerName: plan.atOncePerGuest });
  }

  /** Has what judges programs in other processes made ready there before the first comes. */
  static prepare(plan: VerificationPlan, recipes: readonly (JudgeRecipe | undefined)[]): void {
    const elsewhere = recipes.filter((recipe) => recipe !== undefined);
    if (elsewhere.length > 0) JUDGES.prepare(limitsOf(plan), elsewhere);
  }

  /** What it cost so far. */
  get cost(): VerificationResult {
    return this.#cost;
  }

  /**
   * The verifier that judges the programs of a guest.
   * @param own the same verifier where the run is
   * @param onCost told the milliseconds that judging a program took, however it ended: of CPU time, or by the clock where
   *   the program is judged where the run is; and those of the start of a process that there had to be for it
   */
  for(guest: string, own: Verifier, onCost: (milliseconds: number) => void = () => undefined): Verifier {
    return { name: own.name, verify: (request) => this.#verify(guest, own, request, onCost) };
  }

  async #verify(
    guest: string,
    own: Verifier,
    request: VerifyRequest,
    onCost: (milliseconds: number) => void,
  ): Promise<Verification> {
    const ending = firstOf([this.#runSignal, request.signal]);
    const { signal } = ending;
    try {
      return await this.#queue.run(guest, signal, () => this.#judge(own, { ...request, signal }, onCost));
    } catch (error) {
      if (signal.aborted) this.#note({ cancelled: this.#cost.cancelled + 1 });
      throw error;
    } finally {
      ending.release();
    }
  }

  async #judge(
    own: Verifier,
    request: VerifyRequest,
    onCost: (milliseconds: number) => void,
  ): Promise<Verification> {
    const limits = limitsOf(this.#plan);
    const started = performance.now();
    let held = 0;
    let verification: Verification;
    if (this.#recipe === undefined) {
      try {
        verification = await own.verify({ ...request, limits });
      } finally {
        onCost(performance.now() - started);
      }
    } else {
      const answer = await JUDGES.verify(this.#recipe, limits, request, onCost);
      verification = answer.verification;
      held = answer.memoryMiB;
    }
    const { programs, outOfTime, outOfMemory, longestMs, peakMemoryMiB } = this.#cost;
    const code = verification.accepted ? undefined : verification.code;
    this.#note({
      programs: programs + 1,
      outOfTime: outOfTime + (code === 'out-of-time' ? 1 : 0),
      outOfMemory: outOfMemory + (code === 'out-of-memory' ? 1 : 0),
      longestMs: Math.max(longestMs, performance.now() - started),
      peakMemoryMiB: Math.max(peakMemoryMiB, held),
    });
    return verification;
  }

  #note(change: Partial<VerificationResult>): void {
    this.#cost = { ...this.#cost, ...change };
  }
}

function limitsOf({ milliseconds, memoryMiB }: VerificationPlan): JudgeLimits {
  return { milliseconds, memoryMiB };
}

/**
 * A signal that fires with the first of these. By hand, because `AbortSignal.any` of Node 20 keeps what it makes as long as
 * the longest-lived of its signals is there.
 */
function firstOf(signals: readonly (AbortSignal | undefined)[]): {
  signal: AbortSignal;
  release: () => void;
} {
  const ending = new AbortController();
  const watched = signals.filter((signal) => signal !== undefined);
  const end = (): void => ending.abort(watched.find((signal) => signal.aborted)?.reason);
  for (const signal of watched) signal.addEventListener('abort', end, { once: true });
  if (watched.some((signal) => signal.aborted)) end();
  return {
    signal: ending.signal,
    release: () => {
      for (const signal of watched) signal.removeEventListener('abort', end);
    },
  };
}
