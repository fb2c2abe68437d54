import { describe, expect, it } from 'vitest';
import { parseOnlyArguments } from './resolve-arguments.js';

describe('--only', () => {
  it.each(['case', 'constructor', '__proto__'])('keeps variants of an axis called %s', (axis) => {
    const matrix = Object.fromEntries([[axis, { a: {}, b: {}, c: {} }]]);
    expect(Object.entries(parseOnlyArguments([`${axis}=a`, `${axis}=b`], matrix))).toEqual([
      [axis, ['a', 'b']],
    ]);
  });
});
