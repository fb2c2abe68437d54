import type { OperandCase } from './executor-case.js';

const MIN = 0x8000_0000n;
const UPPER = 0xdead_beef_0000_0000n;

/** RFC 9669 section 4.1, class ALU: 32 bits in, the upper half of dst zero, whatever it was. */
export const ALU32_CASES: readonly OperandCase[] = [
  ['w1 += w2', UPPER | 0xffff_ffffn, UPPER | 2n, 1n, 'wraps, and clears the upper half'],
  ['w1 += -1', UPPER, 0n, 0xffff_ffffn, 'no sign in the upper half'],
  ['w1 -= w2', UPPER | 1n, 2n, 0xffff_ffffn],
  ['w1 -= w1', UPPER | 1n, 0n, 0n],
  ['w1 *= w2', UPPER | 0x1_0001n, 0x1_0001n, 0x2_0001n],
  ['w1 *= w2', 0xffff_ffffn, 0xffff_ffffn, 1n],
  ['w1 *= -2', UPPER | 3n, 0n, 0xffff_fffan],

  ['w1 /= w2', UPPER | 0xffff_ffffn, UPPER | 2n, 0x7fff_ffffn, 'unsigned'],
  ['w1 /= w2', UPPER | MIN, 0xffff_ffffn, 0n, 'unsigned: 2^31 / (2^32 - 1)'],
  ['w1 /= w2', UPPER | 5n, UPPER, 0n, 'by zero, the upper half of the divisor notwithstanding'],
  ['w1 /= -1', UPPER | 0xffff_ffffn, 0n, 1n],
  ['w1 s/= w2', UPPER | 0xffff_fff3n, 3n, 0xffff_fffcn, '-13 / 3'],
  ['w1 s/= w2', 13n, 0xffff_fffdn, 0xffff_fffcn, '13 / -3'],
  ['w1 s/= w2', UPPER | MIN, 0xffff_ffffn, MIN, 'the most negative by -1'],
  ['w1 s/= -1', UPPER | MIN, 0n, MIN],
  ['w1 s/= w2', UPPER | 0xffff_fff3n, UPPER, 0n, 'by zero'],
  ['w1 %= w2', UPPER | 0xffff_ffffn, 10n, 5n],
  ['w1 %= w2', UPPER | 0xffff_fff3n, UPPER, 0xffff_fff3n, 'by zero keeps the lower half only'],
  ['w1 s%= w2', UPPER | 0xffff_fff3n, 3n, 0xffff_ffffn, '-13 % 3'],
  ['w1 s%= w2', 13n, 0xffff_fffdn, 1n],
  ['w1 s%= w2', UPPER | MIN, 0xffff_ffffn, 0n, 'the most negative by -1'],
  ['w1 s%= w2', UPPER | 0xffff_fff3n, UPPER, 0xffff_fff3n, 'by zero keeps the lower half only'],

  ['w1 |= w2', UPPER | 0xf0n, UPPER | 0x0fn, 0xffn],
  ['w1 |= -16', UPPER | 1n, 0n, 0xffff_fff1n],
  ['w1 &= w2', UPPER | 0xffn, UPPER | 0x3cn, 0x3cn],
  ['w1 &= -1', UPPER | 0x8000_0001n, 0n, 0x8000_0001n],
  ['w1 ^= w2', UPPER | 0xffn, UPPER | 0x0fn, 0xf0n],
  ['w1 = -w1', UPPER | 1n, 0n, 0xffff_ffffn],
  ['w1 = -w1', UPPER | MIN, 0n, MIN],

  ['w1 <<= w2', UPPER | 1n, 31n, MIN],
  ['w1 <<= w2', UPPER | 3n, 32n, 3n, 'the count is masked with 31'],
  ['w1 <<= w2', UPPER | 3n, 0xffff_ff01n, 6n],
  ['w1 <<= 0', UPPER | 3n, 0n, 3n, 'by nothing, yet the upper half is cleared'],
  ['w1 >>= w2', UPPER | MIN, 31n, 1n],
  ['w1 >>= w2', UPPER | MIN, 33n, 0x4000_0000n, 'the count is masked with 31'],
  ['w1 >>= 4', UPPER | MIN, 0n, 0x0800_0000n],
  ['w1 s>>= w2', UPPER | MIN, 31n, 0xffff_ffffn, 'the sign is bit 31'],
  ['w1 s>>= w2', UPPER | 0x4000_0000n, 30n, 1n],
  ['w1 s>>= 4', UPPER | MIN, 0n, 0xf800_0000n],

  ['w1 = w2', UPPER, UPPER | 0x8000_0001n, 0x8000_0001n],
  ['w1 = w1', UPPER | 7n, 0n, 7n],
  ['w1 = -1', UPPER, 0n, 0xffff_ffffn],
  ['w1 = (s8)w2', UPPER, 0x80n, 0xffff_ff80n, 'MOVSX: the sign goes to bit 31 and no further'],
  ['w1 = (s8)w2', UPPER, 0x7fn, 0x7fn],
  ['w1 = (s16)w2', UPPER, 0x8000n, 0xffff_8000n],

  // Section 4.2.
  ['r1 = le16 r1', 0x1122_3344_5566_7788n, 0n, 0x7788n],
  ['r1 = le32 r1', 0x1122_3344_5566_7788n, 0n, 0x5566_7788n],
  ['r1 = le64 r1', 0x1122_3344_5566_7788n, 0n, 0x1122_3344_5566_7788n],
  ['r1 = be16 r1', 0x1122_3344_5566_7788n, 0n, 0x8877n],
  ['r1 = be32 r1', 0x1122_3344_5566_7788n, 0n, 0x8877_6655n],
  ['r1 = be64 r1', 0x1122_3344_5566_7788n, 0n, 0x8877_6655_4433_2211n],
];
