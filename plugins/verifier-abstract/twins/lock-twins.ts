import { LOOKUP, PASS, type Twin } from './twin.js';

/** Insns and jumps enough that a state is stored in them (exploration.ts). */
const STORED = `${'r0 = 0\n '.repeat(9)} goto j1\n j1: goto j2\n j2: ${'r0 = 0\n '.repeat(9)} goto j3\n j3: goto j4\n j4:`;

/** R6 = a value of `locks`, which has a lock in bytes 0 to 3; leaves for `out` when there is none. */
const VALUE = `${LOOKUP.replace('map[values]', 'map[locks]')} if r0 == 0 goto out\n r6 = r0\n`;
/** The same in R8. */
const SECOND = `r2 = r10\n r2 += -4\n r1 = map[locks]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r8 = r0\n`;
const LOCK = `r1 = r6\n call bpf_spin_lock\n`;
const UNLOCK = `r1 = r6\n call bpf_spin_unlock\n`;
const COUNT = `r1 = *(u64 *)(r6 +8)\n r1 += 1\n *(u64 *)(r6 +8) = r1\n`;
const OUT = `out: ${PASS}`;
const KERNEL_TIMER = 'the kernel has timers; here nothing would run them';

/** Locks in map values, each rule of `process_spin_lock` and what may not be done under one. */
export const LOCK_TWINS: readonly Twin[] = [
  {
    name: 'lock in a map without BTF',
    code: 'lock-argument',
    rejected: `${LOOKUP} if r0 == 0 goto out\n r6 = r0\n ${LOCK}${UNLOCK}${OUT}`,
    accepted: `${VALUE}${LOCK}${COUNT}${UNLOCK}${OUT}`,
  },
  {
    name: 'lock in a map whose value has two',
    code: 'lock-argument',
    rejected: `r6 = map[twolocks][0]+0\n ${LOCK}${UNLOCK}${PASS}`,
    accepted: `r6 = map[gate][0]+0\n ${LOCK}${UNLOCK}${PASS}`,
  },
  {
    name: 'lock of a map type that may not hold one',
    code: 'lock-argument',
    rejected: `${VALUE.replace('map[locks]', 'map[recent]')}${LOCK}${UNLOCK}${OUT}`,
    accepted: `${VALUE}${LOCK}${UNLOCK}${OUT}`,
  },
  {
    name: 'number instead of a lock',
    code: 'lock-argument',
    rejected: `r1 = 8\n call bpf_spin_lock\n ${PASS}`,
    accepted: `r6 = map[gate][0]+0\n ${LOCK}${UNLOCK}${PASS}`,
  },
  {
    name: 'stack instead of a lock',
    code: 'lock-argument',
    rejected: `*(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -8\n call bpf_spin_lock\n ${PASS}`,
    accepted: `r6 = map[gate][0]+0\n ${LOCK}${UNLOCK}${PASS}`,
  },
  {
    name: 'lock of a value that may not be there',
    code: 'null-dereference',
    rejected: `${LOOKUP.replace('map[values]', 'map[locks]')} r6 = r0\n ${LOCK}${UNLOCK}${PASS}`,
    accepted: `${VALUE}${LOCK}${UNLOCK}${OUT}`,
  },
  {
    name: 'lock beside the lock',
    code: 'lock-argument',
    rejected: `${VALUE} r1 = r6\n r1 += 4\n call bpf_spin_lock\n ${UNLOCK}${OUT}`,
    accepted: `${VALUE} r1 = r6\n r1 += 4\n r1 += -4\n call bpf_spin_lock\n ${UNLOCK}${OUT}`,
  },
  {
    name: 'lock at a variable offset',
    code: 'lock-argument',
    rejected: `${VALUE} r7 &= 4\n r1 = r6\n r1 += r7\n call bpf_spin_lock\n ${UNLOCK}${OUT}`,
    accepted: `${VALUE} r7 &= 0\n r1 = r6\n r1 += r7\n call bpf_spin_lock\n ${UNLOCK}${OUT}`,
  },
  {
    name: 'unlock of what is not locked',
    code: 'lock-argument',
    rejected: `${VALUE}${UNLOCK}${OUT}`,
    accepted: `${VALUE}${LOCK}${UNLOCK}${OUT}`,
  },
  {
    name: 'unlock twice',
    code: 'lock-argument',
    rejected: `${VALUE}${LOCK}${UNLOCK}${UNLOCK}${OUT}`,
    accepted: `${VALUE}${LOCK}${UNLOCK}${LOCK}${UNLOCK}${OUT}`,
  },
  {
    name: 'unlock of another value of the map',
    code: 'lock-argument',
    rejected: `${VALUE}${SECOND}${LOCK} r1 = r8\n call bpf_spin_unlock\n ${OUT}`,
    accepted: `${VALUE}${SECOND} r8 = r6\n ${LOCK} r1 = r8\n call bpf_spin_unlock\n ${OUT}`,
  },
  {
    name: 'unlock of another element of an array, neither of which can be missing',
    code: 'lock-argument',
    rejected: `*(u32 *)(r10 -8) = 0\n r2 = r10\n r2 += -8\n r1 = map[rooms]\n call bpf_map_lookup_elem\n r6 = r0\n *(u32 *)(r10 -8) = 1\n r2 = r10\n r2 += -8\n r1 = map[rooms]\n call bpf_map_lookup_elem\n r8 = r0\n ${LOCK} r1 = r8\n call bpf_spin_unlock\n ${PASS}`,
    accepted: `*(u32 *)(r10 -8) = 0\n r2 = r10\n r2 += -8\n r1 = map[rooms]\n call bpf_map_lookup_elem\n r6 = r0\n *(u32 *)(r10 -8) = 1\n r2 = r10\n r2 += -8\n r1 = map[rooms]\n call bpf_map_lookup_elem\n r8 = r0\n ${LOCK}${UNLOCK} r6 = r8\n ${LOCK}${UNLOCK}${PASS}`,
  },
  {
    name: 'unlock of a value of another map',
    code: 'lock-argument',
    rejected: `r6 = map[gate][0]+0\n ${LOCK} r1 = map[door][0]+0\n call bpf_spin_unlock\n ${PASS}`,
    accepted: `r6 = map[gate][0]+0\n ${LOCK} r1 = map[gate][0]+0\n call bpf_spin_unlock\n ${PASS}`,
  },
  {
    name: 'two locks at once',
    code: 'lock-held',
    rejected: `r6 = map[gate][0]+0\n ${LOCK} r1 = map[door][0]+0\n call bpf_spin_lock\n r1 = map[door][0]+0\n call bpf_spin_unlock\n ${UNLOCK}${PASS}`,
    accepted: `r6 = map[gate][0]+0\n ${LOCK}${UNLOCK} r1 = map[door][0]+0\n call bpf_spin_lock\n r1 = map[door][0]+0\n call bpf_spin_unlock\n ${PASS}`,
  },
  {
    name: 'lock that is held at the end',
    code: 'lock-held',
    rejected: `${VALUE}${LOCK}${COUNT}${OUT}`,
    accepted: `${VALUE}${LOCK}${COUNT}${UNLOCK}${OUT}`,
  },
  {
    name: 'lock that is held at the end of one of two ways',
    code: 'lock-held',
    rejected: `${VALUE}${LOCK} r1 = *(u64 *)(r6 +8)\n if r1 == 7 goto out\n ${UNLOCK}${OUT}`,
    accepted: `${VALUE}${LOCK} r7 = *(u64 *)(r6 +8)\n ${UNLOCK} if r7 == 7 goto out\n r7 = 0\n ${OUT}`,
  },
  {
    name: 'helper under a lock',
    code: 'lock-held',
    rejected: `${VALUE}${LOCK} call bpf_ktime_get_ns\n ${UNLOCK}${OUT}`,
    accepted: `${VALUE} call bpf_ktime_get_ns\n ${LOCK}${UNLOCK}${OUT}`,
  },
  {
    name: 'tail call under a lock',
    code: 'lock-held',
    rejected: `r9 = r1\n ${VALUE}${LOCK} r1 = r9\n r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n ${UNLOCK}${OUT}`,
    accepted: `r9 = r1\n ${VALUE}${LOCK}${UNLOCK} r1 = r9\n r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n ${OUT}`,
  },
  {
    name: 'function that calls a helper under the lock of its caller',
    code: 'lock-held',
    rejected: `${VALUE}${LOCK} r1 = r6\n call count\n ${UNLOCK}${OUT} count: r6 = r1\n call bpf_ktime_get_ns\n *(u64 *)(r6 +8) = r0\n exit`,
    accepted: `${VALUE}${LOCK} r1 = r6\n call count\n ${UNLOCK}${OUT} count: r6 = r1\n ${COUNT} r0 = 0\n exit`,
  },
  {
    name: 'function that leaves its caller with a lock',
    code: 'lock-held',
    rejected: `${VALUE} r1 = r6\n call take\n ${OUT} take: call bpf_spin_lock\n r0 = 0\n exit`,
    accepted: `${VALUE} r1 = r6\n call take\n ${UNLOCK}${OUT} take: call bpf_spin_lock\n r0 = 0\n exit`,
  },
  {
    name: 'callback that ends with a lock',
    code: 'lock-held',
    rejected: `r1 = map[locks]\n r2 = subprog[each]\n r3 = 0\n r4 = 0\n call bpf_for_each_map_elem\n ${PASS} each: r6 = r3\n ${LOCK} r0 = 0\n exit`,
    accepted: `r1 = map[locks]\n r2 = subprog[each]\n r3 = 0\n r4 = 0\n call bpf_for_each_map_elem\n ${PASS} each: r6 = r3\n ${LOCK}${COUNT}${UNLOCK} r0 = 0\n exit`,
  },
  {
    name: 'callbacks under a lock',
    code: 'lock-held',
    rejected: `r6 = map[gate][0]+0\n ${LOCK} r1 = 4\n r2 = subprog[each]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${UNLOCK}${PASS} each: r0 = 0\n exit`,
    accepted: `r6 = map[gate][0]+0\n ${LOCK}${UNLOCK} r1 = 4\n r2 = subprog[each]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS} each: r0 = 0\n exit`,
  },
  {
    name: 'lock that is read',
    code: 'special-field',
    rejected: `${VALUE} r0 = *(u32 *)(r6 +0)\n ${OUT}`,
    accepted: `${VALUE} r0 = *(u32 *)(r6 +4)\n ${OUT}`,
  },
  {
    name: 'lock that is written together with what follows',
    code: 'special-field',
    rejected: `${VALUE} *(u64 *)(r6 +0) = 0\n ${OUT}`,
    accepted: `${VALUE} *(u32 *)(r6 +4) = 0\n ${OUT}`,
  },
  {
    name: 'lock that a variable offset may reach',
    code: 'special-field',
    rejected: `${VALUE} r7 &= 7\n r6 += r7\n *(u8 *)(r6 +3) = 0\n ${OUT}`,
    accepted: `${VALUE} r7 &= 7\n r6 += r7\n *(u8 *)(r6 +4) = 0\n ${OUT}`,
  },
  {
    name: 'lock that is added to atomically',
    code: 'special-field',
    rejected: `${VALUE} r1 = 1\n lock *(u32 *)(r6 +0) += r1\n ${OUT}`,
    accepted: `${VALUE} r1 = 1\n lock *(u32 *)(r6 +4) += r1\n ${OUT}`,
  },
  {
    name: 'lock among the bytes that a helper reads',
    code: 'special-field',
    rejected: `${VALUE} r1 = map[locks]\n r2 = r10\n r2 += -4\n r3 = r6\n r4 = 0\n call bpf_map_update_elem\n ${OUT}`,
    accepted: `${VALUE} r1 = map[flows]\n r2 = r10\n r2 += -4\n r3 = r6\n r3 += 8\n r4 = 0\n call bpf_map_update_elem\n ${OUT}`,
  },
  {
    name: 'lock that is held on one of the ways that meet',
    code: 'lock-argument',
    rejected: `${VALUE} if r7 == 0 goto B\n ${LOCK} goto join\n B: r1 = 0\n join: ${STORED} ${UNLOCK}${OUT}`,
    accepted: `${VALUE} if r7 == 0 goto B\n ${LOCK} goto join\n B: ${LOCK} join: ${STORED} ${UNLOCK}${OUT}`,
  },
  {
    name: 'lock that is another one on the second way',
    code: 'lock-argument',
    rejected: `${VALUE}${SECOND} r1 = r6\n if r7 == 0 goto B\n goto lock\n B: r1 = r8\n lock: call bpf_spin_lock\n ${STORED} ${UNLOCK}${OUT}`,
    accepted: `${VALUE}${SECOND} r1 = r6\n if r7 == 0 goto B\n goto lock\n B: r1 = r6\n lock: call bpf_spin_lock\n ${STORED} ${UNLOCK}${OUT}`,
  },
  {
    name: 'timer that is read as data',
    code: 'special-field',
    rejected: `r6 = map[timers][0]+0\n r0 = *(u64 *)(r6 +0)\n ${PASS}`,
    accepted: `r6 = map[timers][0]+0\n r0 = *(u64 *)(r6 +16)\n ${PASS}`,
  },
  {
    name: 'timer that is cancelled',
    code: 'helper-unsupported',
    kernelAcceptsAsRoot: KERNEL_TIMER,
    rejected: `r1 = map[timers][0]+0\n call bpf_timer_cancel\n ${PASS}`,
    accepted: `r1 = map[timers][0]+0\n r0 = *(u64 *)(r1 +16)\n ${PASS}`,
  },
];
