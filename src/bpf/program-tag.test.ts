import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.js';
import { programTag } from './program-tag.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sha1 = (bytes: string): string =>
  createHash('sha1')
    .update(Buffer.from(bytes.replaceAll(/\s/g, ''), 'hex'))
    .digest('hex')
    .slice(0, 16);

describe('the tag of a program', () => {
  it('is the beginning of SHA-1 over the insns', () => {
    expect(hex(programTag(assemble('r0 = 2\nexit')))).toBe(sha1('b700000002000000 9500000000000000'));
  });

  it('takes the number of a map for 0, in both halves, and what is no map for itself', () => {
    const useMap = (handle: number) =>
      hex(programTag(assemble('r1 = map[m]\nr0 = 2\nexit', { maps: new Map([['m', handle]]) })));
    expect(useMap(0x12345)).toBe(sha1('1811000000000000 0000000000000000 b700000002000000 9500000000000000'));
    expect(useMap(0x12345)).toBe(useMap(7));
    const constant = (value: string) => hex(programTag(assemble(`r1 = ${value} ll\nr0 = 2\nexit`)));
    expect(constant('0x1122334455667788')).toBe(
      sha1('1801000088776655 0000000044332211 b700000002000000 9500000000000000'),
    );
    expect(constant('7')).not.toBe(constant('8'));
  });

  it('takes the number of a map of which a value is named, and the offset in it, for 0', () => {
    const [first, second, ...rest] = assemble('r1 = map[m]\nr0 = 2\nexit', { maps: new Map([['m', 3]]) });
    // BPF_PSEUDO_MAP_VALUE is 2; the second half's imm is the offset.
    const named = [{ ...first!, src: 2, imm: 3 }, { ...second!, imm: 16 }, ...rest];
    expect(hex(programTag(named))).toBe(
      sha1('1821000000000000 0000000000000000 b700000002000000 9500000000000000'),
    );
  });
});
