import type { Insn } from '../../src/bpf/insn.js';
import { BPF_PSEUDO_CALL } from '../../src/bpf/opcodes.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { constantAddress, type KnownValue } from './known-value.js';

/** Helpers that are compiled into the program, by their number. */
export const HELPER = {
  mapLookupElem: 1,
  ktimeGetNs: 5,
  getPrandomU32: 7,
  getSmpProcessorId: 8,
  tailCall: 12,
  redirect: 23,
  ktimeGetBootNs: 125,
  ktimeGetTaiNs: 208,
} as const;

/** Keys longer than this are looked up by the helper: the code for one would grow out of proportion. */
export const MAX_INLINE_KEY = 64;

type LayoutOf<Kind> = Extract<MapLayout, { readonly kind: Kind }>;
export type InlineLayout = LayoutOf<'array'> | LayoutOf<'hash'> | LayoutOf<'slots'>;

/** How a call is compiled. */
export type CallPlan =
  | { readonly kind: 'local' }
  | { readonly kind: 'lookup'; readonly map: ResidentMap; readonly layout: InlineLayout }
  | { readonly kind: 'time' | 'random' | 'cpu' | 'redirect' }
  /** `layout` is missing when the map is not known until the program runs. */
  | { readonly kind: 'tail-call'; readonly layout: LayoutOf<'slots'> | undefined }
  | { readonly kind: 'helper'; readonly id: number };

export interface CallPlanning {
  /** Maps of the program by their `address`. */
  readonly mapsByAddress: ReadonlyMap<number, ResidentMap>;
  /** Helpers that were replaced: they are called and never inlined, and may do anything. */
  readonly overridden: ReadonlySet<number>;
  /** Helpers check their arguments, so that lookups are theirs. */
  readonly checked: boolean;
  /** There is a frame: what helpers on the frame may be inlined for. */
  readonly xdp: boolean;
}

/** Decides how to compile the call `insn`, given what is known of the registers. */
export function planCall(insn: Insn, registers: readonly KnownValue[], planning: CallPlanning): CallPlan {
  if (insn.src === BPF_PSEUDO_CALL) return { kind: 'local' };
  const id = insn.imm;
  if (id === HELPER.tailCall) {
    const layout = mapOf(registers[2]!, planning)?.layout;
    return { kind: 'tail-call', layout: layout?.kind === 'slots' ? layout : undefined };
  }
  const byCall: CallPlan = { kind: 'helper', id };
  if (planning.overridden.has(id)) return byCall;
  switch (id) {
    case HELPER.mapLookupElem: {
      const map = mapOf(registers[1]!, planning);
      if (planning.checked || map === undefined || map.layout.kind === 'opaque') return byCall;
      if (map.layout.kind === 'hash' && map.layout.keySize > MAX_INLINE_KEY) return byCall;
      // A PROG_ARRAY cannot be read by a program; whatever the helper says of it is right.
      if (map.layout.kind === 'slots' && map.programAt !== undefined) return byCall;
      return { kind: 'lookup', map, layout: map.layout };
    }
    case HELPER.ktimeGetNs:
    case HELPER.ktimeGetBootNs:
    case HELPER.ktimeGetTaiNs:
      return { kind: 'time' };
    case HELPER.getPrandomU32:
      return { kind: 'random' };
    case HELPER.getSmpProcessorId:
      return { kind: 'cpu' };
    case HELPER.redirect:
      return planning.xdp ? { kind: 'redirect' } : byCall;
    default:
      return byCall;
  }
}

/** How many arguments the usual helpers take; the rest are given all five registers. */
const ARITY: Readonly<Record<number, number>> = {
  1: 2,
  2: 4,
  3: 2,
  5: 0,
  7: 0,
  8: 0,
  23: 2,
  44: 2,
  51: 3,
  54: 2,
  65: 2,
  69: 4,
  87: 3,
  88: 2,
  89: 2,
  118: 0,
  125: 0,
  131: 3,
  132: 2,
  133: 2,
  208: 0,
};

export function helperArity(id: number, planning: CallPlanning): number {
  return planning.overridden.has(id) ? 5 : (ARITY[id] ?? 5);
}

/**
 * Helpers that write to no memory a program gave them: map_lookup_elem, map_update_elem, map_delete_elem,
 * clocks and random numbers, redirect, csum_diff, perf_event_output, adjust_*, map_push_elem, ringbuf_output,
 * ringbuf_reserve, ringbuf_submit, ringbuf_discard.
 */
const LEAVES_MEMORY = new Set([
  1, 2, 3, 5, 7, 8, 12, 23, 25, 28, 44, 51, 54, 65, 87, 118, 125, 130, 131, 132, 133,
]);

export function writesProgramMemory(id: number, planning: CallPlanning): boolean {
  return planning.overridden.has(id) || !LEAVES_MEMORY.has(id);
}

function mapOf(value: KnownValue, planning: CallPlanning): ResidentMap | undefined {
  const address = constantAddress(value);
  return address === undefined ? undefined : planning.mapsByAddress.get(address);
}
