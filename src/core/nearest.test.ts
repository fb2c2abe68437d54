import { describe, expect, it } from 'vitest';
import { nearest } from './nearest.js';

const ACTIONS = ['XDP_ABORTED', 'XDP_DROP', 'XDP_PASS', 'XDP_TX', 'XDP_REDIRECT'];

describe('did you mean', () => {
  it.each([
    ['XDP_DORP', 'XDP_DROP'],
    ['DROP', 'XDP_DROP'],
    ['drop', 'XDP_DROP'],
    ['tx', 'XDP_TX'],
    ['', undefined],
    ['forward', undefined],
  ])('%j: %s', (word, expected) => {
    expect(nearest(word, ACTIONS)).toBe(expected);
  });

  it('does not guess between two that end alike', () => {
    expect(nearest('hash', ['BPF_MAP_TYPE_HASH', 'BPF_MAP_TYPE_PERCPU_HASH'])).toBeUndefined();
  });
});
