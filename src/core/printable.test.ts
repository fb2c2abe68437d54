import { describe, expect, it } from 'vitest';
import { printable, printableLine, printableText } from './printable.js';

describe('what is not printable', () => {
  it.each([
    ['an escape sequence', '\u001b[2J', '\\u001b[2J'],
    ['the one-character form of CSI', '\u009b2J', '\\u009b2J'],
    ['DEL', '\u007f', '\\u007f'],
    ['a direction override', '\u202egpj', '\\u202egpj'],
    ['an isolate', '\u2066', '\\u2066'],
    ['the line separators', '\u0085\u2028\u2029\r', '\\u0085\\u2028\\u2029\\u000d'],
    ['a lone surrogate', '\ud800', '\\ud800'],
    ['a tag, in two code units', '\u{e0041}', '\\udb40\\udc41'],
    ['private use', '\ue000', '\\ue000'],
    ['what fonts ignore', '\u034f\u180b\ufe0f\u17b4', '\\u034f\\u180b\\ufe0f\\u17b4'],
    ['a variation selector of the supplement', '\u{e0100}', '\\udb40\\udd00'],
    ['no character, or none yet', '\uffff\ufffe\ufff0\u2065', '\\uffff\\ufffe\\ufff0\\u2065'],
    ['what is blank', '\u2800\u3164\u115f', '\\u2800\\u3164\\u115f'],
  ])('%s is written out', (_, text, written) => {
    for (const make of [printable, printableLine, printableText])
      expect(make(`a${text}b`)).toBe(`a${written}b`);
  });

  it('is a mark that combines with nothing, or the third on a letter', () => {
    expect(printable('\u0301x')).toBe('\\u0301x');
    expect(printable('1\u0301')).toBe('1\\u0301');
    expect(printable('e\u0301\u0302\u0303\u0304')).toBe('e\u0301\u0302\\u0303\\u0304');
    // Nor does it get onto the end of what is written in place of another.
    expect(printable('1\u0301\u0302')).toBe('1\\u0301\\u0302');
    expect(printable('e\ufe0f\u0301')).toBe('e\\ufe0f\\u0301');
    expect(printable('\u3164\u0301')).toBe('\\u3164\\u0301');
    expect(printable('हिन्दी')).toBe('हिन्दी');
  });

  it('is no other script and no symbol', () => {
    expect(printable('é 中 ✓ … 😀')).toBe('é 中 ✓ … 😀');
  });

  it('is a tab or a line feed only where there can be none', () => {
    expect(printable('a\tb\n')).toBe('a\\u0009b\\u000a');
    expect(printableLine('a\tb\n')).toBe('a\tb\\u000a');
    expect(printableText('a\tb\n')).toBe('a\tb\n');
  });

  it('is the same in a JSON document afterwards', () => {
    const value = { 'n\u202e': 'x\u001b\u009b\u007f\u2028\u{e0041}\n"\\' };
    const text = printableText(JSON.stringify(value, null, 2));
    expect(text).toMatch(/^[\x20-\x7e\n]*$/);
    expect(JSON.parse(text)).toEqual(value);
  });
});
