import { messageOf } from '../diagnostic.js';

/** How what was brought up is taken away again: last first, all of it whatever fails, each once. */
export class UndoSteps {
  readonly #steps: (() => void | Promise<void>)[] = [];

  add(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  /** Something that is taken away by closing it; returns it. */
  keep<T extends { close(): void | Promise<void> }>(part: T): T {
    this.add(() => part.close());
    return part;
  }

  /** Throws an AggregateError of all that failed, of which one that is itself one gives its parts. */
  async run(): Promise<void> {
    const failures = await this.#run();
    if (failures.length > 0) throw new AggregateError(failures, failures.map(messageOf).join('; '));
  }

  /**
   * After something failed that was to be brought up: what to throw. What went wrong first comes first, and what then
   * could not be taken away must not hide it.
   */
  async runAfter(error: unknown): Promise<unknown> {
    const failures = await this.#run();
    if (failures.length === 0) return error;
    const all = [error, ...failures];
    return new AggregateError(all, all.map(messageOf).join('; '));
  }

  async #run(): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        failures.push(...(error instanceof AggregateError ? (error.errors as unknown[]) : [error]));
      }
    }
    return failures;
  }
}
