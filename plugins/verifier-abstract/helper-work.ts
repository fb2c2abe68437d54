import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { BYTES_PER_INSN, BYTES_WITHIN_CALL, longestTrieWay } from '../../src/bpf/runtime/insn-budget.js';
import type { Call } from './helper-arguments.js';
import type { Simulation } from './simulation.js';
import { Kind } from './value.js';

/** A key, a value, two sizes, a packet. */
const PARTS = 5;
/** CPUs of a host for which a new element of a per-CPU map is cleared. */
const MOST_CPUS = 64;

/** A page: what bpf_xdp_adjust_tail can add to a packet or to its last fragment, and clears. */
const MOST_TAILROOM = 4096;
/** The longest packet of which bpf_perf_event_output can copy the start. */
const MOST_PACKET_BYTES = 65_536;
/** What `%s` reads for one argument, and what is read of a format (bpf_bprintf_prepare). */
const MOST_STRING_BYTES = 1024;
const MOST_FORMAT_BYTES = 4096;
/** Arguments of bpf_snprintf and bpf_trace_vprintk (MAX_BPRINTF_VARARGS), and of bpf_trace_printk. */
const MOST_VARARGS = 12;
const MOST_ARGS = 3;

/** Work on single bytes, dearer than a copy. */
const BYTE_BY_BYTE: ReadonlySet<number> = new Set([
  BPF_FUNC.strncmp,
  BPF_FUNC.strtol,
  BPF_FUNC.strtoul,
  BPF_FUNC.trace_printk,
  BPF_FUNC.trace_vprintk,
  BPF_FUNC.snprintf,
]);

/**
 * The most insns that executors charge for what a helper does in one call, beyond the call itself
 * (src/bpf/runtime/insn-budget.ts): by the sizes that it is given and those of its map.
 */
export function mostWork(sim: Simulation, { prototype, map }: Call): number {
  let bytes = bytesUntold(sim, prototype.id);
  for (let i = 0; i < prototype.args.length; i++) {
    if (prototype.args[i]!.kind !== 'size') continue;
    const size = sim.peek(i + 1);
    // That a size is a number, and states that differ in it are not taken for one, is seen to with the argument.
    if (size.kind === Kind.Scalar) bytes += Number(size.scalar.umax);
  }
  if (map !== undefined) bytes += map.spec.keySize + bytesOfValue(prototype.id, map.spec);
  if (BYTE_BY_BYTE.has(prototype.id)) return 2 * bytes;
  const walk = map === undefined ? 0 : workOfWay(map.spec);
  // Each of the parts is charged for by itself, and rounded up.
  return walk + (bytes <= BYTES_WITHIN_CALL ? 0 : Math.ceil(bytes / BYTES_PER_INSN) + PARTS);
}

/**
 * The way to an element. Of a trie it is as long as a key has bits, however few entries there are: a map of maps may hold one
 * with more of them.
 */
function workOfWay({ type, keySize }: MapAttributes): number {
  return type === BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE ? longestTrieWay(keySize) : 0;
}

/** What no size argument and no map tells. */
function bytesUntold(sim: Simulation, helper: number): number {
  switch (helper) {
    case BPF_FUNC.xdp_adjust_tail:
      return MOST_TAILROOM;
    case BPF_FUNC.perf_event_output: {
      // The upper half of the flags is how much of the packet goes with the record (BPF_F_CTXLEN_MASK).
      const flags = sim.peek(3);
      sim.precise(3);
      const packetBytes = flags.kind === Kind.Scalar ? Number(flags.scalar.umax >> 32n) : MOST_PACKET_BYTES;
      return Math.min(packetBytes, MOST_PACKET_BYTES);
    }
    case BPF_FUNC.trace_printk:
      return MOST_ARGS * MOST_STRING_BYTES;
    case BPF_FUNC.trace_vprintk:
    case BPF_FUNC.snprintf:
      return MOST_FORMAT_BYTES + MOST_VARARGS * MOST_STRING_BYTES;
    default:
      return 0;
  }
}

/**
 * Of bpf_for_each_map_elem over a map of so many elements: it looks at the buckets of a hash, which are up to twice as many,
 * four for an insn.
 */
export function workOfWalk({ type }: MapAttributes, elements: number): number {
  return ARRAYS.has(type) ? 0 : Math.ceil(elements / 2);
}

/** Of each element that it visits: the copy of its key. */
export function workOfRound({ keySize }: MapAttributes): number {
  return 1 + Math.ceil(keySize / BYTES_PER_INSN);
}

/** Of the value, in helpers that copy it: a lookup does not. */
function bytesOfValue(helper: number, { type, valueSize }: MapAttributes): number {
  switch (helper) {
    case BPF_FUNC.map_update_elem:
      return PER_CPU.has(type) ? MOST_CPUS * (valueSize + 7) : valueSize;
    case BPF_FUNC.map_push_elem:
    case BPF_FUNC.map_pop_elem:
    case BPF_FUNC.map_peek_elem:
      return valueSize;
    default:
      return 0;
  }
}

const ARRAYS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
]);

const PER_CPU: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
]);
