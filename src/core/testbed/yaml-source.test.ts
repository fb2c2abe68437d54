import { describe, expect, it } from 'vitest';
import { YamlSource } from './yaml-source.js';

const problems = (text: string) =>
  new YamlSource('f', text).problems.map(({ at, message }) => `${at.line}: ${message}`);

describe('a YAML file that is an attack on its reader', () => {
  it.each([
    ['lists in lists', '['.repeat(100_000)],
    ['maps in maps', 'a: '.repeat(5_000)],
    ['keys of keys', '? '.repeat(25_000)],
    ['one level more than the limit', `${'['.repeat(65)}${']'.repeat(65)}`],
  ])('%s are one problem, not one for each level', (_, text) => {
    expect(problems(text)).toEqual(['1: lists and maps are nested deeper than the limit of 64']);
  });

  it('what is nested as deep as the limit is read', () => {
    expect(problems(`${'['.repeat(64)}${']'.repeat(64)}`)).toEqual([]);
  });

  it('a file that is too long is not parsed', () => {
    expect(problems('a'.repeat(2 ** 20 + 1))).toEqual(['1: 1048577 characters exceed the limit of 1048576']);
  });

  it('several documents are not one testbed', () => {
    expect(problems('a: 1\n---\nb: 2\n')).toEqual(['2: the file holds several documents; a testbed is one']);
  });
});

describe('a mebibyte of anything is judged in bounded time', () => {
  const SIZE = 2 ** 20;
  const fill = (unit: string) => unit.repeat(Math.floor(SIZE / unit.length));
  const number = (unit: (index: number) => string) => {
    let text = '';
    for (let index = 0; text.length < SIZE - 40; index++) text += unit(index);
    return text;
  };

  it.each<[string, string, (string | RegExp)[]]>([
    ['keys of one map', number((i) => `k${i}: 1\n`), [/more than the limit of 200000 words/]],
    ['keys of a flow map', `{${number((i) => `k${i}: 1,`)}}`, [/more than the limit of 200000 words/]],
    ['the same key', fill('a: 1\n'), [/more than the limit of 200000 words/]],
    ['anchors and aliases', number((i) => `- &a${i} x\n- *a${i}\n`), [/more than the limit of 200000 words/]],
    ['errors of the form', fill('- }\n'), [/more than the limit of 200000 words/]],
    [
      'errors in a scalar',
      `"${fill('\\z')}`.slice(0, SIZE - 1) + '"',
      [/more than the limit of 200000 words/],
    ],
    ['a long word', fill('a'), []],
    ['long lines of one scalar', `a: |\n${fill('  some text of a line\n')}`.slice(0, SIZE), []],
    ['spaces', `a: b${fill(' ')}`.slice(0, SIZE), []],
  ])('%s', (_, text, expected) => {
    const started = performance.now();
    const found = problems(text);
    // A third of a second where this was written; what is quadratic took minutes.
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(found).toHaveLength(expected.length);
    expected.forEach((message, index) => expect(found[index]).toMatch(message));
  });

  it('just within the limits: many keys are all read, and each is found', () => {
    const text = Array.from({ length: 25_000 }, (_, i) => `k${i}: ${i}\n`).join('');
    const source = new YamlSource('f', text);
    expect(source.problems).toEqual([]);
    const keys = Object.keys(source.value as object);
    expect(keys).toHaveLength(25_000);
    for (const key of keys) expect(source.locateKey([key]).line).toBe(Number(key.slice(1)) + 1);
  });

  it('errors are told up to a hundred, then counted', () => {
    const found = problems('"' + '\\z'.repeat(150) + '"');
    expect(found).toHaveLength(101);
    expect(found[100]).toBe('1: from here on, 50 further syntax problems');
  });

  it('keys that stand twice are told up to a hundred', () => {
    expect(problems('a: 1\n'.repeat(200))).toHaveLength(100);
  });
});

