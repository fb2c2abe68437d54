import { E2BIG, EINVAL, ENOMEM, ENOTSUPP } from '../../errno.js';
import type { Region } from '../address-space.js';
import type { ResidentMap } from '../bpf-map.js';
import { XdpbedError } from '../../../core/diagnostic.js';
import { chainCharge } from '../insn-budget.js';
import { HASH_ELEMENT_KEY, hashChain } from '../map-layout.js';
import {
  chargeBytes,
  HelperFault,
  mapArgument,
  type HelperContext,
  type HelperGroup,
} from './helper-context.js';

/** Most rounds of one bpf_loop (kernel BPF_MAX_LOOPS). */
const BPF_MAX_LOOPS = 8 * 1024 * 1024;

/** Empty buckets that a walk passes for the price of one insn, and how many are charged for at once. */
const BUCKETS_PER_INSN = 4;
const BUCKETS_CHARGED_TOGETHER = 256;

/**
 * Helpers that call back into the program; the executor supplies `HelperContext.invoke`, and counts the insns of each
 * call, so that rounds and elements need no charge of their own; only a long chain that is gone through to know its
 * elements does.
 */
export const CALLBACK_HELPERS: HelperGroup = {
  /**
   * long (nr_loops, callback, callback_ctx, flags): calls `callback(index, ctx)` until it returns non-zero.
   * Returns the number of rounds, -E2BIG or -EINVAL (kernel/bpf/bpf_iter.c).
   */
  bpf_loop(context) {
    const { state } = context;
    const rounds = state.argLow(1) >>> 0;
    const callback = functionArgument(context, 2);
    const [low, high] = [state.argLow(3), state.argHigh(3)];
    if (state.argLow(4) !== 0 || state.argHigh(4) !== 0) {
      state.setResult(-EINVAL);
      return;
    }
    if (rounds > BPF_MAX_LOOPS) {
      state.setResult(-E2BIG);
      return;
    }
    let done = 0;
    while (done < rounds) {
      state.setArg(1, done++, 0);
      state.setArg(2, low, high);
      if (callsForStop(context, callback)) break;
    }
    state.setResult(done);
  },

  /**
   * long (map, callback, callback_ctx, flags): calls `callback(map, key, value, ctx)` for each element until it
   * returns non-zero. Returns the number of elements visited, -EINVAL for flags, or -ENOMEM when there is no
   * room for a copy of a key.
   */
  bpf_for_each_map_elem(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const callback = functionArgument(context, 2);
    const ctx: Word64 = [state.argLow(3), state.argHigh(3)];
    if (state.argLow(4) !== 0 || state.argHigh(4) !== 0) {
      state.setResult(-EINVAL);
      return;
    }
    const { layout } = map;
    if (layout.kind === 'array') state.setResult(forEachArrayElement(context, map, layout, callback, ctx));
    else if (layout.kind === 'hash') state.setResult(forEachHashElement(context, map, layout, callback, ctx));
    else state.setResult(-ENOTSUPP);
  },
};

type Word64 = readonly [low: number, high: number];
type LayoutOf<Kind> = Extract<ResidentMap['layout'], { readonly kind: Kind }>;

function forEachArrayElement(
  context: HelperContext,
  map: ResidentMap,
  layout: LayoutOf<'array'>,
  callback: number,
  ctx: Word64,
): number {
  const { runtime } = context;
  const cpuOffset = currentCpu(context) * layout.cpuStride;
  return withKey(context, map, (key) => {
    for (let index = 0; index < layout.maxEntries; index++) {
      runtime.space.i32[key >> 2] = index;
      const value = layout.values + cpuOffset + index * layout.stride;
      if (callForElement(context, map, callback, key, value, ctx)) return index + 1;
    }
    return layout.maxEntries;
  });
}

/**
 * Visits each bucket once, and in it the elements that it has when the walk comes to it, so that the walk ends
 * whatever the callback does: an element that the callback puts in front is not visited, nor one that it
 * deleted. At most `maxEntries` elements are visited.
 */
function forEachHashElement(
  context: HelperContext,
  map: ResidentMap,
  layout: LayoutOf<'hash'>,
  callback: number,
  ctx: Word64,
): number {
  const { i32, u8 } = context.runtime.space;
  const cpuOffset = currentCpu(context) * layout.cpuStride;
  return withKey(context, map, (key) => {
    let visited = 0;
    for (let bucket = 0; bucket < layout.bucketCount; bucket++) {
      if (bucket % BUCKETS_CHARGED_TOGETHER === BUCKETS_CHARGED_TOGETHER - 1) {
        context.charge(BUCKETS_CHARGED_TOGETHER / BUCKETS_PER_INSN);
      }
      const chain = hashChain(i32, layout, bucket, layout.maxEntries - visited);
      // The callback may stop at the first element of many.
      const walk = chainCharge(chain.length, 0, layout.keySize);
      if (walk > 0) context.charge(walk);
      for (const element of chain) {
        if ((i32[(element >>> 2) + 1]! & (layout.bucketCount - 1)) !== bucket) continue;
        const from = element + HASH_ELEMENT_KEY;
        chargeBytes(context, layout.keySize);
        u8.copyWithin(key, from, from + layout.keySize);
        visited++;
        const value = element + layout.valueOffset + cpuOffset;
        if (callForElement(context, map, callback, key, value, ctx)) return visited;
      }
    }
    return visited;
  });
}

/**
 * The callback gets a copy of the key, in an object of its own: the map's bookkeeping around the key stays out
 * of its reach, and each of several nested calls has its own.
 */
function withKey(context: HelperContext, map: ResidentMap, visit: (key: number) => number): number {
  const { space } = context.runtime;
  const label = `a key of map ${map.name}`;
  let key: Region;
  try {
    key = space.allocate(map.attributes.keySize, { kind: 'map-element', label, access: 'read' });
  } catch (error) {
    if (error instanceof XdpbedError && error.code === 'out-of-memory') return -ENOMEM;
    throw error;
  }
  try {
    return visit(key.start);
  } finally {
    space.free(key);
  }
}

/** The CPU that runs: 0 if memory names one that does not exist. */
function currentCpu({ runtime, state }: HelperContext): number {
  return state.cpu < runtime.cpus ? state.cpu : 0;
}

function callForElement(
  context: HelperContext,
  map: ResidentMap,
  callback: number,
  key: number,
  value: number,
  ctx: Word64,
): boolean {
  const { state } = context;
  state.setArg(1, map.address, 0);
  state.setArg(2, key, 0);
  state.setArg(3, value, 0);
  state.setArg(4, ctx[0], ctx[1]);
  return callsForStop(context, callback);
}

function callsForStop(context: HelperContext, callback: number): boolean {
  context.invoke!(callback);
  return context.state.resultLow !== 0 || context.state.resultHigh !== 0;
}

/** What BPF_PSEUDO_FUNC loaded: the slot of the function in the lower half (FUNCTION_POINTER_HIGH above). */
function functionArgument(context: HelperContext, n: number): number {
  if (context.state.argHigh(n) !== FUNCTION_POINTER_HIGH) {
    throw new HelperFault(`r${n} = 0x${context.state.arg(n).toString(16)} is not a function`);
  }
  return context.state.argLow(n) >>> 0;
}

/**
 * Upper half of what `lddw` with BPF_PSEUDO_FUNC loads; the lower half is the slot at which the function
 * starts. No address has these bits, so a program that follows the pointer faults.
 */
export const FUNCTION_POINTER_HIGH = 0x7b9f0000;
