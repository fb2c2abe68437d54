import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { internetChecksum, onesComplementSum, updateChecksum } from './index.js';

const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

describe('the Internet checksum', () => {
  it('gives the sum of the example in RFC 1071 section 3', () => {
    const bytes = fromHex('0001 f203 f4f5 f6f7');
    expect(onesComplementSum(bytes)).toBe(0xddf2);
    expect(internetChecksum(bytes)).toBe(0x220d);
  });

  it('gives the checksum of a known IPv4 header', () => {
    expect(internetChecksum(fromHex('4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7'))).toBe(0xb861);
  });

  it('counts an odd last byte as the high half of a word', () => {
    expect(onesComplementSum(fromHex('0001 f2'))).toBe(0xf201);
  });

  it('covers the range only, and nothing past the end', () => {
    expect(onesComplementSum(fromHex('ffff 0001 0002 ffff'), 2, 6)).toBe(3);
    expect(onesComplementSum(fromHex('0001'), 0, 100)).toBe(1);
  });

  it('folds sums of more than 32 bits', () => {
    // 65,538 words of 0xffff: one's-complement minus zero added to itself.
    expect(onesComplementSum(new Uint8Array(131_076 * 2).fill(0xff))).toBe(0xffff);
  });

  it('splits at any even offset', () => {
    const split = fc.uint8Array({ minLength: 2, maxLength: 64 }).chain((bytes) =>
      fc.tuple(
        fc.constant(bytes),
        fc.nat(bytes.length >> 1).map((half) => half * 2),
      ),
    );
    fc.assert(
      fc.property(split, ([bytes, at]) => {
        const head = onesComplementSum(bytes, 0, at);
        expect(onesComplementSum(bytes, at, bytes.length, head)).toBe(onesComplementSum(bytes));
      }),
    );
  });

  it('updates incrementally: the example of RFC 1624 section 4', () => {
    expect(updateChecksum(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });

  it('updates to what a computation from scratch gives', () => {
    const word = fc.nat(0xffff);
    fc.assert(
      fc.property(fc.array(word, { minLength: 2, maxLength: 10 }), word, (words, after) => {
        // RFC 1624 section 3: with an all-zero result the two forms of zero cannot be told apart.
        fc.pre(words.slice(1).some((value) => value !== 0));
        const bytes = (values: number[]) =>
          Uint8Array.from(values.flatMap((value) => [value >> 8, value & 0xff]));
        const updated = updateChecksum(internetChecksum(bytes(words)), words[0]!, after);
        expect(updated).toBe(internetChecksum(bytes([after, ...words.slice(1)])));
      }),
    );
  });
});
