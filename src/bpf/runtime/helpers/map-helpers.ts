import { EINVAL, EOPNOTSUPP } from '../../errno.js';
import type { ResidentMap } from '../bpf-map.js';
import {
  chargeBytes,
  chargeOwed,
  clear,
  mapArgument,
  pointerArgument,
  type HelperContext,
  type HelperGroup,
} from './helper-context.js';

/**
 * Helpers on maps (kernel/bpf/helpers.c). The maps themselves are the map backend's; here the arguments are
 * checked and passed on.
 */
export const MAP_HELPERS: HelperGroup = {
  /** void *(map, key) */
  bpf_map_lookup_elem(context) {
    const map = mapArgument(context, 1);
    context.state.setResultUnsigned(map.lookupElem(keyArgument(context, map)));
    chargeOwed(context);
  },

  /** long (map, key, value, flags) */
  bpf_map_update_elem(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const key = keyArgument(context, map);
    const value = pointerArgument(context, 3, map.attributes.valueSize, false);
    // A per-CPU element that is new is cleared for all CPUs.
    chargeBytes(context, map.syscallValueSize);
    // The highest flag any map knows is bit 2; with upper bits set, every map type answers -EINVAL.
    state.setResult(state.argHigh(4) === 0 ? map.updateElem(key, value, state.argLow(4) >>> 0) : -EINVAL);
    chargeOwed(context);
  },

  /** long (map, key) */
  bpf_map_delete_elem(context) {
    const map = mapArgument(context, 1);
    context.state.setResult(map.deleteElem(keyArgument(context, map)));
    chargeOwed(context);
  },

  /** long (map, value, flags) */
  bpf_map_push_elem(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const value = pointerArgument(context, 2, map.attributes.valueSize, false);
    chargeBytes(context, map.attributes.valueSize);
    if (map.pushElem === undefined) state.setResult(-EOPNOTSUPP);
    else state.setResult(state.argHigh(3) === 0 ? map.pushElem(value, state.argLow(3) >>> 0) : -EINVAL);
  },

  /** long (map, value) */
  bpf_map_pop_elem(context) {
    takeElement(context, (map, value) => map.popElem?.(value));
  },

  /** long (map, value) */
  bpf_map_peek_elem(context) {
    takeElement(context, (map, value) => map.peekElem?.(value));
  },

  /** void *(map, key, cpu); a CPU that is not there gives NULL. */
  bpf_map_lookup_percpu_elem(context) {
    const { state } = context;
    const map = mapArgument(context, 1);
    const key = keyArgument(context, map);
    const cpu = state.argLow(3) >>> 0;
    const found = cpu < context.runtime.cpus ? map.lookupPercpuElem?.(key, cpu) : 0;
    state.setResultUnsigned(found ?? 0);
    chargeOwed(context);
  },

  /** A program runs to its end on a simulated CPU, so that a lock is never contended. */
  bpf_spin_lock(context) {
    context.state.setResult(0);
  },

  bpf_spin_unlock(context) {
    context.state.setResult(0);
  },
};

function takeElement(
  context: HelperContext,
  take: (map: ResidentMap, value: number) => number | undefined,
): void {
  const map = mapArgument(context, 1);
  const { valueSize } = map.attributes;
  const value = pointerArgument(context, 2, valueSize, true);
  chargeBytes(context, valueSize);
  const result = take(map, value) ?? -EOPNOTSUPP;
  if (result !== 0) clear(context, value, valueSize);
  context.state.setResult(result);
}

function keyArgument(context: HelperContext, map: ResidentMap): number {
  chargeBytes(context, map.attributes.keySize);
  return pointerArgument(context, 2, map.attributes.keySize, false);
}
