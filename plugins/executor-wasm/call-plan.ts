import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import type { Insn } from '../../src/bpf/insn.js';
import { BPF_ANY, BPF_EXIST, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PSEUDO_CALL } from '../../src/bpf/opcodes.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { REDIRECT_ACTION_MASK } from '../../src/bpf/runtime/xdp-frame.js';
import { BYTES_WITHIN_CALL, CHAIN_WITHIN_CALL } from '../../src/bpf/runtime/insn-budget.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import { RING_RECORD, type MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { constantAddress, constantWord, type KnownValue } from './known-value.js';

/** Keys longer than this are looked up by the helper: the code for one would grow out of proportion. */
export const MAX_INLINE_KEY = 64;
/** BPF_RB_NO_WAKEUP and BPF_RB_FORCE_WAKEUP: nobody sleeps here. */
const RING_FLAGS = 3n;
const PLAIN_UPDATE_FLAGS: ReadonlySet<bigint> = new Set([BigInt(BPF_ANY), BigInt(BPF_EXIST)]);
/** Values longer than this are copied by the helper. */
const MAX_INLINE_VALUE = 64;
/** Bytes that code sums up without a loop: an IPv4 header with all of its options. */
const MAX_INLINE_CHECKSUM = 64;

type LayoutOf<Kind> = Extract<MapLayout, { readonly kind: Kind }>;
export type RingLayout = LayoutOf<'ring'>;
export type InlineLayout = LayoutOf<'array'> | LayoutOf<'hash'> | LayoutOf<'slots'>;

export interface ProgramArray {
  readonly map: ResidentMap;
  readonly layout: LayoutOf<'slots'>;
}

