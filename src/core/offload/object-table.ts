import type { HostUsage } from '../contract/policy.js';
import type { DeviceObject, ObjectOf, ObjectReference } from './device-object.js';
import { NO_USAGE, type Charge } from './quota-accounts.js';
import { turn } from './turn.js';

/** Objects that a device's table can hold at once, those included that have no handle any more; also its slots. */
export const MAX_OBJECTS = 4096;
const INDEX_BITS = 12;
const INDEX_MASK = MAX_OBJECTS - 1;
/** Generations of one slot; handles stay positive as signed 32-bit numbers, because an insn's imm is one. */
const MAX_GENERATION = (1 << (31 - INDEX_BITS)) - 1;
/** Steps of going after which others have their turn: one lets go of an element, which takes 0.1 to 0.5 µs. */
const STRETCH_STEPS = 2048;
/** Steps that closing an object counts for. */
const CLOSE_STEPS = 64;

/** Something that goes: each yield says how many steps were made. */
export type Going = Generator<number, void>;

export interface ObjectTableOptions {
  /** Objects at once, at most MAX_OBJECTS. */
  readonly capacity?: number | undefined;
  /** Objects that one slot may ever hold. */
  readonly generations?: number | undefined;
  /** Told of every object whose `close` threw. */
  readonly onCloseFailure?: ((error: unknown) => void) | undefined;
}

/** An object to be put into the table, which owns it from then on. */
export interface NewObject<T extends DeviceObject> {
  readonly charge: Charge;
  /** What it cannot be without: kept until it has gone. */
  readonly uses?: readonly ObjectReference[];
  readonly make: (id: number) => T;
  /** Gives back what it is made of. Called once. What takes long is in what it returns. */
  readonly close?: (object: T) => Going | void;
  /** What it has let go of when it is closed, which may be thousands. */
  readonly holds?: (object: T) => Iterable<ObjectReference>;
  /**
   * The guest can name it no more, neither by handle nor by pin. Called before `close`, and again if it got another name. What
   * takes long is in what it returns.
   */
  readonly unnamed?: (object: T) => Going | undefined;
}

/** An object and a handle for it. */
export interface Named<T extends DeviceObject> {
  readonly handle: number;
  readonly object: T;
}

interface Entry {
  readonly object: DeviceObject;
  readonly charge: Charge;
  /** One for each handle and pin, one for each object that uses it, one for each reference that is held. */
  references: number;
  /** Handles and pins. */
  names: number;
  readonly uses: readonly ObjectReference[];
  readonly close: (() => Going | void) | undefined;
  readonly holds: (() => Iterable<ObjectReference>) | undefined;
  readonly unnamed: (() => Going | undefined) | undefined;
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
 * A slot's generation goes up with each handle put into it and a slot that has used up its generations is
 * retired, so no handle ever names a second object, not even after a device reset. Since generations start at
 * 1, no handle is below 4096: the numbers that a process's file descriptors have are never handles.
 *
 * Objects live as in the kernel: a handle is one reference, and so is a pin, a program that uses a map, an element of a
 * map of maps or programs, and being attached. The object goes with the last; until it has gone it is charged to the guest.
 *
 * One handle may be the last of a program, that of hundreds of maps, and those of a million elements: objects go one after the
 * other, and others have their turn in between. Who uses the table waits for that with what comes next (`going`).
 */
export class ObjectTable {
  readonly #slots: (Entry | undefined)[] = [];
  /** The handle that a slot has now. */
  readonly #handles: number[] = [];
  readonly #generations: number[] = [];
  /** Free slots, the one that has been free longest first. */
  readonly #free: number[] = [];
  readonly #live = new Map<DeviceObject, Entry>();
  readonly #pins = new Map<string, Entry>();
  readonly #lastId = { map: 0, program: 0, link: 0, btf: 0 };
  /** What goes, in this order. */
  readonly #queue: Going[] = [];
  #inStretch = false;
  #going: Promise<void> | undefined;

  readonly #capacity: number;
  readonly #lastGeneration: number;
  readonly #onCloseFailure: (error: unknown) => void;

