import type { SeededRandom } from '../verifier/seeded-random.js';

/** A register that calls keep, or a slot of the stack, as assembler text names them. */
export type Home = { readonly register: string } | { readonly slot: number };

/** Something that a function holds in a home. */
export interface Thing {
  readonly kind:
    | 'number'
    | 'value'
    | 'record'
    | 'socket'
    | 'inner'
    | 'key'
    | 'buffer'
    | 'packet'
    | 'end'
    | 'context'
    | 'xsk';
  readonly home: Home;
  /** Bytes that may be accessed from there; of a number, how large it is at most. */
  readonly size: number;
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** Name of the map that it came from. */
  readonly map?: string;
  /** What the lookup of a socket was of, e.g. `sock`. */
  readonly socket?: string;
}

/** Parts of a program that its functions share. */
export interface ObjectProgramParts {
  readonly random: SeededRandom;
  /** Bodies of functions that are done, each starting with its label. */
  readonly functions: string[];
  labels: number;
  /** Statements that may still be written. */
  left: number;
}

/** Slots of 8 bytes that hold things, and below them 64 bytes for keys and buffers. */
const SLOTS = [-8, -16, -24, -32, -40, -48] as const;
/** Offset of the lowest of them. */
export const SLOTS_START = -48;
export const SCRATCH = -56;
export const BUFFER = -104;
export const BUFFER_BYTES = 48;

/** One function under construction: its text, and what it holds where. Registers R0 … R5 are for the moment. */
export class ObjectFunction {
  readonly lines: string[] = [];
  things: Thing[] = [];
  /** Things that have to be given back before the function may end. */
  held = 0;

  constructor(
    readonly program: ObjectProgramParts,
    readonly kind: 'main' | 'function' | 'callback',
    /** How many calls deep. */
    readonly depth: number,
  ) {}

  get random(): SeededRandom {
    return this.program.random;
  }

  emit(...lines: string[]): void {
    this.lines.push(...lines);
  }

  label(): string {
    return `l${this.program.labels++}`;
  }

  place(label: string): void {
    this.lines.push(`${label}: r0 = 0`);
  }

  /** A home that holds nothing; in a register only if `register`. */
  freeHome(wanted?: 'register' | 'slot'): Home | undefined {
    const homes: Home[] = [
      ...(wanted === 'slot' ? [] : ['r6', 'r7', 'r8', 'r9'].map((register) => ({ register }))),
      ...(wanted === 'register' ? [] : SLOTS.map((slot) => ({ slot }))),
    ];
    const free = homes.filter((home) => !this.things.some((thing) => sameHome(thing.home, home)));
    return free.length === 0 ? undefined : this.random.pick(free);
  }

  keep(home: Home, from: string): void {
    if ('register' in home) this.emit(`${home.register} = ${from}`);
    else this.emit(`*(u64 *)(r10 ${home.slot}) = ${from}`);
  }

  /** A register with the thing: its own, or `scratch`. */
  bring({ home }: Thing, scratch: string): string {
    if ('register' in home) return home.register;
    this.emit(`${scratch} = *(u64 *)(r10 ${home.slot})`);
    return scratch;
  }

  /** `target` = the thing. */
  pass(thing: Thing, target: string): void {
    const register = this.bring(thing, target);
    if (register !== target) this.emit(`${target} = ${register}`);
  }

  find(...kinds: readonly Thing['kind'][]): Thing[] {
    return this.things.filter(({ kind }) => kinds.includes(kind));
  }

  pick(...kinds: readonly Thing['kind'][]): Thing | undefined {
    const found = this.find(...kinds);
    return found.length === 0 ? undefined : this.random.pick(found);
  }

  drop(lost: (thing: Thing) => boolean): void {
    this.things = this.things.filter((thing) => !lost(thing));
  }

  /** Runs `inside`, after which what it came to hold is forgotten. */
  scope(inside: () => void): void {
    const before = [...this.things];
    inside();
    // What was there before may have been lost meanwhile.
    this.things = before.filter((thing) => this.things.includes(thing));
  }
}

export function sameHome(a: Home, b: Home): boolean {
  if ('register' in a) return 'register' in b && a.register === b.register;
  return 'slot' in b && a.slot === b.slot;
}