/** How a call is compiled. */
export type CallPlan =
  | { readonly kind: 'local' }
  | { readonly kind: 'lookup'; readonly map: ResidentMap; readonly layout: InlineLayout }
  /** Of an element that is there whatever its flags say: BPF_ANY or BPF_EXIST. */
  | { readonly kind: 'update'; readonly map: ResidentMap; readonly layout: LayoutOf<'array'> }
  | {
      readonly kind: 'redirect-map';
      readonly map: ResidentMap;
      readonly layout: LayoutOf<'entries'>;
      /** What the helper returns where there is no entry: the lower two bits of its flags. */
      readonly otherwise: number;
    }
  /** Bytes of each of the two, whole words of 4. */
  | { readonly kind: 'checksum'; readonly fromSize: number; readonly toSize: number }
  | { readonly kind: 'ring-output'; readonly layout: RingLayout; readonly size: number }
  | {
      readonly kind: 'ring-reserve';
      readonly map: ResidentMap;
      readonly layout: RingLayout;
      readonly size: number;
    }
  /** bpf_ringbuf_submit and _discard, of whichever ring. */
  | { readonly kind: 'ring-commit'; readonly discard: boolean }
  | { readonly kind: 'time' | 'random' | 'cpu' | 'redirect' }
  /** `array` is missing when the map is not known until the program runs. */
  | { readonly kind: 'tail-call'; readonly array: ProgramArray | undefined }
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
  if (id === BPF_FUNC.tail_call) {
    const map = mapOf(registers[2]!, planning);
    return {
      kind: 'tail-call',
      array: map?.layout.kind === 'slots' ? { map, layout: map.layout } : undefined,
    };
  }
  const byCall: CallPlan = { kind: 'helper', id };
  if (planning.overridden.has(id)) return byCall;
  switch (id) {
    case BPF_FUNC.map_lookup_elem: {
      const map = mapOf(registers[1]!, planning);
      if (planning.checked || map === undefined) return byCall;
      if (map.layout.kind === 'opaque' || map.layout.kind === 'entries' || map.layout.kind === 'ring')
        return byCall;
      if (map.layout.kind === 'hash' && map.layout.keySize > MAX_INLINE_KEY) return byCall;
      // A PROG_ARRAY cannot be read by a program; whatever the helper says of it is right.
      if (map.layout.kind === 'slots' && map.programAt !== undefined) return byCall;
      return { kind: 'lookup', map, layout: map.layout };
    }
    case BPF_FUNC.map_update_elem: {
      const map = mapOf(registers[1]!, planning);
      const flags = registers[4]!;
      if (planning.checked || map?.layout.kind !== 'array' || !map.layout.plainValues) return byCall;
      if (map.attributes.valueSize > MAX_INLINE_VALUE || map.syscallValueSize > BYTES_WITHIN_CALL)
        return byCall;
      if (flags.form !== 'const' || !PLAIN_UPDATE_FLAGS.has(flags.constant)) return byCall;
      return { kind: 'update', map, layout: map.layout };
    }
    case BPF_FUNC.ktime_get_ns:
    case BPF_FUNC.ktime_get_boot_ns:
    case BPF_FUNC.ktime_get_tai_ns:
      return { kind: 'time' };
    case BPF_FUNC.get_prandom_u32:
      return { kind: 'random' };
    case BPF_FUNC.get_smp_processor_id:
      return { kind: 'cpu' };
    case BPF_FUNC.redirect:
      return planning.xdp ? { kind: 'redirect' } : byCall;
    case BPF_FUNC.redirect_map: {
      const map = mapOf(registers[1]!, planning);
      const flags = registers[3]!;
      // Of other flags the helper makes something of its own: all devices of the map, or XDP_ABORTED.
      const isPlain = flags.form === 'const' && flags.constant <= REDIRECT_ACTION_MASK;
      if (!planning.xdp || planning.checked || map?.layout.kind !== 'entries' || !isPlain) return byCall;
      return { kind: 'redirect-map', map, layout: map.layout, otherwise: Number(flags.constant) };
    }
    case BPF_FUNC.ringbuf_output: {
      const layout = mapOf(registers[1]!, planning)?.layout;
      const [size, flags] = [registers[3]!, registers[4]!];
      if (planning.checked || layout?.kind !== 'ring' || size.form !== 'const' || flags.form !== 'const')
        return byCall;
      if (size.constant > MAX_INLINE_VALUE || flags.constant > RING_FLAGS) return byCall;
      return { kind: 'ring-output', layout, size: Number(size.constant) };
    }
    case BPF_FUNC.ringbuf_reserve: {
      const map = mapOf(registers[1]!, planning);
      const [size, flags] = [constantWord(registers[2]!), registers[3]!];
      if (planning.checked || map?.layout.kind !== 'ring' || size === undefined) return byCall;
      if (flags.form !== 'const' || flags.constant !== 0n) return byCall;
      if (ringBytes(size) >= map.layout.size) return byCall;
      return { kind: 'ring-reserve', map, layout: map.layout, size };
    }
    case BPF_FUNC.ringbuf_submit:
    case BPF_FUNC.ringbuf_discard:
      return planning.checked ? byCall : { kind: 'ring-commit', discard: id === BPF_FUNC.ringbuf_discard };
    case BPF_FUNC.csum_diff: {
      const [fromSize, toSize] = [constantWord(registers[2]!), constantWord(registers[4]!)];
      if (planning.checked || fromSize === undefined || toSize === undefined) return byCall;
      const bytes = fromSize + toSize;
      if (bytes > MAX_INLINE_CHECKSUM || fromSize % 4 !== 0 || toSize % 4 !== 0) return byCall;
      return { kind: 'checksum', fromSize, toSize };
    }
    default:
      return byCall;
  }
}

/** Bytes that a record of so many takes of a ring. */
export function ringBytes(size: number): number {
  return roundUp(RING_RECORD.data + size, 8);
}

