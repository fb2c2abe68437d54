import type { Insn } from '../../bpf/insn.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../bpf/map-spec.js';
import type { Keeper } from '../../bpf/rewrite/keeper.js';
import { XDP_ACTION_NAMES } from '../../bpf/xdp.js';

/** Entries of the map that verdicts are counted in: the five of `enum xdp_action`, and whatever else is returned. */
export const VERDICT_COUNTERS = XDP_ACTION_NAMES.length + 1;
/** Index of what is no verdict. The kernel takes it for XDP_ABORTED; here it can be told apart. */
export const NO_VERDICT_COUNTER = XDP_ACTION_NAMES.length;

/**
 * The map that verdicts are counted in: a u64 for each by its number, {@link NO_VERDICT_COUNTER} for the rest, and each
 * CPU its own. On x86-64 a kernel from 6.10 on looks it up in line.
 */
export const VERDICT_COUNTERS_MAP: MapAttributes = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: VERDICT_COUNTERS,
  flags: 0,
};

/** Bytes of stack that {@link countingText} uses. */
export const COUNTING_STACK = 4;

/**
 * Assembly that adds one to the counter of the verdict in R0, which is left there in 32 bits. At an exit all registers
 * and the stack are free; `saved` is a callee-saved register.
 *
 * The addition is not atomic: the CPU is this program's own while it runs, but for an interrupt's program of the same
 * counters, which the hooks do not have: they all run in softirq context or with it disabled.
 */
export function countingText(counters: number, saved: number): string {
  return `
      w${saved} = w0
      w2 = w0
      if w2 < ${NO_VERDICT_COUNTER} goto counted_verdict
      w2 = ${NO_VERDICT_COUNTER}
    counted_verdict:
      *(u32 *)(r10 -4) = r2
      r2 = r10
      r2 += -4
      r1 = map[fd:${counters}]
      call bpf_map_lookup_elem
      if r0 == 0 goto counted
      r1 = *(u64 *)(r0 +0)
      r1 += 1
      *(u64 *)(r0 +0) = r1
    counted:
      w0 = w${saved}`;
}

/** A callee-saved register that is free at an exit: one that the function uses anyway, so that the others stay unused. */
export function freeAtExit(body: readonly Insn[], kept: readonly Keeper[] = []): number {
  const taken = new Set(kept.map((keeper) => (keeper.kind === 'register' ? keeper.register : undefined)));
  const used = new Set(body.flatMap(({ dst, src }) => [dst, src]));
  const free = [6, 7, 8, 9].filter((register) => !taken.has(register));
  // Keepers are at most two of the four.
  return free.find((register) => used.has(register)) ?? free[0]!;
}
