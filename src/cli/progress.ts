import type { Terminal } from './terminal.js';

/** One line on stderr that overwrites itself on a terminal, and a line for each thing that is said elsewhere. */
export class Progress {
  #shown = false;

  constructor(readonly terminal: Terminal) {}

  say(line: string): void {
    this.terminal.err(this.terminal.interactive ? `\r\u001b[K${line}` : `${line}\n`);
    this.#shown = true;
  }

  /** What is worth a line only where it goes away again. */
  mention(line: string): void {
    if (this.terminal.interactive) this.say(line);
  }

  clear(): void {
    if (this.#shown && this.terminal.interactive) this.terminal.err('\r\u001b[K');
    this.#shown = false;
  }
}