describe('aliases', () => {
  it('are replaced by copies: changing one leaves the other', () => {
    const { value } = new YamlSource('f', 'a: &a { x: [1] }\nb: *a\nc: *a\n');
    const { a, b, c } = value as Record<string, { x: number[] }>;
    expect([b, c]).toEqual([a, a]);
    b!.x.push(2);
    expect([a!.x, c!.x]).toEqual([[1], [1]]);
  });

  it('stand for the last node with the anchor before them', () => {
    expect(new YamlSource('f', '[&a 1, *a, &a 2, *a]').value).toEqual([1, 1, 2, 2]);
    expect(new YamlSource('f', '[&a [1], &b [*a], &a [2], *b]').value).toEqual([[1], [[1]], [2], [[1]]]);
  });

  it('lead to the place of what they stand for', () => {
    const source = new YamlSource('f', 'a: &a\n  x: 1\nb: *a\n');
    expect(source.locate(['b', 'x']).line).toBe(2);
  });

  it.each([
    ['before its anchor', '- *a\n- &a x\n', '1: the file cannot be expanded: unresolved alias'],
    ['in what it stands for', '&a [1, *a]', '1: the file cannot be expanded: an alias stands within'],
    [
      'deeper than lists may be',
      `- &a ${'['.repeat(40)}${']'.repeat(40)}\n- ${'['.repeat(40)}*a${']'.repeat(40)}\n`,
      '2: the file cannot be expanded: lists and maps are nested deeper than the limit of 64',
    ],
    [
      'of the same thousand nodes eleven times',
      `- &a [${'x, '.repeat(1000)}]\n${'- *a\n'.repeat(11)}`,
      // The tenth copy of a list and its 1000 items is the one that exceeds 10 000 nodes.
      '11: the file cannot be expanded: excessive alias count',
    ],
  ])('one %s is a problem at its place', (_, text, message) => {
    const [first, ...others] = problems(text);
    expect(first).toContain(message);
    expect(others).toEqual([]);
  });

  it('a key called __proto__ is a key', () => {
    const { value } = new YamlSource('f', '__proto__: { polluted: 1 }\n');
    expect(Object.keys(value as object)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  });
});

describe('merge keys', () => {
  const merging = (section: string): YamlSource =>
    new YamlSource(
      't.yaml',
      `base: &base { a: 1, b: { c: 2 } }\nmore: &more { a: 5, d: 6 }\nuse: ${section}\n`,
    );
  const used = (section: string): unknown => (merging(section).value as { use: unknown }).use;

  it.each([
    ['{ <<: *base }', { a: 1, b: { c: 2 } }],
    // Keys of the map itself win, wherever they stand.
    ['{ a: 9, <<: *base }', { a: 9, b: { c: 2 } }],
    ['{ <<: *base, a: 9 }', { a: 9, b: { c: 2 } }],
    // Of several the first.
    ['{ <<: [*base, *more] }', { a: 1, b: { c: 2 }, d: 6 }],
    ['{ <<: [*more, *base] }', { a: 5, b: { c: 2 }, d: 6 }],
    ['{ <<: { x: 1 }, y: 2 }', { x: 1, y: 2 }],
    ["{ '<<': 1 }", { '<<': 1 }],
  ])('%s', (section, expected) => {
    expect(used(section)).toEqual(expected);
  });

  it('copy, and lead to the place of what they stand for', () => {
    const source = merging('{ <<: [*more, *base], e: 1 }');
    const { base, use } = source.value as Record<'base' | 'use', { b: { c: number } }>;
    use.b.c = 3;
    expect(base.b.c).toBe(2);
    expect(source.locate(['use', 'b', 'c'])).toMatchObject({ line: 1, col: 29 });
    expect(source.locateKey(['use', 'd'])).toMatchObject({ line: 2, col: 21 });
    expect(source.locateKey(['use', 'e'])).toMatchObject({ line: 3, col: 28 });
  });

  it.each(['{ <<: 1 }', '{ <<: [*base, 2] }', '{ <<: [[*base]] }'])('%s is a problem', (section) => {
    const { problems } = merging(section);
    expect(problems).toMatchObject([{ at: { line: 3, col: 8 } }]);
    expect(problems[0]!.message).toContain("'<<' takes a map, or a list of maps");
  });

  it('are an attack as other aliases are', () => {
    const levels = Array.from(
      { length: 30 },
      (_, i) => `l${i + 1}: &l${i + 1} { a${i}: *l${i}, <<: *l${i} }`,
    );
    const { problems } = new YamlSource('t.yaml', ['l0: &l0 { x: 1 }', ...levels].join('\n'));
    expect(problems[0]!.message).toContain('excessive alias count');
    const own = new YamlSource('t.yaml', 'a: &a { b: { <<: *a } }');
    expect(own.problems[0]!.message).toContain('an alias stands within what it stands for');
  });
});

describe('bytes', () => {
  it('are read as UTF-8, with or without a byte order mark', () => {
    const bytes = new TextEncoder().encode('\ufeffname: caf\u00e9 \ufffd\n');
    expect(new YamlSource('t.yaml', bytes).value).toEqual({ name: 'caf\u00e9 \ufffd' });
  });

  it.each([
    ['latin1', Buffer.from('a: 1\nname: caf\u00e9 x\n', 'latin1'), 2, 10, '0xe9'],
    ['UTF-16', Buffer.from('\ufeffa: 1\n', 'utf16le'), 1, 1, '0xff'],
    ['a character that was cut off', Buffer.from('a: \u00e9').subarray(0, -1), 1, 4, '0xc3'],
  ])('%s is refused with its place', (_, bytes, line, col, byte) => {
    const { problems, value } = new YamlSource('t.yaml', bytes);
    expect(value).toBeUndefined();
    expect(problems).toEqual([
      {
        at: { file: 't.yaml', line, col },
        message: `the file is not UTF-8: byte ${byte}`,
        hint: 'save it as UTF-8',
      },
    ]);
  });
});
