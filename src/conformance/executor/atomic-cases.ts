import type { ComputationCase } from './executor-case.js';

const SECTION = 'RFC 9669 section 5.3';

/** One atomic insn on the 16 bytes at R1 with R3 = `operand` and R0 = `expected`; R0 := R3 or stays. */
function atomic(
  insn: string,
  before: bigint,
  operand: bigint,
  after: bigint,
  result: { readonly r3: bigint } | { readonly r0: bigint; readonly expected: bigint },
  note?: string,
): ComputationCase {
  const returnsR3 = 'r3' in result;
  return {
    name: note === undefined ? insn : `${insn}: ${note}`,
    source: SECTION,
    program: `
      r0 = 0x${(returnsR3 ? 0n : result.expected).toString(16)}ll
      r3 = 0x${operand.toString(16)}ll
      ${insn}
      ${returnsR3 ? 'r0 = r3' : ''}
      exit`,
    memory: [...bytes(before), ...bytes(NEIGHBOUR)],
    r0: returnsR3 ? result.r3 : result.r0,
    memoryAfter: [...bytes(after), ...bytes(NEIGHBOUR)],
  };
}

/** What lies behind must stay as it is. */
const NEIGHBOUR = 0x5555_5555_5555_5555n;
const U = 0xdead_beef_0000_0000n;

function bytes(value: bigint): number[] {
  return Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/** Every operation in both sizes, with and without FETCH. A 32-bit fetch zeroes the register's upper half. */
export const ATOMIC_CASES: readonly ComputationCase[] = [
  atomic('lock *(u64 *)(r1 +0) += r3', 0xffff_ffffn, 1n, 0x1_0000_0000n, { r3: 1n }, 'carries'),
  atomic('lock *(u64 *)(r1 +0) |= r3', 0xf0n, U | 0x0fn, U | 0xffn, { r3: U | 0x0fn }),
  atomic('lock *(u64 *)(r1 +0) &= r3', U | 0xffn, U | 0x0fn, U | 0x0fn, { r3: U | 0x0fn }),
  atomic('lock *(u64 *)(r1 +0) ^= r3', U | 0xffn, U | 0x0fn, 0xf0n, { r3: U | 0x0fn }),
  atomic('lock *(u32 *)(r1 +0) += r3', U | 0xffff_ffffn, U | 2n, U | 1n, { r3: U | 2n }, 'wraps in 32 bits'),
  atomic('lock *(u32 *)(r1 +0) |= r3', U | 0xf0n, 0x0fn, U | 0xffn, { r3: 0x0fn }),
  atomic('lock *(u32 *)(r1 +0) &= r3', U | 0xffn, 0x0fn, U | 0x0fn, { r3: 0x0fn }),
  atomic('lock *(u32 *)(r1 +0) ^= r3', U | 0xffn, 0x0fn, U | 0xf0n, { r3: 0x0fn }),
  atomic('lock *(u32 *)(r1 +4) += r3', 0x1_0000_0005n, 2n, 0x3_0000_0005n, { r3: 2n }, 'at an offset'),

  atomic('r3 = atomic64_fetch_add((u64 *)(r1 +0), r3)', U | 5n, 3n, U | 8n, { r3: U | 5n }),
  atomic('r3 = atomic64_fetch_or((u64 *)(r1 +0), r3)', U | 0xf0n, 0x0fn, U | 0xffn, { r3: U | 0xf0n }),
  atomic('r3 = atomic64_fetch_and((u64 *)(r1 +0), r3)', U | 0xffn, 0x0fn, 0x0fn, { r3: U | 0xffn }),
  atomic('r3 = atomic64_fetch_xor((u64 *)(r1 +0), r3)', U | 0xffn, U | 0x0fn, 0xf0n, { r3: U | 0xffn }),
  atomic('r3 = atomic_fetch_add((u32 *)(r1 +0), r3)', U | 0xffff_ffffn, U | 1n, U, { r3: 0xffff_ffffn }),
  atomic('r3 = atomic_fetch_or((u32 *)(r1 +0), r3)', U | 0xf0n, U | 0x0fn, U | 0xffn, { r3: 0xf0n }),
  atomic('r3 = atomic_fetch_and((u32 *)(r1 +0), r3)', U | 0xffn, U | 0x0fn, U | 0x0fn, { r3: 0xffn }),
  atomic('r3 = atomic_fetch_xor((u32 *)(r1 +0), r3)', U | 0xffn, U | 0x0fn, U | 0xf0n, { r3: 0xffn }),

  atomic('r3 = atomic64_xchg((u64 *)(r1 +0), r3)', U | 5n, 9n, 9n, { r3: U | 5n }),
  atomic('r3 = atomic_xchg((u32 *)(r1 +0), r3)', U | 5n, 0x1111_1111_0000_0009n, U | 9n, { r3: 5n }),

  atomic(
    'r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r3)',
    U | 5n,
    9n,
    9n,
    { expected: U | 5n, r0: U | 5n },
    'matches',
  ),
  atomic(
    'r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r3)',
    U | 5n,
    9n,
    U | 5n,
    { expected: 5n, r0: U | 5n },
    'differs in the upper half',
  ),
  atomic(
    'r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r3)',
    U | 5n,
    U | 9n,
    U | 9n,
    { expected: 0x1111_1111_0000_0005n, r0: 5n },
    'matches: only the lower half of R0 counts',
  ),
  atomic(
    'r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r3)',
    U | 5n,
    9n,
    U | 5n,
    { expected: 0x1111_1111_0000_0006n, r0: 5n },
    'differs: R0 is zero-extended all the same',
  ),
  {
    name: 'an atomic add on the stack',
    source: SECTION,
    program: `
      *(u64 *)(r10 -16) = 40
      r1 = 2
      lock *(u64 *)(r10 -16) += r1
      r0 = *(u64 *)(r10 -16)
      exit`,
    r0: 42n,
  },
  {
    name: 'an atomic add with the same register as address and operand',
    source: SECTION,
    program: `
      r2 = r1
      *(u64 *)(r1 +0) = 0
      lock *(u64 *)(r1 +0) += r1
      r0 = *(u64 *)(r1 +0)
      r0 -= r2
      exit`,
    memory: new Array<number>(8).fill(0),
    r0: 0n,
  },
];
