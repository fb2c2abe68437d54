import type { MapAttributes } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { HostUsage, ProgramSummary } from '../contract/policy.js';
import type { ProgramProperties } from '../contract/verifier.js';
import { NO_USAGE, type Charge } from './quota-accounts.js';

/** Objects that a device's table can hold at once, those included that have no handle any more; also its slots. */
export const MAX_OBJECTS = 4096;
const INDEX_BITS = 12;
const INDEX_MASK = MAX_OBJECTS - 1;
/** Generations of one slot; handles stay positive as signed 32-bit numbers, because an insn's imm is one. */
const MAX_GENERATION = (1 << (31 - INDEX_BITS)) - 1;

/** A map that the host holds for the guest. */
export interface MapObject {
  readonly kind: 'map';
  readonly handle: number;
  readonly map: BpfMap;
  readonly attributes: MapAttributes;
}

/** A program that the host holds for the guest. RFC 2019 has no command that names one. */
export interface ProgramObject {
  readonly kind: 'program';
  readonly handle: number;
  readonly program: LoadedProgram;
  readonly summary: ProgramSummary;
  /** What the verifier found out. */
  readonly properties: ProgramProperties | undefined;
  /** What it costs its guest. */
  readonly charge: Charge;
  /** 8 bytes: see `programTag`. */
  readonly tag: Uint8Array;
  /** Picoseconds on the run's clock. */
  readonly loadTime: number;
}

export type DeviceObject = MapObject | ProgramObject;

export interface ObjectTableOptions {
  /** Objects at once, at most MAX_OBJECTS. */
  readonly capacity?: number | undefined;
  /** Objects that one slot may ever hold. */
  readonly generations?: number | undefined;
  /** Told of every map or program whose `close` threw. */
  readonly onCloseFailure?: ((error: unknown) => void) | undefined;
}

interface Entry {
  readonly object: DeviceObject;
  readonly charge: Charge;
  /** One for the guest's handle, one for each program that uses it (maps), or for being attached (programs). */
  references: number;
  /** The guest may still name it. */
  named: boolean;
  /** Maps that a program keeps alive. */
  readonly uses: readonly Entry[];
}

/**
 * What a device's guest holds on the host, by opaque handles. A handle means something in this table only: it is
 * no host file descriptor, and one of another guest is not found here.
 *
 * ```
 *   31 | 30 ............ 12 | 11 ....... 0
 *    0 | generation, from 1 | slot index
 * ```
 *
 * A slot's generation goes up with each object put into it and a slot that has used up its generations is
 * retired, so no handle ever names a second object, not even after a device reset. Since generations start at
 * 1, no handle is below 4096: the numbers that a process's file descriptors have are never handles.
 *
 * Objects live as in the kernel: freeing takes away the guest's name for a map, and the map itself goes when
 * the last program that uses it is gone. Until then it is charged to the guest.
 */
export class ObjectTable {
  readonly #slots: (Entry | undefined)[] = [];
  readonly #generations: number[] = [];
  /** Free slots, the one that has been free longest first. */
  readonly #free: number[] = [];
  readonly #live = new Set<Entry>();

  readonly #capacity: number;
  readonly #lastGeneration: number;
  readonly #onCloseFailure: (error: unknown) => void;

  constructor(options: ObjectTableOptions = {}) {
    this.#capacity = Math.min(options.capacity ?? MAX_OBJECTS, MAX_OBJECTS);
    this.#lastGeneration = Math.min(options.generations ?? MAX_GENERATION, MAX_GENERATION);
    this.#onCloseFailure = options.onCloseFailure ?? (() => {});
  }

  /** Objects that are charged for, whether or not the guest can still name them. */
  get size(): number {
    return this.#live.size;
  }

