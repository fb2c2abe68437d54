import { E2BIG, EINVAL } from '../../errno.js';
import type { ResidentMap } from '../bpf-map.js';
import {
  chargeBytes,
  clear,
  HelperFault,
  mapArgument,
  pointerArgument,
  type HelperContext,
  type HelperGroup,
} from './helper-context.js';

/**
 * A dynptr as the kernel lays it out on the program's stack (`struct bpf_dynptr_kern`), 16 bytes:
 *
 * ```
 *   +0  u64 data     address of the memory; 0 for a dynptr that holds nothing
 *   +8  u32 size     bits 0-23 length in bytes, bits 28-30 type, bit 31 read-only
 *   +12 u32 offset   of the view in the memory
 * ```
 */
const DYNPTR_SIZE = 16;
const TYPE_LOCAL = 1 << 28;
const TYPE_RINGBUF = 2 << 28;
const LENGTH_MASK = 0xffffff;

/** Dynptrs over memory and ring buffer records (kernel/bpf/helpers.c, kernel/bpf/ringbuf.c). */
export const DYNPTR_HELPERS: HelperGroup = {
  /** long (data, u64 size, u64 flags, struct bpf_dynptr *ptr) */
  bpf_dynptr_from_mem(context) {
    const { state } = context;
    const size = state.argLow(2) >>> 0;
    const data = pointerArgument(context, 1, size, true);
    const dynptr = pointerArgument(context, 4, DYNPTR_SIZE, true);
    let result = 0;
    if (size > LENGTH_MASK || state.argHigh(2) !== 0) result = -E2BIG;
    else if (state.argLow(3) !== 0 || state.argHigh(3) !== 0) result = -EINVAL;
    writeDynptr(context, dynptr, result === 0 ? data : 0, result === 0 ? size | TYPE_LOCAL : 0);
    state.setResult(result);
  },

  /** long (map, u32 size, u64 flags, struct bpf_dynptr *ptr) */
  bpf_ringbuf_reserve_dynptr(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const size = state.argLow(2) >>> 0;
    const dynptr = pointerArgument(context, 4, DYNPTR_SIZE, true);
    let result = 0;
    let record = 0;
    if (state.argLow(3) !== 0 || state.argHigh(3) !== 0) result = -EINVAL;
    else if (size > LENGTH_MASK) result = -E2BIG;
    else {
      record = map.ringReserve?.(size) ?? 0;
      if (record === 0) result = -EINVAL;
      else context.runtime.reservations.add(record, map);
    }
    writeDynptr(context, dynptr, record, record === 0 ? 0 : size | TYPE_RINGBUF);
    state.setResult(result);
  },

  /** void (struct bpf_dynptr *ptr, u64 flags) */
  bpf_ringbuf_submit_dynptr(context) {
    finishRecord(context, (map, record, flags) => map.ringSubmit!(record, flags));
  },

  /** void (struct bpf_dynptr *ptr, u64 flags) */
  bpf_ringbuf_discard_dynptr(context) {
    finishRecord(context, (map, record, flags) => map.ringDiscard!(record, flags));
  },

  /** long (void *dst, u64 len, const struct bpf_dynptr *src, u64 offset, u64 flags) */
  bpf_dynptr_read(context) {
    const { state } = context;
    const length = state.argLow(2) >>> 0;
    const destination = pointerArgument(context, 1, length, true);
    const source = readDynptr(context, 3);
    chargeBytes(context, length);
    if (source.data === 0 || state.argLow(5) !== 0 || state.argHigh(5) !== 0) {
      clear(context, destination, length);
      state.setResult(-EINVAL);
    } else if (!withinDynptr(context, source.length, 4, length)) {
      clear(context, destination, length);
      state.setResult(-E2BIG);
    } else {
      const at = source.data + (state.argLow(4) >>> 0);
      context.runtime.space.u8.copyWithin(destination, at, at + length);
      state.setResult(0);
    }
  },

  /** long (const struct bpf_dynptr *dst, u64 offset, void *src, u64 len, u64 flags) */
  bpf_dynptr_write(context) {
    const { state } = context;
    const length = state.argLow(4) >>> 0;
    const source = pointerArgument(context, 3, length, false);
    const destination = readDynptr(context, 1);
    if (destination.data === 0 || state.argLow(5) !== 0 || state.argHigh(5) !== 0) {
      state.setResult(-EINVAL);
    } else if (!withinDynptr(context, destination.length, 2, length)) {
      state.setResult(-E2BIG);
    } else {
      chargeBytes(context, length);
      const at = destination.data + (state.argLow(2) >>> 0);
      context.runtime.space.u8.copyWithin(at, source, source + length);
      state.setResult(0);
    }
  },

  /** void *(const struct bpf_dynptr *ptr, u64 offset, u64 len): NULL when out of bounds. */
  bpf_dynptr_data(context) {
    const { state } = context;
    const dynptr = readDynptr(context, 1);
    const length = state.argLow(3) >>> 0;
    const ok = dynptr.data !== 0 && withinDynptr(context, dynptr.length, 2, length);
    state.setResultUnsigned(ok ? dynptr.data + (state.argLow(2) >>> 0) : 0);
  },
};

function writeDynptr(context: HelperContext, at: number, data: number, size: number): void {
  const { view } = context.runtime.space;
  view.setUint32(at, data, true);
  view.setUint32(at + 4, 0, true);
  view.setUint32(at + 8, size, true);
  view.setUint32(at + 12, 0, true);
}

function readDynptr(context: HelperContext, n: number) {
  const at = pointerArgument(context, n, DYNPTR_SIZE, false);
  const { view } = context.runtime.space;
  return {
    address: at,
    data: view.getUint32(at, true) + view.getUint32(at + 12, true),
    length: view.getUint32(at + 8, true) & LENGTH_MASK,
  };
}

/** Is `length` bytes at the offset in argument `offsetArgument` within a dynptr of `size` bytes? */
function withinDynptr(context: HelperContext, size: number, offsetArgument: number, length: number): boolean {
  const { state } = context;
  return state.argHigh(offsetArgument) === 0 && (state.argLow(offsetArgument) >>> 0) + length <= size;
}

function finishRecord(
  context: HelperContext,
  finish: (map: ResidentMap, record: number, flags: number) => void,
): void {
  const dynptr = readDynptr(context, 1);
  // A reservation that failed leaves an empty dynptr, which must still be submitted or discarded: to no effect.
  if (dynptr.data !== 0) {
    const map = context.runtime.reservations.take(dynptr.data);
    if (map === undefined) throw new HelperFault('argument r1: the dynptr holds no reserved record');
    finish(map, dynptr.data, context.state.argLow(2) >>> 0);
    writeDynptr(context, dynptr.address, 0, 0);
  }
  context.state.setResult(0);
}
