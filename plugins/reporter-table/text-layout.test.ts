import { describe, expect, it } from 'vitest';
import { cut, drawTable, fitColumns, paint, quantity, wrap } from './text-layout.js';

const texts = (text: string, width: number) => wrap({ text }, width).map((line) => line.text);

describe('wrap', () => {
  it('breaks at blanks and indents what follows', () => {
    expect(texts('one two three', 20)).toEqual(['one two three']);
    expect(texts('one two three', 7)).toEqual(['one two', '  three']);
    expect(texts('  a bb ccc', 7)).toEqual(['  a bb', '    ccc']);
  });

  it('cuts words that are too wide, and loses nothing', () => {
    expect(texts('abcdefghij', 4)).toEqual(['abcd', '  ef', '  gh', '  ij']);
    expect(texts('  abc', 1)).toEqual(['  a', '    b', '    c']);
    expect(texts('ab abcdefghij', 6)).toEqual(['ab', '  abcd', '  efgh', '  ij']);
  });

  it('keeps an empty line and the tone', () => {
    expect(texts('', 5)).toEqual(['']);
    expect(wrap({ text: 'a b', tone: 'bad' }, 1).every((line) => line.tone === 'bad')).toBe(true);
  });
});

describe('fitColumns', () => {
  it('leaves what fits', () => {
    expect(fitColumns([10, 20], 30)).toEqual([10, 20]);
  });

  it('takes from the widest until it fits', () => {
    expect(fitColumns([10, 40, 20], 60)).toEqual([10, 30, 20]);
    // 10 + 40 + 38 is 18 too much: 40 shrinks to 38, then both give 8.
    expect(fitColumns([10, 40, 38], 70)).toEqual([10, 30, 30]);
  });

  it('stops at the least width', () => {
    expect(fitColumns([9, 9], 10, 8)).toEqual([8, 8]);
  });
});

it('draws cells of different height, colours taking no room', () => {
  const rows = [
    [[{ text: 'a' }], [{ text: 'b', tone: 'bad' as const }]],
    [[{ text: 'one two' }], [{ text: 'c' }]],
  ];
  const expected = [
    '┌───────┬───┐',
    '│ a     │ b │',
    '├───────┼───┤',
    '│ one   │ c │',
    '│   two │   │',
    '└───────┴───┘',
  ].join('\n');
  expect(drawTable(rows, [5, 1], false)).toBe(expected);
  expect(drawTable(rows, [5, 1], true)).toBe(expected.replace('b', '\u001b[31mb\u001b[39m'));
});

it('paints only with colours and a tone', () => {
  expect(paint({ text: 'x', tone: 'bad' }, true)).toBe('\u001b[31mx\u001b[39m');
  expect(paint({ text: 'x', tone: 'bad' }, false)).toBe('x');
  expect(paint({ text: 'x' }, true)).toBe('x');
});

it('cuts only when it saves something', () => {
  const more = (rest: readonly string[]) => `+${rest.length}`;
  expect(cut(['a', 'b', 'c'], 2, more)).toEqual(['a', 'b', 'c']);
  expect(cut(['a', 'b', 'c', 'd'], 2, more)).toEqual(['a', 'b', '+2']);
});

it('counts', () => {
  expect([quantity(0, 'run'), quantity(1, 'run'), quantity(2, 'run')]).toEqual(['0 runs', '1 run', '2 runs']);
});
