import type { Progress } from './progress.js';

/** On a terminal, what is under way, told once a second whatever it does meanwhile. */
export class ElapsedLine {
  #timer: NodeJS.Timeout | undefined;

  constructor(readonly progress: Progress) {}

  /**
   * Shows nothing in the first second: what takes no longer needs no line.
   *
   * @param what is followed by the seconds that it has taken; or gives the whole line, from these
   */
  begin(what: string | ((seconds: number) => string)): void {
    this.end();
    if (!this.progress.terminal.interactive) return;
    const line = typeof what === 'string' ? (s: number): string => `${what}, ${Math.round(s)} s` : what;
    const began = performance.now();
    this.#timer = setInterval(() => this.progress.mention(line((performance.now() - began) / 1000)), 1000);
    this.#timer.unref();
  }

  end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.progress.clear();
  }
}
