export interface FairQueueLimits {
  /** Works that are under way at the same time, in all. */
  readonly atOnce: number;
  /** Of these, for one and the same name. */
  readonly atOncePerName: number;
}

interface Waiting {
  readonly name: string;
  readonly start: () => void;
}

/**
 * Lets work begin so that no more than a given number is under way, in all and for each name. What has to wait begins
 * by turns: after one work of a name comes the next name that waits, however many one name has queued; the works of
 * one name begin in the order in which they came.
 */
export class FairQueue {
  readonly #limits: FairQueueLimits;
  /** In order of arrival for each name; names in the order of their turns. */
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #running = new Map<string, number>();
  #runningInAll = 0;

  constructor(limits: FairQueueLimits) {
    this.#limits = limits;
  }

  /** Works that have not begun. */
  get waiting(): number {
    let count = 0;
    for (const queue of this.#waiting.values()) count += queue.length;
    return count;
  }

  /**
   * Runs `work` when it is its turn. Its place counts as taken until the promise that it returns has settled. When
   * `signal` fires before that turn, it never begins and the promise rejects with the signal's reason; what has begun
   * looks after its signal itself.
   */
  async run<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    await this.#turn(name, signal);
    try {
      signal?.throwIfAborted();
      return await work();
    } finally {
      this.#leave(name);
    }
  }

  #turn(name: string, signal: AbortSignal | undefined): Promise<void> | undefined {
    if (!this.#waiting.has(name) && this.#hasRoomFor(name)) {
      this.#enter(name);
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#remove(waiting);
        reject(signal!.reason as Error);
      };
      const waiting: Waiting = {
        name,
        start: () => {
          signal?.removeEventListener('abort', giveUp);
          this.#enter(name);
          resolve();
        },
      };
      signal?.addEventListener('abort', giveUp, { once: true });
      const queue = this.#waiting.get(name);
      if (queue === undefined) this.#waiting.set(name, [waiting]);
      else queue.push(waiting);
    });
  }

  #hasRoomFor(name: string): boolean {
    const { atOnce, atOncePerName } = this.#limits;
    return this.#runningInAll < atOnce && (this.#running.get(name) ?? 0) < atOncePerName;
  }

  #enter(name: string): void {
    this.#runningInAll++;
    this.#running.set(name, (this.#running.get(name) ?? 0) + 1);
  }

  #leave(name: string): void {
    this.#runningInAll--;
    const left = this.#running.get(name)! - 1;
    if (left === 0) this.#running.delete(name);
    else this.#running.set(name, left);
    // A place that became free lets one begin; more than one may when the limit of a name kept others up.
    for (let next = this.#next(); next !== undefined; next = this.#next()) next.start();
  }

  /** Whose turn it is, taken out of the queue; its name then comes after all others. */
  #next(): Waiting | undefined {
    for (const [name, queue] of this.#waiting) {
      if (!this.#hasRoomFor(name)) continue;
      const [first, ...rest] = queue;
      this.#waiting.delete(name);
      if (rest.length > 0) this.#waiting.set(name, rest);
      return first;
    }
    return undefined;
  }

  #remove(waiting: Waiting): void {
    const queue = this.#waiting.get(waiting.name);
    const index = queue?.indexOf(waiting) ?? -1;
    if (index < 0) return;
    queue!.splice(index, 1);
    if (queue!.length === 0) this.#waiting.delete(waiting.name);
  }
}
