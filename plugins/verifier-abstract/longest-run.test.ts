import { expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import type { Acceptance } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

/**
 * The longest run has to be counted although most paths end early, where they meet what was explored. Each program is
 * written so that how many insns its longest run takes can be told by hand.
 */

const insns = (count: number): string => 'r5 = 0\n'.repeat(count);
/** 13 insns; a state is stored in them (exploration.ts). */
const meet = (name: string): string =>
  `${insns(9)}goto ${name}1\n${name}1: goto ${name}2\n${name}2: r5 = 0\n`;
/** The long way takes 98 insns more than the other one, which is explored first. */
const WAYS = `if r1 > 3 goto long\ngoto join\nlong: ${insns(99)}join: ${meet('j')}`;
/** 5 insns, until what its context points to is not 0: then 103. It is 0 in the first round only. */
const LONG_LATER = `later: r1 = *(u64 *)(r2 +0)\n*(u64 *)(r2 +0) = 1\nif r1 != 0 goto long\nr0 = 0\nexit\nlong: ${insns(98)}r0 = 0\nexit`;

const loop = (rounds: number, callback: string, context = ''): string =>
  `${context}r1 = ${rounds}\nr2 = subprog[${callback}]\nr3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\n`;

async function longestRun(text: string): Promise<number> {
  const program = {
    name: 'p',
    type: 6,
    attachType: 'BPF_XDP' as const,
    gplCompatible: true,
    insns: assemble(text),
  };
  const result = await new AbstractVerifier(DEFAULT_CONFIG).verify({ program, maps: new Map() });
  expect(result).toMatchObject({ accepted: true });
  return (result as Acceptance).properties!.worstCaseInsns;
}

it('counts what comes behind the place where a longer way meets a shorter one', async () => {
  const text = `r1 = *(u32 *)(r1 +12)\n${WAYS}${insns(60)}r0 = 2\nexit`;
  expect(await longestRun(text)).toBe(2 + 99 + 12 + 60 + 2);
});

it('counts what comes behind a round that is longer than those before it', async () => {
  const text = `${loop(2, 'later', '*(u64 *)(r10 -8) = 0\n')}${insns(300)}r0 = 2\nexit\n${LONG_LATER}`;
  expect(await longestRun(text)).toBeGreaterThanOrEqual(7 + (5 + 103) + 302);
});

it('counts a longer round of an inner loop in each round of the outer one', async () => {
  const text = `${loop(10, 'outer')}r0 = 2\nexit\nouter: ${loop(2, 'later', '*(u64 *)(r10 -8) = 0\n')}r0 = 0\nexit\n${LONG_LATER}`;
  expect(await longestRun(text)).toBeGreaterThanOrEqual(6 + 10 * (7 + 5 + 103 + 2) + 2);
});

it('counts a longer way through the callback of an inner loop in each of its rounds', async () => {
  const text = `*(u64 *)(r10 -8) = r1\n${loop(10, 'outer')}r0 = 2\nexit\nouter: r1 = *(u64 *)(r2 +0)\n*(u64 *)(r10 -8) = r1\n${loop(20, 'inner')}r0 = 0\nexit\ninner: r1 = *(u64 *)(r2 +0)\nr1 = *(u32 *)(r1 +12)\n${WAYS}r0 = 0\nexit`;
  expect(await longestRun(text)).toBeGreaterThanOrEqual(10 * 20 * (4 + 99 + 12 + 1));
});

it('counts a longer way through a function that a callback calls in each round', async () => {
  const text = `*(u64 *)(r10 -8) = r1\n${loop(50, 'outer')}r0 = 2\nexit\nouter: r1 = *(u64 *)(r2 +0)\ncall f\nr0 = 0\nexit\nf: r1 = *(u32 *)(r1 +12)\n${WAYS}r0 = 0\nexit`;
  expect(await longestRun(text)).toBeGreaterThanOrEqual(50 * (4 + 2 + 99 + 12 + 2));
});
