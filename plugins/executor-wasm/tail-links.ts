import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { ProgramArray } from './call-plan.js';
import { constantWord, type KnownValue } from './known-value.js';

/**
 * A tail call through the table costs a chain of loads that one call has to wait out before the next: id of the program,
 * its place in the directory, the instance, and of that the memory. So once a program that makes tail calls has run on some
 * frames, its batch loop is compiled again with the programs in it that its arrays hold then: in place of the call stands
 * the code of each, behind a comparison of the id that the array holds now with the program's own. Who changes an array
 * thereby changes what runs, at once; a tail call that meets none of the ids goes through the table as before.
 */

/** Entries of an array that are looked through for what a tail call may lead to where its index is not known. */
const MAX_ENTRIES = 256;
/** Programs in place of one tail call at most: they are compared with one after the other. */
const MAX_TARGETS = 4;

/** Ids of the programs that a tail call may lead to by what the array holds now; undefined where they are too many. */
export function tailTargets({ map, layout }: ProgramArray, index: KnownValue): readonly number[] | undefined {
  if (map.programAt === undefined) return undefined;
  const known = constantWord(index);
  if (known !== undefined) return programIds(map, known + 1, known);
  if (layout.maxEntries > MAX_ENTRIES) return undefined;
  const ids = programIds(map, layout.maxEntries);
  return ids.length > MAX_TARGETS ? undefined : ids;
}

/** Ids of the different programs that a PROG_ARRAY holds from an index on, to before another. */
export function programIds(map: ResidentMap, end: number, first = 0): readonly number[] {
  const ids = new Set<number>();
  for (let i = first; i < Math.min(end, first + MAX_ENTRIES); i++) ids.add(map.programAt?.(i) ?? 0);
  ids.delete(0);
  return [...ids];
}

/** Frames before the first time: a short run compiles nothing twice. */
export const LINK_AFTER = 4096;
/** Tail calls that led elsewhere, since the loop was compiled, before it is compiled again. */
const MISSES = 1024;

/**
 * When to compile a program's batch loop with what its arrays hold: after so many frames, each time twice as many as the time
 * before, so that who changes arrays all the time does not have it compiled all the time.
 */
export class LinkSchedule {
  #after: number;
  #frames = 0;
  #misses = 0;

  constructor(first = LINK_AFTER) {
    this.#after = first;
  }

  /** Counts frames of a loop that stands without; whether it is time. */
  passed(frames: number): boolean {
    this.#frames += frames;
    if (this.#frames < this.#after) return false;
    this.#frames = 0;
    this.#after *= 2;
    return true;
  }

  /** Counts a tail call that led to none of the programs in the loop; whether it is out of date. */
  missed(): boolean {
    if (++this.#misses < MISSES) return false;
    this.#misses = 0;
    return true;
  }
}