/** How many arguments the usual helpers take; the rest are given all five registers. */
const ARITY: Readonly<Record<number, number>> = {
  [BPF_FUNC.map_lookup_elem]: 2,
  [BPF_FUNC.map_update_elem]: 4,
  [BPF_FUNC.map_delete_elem]: 2,
  [BPF_FUNC.ktime_get_ns]: 0,
  [BPF_FUNC.get_prandom_u32]: 0,
  [BPF_FUNC.get_smp_processor_id]: 0,
  [BPF_FUNC.redirect]: 2,
  [BPF_FUNC.xdp_adjust_head]: 2,
  [BPF_FUNC.redirect_map]: 3,
  [BPF_FUNC.xdp_adjust_meta]: 2,
  [BPF_FUNC.xdp_adjust_tail]: 2,
  [BPF_FUNC.fib_lookup]: 4,
  [BPF_FUNC.map_push_elem]: 3,
  [BPF_FUNC.map_pop_elem]: 2,
  [BPF_FUNC.map_peek_elem]: 2,
  [BPF_FUNC.spin_lock]: 1,
  [BPF_FUNC.spin_unlock]: 1,
  [BPF_FUNC.jiffies64]: 0,
  [BPF_FUNC.ktime_get_boot_ns]: 0,
  [BPF_FUNC.ringbuf_reserve]: 3,
  [BPF_FUNC.ringbuf_submit]: 2,
  [BPF_FUNC.ringbuf_discard]: 2,
  [BPF_FUNC.ktime_get_tai_ns]: 0,
};

export function helperArity(id: number, planning: CallPlanning): number {
  return planning.overridden.has(id) ? 5 : (ARITY[id] ?? 5);
}

/** Helpers that write to no memory a program gave them. */
const LEAVES_MEMORY: ReadonlySet<number> = new Set<number>([
  BPF_FUNC.map_lookup_elem,
  BPF_FUNC.map_update_elem,
  BPF_FUNC.map_delete_elem,
  BPF_FUNC.ktime_get_ns,
  BPF_FUNC.get_prandom_u32,
  BPF_FUNC.get_smp_processor_id,
  BPF_FUNC.tail_call,
  BPF_FUNC.redirect,
  BPF_FUNC.perf_event_output,
  BPF_FUNC.csum_diff,
  BPF_FUNC.xdp_adjust_head,
  BPF_FUNC.redirect_map,
  BPF_FUNC.xdp_adjust_meta,
  BPF_FUNC.xdp_adjust_tail,
  BPF_FUNC.map_push_elem,
  BPF_FUNC.spin_lock,
  BPF_FUNC.spin_unlock,
  BPF_FUNC.jiffies64,
  BPF_FUNC.ktime_get_boot_ns,
  BPF_FUNC.ringbuf_output,
  BPF_FUNC.ringbuf_reserve,
  BPF_FUNC.ringbuf_submit,
  BPF_FUNC.ringbuf_discard,
]);

export function writesProgramMemory(id: number, planning: CallPlanning): boolean {
  return planning.overridden.has(id) || !LEAVES_MEMORY.has(id);
}

/** Helpers on elements, whose work depends on nothing but their map. */
const ON_ELEMENTS: ReadonlySet<number> = new Set<number>([
  BPF_FUNC.map_lookup_elem,
  BPF_FUNC.map_update_elem,
  BPF_FUNC.map_delete_elem,
]);

/**
 * Whether a helper may take insns off the run's budget: not if it is known to work on few bytes (`chargeBytes`), and to
 * follow no long chain (`chainCharge`) and go no way down a trie.
 */
export function mayCharge(id: number, registers: readonly KnownValue[], planning: CallPlanning): boolean {
  const map =
    ON_ELEMENTS.has(id) && !planning.overridden.has(id) ? mapOf(registers[1]!, planning) : undefined;
  if (map === undefined || Math.max(map.attributes.keySize, map.syscallValueSize) > BYTES_WITHIN_CALL)
    return true;
  if (map.attributes.type === BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE) return true;
  const { kind } = map.layout;
  return kind !== 'array' && kind !== 'slots' && map.attributes.maxEntries > CHAIN_WITHIN_CALL;
}

function mapOf(value: KnownValue, planning: CallPlanning): ResidentMap | undefined {
  const address = constantAddress(value);
  return address === undefined ? undefined : planning.mapsByAddress.get(address);
}
