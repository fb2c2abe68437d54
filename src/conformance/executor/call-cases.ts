import type { ComputationCase } from './executor-case.js';

const CALLS = 'RFC 9669 section 4.3.2';
const KERNEL_LOOP = 'kernel/bpf/bpf_iter.c bpf_loop';

/** Local calls: arguments, result, registers that are kept, frames of their own, depth; and callbacks. */
export const CALL_CASES: readonly ComputationCase[] = [
  {
    name: 'arguments go in R1 … R5 and the result comes back in R0',
    source: CALLS,
    program: `
        r1 = 1
        r2 = 20
        r3 = 300
        r4 = 4000
        r5 = 50000
        call sum
        exit
      sum:
        r0 = r1
        r0 += r2
        r0 += r3
        r0 += r4
        r0 += r5
        exit`,
    r0: 54321n,
  },
  {
    name: 'R6 … R9 are kept over a call',
    source: CALLS,
    program: `
        r6 = 0x1111111111111111ll
        r7 = 0x2222222222222222ll
        r8 = 3
        r9 = 4
        call clobber
        r0 = r6
        r0 += r7
        r0 += r8
        r0 += r9
        exit
      clobber:
        r6 = -1
        r7 = -1
        r8 = -1
        r9 = -1
        r0 = 0
        exit`,
    r0: 0x3333_3333_3333_333an,
  },
  {
    name: 'each frame has a stack of its own, and R10 is back after the call',
    source: 'kernel MAX_BPF_STACK',
    program: `
        *(u64 *)(r10 -512) = 1
        *(u64 *)(r10 -8) = 2
        call scribble
        r0 = *(u64 *)(r10 -512)
        r0 <<= 8
        r1 = *(u64 *)(r10 -8)
        r0 |= r1
        exit
      scribble:
        *(u64 *)(r10 -512) = 77
        *(u64 *)(r10 -8) = 77
        r0 = 0
        exit`,
    r0: 0x102n,
  },
  {
    name: "a pointer into the caller's frame works in the callee",
    source: CALLS,
    program: `
        *(u64 *)(r10 -8) = 40
        r1 = r10
        r1 += -8
        call bump
        r0 = *(u64 *)(r10 -8)
        exit
      bump:
        *(u64 *)(r10 -8) = 5
        r2 = *(u64 *)(r1 +0)
        r2 += 2
        *(u64 *)(r1 +0) = r2
        r0 = 0
        exit`,
    r0: 42n,
  },
  {
    name: 'eight frames, the main program included',
    source: 'kernel MAX_CALL_FRAMES',
    program: `
        r1 = 0
        call f2
        exit
      f2:
        r1 += 1
        call f3
        exit
      f3:
        r1 += 1
        call f4
        exit
      f4:
        r1 += 1
        call f5
        exit
      f5:
        r1 += 1
        call f6
        exit
      f6:
        r1 += 1
        call f7
        exit
      f7:
        r1 += 1
        call f8
        exit
      f8:
        r1 += 1
        r0 = r1
        exit`,
    r0: 7n,
  },
  {
    name: 'the same function called from two places',
    source: CALLS,
    program: `
        r1 = 5
        call square
        r6 = r0
        r1 = 7
        call square
        r0 += r6
        exit
      square:
        r0 = r1
        r0 *= r1
        exit`,
    r0: 74n,
  },
  {
    name: 'bpf_loop calls with the index and the context until the callback returns 1',
    source: KERNEL_LOOP,
    program: `
        *(u64 *)(r10 -8) = 0
        r1 = 10
        r2 = subprog[body]
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_loop
        r1 = *(u64 *)(r10 -8)
        r1 <<= 8
        r0 |= r1
        exit
      body:
        r3 = *(u64 *)(r2 +0)
        r3 += r1
        *(u64 *)(r2 +0) = r3
        r0 = 0
        if r1 != 6 goto more
        r0 = 1
      more:
        exit`,
    // 0 + 1 + … + 6 = 21 in seven rounds
    r0: 0x1507n,
  },
  {
    name: 'bpf_loop without an early end returns the number of rounds',
    source: KERNEL_LOOP,
    program: `
        r6 = 99
        r1 = 1000
        r2 = subprog[body]
        r3 = 0
        r4 = 0
        call bpf_loop
        r0 += r6
        exit
      body:
        r6 = 5
        r0 = 0
        exit`,
    r0: 1099n,
  },
  {
    name: 'bpf_loop of no rounds',
    source: KERNEL_LOOP,
    program: loopWith({ rounds: '0', flags: '0' }),
    r0: 0n,
  },
  {
    name: 'bpf_loop with flags is -EINVAL',
    source: KERNEL_LOOP,
    program: loopWith({ rounds: '1', flags: '1' }),
    r0: BigInt.asUintN(64, -22n),
  },
  {
    name: 'bpf_loop of more than 8 388 608 rounds is -E2BIG',
    source: KERNEL_LOOP,
    program: loopWith({ rounds: '8388609', flags: '0' }),
    r0: BigInt.asUintN(64, -7n),
  },
  {
    name: 'bpf_loop within a callback of bpf_loop',
    source: KERNEL_LOOP,
    program: `
        *(u64 *)(r10 -8) = 0
        r1 = 3
        r2 = subprog[outer]
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_loop
        r0 = *(u64 *)(r10 -8)
        exit
      outer:
        r3 = r2
        r1 = 4
        r2 = subprog[inner]
        r4 = 0
        call bpf_loop
        r0 = 0
        exit
      inner:
        r3 = *(u64 *)(r2 +0)
        r3 += 1
        *(u64 *)(r2 +0) = r3
        r0 = 0
        exit`,
    r0: 12n,
  },
];

function loopWith({ rounds, flags }: { readonly rounds: string; readonly flags: string }): string {
  return `
      r1 = ${rounds}
      r2 = subprog[body]
      r3 = 0
      r4 = ${flags}
      call bpf_loop
      exit
    body:
      r0 = 0
      exit`;
}