  /** Whether one more object can be put in. */
  get hasRoom(): boolean {
    // What only a program keeps alive has no slot any more, and still counts.
    if (this.#live.size >= this.#capacity) return false;
    return this.#free.length > 0 || this.#slots.length < this.#capacity;
  }

  /** The sum of what its objects are charged for. */
  get usage(): HostUsage {
    const sum = { ...NO_USAGE };
    for (const { charge } of this.#live) {
      for (const key of Object.keys(sum) as (keyof HostUsage)[]) sum[key] += charge.amount[key];
    }
    return sum;
  }

  /** Every map, oldest first, with what it takes of the host's memory and whether some program uses it. */
  *maps(): IterableIterator<{ object: MapObject; memoryBytes: number; used: boolean }> {
    const used = new Set([...this.#live].flatMap(({ uses }) => uses));
    for (const entry of this.#live) {
      const { object, charge } = entry;
      if (object.kind !== 'map') continue;
      yield { object, memoryBytes: charge.amount.mapMemory, used: used.has(entry) };
    }
  }

  /** The map that the guest calls `handle`; undefined for a freed, foreign, forged or program handle. */
  map(handle: number): MapObject | undefined {
    const object = this.#entry(handle)?.object;
    return object?.kind === 'map' ? object : undefined;
  }

  /** Undefined when the table is full. Otherwise the table owns the map and closes it. */
  addMap(map: BpfMap, attributes: MapAttributes, charge: Charge): MapObject | undefined {
    return this.#add(charge, [], (handle) => ({ kind: 'map', handle, map, attributes }));
  }

  /**
   * Undefined when the table is full. Otherwise the table owns the program, closes it when it is freed, and
   * keeps `uses` alive until then.
   */
  addProgram(
    details: Pick<ProgramObject, 'program' | 'summary' | 'properties' | 'charge' | 'tag' | 'loadTime'>,
    uses: readonly MapReference[],
  ): ProgramObject | undefined {
    return this.#add(
      details.charge,
      uses.map((use) => (use as HeldEntry).entry),
      (handle) => ({ kind: 'program', handle, ...details }),
    );
  }

  /** Keeps a map alive while something is made that will use it; undefined when there is none of that handle. */
  hold(handle: number): MapReference | undefined {
    const entry = this.#entry(handle);
    if (entry?.object.kind !== 'map') return undefined;
    entry.references++;
    let released = false;
    const held: HeldEntry = {
      entry,
      object: entry.object,
      release: () => {
        if (released) return;
        released = true;
        this.#unreference(entry);
      },
    };
    return held;
  }

  /** Takes the name away: whether there was an object of that handle. */
  free(handle: number): boolean {
    const entry = this.#entry(handle);
    if (entry === undefined) return false;
    this.#unname(entry);
    this.#unreference(entry);
    return true;
  }

  /**
   * Takes away every name, programs first, but that of `except`. What is held by an operation under way goes when
   * that ends, and what `except` uses when it is freed.
   */
  freeAll(except?: DeviceObject): void {
    const named = [...this.#live].filter((entry) => entry.named && entry.object !== except);
    for (const kind of ['program', 'map'] as const) {
      for (const entry of named) {
        if (entry.object.kind !== kind) continue;
        this.#unname(entry);
        this.#unreference(entry);
      }
    }
  }

  #add<T extends DeviceObject>(
    charge: Charge,
    uses: readonly Entry[],
    make: (handle: number) => T,
  ): T | undefined {
    if (!this.hasRoom) return undefined;
    const index = this.#free.shift() ?? this.#slots.length;
    const generation = (this.#generations[index] ?? 0) + 1;
    this.#generations[index] = generation;
    const object = make(generation * MAX_OBJECTS + index);
    for (const use of uses) use.references++;
    const entry: Entry = { object, charge, references: 1, named: true, uses };
    this.#slots[index] = entry;
    this.#live.add(entry);
    return object;
  }

  #entry(handle: number): Entry | undefined {
    const entry = this.#slots[handle & INDEX_MASK];
    return entry?.object.handle === handle ? entry : undefined;
  }

  #unname(entry: Entry): void {
    const index = entry.object.handle & INDEX_MASK;
    entry.named = false;
    this.#slots[index] = undefined;
    if (this.#generations[index]! < this.#lastGeneration) this.#free.push(index);
  }

  #unreference(entry: Entry): void {
    if (--entry.references > 0) return;
    this.#live.delete(entry);
    // The rest goes on whatever a plugin's close does: one that fails must not keep the other objects alive.
    try {
      if (entry.object.kind === 'map') entry.object.map.close();
      else entry.object.program.close();
    } catch (error) {
      this.#onCloseFailure(error);
    }
    entry.charge.release();
    for (const use of entry.uses) this.#unreference(use);
  }
}

/** A map that cannot go away before `release`. */
export interface MapReference {
  readonly object: MapObject;
  /** The second and later calls do nothing. */
  release(): void;
}

interface HeldEntry extends MapReference {
  readonly entry: Entry;
}
