import { E2BIG, EINVAL, ENOTSUPP } from '../../errno.js';
import type { ResidentMap } from '../bpf-map.js';
import { HASH_ELEMENT_KEY } from '../map-layout.js';
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
 * call, so that rounds and elements need no charge of their own.
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
   * returns non-zero. Returns the number of elements visited, or -EINVAL for flags.
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
  const { runtime, state } = context;
  return withKey(context, map, (key) => {
    for (let index = 0; index < layout.maxEntries; index++) {
      runtime.space.i32[key >> 2] = index;
      const value = layout.values + state.cpu * layout.cpuStride + index * layout.stride;
      if (callForElement(context, map, callback, key, value, ctx)) return index + 1;
    }
    return layout.maxEntries;
  });
}

function forEachHashElement(
  context: HelperContext,
  map: ResidentMap,
  layout: LayoutOf<'hash'>,
  callback: number,
  ctx: Word64,
): number {
  const { i32, u8 } = context.runtime.space;
  const cpuOffset = context.state.cpu * layout.cpuStride;
  return withKey(context, map, (key) => {
    let visited = 0;
    for (let bucket = 0; bucket < layout.bucketCount; bucket++) {
      if (bucket % BUCKETS_CHARGED_TOGETHER === BUCKETS_CHARGED_TOGETHER - 1) {
        context.charge(BUCKETS_CHARGED_TOGETHER / BUCKETS_PER_INSN);
      }
      let element = i32[(layout.buckets >> 2) + bucket]! >>> 0;
      while (element !== 0) {
        // Read first: the callback may delete the element it is given.
        const next = i32[element >> 2]! >>> 0;
        const from = element + HASH_ELEMENT_KEY;
        chargeBytes(context, layout.keySize);
        u8.copyWithin(key, from, from + layout.keySize);
        visited++;
        const value = element + layout.valueOffset + cpuOffset;
        if (callForElement(context, map, callback, key, value, ctx)) return visited;
        element = next;
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
  const key = space.allocate(map.attributes.keySize, { kind: 'map-element', label, access: 'read' });
  try {
    return visit(key.start);
  } finally {
    space.free(key);
  }
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
