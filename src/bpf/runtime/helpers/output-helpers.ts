import { EAGAIN, EFAULT, EINVAL, EOPNOTSUPP } from '../../errno.js';
import { frameLength, readFrame } from '../frame-bytes.js';
import type { AddressSpace } from '../address-space.js';
import {
  chargeBytes,
  clear,
  intactFrameWord,
  HelperFault,
  mapArgument,
  pointerArgument,
  type AccessCheck,
  type HelperContext,
  type HelperGroup,
} from './helper-context.js';
import { formatForProgram, MAX_BPRINTF_VARARGS, type FormatMemory } from './print-format.js';

/** bpf_perf_event_output: the lower half of the flags is an index of the map, or this CPU's. */
const BPF_F_CURRENT_CPU = 0xffffffff;
/** Upper half of the flags: so many bytes of the packet follow the program's data in the record. */
const BPF_F_CTXLEN_HIGH_MASK = 0xfffff;

const BPF_RB_NO_WAKEUP = 1 << 0;
const BPF_RB_FORCE_WAKEUP = 1 << 1;
const RING_FLAGS = BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP;

/** Arguments that bpf_trace_printk takes in registers. */
const MAX_TRACE_PRINTK_VARARGS = 3;
/** Characters that are charged for at once, an insn each; a shorter string is part of the call. */
const CHARGED_TOGETHER = 64;
/** Bytes of one line in the trace buffer, its terminator included. */
const MAX_BPRINTF_BUF = 1024;

/** Helpers that hand data to user space (kernel/trace/bpf_trace.c, kernel/bpf/ringbuf.c). */
export const OUTPUT_HELPERS: HelperGroup = {
  /** long (ctx, map, u64 flags, data, u64 size); the record is the data, then the start of the packet. */
  bpf_perf_event_output(context) {
    const { state } = context;
    const { space } = context.runtime;
    const frame = 4 * intactFrameWord(context);
    const map = mapArgument(context, 2);
    const packetBytes = state.argHigh(3) >>> 0;
    const size = sizeArgument(context, 5);
    const at = pointerArgument(context, 4, size, false);
    if ((packetBytes & ~BPF_F_CTXLEN_HIGH_MASK) !== 0) {
      state.setResult(-EINVAL);
      return;
    }
    if (packetBytes > frameLength(space.i32, frame)) {
      state.setResult(-EFAULT);
      return;
    }
    chargeBytes(context, size + packetBytes);
    const record = new Uint8Array(size + packetBytes);
    record.set(space.u8.subarray(at, at + size));
    record.set(readFrame(space, frame, 0, packetBytes), size);
    const index = state.argLow(3) >>> 0;
    const entry = index === BPF_F_CURRENT_CPU ? state.cpu : index;
    state.setResult(map.outputRecord?.(entry, record) ?? -EOPNOTSUPP);
  },

  /** long (map, data, u64 size, u64 flags) */
  bpf_ringbuf_output(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const size = sizeArgument(context, 3);
    const at = pointerArgument(context, 2, size, false);
    chargeBytes(context, size);
    const flags = state.argLow(4) >>> 0;
    if ((flags & ~RING_FLAGS) !== 0 || state.argHigh(4) !== 0) {
      state.setResult(-EINVAL);
      return;
    }
    const record = map.ringReserve?.(size) ?? 0;
    if (record === 0) {
      state.setResult(-EAGAIN);
      return;
    }
    context.runtime.space.u8.copyWithin(record, at, at + size);
    state.setResult(map.ringSubmit!(record, flags));
  },

  /** void *(map, u64 size, u64 flags): memory for a record, or NULL. */
  bpf_ringbuf_reserve(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const noFlags = state.argLow(3) === 0 && state.argHigh(3) === 0;
    const record = noFlags ? (map.ringReserve?.(sizeArgument(context, 2)) ?? 0) : 0;
    if (record !== 0) context.runtime.reservations.add(record, map);
    state.setResultUnsigned(record);
  },

  /** void (record, u64 flags) */
  bpf_ringbuf_submit(context) {
    const { record, map, flags } = reservedRecord(context);
    map.ringSubmit!(record, flags);
    context.state.setResult(0);
  },

  /** void (record, u64 flags) */
  bpf_ringbuf_discard(context) {
    const { record, map, flags } = reservedRecord(context);
    map.ringDiscard!(record, flags);
    context.state.setResult(0);
  },

  /** u64 (map, u64 flags) */
  bpf_ringbuf_query(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    state.setResult64(state.argHigh(2) === 0 ? (map.ringQuery?.(state.argLow(2) >>> 0) ?? 0n) : 0n);
  },

  /** long (fmt, u32 fmt_size, arg1, arg2, arg3): characters written, or -EINVAL. */
  bpf_trace_printk(context) {
    const { state } = context;
    const args: bigint[] = [];
    for (let n = 0; n < MAX_TRACE_PRINTK_VARARGS; n++) args.push(state.arg(3 + n));
    traceFormatted(context, args);
  },

  /** long (fmt, u32 fmt_size, u64 *args, u32 args_len) */
  bpf_trace_vprintk(context) {
    const args = arrayArgument(context, 3, 4);
    if (typeof args === 'number') context.state.setResult(args);
    else traceFormatted(context, args);
  },

  /**
   * long (char *str, u32 str_size, const char *fmt, u64 *data, u32 data_len): bytes that the whole text takes
   * with its terminator, which may be more than fits.
   */
  bpf_snprintf(context) {
    const { state } = context;
    const { u8 } = context.runtime.space;
    const size = state.argLow(2) >>> 0;
    const at = pointerArgument(context, 1, size, true);
    const args = arrayArgument(context, 4, 5);
    const format = zeroTerminated(context, state.argLow(3) >>> 0, Infinity);
    if (format === undefined) throw new HelperFault('argument r3: the format is no zero-terminated string');
    chargeBytes(context, size);
    const kept = Math.max(0, size - 1);
    const text =
      typeof args === 'number' ? args : formatForProgram(format, args, formatMemory(context), kept);
    // Read before this is written: the buffer may be where the arguments are.
    clear(context, at, size);
    if (typeof text === 'number') {
      state.setResult(text);
      return;
    }
    if (kept > 0) u8.set(Buffer.from(text.text, 'latin1'), at);
    state.setResult(text.length + 1);
  },
};

