import { describe, expect, it } from 'vitest';
import { roundFitted, withValues } from './calibration-values.js';

const TEXT = `# A machine.
version: 1
parameters:
  # What a frame costs.
  nic-rx: { value: 38,   source: 'who knows: 38' } # really
  insn:
    value: 0.35 # ns
    source: here
    free: { prior: 0.35, spread: 0.1 }
  kick: &same { value: 1, source: x }
  slice: *same
`;

describe('other values for a calibration file', () => {
  it('change nothing but these values', () => {
    const changed = withValues(
      'a.yaml',
      TEXT,
      new Map([
        ['nic-rx', 123.4],
        ['insn', 1],
      ]),
    );
    expect(changed).toBe(TEXT.replace('value: 38,', 'value: 123.4,').replace('value: 0.35', 'value: 1'));
  });

  it('are not written where no value of the parameter stands', () => {
    expect(() => withValues('a.yaml', TEXT, new Map([['slice', 1]]))).toThrow('a.yaml: the value of slice');
    expect(() => withValues('a.yaml', TEXT, new Map([['nic-tx', 1]]))).toThrow('a.yaml: the value of nic-tx');
  });

  it('have four digits', () => {
    expect([123.456, 0.0123456, 98765.4, 1e-9].map(roundFitted)).toEqual([123.5, 0.01235, 98770, 1e-9]);
  });
});
