import { PASS, type Twin } from './twin.js';

/** Insns and jumps enough that a state is stored in them (exploration.ts). */
const stored = (name: string): string =>
  `${'r0 = 0\n '.repeat(9)} goto ${name}1\n ${name}1: goto ${name}2\n ${name}2: ${'r0 = 0\n '.repeat(9)} goto ${name}3\n ${name}3: goto ${name}4\n ${name}4:`;

const READS_OLD_STACK = 'root may read stack that was never written';

/** R9 = a packet of 40 bytes, R5 = data_end; leaves for `out` when there are fewer. */
const BYTES_40 = `r9 = *(u32 *)(r1 +0)\n r5 = *(u32 *)(r1 +4)\n r2 = r9\n r2 += 40\n if r2 > r5 goto out\n`;

const RESERVE = `r1 = map[ring]\n r2 = 16\n r3 = 0\n call bpf_ringbuf_reserve\n`;

/** The inner function lies before the outer one, so that what it reads is found out later. */
const nestedArgument = (second: number): string =>
  `r1 = *(u32 *)(r1 +12)\n call outer\n ${PASS}\n inner: r2 = map[wide][0]+0\n r2 += r1\n r0 = *(u8 *)(r2 +0)\n exit\n outer: r6 = r1\n r1 = 0\n if r6 > 3 goto B\n goto join\n B: r1 = ${second}\n join: r6 = 0\n ${stored('j')} call inner\n exit`;

/**
 * The callback moves numbers of the caller's on, from slot to slot: the last two decide. What the first is comes there in
 * the second round, and the state behind that one is within the state before it and is not followed.
 */
