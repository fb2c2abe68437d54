import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GuestConsole } from './guest-console.js';

const write = (console: GuestConsole, text: string): void => console.add(Buffer.from(text, 'latin1'));

describe("a guest's console", () => {
  it('keeps the last lines, the unfinished one included', () => {
    const console = new GuestConsole();
    write(console, Array.from({ length: 500 }, (_, line) => `line ${line}\r\n`).join(''));
    write(console, 'half of ');
    write(console, 'a line');
    expect(console.tail(3)).toEqual(['line 498', 'line 499', 'half of a line']);
    expect(console.tail().length).toBeLessThanOrEqual(81);
  });

  it('leaves out what a terminal would take for commands', () => {
    const console = new GuestConsole();
    write(console, '\u001b[2J\u001b[31mred\u001b[0m \u001b]0;title\u0007text\u0000\u009b1m\n');
    expect(console.tail()).toEqual(['red 0;titletext1m']);
  });

  it('holds no more of a line than that a message can use', () => {
    const console = new GuestConsole();
    for (let piece = 0; piece < 100; piece++) write(console, 'x'.repeat(10_000));
    expect(console.tail()).toEqual(['x'.repeat(400)]);
  });

  it('says of a kernel that panicked what came before the stack', () => {
    const console = new GuestConsole();
    write(
      console,
      'Error: boom\nKernel panic - not syncing: Attempted to kill init!\nCall Trace:\n a+0x1\n b+0x2\n',
    );
    expect(console.lastWords(5)).toEqual([
      'Error: boom',
      'Kernel panic - not syncing: Attempted to kill init!',
    ]);
  });

  it('writes all of it into a file, up to 8 MiB', () => {
    const folder = mkdtempSync(join(tmpdir(), 'xdpbed-console-'));
    try {
      const path = join(folder, 'console.log');
      const console = new GuestConsole(path);
      write(console, 'a\u001b[31m\r\n');
      for (let piece = 0; piece < 9; piece++) console.add(Buffer.alloc(1024 * 1024, 'b'));
      console.close();
      console.close();
      const written = readFileSync(path);
      expect(written).toHaveLength(8 * 1024 * 1024);
      expect(written.toString('latin1', 0, 8)).toBe('a\u001b[31m\r\n');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
