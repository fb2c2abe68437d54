import { printable } from '../core/printable.js';
import type { Terminal } from './terminal.js';

/** One line on stderr that overwrites itself on a terminal, and a line for each thing that is said elsewhere. */
export class Progress {
  #shown = false;

  constructor(readonly terminal: Terminal) {}

  say(line: string): void {
    const { interactive, columns } = this.terminal;
    // What is continued on the next line could not be overwritten. A terminal may not know its size: then it has 0.
    const room = columns === undefined || columns === 0 ? 80 : columns;
    const text = printable(line);
    this.terminal.raw.err(interactive ? `\r\u001b[K${text.slice(0, room - 1)}` : `${text}\n`);
    this.#shown = true;
  }

  /** What is worth a line only where it goes away again. */
  mention(line: string): void {
    if (this.terminal.interactive) this.say(line);
  }

  clear(): void {
    if (this.#shown && this.terminal.interactive) this.terminal.raw.err('\r\u001b[K');
    this.#shown = false;
  }
}
