import { describe, expect, it } from 'vitest';
import { Progress } from './progress.js';
import { printableTerminal } from './terminal.js';
import { RunProgressLine, trafficWords } from './run-progress.js';

function terminal(interactive: boolean, columns?: number) {
  let err = '';
  return {
    terminal: printableTerminal({
      out: () => undefined,
      err: (text: string) => void (err += text),
      input: () => Promise.resolve(''),
      color: false,
      interactive,
      columns,
    }),
    printed: () => err,
  };
}

describe('how far a run is', () => {
  it.each([
    [1_200_000, 10_000_000, 3, '1 200 000 of 10 000 000 frames (12 %), 400 000/s, 22 s left'],
    [64, 1000, 0, '64 of 1 000 frames (6 %)'],
    [1000, 100_000_000, 1, '1 000 of 100 000 000 frames (0 %), 1 000/s, 27 h 46 min left'],
    [1000, 201_000, 1, '1 000 of 201 000 frames (0 %), 1 000/s, 3 min 20 s left'],
    [500, undefined, 2, '500 frames, 250/s'],
    // A workload that was wrong about itself.
    [500, 400, 2, '500 frames, 250/s'],
    [500, NaN, 2, '500 frames, 250/s'],
  ])('%s of %s after %s s', (frames, of, seconds, words) => {
    expect(trafficWords(frames, of, seconds)).toBe(words);
  });

  it('is one line that overwrites itself, and is cut to the terminal', () => {
    const { terminal: wide, printed } = terminal(true, 40);
    let now = 5_000;
    const line = new RunProgressLine(new Progress(wide), () => now);
    line.begin('run 1 of 2: a');
    line.show({ phase: 'traffic' });
    now += 1_000;
    line.show({ phase: 'traffic', frames: 100, of: 1000 });
    const shown = printed().split('\r\u001b[K').slice(1);
    expect(shown).toEqual([
      'run 1 of 2: a',
      'run 1 of 2: a – traffic',
      'run 1 of 2: a – 100 of 1 000 frames (10',
    ]);
    expect(printed()).not.toContain('\n');
  });

  it('takes a terminal of unknown size for one of 80 characters', () => {
    const { terminal: unsized, printed } = terminal(true, 0);
    new Progress(unsized).say('x'.repeat(100));
    expect(printed()).toBe(`\r\u001b[K${'x'.repeat(79)}`);
  });

  it('is not told where there is no terminal', () => {
    const { terminal: none, printed } = terminal(false);
    const line = new RunProgressLine(new Progress(none));
    line.begin('run 1 of 2: a');
    line.show({ phase: 'traffic', frames: 100, of: 1000 });
    expect(printed()).toBe('run 1 of 2: a\n');
  });
});