const laterRound = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = r6\n r7 &= 7\n *(u64 *)(r10 -8) = r7\n *(u64 *)(r10 -16) = r7\n *(u64 *)(r10 -24) = 5\n *(u64 *)(r10 -32) = 5\n if r6 > 3 goto B\n goto join\n B: *(u64 *)(r10 -32) = ${second}\n join: r6 = 0\n r7 = 0\n ${stored('j')} r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -32\n r4 = 0\n call bpf_loop\n r3 = *(u64 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n r3 = *(u64 *)(r10 -16)\n r2 = map[wide][0]+0\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n ${PASS}\n cb: r1 = *(u64 *)(r2 +16)\n *(u64 *)(r2 +24) = r1\n r1 = *(u64 *)(r2 +8)\n *(u64 *)(r2 +16) = r1\n r1 = *(u64 *)(r2 +0)\n *(u64 *)(r2 +8) = r1\n r0 = 0\n exit`;

const bounded = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r8 = *(u32 *)(r1 +16)\n r7 = 100\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${stored('j')} r0 = 2\n if r8 > r7 goto out\n r2 = map[wide][0]+0\n r2 += r8\n r0 = *(u8 *)(r2 +0)\n out: ${PASS}`;

/** As `bounded`, and what the comparison tells is of use for the number's copy on the stack. */
const boundedCopy = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r8 = *(u32 *)(r1 +16)\n *(u64 *)(r10 -8) = r8\n r7 = 100\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${stored('j')} r0 = 2\n if r8 > r7 goto out\n r8 = *(u64 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r8\n r0 = *(u8 *)(r2 +0)\n out: ${PASS}`;

const multiples = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = *(u32 *)(r1 +16)\n if r6 > 3 goto B\n r7 &= 4\n goto join\n B: r7 &= ${second}\n join: r6 = 0\n ${stored('j')} r2 = map[wide][0]+0\n r2 += r7\n r1 = 1\n lock *(u32 *)(r2 +0) += r1\n ${PASS}`;

/** Two ways meet; the one that is explored first has written all the way down. */
const noBytes = (otherWay: string): string =>
  `r7 = *(u32 *)(r1 +12)\n if r7 == 0 goto other\n *(u8 *)(r10 -512) = 0\n goto met\n other: ${otherWay}\n met: ${stored('j')} r1 = 0\n r2 = 0\n r3 = r10\n r3 += -256\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`;

/** The upper half of a slot is written on two ways, then its lower half, and the upper one is an index. */
const upperHalf = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n if r6 > 3 goto B\n *(u32 *)(r10 -4) = 0\n goto join\n B: *(u32 *)(r10 -4) = ${second}\n join: r6 = 0\n ${stored('j')} *(u32 *)(r10 -8) = r6\n r7 = *(u32 *)(r10 -4)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** A number of four bytes is spilled on two ways, then bytes behind it are written, and it is an index. */
const lowerHalf = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = 5\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: *(u32 *)(r10 -8) = r7\n r7 = 0\n r6 = 0\n ${stored('j')} *(u8 *)(r10 -3) = r6\n r7 = *(u32 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/**
 * Three ways to an index in the upper half of a slot: bytes of zeroes; a number of which that half is 0, so that it ends
 * there; and another number that ends where it meets that one, unless it was noted that the zeroes mattered.
 */
const zeroesOfNumber = (third: string): string =>
  `r6 = *(u32 *)(r1 +12)\n r9 = 0\n if r6 > 3 goto second\n *(u32 *)(r10 -4) = 0\n goto join\n second: if r6 > 5 goto third\n goto both\n third: r9 = ${third} ll\n both: *(u64 *)(r10 -8) = r9\n r9 = 0\n r6 = 0\n ${stored('a')} goto join\n join: r6 = 0\n r9 = 0\n ${stored('j')} r7 = *(u32 *)(r10 -4)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** A number decides, by itself, which way a comparison of another with it goes. */
const comparedWith = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = 5\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${stored('j')} r3 = 10\n if r3 > r7 goto out\n r2 = map[wide][0]+0\n r0 = *(u8 *)(r2 +256)\n out: ${PASS}`;

/** A number that is also in R8 is compared, and then an index. */
const comparedCopy = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = *(u32 *)(r1 +16)\n if r6 > 3 goto B\n r7 &= 7\n goto join\n B: r7 &= ${second}\n join: r6 = 0\n r8 = r7\n ${stored('j')} if r7 == 0 goto out\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n out: ${PASS}`;

/** What a lookup finds is compared with a number in a register: a check for NULL where that is 0. */
const comparedWithNull = (second: number, comparison = 'r0 == r7'): string =>
  `r6 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -4) = r6\n r7 = 0\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${stored('j')} r2 = r10\n r2 += -4\n r1 = map[values]\n call bpf_map_lookup_elem\n if ${comparison} goto out\n r0 = *(u8 *)(r0 +0)\n out: ${PASS}`;

const packetAndNumber = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r8 = *(u32 *)(r1 +0)\n r7 = 0\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${stored('j')} if w8 == w7 goto out\n out: ${PASS}`;

/** The first way writes 8 bytes of stack, the second one none of them or all; then the ways meet. */
const writtenBefore = (second: string, after: string): string =>
  `r6 = *(u32 *)(r1 +12)\n r9 = r1\n r8 = r6\n r8 &= 7\n if r6 > 3 goto B\n *(u64 *)(r10 -8) = 0\n goto join\n B: ${second}\n join: r6 = 0\n ${stored('j')} ${after}\n ${PASS}`;
const WRITES = '*(u64 *)(r10 -8) = 0';
const LEAVES = 'r6 = 0';
const BYTE_AT_R8 = 'r2 = r10\n r2 += -8\n r2 += r8\n *(u8 *)(r2 +0) = 0';
const LOOKS_UP = 'r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem';
const LOADED = 'r1 = r9\n r2 = 0\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_load_bytes';

/** Of a number of more than 32 bits, 4 bytes are stored that have a bound. */
const cutBefore = (mask: string): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = 0xf00000007 ll\n if r6 > 3 goto B\n goto join\n B: r7 = ${mask} ll\n join: r0 = map[wide][0]+0\n r0 = *(u64 *)(r0 +0)\n r0 &= r7\n *(u32 *)(r10 -8) = r0\n r0 = 0\n r7 = 0\n r6 = 0\n ${stored('j')} r7 = *(u32 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** A key is stored on two ways; what is found with it where they met is taken to be there. */
const keyOf = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = 1\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: *(u32 *)(r10 -8) = r7\n r6 = 0\n r7 = 0\n ${stored('j')} r2 = r10\n r2 += -8\n r1 = map[values]\n call bpf_map_lookup_elem\n r0 = *(u8 *)(r0 +0)\n ${PASS}`;

const returnedByCallback = (second: number): string =>
  `*(u64 *)(r10 -8) = r1\n r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r1 = *(u64 *)(r2 +0)\n r1 = *(u32 *)(r1 +12)\n r6 = 0\n if r1 > 3 goto B\n goto join\n B: r6 = ${second}\n join: r1 = 0\n ${stored('j')} r0 = r6\n exit`;

/** In a callback, either what a look-up finds in the map or R6 is kept for the caller, which reads it after the walk. */
const keptValue = (second: string): string =>
  `*(u64 *)(r10 -8) = r1\n *(u64 *)(r10 -16) = 0\n r1 = map[flows]\n r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_for_each_map_elem\n r1 = *(u64 *)(r10 -16)\n if r1 == 0 goto out\n r0 = *(u8 *)(r1 +0)\n out: ${PASS} cb: r6 = r3\n r9 = r4\n r7 = *(u64 *)(r4 +8)\n r7 = *(u32 *)(r7 +12)\n *(u32 *)(r10 -4) = r7\n r1 = map[flows]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n if r0 == 0 goto end\n r3 = r6\n if r7 > 3 goto B\n r6 = r0\n goto join\n B: r6 = ${second}\n join: r7 = 0\n r3 = 0\n ${stored('j')} *(u64 *)(r9 +0) = r6\n end: r0 = 0\n exit`;

const heldOnSecondWay = (giveBack: string): string =>
  `r6 = *(u32 *)(r1 +12)\n if r6 > 3 goto B\n goto join\n B: ${RESERVE} if r0 == 0 goto join\n ${giveBack} join: r6 = 0\n ${stored('j')} ${PASS}`;

/** Four bytes behind others in their slot are written with a number, and an index. */
const upperBytes = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = 0\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${stored('j')} *(u32 *)(r10 -4) = r7\n r7 = *(u32 *)(r10 -4)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** Two ways to what the caller keeps in a register while a function runs, where the ways meet. */
const keptByCaller = (register: string, second: number): string =>
  `r1 = *(u32 *)(r1 +12)\n ${register} = 5\n if r1 > 3 goto B\n goto join\n B: ${register} = ${second}\n join: r1 = 0\n call f\n r2 = map[wide][0]+0\n r2 += ${register}\n r0 = *(u8 *)(r2 +0)\n ${PASS} f: ${stored('j')} exit`;

/** A callback that is safe once, and not after it: the ways, on which bpf_loop is given 1 and another number, meet in it. */
const roundsOfLoop = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 5\n r1 = 1\n if r6 > 3 goto B\n goto join\n B: r1 = ${second}\n join: r6 = 0\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r3 = *(u64 *)(r2 +0)\n *(u64 *)(r2 +0) = 300\n r2 = map[wide][0]+0\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n ${stored('j')} r0 = 0\n exit`;

/**
 * A byte that is an index is stored on two ways; on the second one, 8 bytes of which the first one may be what the byte of
 * the first way may be.
 */
const byteOfPointer = (second: string): string =>
  `r9 = *(u32 *)(r1 +0)\n r6 = *(u32 *)(r1 +12)\n r7 = r6\n r7 &= 0x47f\n r9 += r7\n r8 = r6\n r8 &= 127\n if r6 > 3 goto B\n *(u8 *)(r10 -8) = r8\n goto join\n B: *(u64 *)(r10 -8) = ${second}\n join: r6 = 0\n r7 = 0\n r8 = 0\n ${stored('j')} r7 = *(u8 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +128)\n ${PASS}`;

/**
 * Two ways lead to the same insns, and the first one is safe: the second may end where it meets what the first one
 * left only if it is the same in everything that matters. The way that is not jumped to is explored first.
 */
export const PRUNING_TWINS: readonly Twin[] = [
  {
    name: 'two numbers that are the same on the other way only',
    publishedAs: 'ids of numbers left out of the comparison of states',
    code: 'pointer-offset-unbounded',
    rejected: `${BYTES_40} r1 = *(u8 *)(r9 +0)\n if r1 == 0 goto B\n r6 = *(u64 *)(r9 +8)\n r7 = r6\n goto join\n B: r6 = *(u64 *)(r9 +8)\n r3 = r6\n r7 = *(u64 *)(r9 +16)\n r3 = r7\n join: ${stored('j')} r0 = 2\n if r6 > 63 goto out\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n r0 = 2\n out: ${PASS}`,
    accepted: `${BYTES_40} r1 = *(u8 *)(r9 +0)\n if r1 == 0 goto B\n r6 = *(u64 *)(r9 +8)\n r7 = r6\n goto join\n B: r6 = *(u64 *)(r9 +8)\n r3 = r6\n r7 = r6\n join: ${stored('j')} r0 = 2\n if r6 > 63 goto out\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n r0 = 2\n out: ${PASS}`,
  },
  {
    // With ids written side by side as text, number 2 plus 31 would have been number 23 plus 1.
    name: 'ids and offsets that look alike when written one after the other',
    code: 'pointer-offset-unbounded',
    rejected: `${BYTES_40} r1 = *(u8 *)(r9 +0)\n if r1 == 0 goto B\n r6 = *(u64 *)(r9 +8)\n r7 = r6\n goto join\n B: r6 = *(u64 *)(r9 +8)\n r3 = r6\n r6 += 31\n ${'r1 = *(u8 *)(r9 +0)\n r2 = r1\n '.repeat(20)} r7 = *(u64 *)(r9 +16)\n r3 = r7\n r7 += 1\n join: ${stored('j')} r0 = 2\n if r6 > 63 goto out\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n r0 = 2\n out: ${PASS}`,
    accepted: `${BYTES_40} r1 = *(u8 *)(r9 +0)\n if r1 == 0 goto B\n r6 = *(u64 *)(r9 +8)\n r7 = r6\n goto join\n B: r6 = *(u64 *)(r9 +8)\n r6 += 31\n r7 = r6\n join: ${stored('j')} r0 = 2\n if r6 > 63 goto out\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n r0 = 2\n out: ${PASS}`,
  },
  {
    name: 'fewer bytes proved on the second way',
    code: 'packet-bounds',
    rejected: `r9 = *(u32 *)(r1 +0)\n r5 = *(u32 *)(r1 +4)\n r1 = *(u32 *)(r1 +12)\n r2 = r9\n if r1 == 0 goto B\n r2 += 34\n if r2 > r5 goto out\n goto join\n B: r2 += 14\n if r2 > r5 goto out\n join: r2 = 0\n ${stored('j')} r0 = *(u8 *)(r9 +33)\n out: ${PASS}`,
    accepted: `r9 = *(u32 *)(r1 +0)\n r5 = *(u32 *)(r1 +4)\n r1 = *(u32 *)(r1 +12)\n r2 = r9\n if r1 == 0 goto B\n r2 += 34\n if r2 > r5 goto out\n goto join\n B: r2 += 40\n if r2 > r5 goto out\n join: r2 = 0\n ${stored('j')} r0 = *(u8 *)(r9 +33)\n out: ${PASS}`,
  },
  {
    name: 'a spilled record that is the only one left on the second way',
    code: 'use-after-release',
    rejected: `r8 = *(u32 *)(r1 +12)\n ${RESERVE} if r0 == 0 goto out\n r6 = r0\n ${RESERVE} if r0 == 0 goto one\n *(u64 *)(r10 -8) = r0\n if r8 == 0 goto B\n goto join\n B: r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n ${RESERVE} if r0 == 0 goto spilled\n r6 = *(u64 *)(r10 -8)\n join: r8 = 0\n ${stored('j')} r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n r1 = *(u64 *)(r10 -8)\n r2 = 0\n call bpf_ringbuf_submit\n goto out\n spilled: r6 = *(u64 *)(r10 -8)\n one: r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n out: ${PASS}`,
    accepted: `r8 = *(u32 *)(r1 +12)\n ${RESERVE} if r0 == 0 goto out\n r6 = r0\n ${RESERVE} if r0 == 0 goto one\n *(u64 *)(r10 -8) = r0\n if r8 == 0 goto B\n goto join\n B: r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n ${RESERVE} if r0 == 0 goto spilled\n r6 = r0\n join: r8 = 0\n ${stored('j')} r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n r1 = *(u64 *)(r10 -8)\n r2 = 0\n call bpf_ringbuf_submit\n goto out\n spilled: r6 = *(u64 *)(r10 -8)\n one: r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n out: ${PASS}`,
  },
  {
    name: 'argument that only a function of a function looks at',
    code: 'map-value-bounds',
    rejected: nestedArgument(300),
    accepted: nestedArgument(200),
  },
  {
    name: 'number that a later round of a callback brings to where it decides',
    code: 'pointer-offset-unbounded',
    rejected: laterRound(300),
    accepted: laterRound(5),
  },
  {
    name: 'number that bounds another, which decides an access',
    code: 'map-value-bounds',
    rejected: bounded(300),
    accepted: bounded(200),
  },
  {
    name: 'number that bounds another, whose copy on the stack decides an access',
    code: 'map-value-bounds',
    rejected: boundedCopy(300),
    accepted: boundedCopy(200),
  },
  {
    name: 'numbers of the same range that are multiples of 4 on the first way only',
    code: 'atomic-alignment',
    rejected: multiples(3),
    accepted: multiples(4),
  },
  {
    name: 'no bytes of a stack that was written on the way that is explored first',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: READS_OLD_STACK,
    rejected: noBytes('goto met'),
    accepted: noBytes('*(u8 *)(r10 -512) = 0'),
  },
  {
    name: 'half of a slot that decides, of which the other half was written since',
    code: 'map-value-bounds',
    rejected: upperHalf(300),
    accepted: upperHalf(0),
  },
  {
    name: 'number in half of a slot, behind which bytes were written since',
    code: 'map-value-bounds',
    rejected: lowerHalf(300),
    accepted: lowerHalf(200),
    kernelRejectsAccepted: 'the kernel forgets a number where bytes behind it in its slot are written',
  },
  {
    name: 'number of which one way needs that half of it is 0',
    code: 'map-value-bounds',
    rejected: zeroesOfNumber('0x10000000000'),
    accepted: zeroesOfNumber('0x400000000'),
    kernelRejectsAccepted: 'of the upper half of a spilled number the kernel knows nothing',
  },
  ...['r6', 'r7', 'r8', 'r9'].map((register): Twin => ({
    name: `number that the caller keeps in ${register.toUpperCase()} while a function runs`,
    code: 'map-value-bounds',
    rejected: keptByCaller(register, 256),
    accepted: keptByCaller(register, 255),
  })),
  {
    name: 'number of rounds, where ways meet in the first one',
    code: 'map-value-bounds',
    kernelAcceptsAsRoot: 'in a callback it forgets how often bpf_loop still calls it (6.18)',
    rejected: roundsOfLoop(2),
    accepted: roundsOfLoop(1),
  },
  {
    name: 'byte of a spilled pointer where the other way stored a number',
    code: 'spill-size',
    rejected: byteOfPointer('r9'),
    accepted: byteOfPointer('r8'),
  },
  {
    name: 'number that another is compared with, which leaves one way to go',
    code: 'map-value-bounds',
    rejected: comparedWith(20),
    accepted: comparedWith(6),
  },
  {
    name: 'number with a copy, compared before it decides an access',
    code: 'map-value-bounds',
    rejected: comparedCopy(0x1ff),
    accepted: comparedCopy(3),
  },
  {
    name: 'number in a register that stands for NULL',
    code: 'pointer-comparison',
    rejected: comparedWithNull(5),
    accepted: comparedWithNull(0),
    kernelRejectsAccepted: 'it knows a check for NULL by an immediate 0 only',
  },
  {
    name: 'number in a register that stands for NULL, compared from the other side',
    code: 'pointer-comparison',
    rejected: comparedWithNull(5, 'r7 == r0'),
    accepted: comparedWithNull(0, 'r7 == r0'),
    kernelRejectsAccepted: 'it knows a check for NULL by an immediate 0 only',
  },
  {
    name: 'number in a register that stands for NULL, compared on 32 bits with a packet pointer',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: packetAndNumber(5),
    accepted: packetAndNumber(0),
  },
  {
    name: 'bytes of stack written on one way, behind a store somewhere among them',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: READS_OLD_STACK,
    rejected: writtenBefore(LEAVES, `${BYTE_AT_R8}\n r0 = *(u64 *)(r10 -8)`),
    accepted: writtenBefore(WRITES, `${BYTE_AT_R8}\n r0 = *(u64 *)(r10 -8)`),
  },
  {
    name: 'bytes of stack written on one way, behind a helper that may have filled them',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: READS_OLD_STACK,
    rejected: writtenBefore(LEAVES, `${LOADED}\n r0 = *(u64 *)(r10 -8)`),
    accepted: writtenBefore(WRITES, `${LOADED}\n r0 = *(u64 *)(r10 -8)`),
  },
  {
    name: 'key written on one of two ways that meet before the lookup',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: READS_OLD_STACK,
    rejected: writtenBefore(LEAVES, LOOKS_UP),
    accepted: writtenBefore(WRITES, LOOKS_UP),
  },
  {
    name: 'number written behind others in its slot, an index if it is 0',
    code: 'map-value-bounds',
    rejected: upperBytes(300),
    accepted: upperBytes(0),
  },
  {
    name: 'number that was cut when it was stored on two ways, read where they met',
    code: 'map-value-bounds',
    rejected: cutBefore('0xf000001ff'),
    accepted: cutBefore('0xf00000003'),
  },
  {
    name: 'key that is in an array on the first way only',
    code: 'null-dereference',
    rejected: keyOf(9),
    accepted: keyOf(2),
  },
  {
    name: 'what a callback returns, where ways meet in it',
    code: 'callback-invalid',
    rejected: returnedByCallback(2),
    accepted: returnedByCallback(1),
  },
  {
    name: 'value of an element kept after the walk, where the other way looked one up',
    code: 'use-after-release',
    kernelAcceptsAsRoot: 'it trusts the element to stay where it is',
    rejected: keptValue('r3'),
    accepted: keptValue('r0'),
  },
  {
    name: 'record that is held on the second way only, and forgotten',
    code: 'reference-leak',
    rejected: heldOnSecondWay(''),
    accepted: heldOnSecondWay('r1 = r0\n r2 = 0\n call bpf_ringbuf_submit\n '),
  },
];
