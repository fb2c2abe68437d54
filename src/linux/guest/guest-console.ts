import { MAX_LINE, printableLine } from './printable-text.js';
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** Lines that are kept, and bytes of each. */
const KEPT_LINES = 80;
/** Bytes that go into the file, so that a guest that prints without end does not fill the disk. */
const MAX_FILE = 8 * 1024 * 1024;

/**
 * What a guest writes to its serial console, and QEMU to its standard error: the last lines in memory, for messages,
 * and the beginning in a file where one is asked for. A hostile guest has written it, so what a terminal would take for
 * commands is left out of the lines.
 */
export class GuestConsole {
  readonly #lines: string[] = [];
  #unfinished = '';
  #file: number | undefined;
  #room = MAX_FILE;

  constructor(path?: string) {
    if (path !== undefined) this.#file = openSync(path, 'w', 0o600);
  }

  /** Takes what comes, until the stream ends. */
  listen(stream: Readable): void {
    stream.on('data', (bytes: Buffer) => this.add(bytes));
    // That QEMU is gone is noticed elsewhere.
    stream.on('error', () => {});
  }

  add(bytes: Uint8Array): void {
    this.#save(bytes);
    const lines = `${this.#unfinished}${Buffer.from(bytes).toString('latin1')}`.split(/\r?\n/);
    this.#unfinished = lines.pop()!.slice(0, MAX_LINE);
    for (const line of lines.slice(-KEPT_LINES)) this.#keep(line);
  }

  /** The last lines, at most `count`. */
  tail(count = KEPT_LINES): string[] {
    const unfinished = printableLine(this.#unfinished);
    return [...this.#lines, ...(unfinished === '' ? [] : [unfinished])].slice(-count);
  }

  /** The last lines that say why it ended: of a kernel that panicked, those before the registers and the stack. */
  lastWords(count: number): string[] {
    const lines = this.tail();
    const panic = lines.findIndex((line) => line.includes('Kernel panic - not syncing'));
    return (panic < 0 ? lines : lines.slice(0, panic + 1)).slice(-count);
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #keep(line: string): void {
    const text = printableLine(line);
    if (text === '') return;
    this.#lines.push(text);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
  }

  #save(bytes: Uint8Array): void {
    if (this.#file === undefined || this.#room === 0) return;
    const part = bytes.subarray(0, this.#room);
    this.#room -= part.length;
    try {
      writeSync(this.#file, part);
    } catch {
      // A full disk must not end the run; the lines in memory are what messages need.
      this.#room = 0;
    }
  }
}
