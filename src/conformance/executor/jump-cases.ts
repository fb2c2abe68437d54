import type { ComputationCase } from './executor-case.js';

const MIN = 0x8000_0000_0000_0000n;
const ALL = 0xffff_ffff_ffff_ffffn;
const U = 0xdead_beef_0000_0000n;

/** A comparison of R1 with R2 or an immediate, and whether it holds. */
type ComparisonCase = readonly [comparison: string, r1: bigint, r2: bigint, holds: boolean];

/** RFC 9669 section 4.3: every condition where it holds and where it does not, signed and unsigned corners. */
export const COMPARISON_CASES: readonly ComparisonCase[] = [
  ['r1 == r2', 5n, 5n, true],
  ['r1 == r2', 0x1_0000_0005n, 5n, false],
  ['r1 == r2', 5n, 6n, false],
  ['r1 == -1', ALL, 0n, true],
  ['r1 == -1', 0xffff_ffffn, 0n, false],
  ['r1 != r2', 0x1_0000_0005n, 5n, true],
  ['r1 != r2', 5n, 5n, false],
  ['r1 != -1', ALL, 0n, false],
  ['r1 > r2', ALL, 1n, true],
  ['r1 > r2', 0x1_0000_0000n, 0xffff_ffffn, true],
  ['r1 > r2', 0xffff_ffffn, 0x1_0000_0000n, false],
  ['r1 > r2', 5n, 5n, false],
  ['r1 > -2', ALL, 0n, true],
  ['r1 > -2', 0xffff_ffffn, 0n, false],
  ['r1 >= r2', 5n, 5n, true],
  ['r1 >= r2', MIN, 0x7fff_ffff_ffff_ffffn, true],
  ['r1 >= r2', 0x1_0000_0004n, 0x1_0000_0005n, false],
  ['r1 < r2', 1n, ALL, true],
  ['r1 < r2', 0x8000_0000n, 0x8000_0001n, true],
  ['r1 < r2', 5n, 5n, false],
  ['r1 < 0x7fffffff', 0x1_0000_0000n, 0n, false],
  ['r1 <= r2', 5n, 5n, true],
  ['r1 <= r2', 0x1_0000_0000n, 0xffff_ffffn, false],
  ['r1 s> r2', 1n, ALL, true],
  ['r1 s> r2', ALL, 1n, false],
  ['r1 s> r2', 0xffff_ffff_8000_0001n, 0xffff_ffff_8000_0000n, true],
  ['r1 s> r2', 0xffff_ffff_0000_0001n, 0xffff_ffff_8000_0000n, false],
  ['r1 s> -1', 0n, 0n, true],
  ['r1 s>= r2', MIN, MIN, true],
  ['r1 s>= r2', MIN, 0n, false],
  ['r1 s< r2', MIN, 0x7fff_ffff_ffff_ffffn, true],
  ['r1 s< r2', 0n, ALL, false],
  ['r1 s< r2', 5n, 5n, false],
  ['r1 s< 0', ALL, 0n, true],
  ['r1 s<= r2', ALL, 0n, true],
  ['r1 s<= r2', 1n, 0n, false],
  ['r1 s<= r2', 5n, 5n, true],
  ['r1 & r2', 6n, 3n, true],
  ['r1 & r2', 4n, 3n, false],
  ['r1 & r2', MIN, MIN, true],
  ['r1 & -2147483648', 0x1_0000_0000n, 0n, true],
  ['r1 & 1', 0x1_0000_0000n, 0n, false],

  ['w1 == w2', U | 5n, 5n, true],
  ['w1 == w2', 5n, 6n, false],
  ['w1 == -1', 0xffff_ffffn, 0n, true],
  ['w1 != w2', U | 5n, 5n, false],
  ['w1 != w2', U, 5n, true],
  ['w1 > w2', 0xffff_ffffn, U | 1n, true],
  ['w1 > w2', U | 1n, 1n, false],
  ['w1 >= w2', U | 1n, 1n, true],
  ['w1 >= w2', U, 1n, false],
  ['w1 < w2', U, 1n, true],
  ['w1 < w2', 1n, U | 1n, false],
  ['w1 <= w2', 1n, U | 1n, true],
  ['w1 <= -1', 0xffff_ffffn, 0n, true],
  ['w1 <= w2', 2n, U | 1n, false],
  ['w1 s> w2', 1n, 0xffff_ffffn, true],
  ['w1 s> w2', 0x8000_0000n, 0n, false],
  ['w1 s>= w2', 0x8000_0000n, U | 0x8000_0000n, true],
  ['w1 s>= w2', 0x8000_0000n, 0n, false],
  ['w1 s< w2', 0x8000_0000n, 0x7fff_ffffn, true],
  ['w1 s< 0', 0x7fff_ffffn, 0n, false],
  ['w1 s<= w2', 0xffff_ffffn, 0n, true],
  ['w1 s<= w2', 0n, 0xffff_ffffn, false],
  ['w1 & w2', U | 2n, U | 1n, false],
  ['w1 & w2', 3n, U | 1n, true],
];

const SECTION = 'RFC 9669 section 4.3';

export const JUMP_CASES: readonly ComputationCase[] = [
  {
    name: 'goto skips, forwards and backwards',
    source: SECTION,
    program: `
        r0 = 1
        goto ahead
      back:
        r0 += 10
        goto done
      ahead:
        r0 += 100
        goto back
      done:
        exit`,
    r0: 111n,
  },
  {
    name: 'gotol takes its distance from imm',
    source: SECTION,
    program: `
        r0 = 7
        gotol over
        r0 = 8
      over:
        exit`,
    r0: 7n,
  },
  {
    name: 'a loop runs as often as its condition holds',
    source: SECTION,
    program: `
        r0 = 0
        r1 = 0
      loop:
        r0 += r1
        r1 += 1
        if r1 < 1001 goto loop
        exit`,
    r0: 500_500n,
  },
  {
    name: 'nested loops',
    source: SECTION,
    program: `
        r0 = 0
        r1 = 0
      outer:
        r2 = 0
      inner:
        r0 += 1
        r2 += 1
        if r2 != 7 goto inner
        r1 += 1
        if r1 != 9 goto outer
        exit`,
    r0: 63n,
  },
  {
    name: 'two loops that enter each other (an irreducible graph)',
    source: SECTION,
    program: `
        r0 = 0
        r1 = 5
        if r2 == 0 goto second
      first:
        r0 += 1
        r1 += -1
        if r1 s<= 0 goto done
      second:
        r0 += 10
        goto first
      done:
        exit`,
    r0: 55n,
  },
  {
    name: 'a jump across an lddw counts its two slots',
    source: 'RFC 9669 section 5.4',
    program: `
        r0 = 1
        if r0 == 1 goto pc+2
        r0 = 0x1122334455667788ll
        exit`,
    r0: 1n,
  },
];
