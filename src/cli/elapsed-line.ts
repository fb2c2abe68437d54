import type { Progress } from './progress.js';

/** On a terminal, what is under way and for how long, where that is all there is to say. */
export class ElapsedLine {
  #timer: NodeJS.Timeout | undefined;

  constructor(readonly progress: Progress) {}

  /** Shows nothing in the first second: what takes no longer needs no line. */
  begin(what: string): void {
    this.end();
    if (!this.progress.terminal.interactive) return;
    const began = performance.now();
    this.#timer = setInterval(
      () => this.progress.mention(`${what}, ${Math.round((performance.now() - began) / 1000)} s`),
      1000,
    );
    this.#timer.unref();
  }

  end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.progress.clear();
  }
}