  constructor(options: ObjectTableOptions = {}) {
    this.#capacity = Math.min(options.capacity ?? MAX_OBJECTS, MAX_OBJECTS);
    this.#lastGeneration = Math.min(options.generations ?? MAX_GENERATION, MAX_GENERATION);
    this.#onCloseFailure = options.onCloseFailure ?? (() => {});
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Objects that are charged for, whether or not the guest can still name them. */
  get size(): number {
    return this.#live.size;
  }

  /** Whether one more object can be put in. */
  get hasRoom(): boolean {
    // What only a program keeps alive has no slot any more, and still counts.
    return this.#live.size < this.#capacity && this.#hasSlot;
  }

  /** The sum of what its objects are charged for. */
  get usage(): HostUsage {
    const sum = { ...NO_USAGE };
    for (const { charge } of this.#live.values()) {
      for (const key of Object.keys(sum) as (keyof HostUsage)[]) sum[key] += charge.amount[key];
    }
    return sum;
  }

  /** What the guest calls `handle`; undefined for a freed, foreign or forged one. */
  get(handle: number): DeviceObject | undefined {
    return this.#entry(handle)?.object;
  }

  /** As `get`, when it is of that kind. */
  find<K extends DeviceObject['kind']>(kind: K, handle: number): ObjectOf<K> | undefined {
    const object = this.get(handle);
    return object?.kind === kind ? (object as ObjectOf<K>) : undefined;
  }

  /** Undefined when the table is full: the object was then not made. */
  add<T extends DeviceObject>(kind: T['kind'], made: NewObject<T>): Named<T> | undefined {
    if (!this.hasRoom) return undefined;
    const object = made.make(++this.#lastId[kind]);
    const entry: Entry = {
      object,
      charge: made.charge,
      references: 0,
      names: 0,
      uses: made.uses ?? [],
      close: made.close === undefined ? undefined : () => made.close!(object),
      holds: made.holds === undefined ? undefined : () => made.holds!(object),
      unnamed: made.unnamed === undefined ? undefined : () => made.unnamed!(object),
    };
    this.#live.set(object, entry);
    return { handle: this.#name(entry), object };
  }

  /** One more handle for an object that is there; undefined when there is no slot for it. */
  open(object: DeviceObject): number | undefined {
    const entry = this.#live.get(object);
    return entry === undefined || !this.#hasSlot ? undefined : this.#name(entry);
  }

  /** Keeps what a handle names alive; undefined when it is not there, or not of that kind. */
  hold<K extends DeviceObject['kind']>(kind: K, handle: number): ObjectReference<ObjectOf<K>> | undefined {
    const object = this.find(kind, handle);
    return object === undefined ? undefined : this.holdObject(object);
  }

  /** Keeps an object of this table alive. */
  holdObject<T extends DeviceObject>(object: T): ObjectReference<T> {
    const entry = this.#live.get(object)!;
    entry.references++;
    let released = false;
    return {
      object,
      release: () => {
        if (released) return;
        released = true;
        this.#unreference(entry);
      },
    };
  }

  /** Takes the handle away: whether there was one. */
  free(handle: number): boolean {
    const entry = this.#entry(handle);
    if (entry === undefined) return false;
    this.#freeSlot(handle & INDEX_MASK);
    this.#unname(entry);
    return true;
  }

  /** Whether something is pinned under that name. */
  isPinned(name: string): boolean {
    return this.#pins.has(name);
  }

  get pinCount(): number {
    return this.#pins.size;
  }

  /** Handles and pins. */
  get nameCount(): number {
    let handles = 0;
    for (const entry of this.#slots) if (entry !== undefined) handles++;
    return handles + this.#pins.size;
  }

  pinned(name: string): DeviceObject | undefined {
    return this.#pins.get(name)?.object;
  }

  /** Under a name that is not taken. */
  pin(name: string, object: DeviceObject): void {
    const entry = this.#live.get(object)!;
    entry.references++;
    entry.names++;
    this.#pins.set(name, entry);
  }

  unpin(name: string): boolean {
    const entry = this.#pins.get(name);
    if (entry === undefined) return false;
    this.#pins.delete(name);
    this.#unname(entry);
    return true;
  }

  /** The first name after `after`, by code units. */
  pinAfter(after: string): string | undefined {
    let next: string | undefined;
    for (const name of this.#pins.keys())
      if (name > after && (next === undefined || name < next)) next = name;
    return next;
  }

  byId<K extends DeviceObject['kind']>(kind: K, id: number): ObjectOf<K> | undefined {
    for (const object of this.#live.keys()) {
      if (object.kind === kind && object.id === id) return object as ObjectOf<K>;
    }
    return undefined;
  }

  /** The lowest id above `after`. */
  idAfter(kind: DeviceObject['kind'], after: number): number | undefined {
    let next: number | undefined;
    for (const object of this.#live.keys()) {
      if (object.kind === kind && object.id > after && (next === undefined || object.id < next))
        next = object.id;
    }
    return next;
  }

  /** Every object, in the order in which they came. */
  objects(): readonly DeviceObject[] {
    return [...this.#live.keys()];
  }

  /**
   * Takes away every name, links first, then programs. What is held by an operation under way, or by being attached,
   * goes when that ends.
   */
  freeAll(): void {
    this.#stretch(() => {
      for (const name of [...this.#pins.keys()]) this.unpin(name);
      for (const kind of ['link', 'program', 'map', 'btf'] as const) {
        for (let index = 0; index < this.#slots.length; index++) {
          if (this.#slots[index]?.object.kind === kind) this.free(this.#handles[index]!);
        }
      }
    });
  }

  /** Settles when all has gone that nothing needs any more; undefined: it has. Nothing may be put in or looked for before. */
  get going(): Promise<void> | undefined {
    return this.#going;
  }

  /** Names by which objects are pinned. */
  get pins(): readonly (readonly [name: string, object: DeviceObject])[] {
    return [...this.#pins].map(([name, { object }]) => [name, object]);
  }

  /**
   * Gives objects the handles and ids that their counterparts have in another table, in place of those that they have here, so
   * that who knew them there knows them here. That table's handles name nothing any more.
   */
  takeNames(from: ObjectTable, counterparts: ReadonlyMap<DeviceObject, DeviceObject>): void {
    const before = this.#slots.flatMap((entry) => (entry === undefined ? [] : [entry]));
    this.#slots.length = 0;
    this.#free.length = 0;
    this.#handles.splice(0, this.#handles.length, ...from.#handles);
    this.#generations.splice(0, this.#generations.length, ...from.#generations);
    for (const [index, known] of from.#slots.entries()) {
      const entry = known === undefined ? undefined : this.#live.get(counterparts.get(known.object)!);
      this.#slots[index] = entry;
      if (entry === undefined) continue;
      entry.references++;
      entry.names++;
    }
    this.#free.push(...from.#free);
    for (const [known, object] of counterparts) (object as { id: number }).id = known.id;
    Object.assign(this.#lastId, from.#lastId);
    for (const entry of before) this.#unname(entry);
  }

  get #hasSlot(): boolean {
    return this.#free.length > 0 || this.#slots.length < this.#capacity;
  }

  /** A handle of its own; there is a slot. */
  #name(entry: Entry): number {
    const index = this.#free.shift() ?? this.#slots.length;
    const generation = (this.#generations[index] ?? 0) + 1;
    this.#generations[index] = generation;
    entry.references++;
    entry.names++;
    this.#slots[index] = entry;
    return (this.#handles[index] = generation * MAX_OBJECTS + index);
  }

  #entry(handle: number): Entry | undefined {
    const index = handle & INDEX_MASK;
    return this.#handles[index] === handle ? this.#slots[index] : undefined;
  }

  #freeSlot(index: number): void {
    this.#slots[index] = undefined;
    if (this.#generations[index]! < this.#lastGeneration) this.#free.push(index);
  }

  #unname(entry: Entry): void {
    const going = --entry.names === 0 ? entry.unnamed?.() : undefined;
    if (going !== undefined) this.#go(going);
    this.#unreference(entry);
  }

  #unreference(entry: Entry): void {
    if (--entry.references === 0) this.#go(this.#steps(entry));
  }

  *#steps(entry: Entry): Going {
    // The rest goes on whatever a plugin's close does: one that fails must not keep the other objects alive.
    try {
      const going = entry.close?.();
      yield CLOSE_STEPS;
      if (going !== undefined) yield* going;
    } catch (error) {
      this.#onCloseFailure(error);
    }
    for (const element of entry.holds?.() ?? []) {
      element.release();
      yield 1;
    }
    this.#live.delete(entry.object);
    entry.charge.release();
    for (const use of entry.uses) {
      use.release();
      yield 1;
    }
  }

  /** At once, unless something is before it. */
  #go(going: Going): void {
    this.#queue.push(going);
    if (!this.#inStretch && this.#going === undefined) this.#stretch();
  }

  /** Has what is in the queue go, and what it lets go of, for some time; what is left then goes in the turns that follow. */
  #stretch(first?: () => void): void {
    this.#inStretch = true;
    try {
      first?.();
      for (let steps = 0; this.#queue.length > 0 && steps < STRETCH_STEPS;)
        steps += this.#step(this.#queue[0]!);
    } finally {
      this.#inStretch = false;
    }
    if (this.#queue.length > 0) this.#going ??= this.#goOn();
  }

  async #goOn(): Promise<void> {
    while (this.#queue.length > 0) {
      await turn();
      this.#stretch();
    }
    this.#going = undefined;
  }

  #step(going: Going): number {
    try {
      const { done, value } = going.next();
      if (done !== true) return value;
    } catch (error) {
      this.#onCloseFailure(error);
    }
    this.#queue.shift();
    return 1;
  }
}
