import { describe, expect, it } from 'vitest';
import { assemble } from '../../assembler.js';
import { mayReadClock } from './time-and-random-helpers.js';

describe('a program that may read the clock', () => {
  it.each([
    ['bpf_ktime_get_ns', true],
    ['bpf_ktime_get_boot_ns', true],
    ['bpf_ktime_get_tai_ns', true],
    ['bpf_ktime_get_coarse_ns', true],
    ['bpf_jiffies64', true],
    // Where it goes on, it may.
    ['bpf_tail_call', true],
    ['bpf_get_prandom_u32', false],
    ['bpf_get_smp_processor_id', false],
  ])('one that calls %s: %s', (helper, may) => {
    const call = `r0 = 1\nif r0 == 1 goto end\ncall f\nend: exit\nf: call ${helper}\nexit`;
    expect(mayReadClock(assemble(call))).toBe(may);
  });

  it('is none whose local function begins at an insn of such a number', () => {
    // A call of the function five insns on.
    expect(mayReadClock(assemble('call f\nexit\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nf: exit'))).toBe(false);
  });
});
