import { describe, expect, it } from 'vitest';
import { XdpbedError } from '../../core/diagnostic.js';
import { CaseSelection } from './executor-limits.js';

const refusal = (message: string) => new XdpbedError('executor-unsupported', message);

describe('what an executor says that it does not support', () => {
  const limits = { unsupported: { 'no maps': /has no maps/, 'no calls': /has no calls/ } };

  it('leaves out a case by the refusal of its program, and by no other error', () => {
    const selection = new CaseSelection(limits);
    expect(selection.unsupported(refusal('insn 3: it has no maps'))).toBe('no maps');
    expect(selection.unsupported(refusal('insn 3: it has no atomics'))).toBeUndefined();
    expect(selection.unsupported(new XdpbedError('out-of-memory', 'it has no maps'))).toBeUndefined();
    expect(selection.unsupported(new Error('it has no maps'))).toBeUndefined();
  });

  it('is to be struck when nothing is left out for it', () => {
    const selection = new CaseSelection(limits);
    expect(selection.unused()).toEqual(['no maps', 'no calls']);
    selection.unsupported(refusal('it has no calls'));
    expect(selection.unused()).toEqual(['no maps']);
    expect(new CaseSelection().unused()).toEqual([]);
  });
});