/** A size that a program gives in 64 bits; no object has 4 GiB. */
function sizeArgument(context: HelperContext, n: number): number {
  if (context.state.argHigh(n) !== 0) throw new HelperFault(`r${n} = ${context.state.arg(n)} is no size`);
  return context.state.argLow(n) >>> 0;
}

function reservedRecord(context: HelperContext) {
  const record = context.state.argLow(1) >>> 0;
  const map = context.state.argHigh(1) === 0 ? context.runtime.reservations.take(record) : undefined;
  if (map === undefined) {
    throw new HelperFault(`r1 = 0x${context.state.arg(1).toString(16)} is no reserved record`);
  }
  return { record, map, flags: context.state.argLow(2) >>> 0 };
}

function traceFormatted(context: HelperContext, args: readonly bigint[]): void {
  const { state } = context;
  const size = state.argLow(2) >>> 0;
  const at = pointerArgument(context, 1, size, false);
  const format = zeroTerminated(context, at, size);
  const text =
    format === undefined
      ? -EINVAL
      : formatForProgram(format, args, formatMemory(context), MAX_BPRINTF_BUF - 1);
  if (typeof text === 'number') {
    state.setResult(text);
    return;
  }
  chargeBytes(context, text.text.length);
  context.host.trace(text.text);
  state.setResult(text.length);
}

/** The array of u64 at argument `pointer`, its length in bytes in argument `length`; or -EINVAL. */
function arrayArgument(context: HelperContext, pointer: number, length: number): bigint[] | number {
  const bytes = context.state.argLow(length) >>> 0;
  if (bytes % 8 !== 0 || bytes > MAX_BPRINTF_VARARGS * 8) return -EINVAL;
  if (bytes === 0) return [];
  if (context.state.argLow(pointer) === 0 && context.state.argHigh(pointer) === 0) return -EINVAL;
  const at = pointerArgument(context, pointer, bytes, false);
  const { view } = context.runtime.space;
  return Array.from({ length: bytes / 8 }, (_, i) => view.getBigUint64(at + 8 * i, true));
}

/** The string at `address`, or undefined when it does not end within `limit` bytes or within its object. */
function zeroTerminated(
  context: HelperContext,
  address: number,
  limit: number,
  fault: AccessCheck | undefined = context.check,
): string | undefined {
  const { u8 } = context.runtime.space;
  for (let length = 0; length < limit && length < 4096; length++) {
    if (fault?.(address + length, 1, false) !== undefined) return undefined;
    if (length % CHARGED_TOGETHER === CHARGED_TOGETHER - 1) context.charge(CHARGED_TOGETHER);
    context.work?.addBytes(1);
    if (u8[address + length] === 0) {
      return Buffer.from(u8.buffer, u8.byteOffset + address, length).toString('latin1');
    }
    if (u8[address + length] === undefined) return undefined;
  }
  return undefined;
}

/**
 * What `%s` and the like may read: values of maps that no program may write (BPF_F_RDONLY_PROG, such as .rodata). The
 * address comes out of a number, which no verifier has judged, and what programs write may hold addresses. The kernel
 * reads anything there, by accesses that fail softly, so that a bad pointer prints as nothing.
 */
function formatMemory(context: HelperContext): FormatMemory {
  const { space } = context.runtime;
  const fault: AccessCheck = (address, size) => constantFault(space, address, size);
  return {
    string(address) {
      return address < space.byteLength
        ? zeroTerminated(context, Number(address), MAX_BPRINTF_BUF, fault)
        : undefined;
    },
    bytes(address, length) {
      if (address >= space.byteLength) return undefined;
      const at = Number(address);
      return fault(at, length, false) === undefined ? space.read(at, length) : undefined;
    },
  };
}

/** Why `size` bytes at `address` are not within a value that no program may write. */
function constantFault(space: AddressSpace, address: number, size: number): string | undefined {
  const region = space.regionAt(address);
  return region?.kind === 'map-element' && region.access === 'read'
    ? space.accessFault(address, size, false)
    : `0x${address.toString(16)} is not in a map that programs can only read`;
}
