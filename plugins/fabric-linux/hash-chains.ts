import { functionStarts } from '../../src/bpf/function-starts.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import {
  BPF_CALL,
  BPF_CALL_HELPER,
  BPF_CLASS_MASK,
  BPF_EXIT,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  OP_CALL,
} from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import type { ProgramFacts } from '../../src/core/contract/verifier.js';

/** A program of which is asked how far it may walk along hash chains. */
export interface HashUser {
  readonly program: Pick<Program, 'insns'>;
  /** The maps that it names, by handle. */
  readonly maps: ReadonlyMap<number, { readonly attributes: MapAttributes }>;
  readonly facts: ProgramFacts | undefined;
  /** What its verifier found; a helper counts as one insn at least. */
  readonly worstCaseInsns: number;
}

/**
 * Elements of hash chains that a program may pass for one frame, at most. Which keys share a bucket is no secret (the
 * order in which keys are listed tells it, and with it the map's seed can be found), so that every element of a map may
 * be in one chain. A call that no path comes to twice counts as often as its function is called, any other as often as
 * there are insns for: R1 and R2 have to be set anew each time.
 */
export function mostChainElements({ program, maps, facts, worstCaseInsns }: HashUser): number {
  const { insns } = program;
  const all = [...maps.values()].map(({ attributes }) => attributes);
  const times = timesReached(insns);
  let elements = 0;
  let longestRepeated = 0;
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (isLddw(insn)) slot++;
    if (insn.opcode !== OP_CALL || insn.src !== BPF_CALL_HELPER || !WALKERS.has(insn.imm)) continue;
    if (facts?.unreachable.has(slot) === true) continue;
    const handle = facts?.calls.get(slot)?.map;
    const known = handle === undefined ? undefined : maps.get(handle)?.attributes;
    // Of maps that come out of a map, only those it was made with are known.
    const candidates = known === undefined ? all : [known];
    const inner = known === undefined && all.some(({ type }) => MAPS_OF_MAPS.has(type)) ? Infinity : 0;
    const longest = Math.max(inner, ...candidates.map((map) => longestWalk(insn.imm, map)));
    if (longest === 0) continue;
    const often = times(slot);
    if (often === Infinity) longestRepeated = Math.max(longestRepeated, longest);
    else elements += often * longest;
  }
  if (longestRepeated === 0) return elements;
  return elements + Math.floor(worstCaseInsns / INSNS_OF_A_CALL) * longestRepeated;
}

/** The call itself, and what sets R1 and R2. */
const INSNS_OF_A_CALL = 3;

const WALKERS: ReadonlySet<number> = new Set([
  BPF_FUNC.map_lookup_elem,
  BPF_FUNC.map_lookup_percpu_elem,
  BPF_FUNC.map_update_elem,
  BPF_FUNC.map_delete_elem,
  BPF_FUNC.redirect_map,
]);

const HASHES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKHASH,
]);

const LRU_HASHES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
]);

const MAPS_OF_MAPS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
]);

/** Elements that a full LRU map evicts at once to have room for one (LOCAL_FREE_TARGET, kernel/bpf/bpf_lru_list.c). */
const EVICTED_AT_ONCE = 128;

/** Elements that one call passes. Each that is evicted is looked for in its own chain. */
function longestWalk(helper: number, { type, maxEntries }: MapAttributes): number {
  if (!HASHES.has(type)) return 0;
  const evicts = helper === BPF_FUNC.map_update_elem && LRU_HASHES.has(type);
  return evicts ? maxEntries * (1 + EVICTED_AT_ONCE) : maxEntries;
}

/**
 * How often an insn may run in a program, by its slot: once for each way of local calls to its function; Infinity for
 * what is in a loop or in a callback, or called from there.
 */
function timesReached(insns: readonly Insn[]): (slot: number) => number {
  const starts = functionStarts(insns);
  const functionOf = (slot: number): number => starts.findLast((start) => start <= slot)!;
  const repeated = slotsInLoops(insns);
  const callbacks = new Set<number>();
  const callers = new Map<number, number[]>();
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    const target = slot + 1 + insn.imm;
    if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_CALL) {
      callers.set(target, [...(callers.get(target) ?? []), slot]);
    }
    if (!isLddw(insn)) continue;
    if (insn.src === BPF_PSEUDO_FUNC) callbacks.add(target);
    slot++;
  }
  /** By the function's first slot; of one that is being looked at Infinity, so that one that calls itself is that. */
  const known = new Map<number, number>([[0, 1]]);
  const timesCalled = (start: number): number => {
    const before = known.get(start);
    if (before !== undefined) return before;
    known.set(start, Infinity);
    const times = callbacks.has(start)
      ? Infinity
      : (callers.get(start) ?? []).reduce((sum, slot) => sum + timesAt(slot), 0);
    known.set(start, times);
    return times;
  };
  const timesAt = (slot: number): number => {
    const called = timesCalled(functionOf(slot));
    return called > 0 && repeated[slot] === 1 ? Infinity : called;
  };
  return timesAt;
}

/**
 * 1 for each slot between a jump backwards and where it leads to: every loop goes back over each of its insns by such a
 * jump.
 */
function slotsInLoops(insns: readonly Insn[]): Uint8Array {
  const inLoop = new Uint8Array(insns.length);
  /** The lowest slot that a jump from here or from behind leads to. */
  let lowest = insns.length;
  for (let slot = insns.length - 1; slot >= 0; slot--) {
    lowest = Math.min(lowest, jumpTarget(insns, slot) ?? lowest);
    if (lowest <= slot) inLoop[slot] = 1;
    else lowest = insns.length;
  }
  return inLoop;
}

function jumpTarget(insns: readonly Insn[], slot: number): number | undefined {
  if (isLddw(insns[slot - 1])) return undefined;
  const { opcode, off, imm } = insns[slot]!;
  const insnClass = opcode & BPF_CLASS_MASK;
  if (insnClass !== BPF_JMP && insnClass !== BPF_JMP32) return undefined;
  const code = opcode & BPF_OP_MASK;
  if (code === BPF_CALL || code === BPF_EXIT) return undefined;
  return slot + 1 + (code === BPF_JA && insnClass === BPF_JMP32 ? imm : off);
}
