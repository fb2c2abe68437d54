import { BPF_FUNC } from '../../helper-ids.js';
import type { Insn } from '../../insn.js';
import { BPF_CALL_HELPER, OP_CALL } from '../../opcodes.js';
import { RUN_STATE } from '../run-state.js';
import type { HelperContext, HelperGroup } from './helper-context.js';

/** Ticks per second of the modelled kernel, as distributions build it. */
export const HZ = 250;
const NANOSECONDS_PER_TICK = BigInt(1_000_000_000 / HZ);

/**
 * Clocks and random numbers. All of them come from the run state, which whoever drives packets sets, so that a
 * run can be repeated. The clock starts at 0 with the run: there is no suspend time and no TAI offset, and
 * monotonic, boot and TAI time agree.
 */
export const TIME_AND_RANDOM_HELPERS: HelperGroup = {
  bpf_ktime_get_ns: returnNow,
  bpf_ktime_get_boot_ns: returnNow,
  bpf_ktime_get_tai_ns: returnNow,

  /** The time of the last tick (CLOCK_MONOTONIC_COARSE). */
  bpf_ktime_get_coarse_ns({ state }) {
    const { now } = state;
    state.setResult64(now - (now % NANOSECONDS_PER_TICK));
  },

  /** Ticks since the start of the run; the kernel's start value, five minutes before the wrap, is left out. */
  bpf_jiffies64({ state }) {
    state.setResult64(state.now / NANOSECONDS_PER_TICK);
  },

  bpf_get_prandom_u32({ state }) {
    state.setResultUnsigned(state.nextRandom());
  },

  bpf_get_smp_processor_id({ state }) {
    state.setResultUnsigned(state.cpu);
  },

  /** One node holds all simulated CPUs. */
  bpf_get_numa_node_id({ state }) {
    state.setResult(0);
  },
};

const CLOCK_HELPERS: ReadonlySet<number> = new Set([
  BPF_FUNC.ktime_get_ns,
  BPF_FUNC.ktime_get_boot_ns,
  BPF_FUNC.ktime_get_tai_ns,
  BPF_FUNC.ktime_get_coarse_ns,
  BPF_FUNC.jiffies64,
]);

/**
 * Whether a run may ask for the time, by itself or in a program that it goes on in. Setting the clock of the run state costs
 * as much as a short program.
 */
export function mayReadClock(insns: readonly Insn[]): boolean {
  return insns.some(
    ({ opcode, src, imm }) =>
      opcode === OP_CALL && src === BPF_CALL_HELPER && (imm === BPF_FUNC.tail_call || CLOCK_HELPERS.has(imm)),
  );
}

function returnNow({ state, runtime }: HelperContext): void {
  // Word by word: a BigInt per call would be the dearest part of it.
  const { i32 } = runtime.space;
  const r0 = state.address >> 2;
  const now = (state.address + RUN_STATE.now) >> 2;
  i32[r0] = i32[now]!;
  i32[r0 + 1] = i32[now + 1]!;
}
