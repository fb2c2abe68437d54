import { XdpbedError } from '../../core/diagnostic.js';
import type { MapInitialEntry, MapSpec, ObjectPart } from '../map-spec.js';
import type { ProgramSpec } from '../program.js';
import type { ObjectSpec } from './object-spec.js';

/** The part of an object that loading looks at; an {@link ObjectSpec} is one. */
export type LoadableObject = Pick<ObjectSpec, 'maps' | 'programs'>;

/** Elements to place in maps after those of the object, by map name. */
export type ExtraElements = ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;

/**
 * The maps that a program needs, by name, an inner map always before the map that holds it: those it refers to,
 * those in their initial elements, and those of the programs there. Throws `object-invalid` for a name that the
 * object does not define.
 */
export function requiredMaps(
  object: LoadableObject,
  program: ProgramSpec,
  initial?: ExtraElements,
): MapSpec[] {
  const closure = new ObjectClosure(object, initial);
  closure.addProgram(program);
  return [...closure.maps.values()];
}

/** A program with all that it reaches: maps, and the programs in its PROG_ARRAY maps. */
export class ObjectClosure {
  readonly maps = new Map<string, MapSpec>();
  readonly programs = new Map<string, ProgramSpec>();
  readonly #visited = new Set<string>();

  constructor(
    readonly object: LoadableObject,
    readonly extra?: ExtraElements,
  ) {}

  addProgram(program: ProgramSpec): void {
    if (this.programs.has(program.name)) return;
    this.programs.set(program.name, program);
    for (const reference of program.references) {
      if (reference.kind === 'map') this.addMap(reference.mapName, `program ${program.name}`);
    }
  }

  addMap(name: string, user: string): void {
    if (this.#visited.has(name)) return;
    this.#visited.add(name);
    const spec = find(this.object.maps, name, 'map', user);
    for (const entry of this.initialEntries(spec)) {
      if ('mapName' in entry || 'programName' in entry) this.addPart(entry, `map ${name}`);
    }
    this.maps.set(name, spec);
  }

  addPart(part: ObjectPart, user = 'what is to be loaded'): void {
    if ('mapName' in part) this.addMap(part.mapName, user);
    else this.addProgram(find(this.object.programs, part.programName, 'program', user));
  }

  /** Those of the object, then those that were given. */
  initialEntries(spec: MapSpec): readonly MapInitialEntry[] {
    return [...spec.initial, ...(this.extra?.get(spec.name) ?? [])];
  }
}

function find<T extends { readonly name: string }>(
  items: readonly T[],
  name: string,
  what: string,
  user: string,
): T {
  const found = indexOf(items).get(name) as T | undefined;
  if (found !== undefined) return found;
  throw new XdpbedError(
    'object-invalid',
    `${user} refers to ${what} ${name}, which the object does not define`,
  );
}

/** Items by name, of those called alike the first. Every program of an object is looked up in the same lists. */
const INDEXES = new WeakMap<readonly Named[], ReadonlyMap<string, Named>>();

interface Named {
  readonly name: string;
}

function indexOf(items: readonly Named[]): ReadonlyMap<string, Named> {
  const known = INDEXES.get(items);
  if (known !== undefined) return known;
  const index = new Map<string, Named>();
  for (const item of items) if (!index.has(item.name)) index.set(item.name, item);
  INDEXES.set(items, index);
  return index;
}
