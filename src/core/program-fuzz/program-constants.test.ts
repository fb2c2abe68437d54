import { expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { programConstants } from './program-constants.js';

const hexes = (text: string): string[] =>
  programConstants(assemble(text)).words.map((word) => Buffer.from(word).toString('hex'));

it('takes what jumps compare with and its neighbours, in both orders', () => {
  // bpf_htons(ETH_P_IP) is 8 where the machine is little-endian: 08 00 in the packet.
  expect(hexes('if r1 == 8 goto out\nr0 = 2\nout: exit')).toEqual(
    expect.arrayContaining(['08', '0800', '0008', '07', '09', '02', '00000008']),
  );
  const port = hexes('if w1 != 0xe914 goto out\nr0 = 2\nout: exit');
  expect(port).toEqual(expect.arrayContaining(['14e9', 'e914', '13e9', '15e9']));
  // Two bytes do not fit one.
  expect(port).not.toContain('14');
});

it('takes 64-bit constants, and negative ones as their bits', () => {
  expect(hexes('r1 = 0x1122334455667788 ll\nexit'.replace(' ll', 'll'))).toEqual(
    expect.arrayContaining(['8877665544332211', '1122334455667788']),
  );
  expect(hexes('if r1 s> -2 goto out\nr0 = 0\nout: exit')).toEqual(
    expect.arrayContaining(['feff', 'fffe', 'fe']),
  );
});

it('takes lengths around what is added to pointers', () => {
  const text = 'r2 = r1\nr2 += 14\nr3 = r1\nr3 += 54\nr3 += -8\nr0 = 0\nexit';
  expect(programConstants(assemble(text)).lengths).toEqual([13, 14, 15, 53, 54, 55]);
});

it('is not crowded out by a program full of numbers', () => {
  const text = `${Array.from({ length: 5000 }, (_, n) => `r1 ^= ${n * 1000}`).join('\n')}\nexit`;
  expect(programConstants(assemble(text)).words.length).toBeLessThan(2048 * 8);
});
