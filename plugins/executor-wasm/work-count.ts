import { isCounted, WORK_COUNTER } from '../../src/bpf/runtime/work-counters.js';
import { OP, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';

/**
 * Work that code has done on its way to some point and has not written down yet. All of it is known when the code is
 * written, so that it costs nothing until it is added to the counters in memory (`emitCount`).
 */
export interface WorkCount {
  readonly insns: number;
  /** Bytes that inlined helpers went through; the others count theirs. */
  readonly bytes: number;
  /** Calls by helper. */
  readonly calls: ReadonlyMap<number, number>;
}

export const NO_WORK: WorkCount = { insns: 0, bytes: 0, calls: new Map() };

export function addInsn(work: WorkCount): WorkCount {
  return { ...work, insns: work.insns + 1 };
}

/** @param bytes as `WorkCount.bytes` */
export function addCall(work: WorkCount, helper: number, bytes: number): WorkCount {
  const calls = new Map(work.calls);
  if (isCounted(helper)) calls.set(helper, (calls.get(helper) ?? 0) + 1);
  return { ...work, bytes: work.bytes + bytes, calls };
}

/**
 * Adds work to the counters at an address.
 *
 * @param insnsLocal an i32 local with insns to be added besides
 */
export function emitCount(
  out: FunctionWriter,
  counters: number,
  { insns, bytes, calls }: WorkCount,
  insnsLocal?: number,
): void {
  const add = (offset: number, count: number, local?: number): void => {
    if (count === 0 && local === undefined) return;
    const at = counters + offset;
    out.i32(at).i32(at).memory(OP.f64_load).i32(count);
    if (local !== undefined) out.get(local).op(OP.i32_add);
    out.op(OP.f64_convert_i32_u).op(OP.f64_add).memory(OP.f64_store);
  };
  add(WORK_COUNTER.insns, insns, insnsLocal);
  add(WORK_COUNTER.bytes, bytes);
  for (const [helper, count] of calls) add(WORK_COUNTER.calls + 8 * helper, count);
}
