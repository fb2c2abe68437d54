import { EINVAL, errnoName } from '../../bpf/errno.js';
import { ObjectClosure, type LoadableObject } from '../../bpf/elf/object-closure.js';
import { linkProgram } from '../../bpf/link.js';
import { BPF_MAP_TYPE, type MapInitialEntry, type MapSpec, type ObjectPart } from '../../bpf/map-spec.js';
import { syscallValue } from '../../bpf/per-cpu-value.js';
import type { Program, ProgramSpec } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import { XdpbedError } from '../diagnostic.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Party } from '../contract/party.js';
import { describeMap, explainMapRefusal, mapSizeHint } from './map-refusal.js';
import type { Acceptance, Rejection, VerifierMap } from '../contract/verifier.js';

export interface LoadObjectOptions {
  /** What helpers see of the world. */
  readonly world: HelperWorld;
  /** Elements to place in maps after those of the object, by map name. Maps the program has no use for are not created. */
  readonly initial?: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
  /** Parts of the object to be loaded beside the program, so that elements can name them later. */
  readonly also?: readonly ObjectPart[] | undefined;
  /**
   * Maps that are there already, by name: used as they are instead of being created, and left open. This is how
   * two programs of an object share its maps.
   */
  readonly maps?: ReadonlyMap<string, BpfMap> | undefined;
  /** Ask the verifier for its per-insn log. */
  readonly log?: boolean | undefined;
  /** As `ExecutionEnvironment.insnLimit`. */
  readonly insnLimit?: number | undefined;
}

/** A program that is ready to run, with everything that it needs. */
export interface LoadedObjectProgram {
  readonly accepted: true;
  readonly loaded: LoadedProgram;
  /** As it was verified: its `lddw` insns carry the numbers by which the executor knows the maps. */
  readonly program: Program;
  readonly verification: Acceptance;
  /** Every map that one of them refers to, by its name in the object. */
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** All that were loaded, by their names in the object. */
  readonly programs: ReadonlyMap<string, LoadedProgram>;
  /** Unloads the programs and closes the maps that were created for them. The second and later calls do nothing. */
  close(): void;
}

/** The verifier's no, and to which program: the one that was asked for, or one in its PROG_ARRAY maps. */
export interface ProgramRejection extends Rejection {
  readonly programName: string;
}

/**
 * Brings a program of an object up in a party, as libbpf does in a kernel: creates the maps it refers to (inner
 * maps and the maps of programs it tail-calls included), places their initial elements, freezes `.rodata`, has
 * the verifier judge each program, loads them, and puts the tail-called ones into their PROG_ARRAY maps.
 *
 * A rejection is a value, and nothing is left of the attempt. What the object or the party is at fault for
 * throws, after the same clean-up: `map-invalid`, `object-invalid`, `executor-unsupported`, `out-of-memory`.
 */
export async function loadObjectProgram(
  party: Party,
  object: LoadableObject,
  program: ProgramSpec,
  options: LoadObjectOptions,
): Promise<LoadedObjectProgram | ProgramRejection> {
  const loading = new ObjectLoading(party, object, options);
  try {
    return await loading.load(program);
  } catch (error) {
    loading.close();
    throw error;
  }
}

/** Throws `program-rejected` for a rejection: for a program without which nothing can go on. */
export function requireAccepted(result: LoadedObjectProgram | ProgramRejection): LoadedObjectProgram {
  if (result.accepted) return result;
  throw new XdpbedError(
    'program-rejected',
    `program ${result.programName} was rejected by verifier ${result.verifier}: ${result.reason}`,
    {
      at: result.insn === undefined ? undefined : { insn: result.insn },
      hint: result.suggestion,
    },
  );
}

class ObjectLoading {
  readonly #closure: ObjectClosure;
  readonly #maps = new Map<string, BpfMap>();
  /** Created here, in order. */
  readonly #created: BpfMap[] = [];
  readonly #loaded = new Map<string, LoadedProgram>();
  #closed = false;

  constructor(
    readonly party: Party,
    readonly object: LoadableObject,
    readonly options: LoadObjectOptions,
  ) {
    this.#closure = new ObjectClosure(object, options.initial);
  }

  async load(spec: ProgramSpec): Promise<LoadedObjectProgram | ProgramRejection> {
    this.#closure.addProgram(spec);
    for (const part of this.options.also ?? []) this.#closure.addPart(part);
    this.#checkFrags(spec);
    for (const map of this.#closure.maps.values()) this.#bringUpMap(map);

    const names = [...this.#maps.keys()];
    const handles = new Map(names.map((name, index) => [name, index + 1]));
    const byHandle = new Map(names.map((name, index) => [index + 1, this.#maps.get(name)!]));
    const verifierMaps = new Map(names.map((name, index) => [index + 1, this.#verifierMap(name)]));

    let main: { program: Program; verification: Acceptance } | undefined;
    for (const [name, programSpec] of this.#closure.programs) {
      const program = linkProgram(programSpec, handles);
      const verification = await this.party.verifier.verify({
        program,
        maps: verifierMaps,
        log: this.options.log,
      });
      if (!verification.accepted) {
        this.close();
        return { ...verification, programName: name };
      }
      if (programSpec === spec) main = { program, verification };
      const coverage = this.party.coverage?.countsFor(program, verification.facts);
      const loaded = await this.party.executor.load(program, {
        maps: byHandle,
        world: this.options.world,
        contained: verification.contained,
        facts: verification.facts,
        properties: verification.properties,
        insnLimit: this.options.insnLimit,
        countWork: this.party.countWork,
        coverage,
      });
      this.#loaded.set(name, loaded);
      if (loaded.coverage !== coverage) {
        throw new XdpbedError(
          'executor-unsupported',
          `executor ${this.party.executor.name} cannot count which insns run`,
          { hint: 'the interpreter can' },
        );
      }
    }
    this.#fillProgramArrays();
    return {
      accepted: true,
      loaded: this.#loaded.get(spec.name)!,
      program: main!.program,
      verification: main!.verification,
      maps: this.#maps,
      programs: this.#loaded,
      close: () => this.close(),
    };
  }

  get #parts(): LoadedParts {
    return { maps: this.#maps, programs: this.#loaded };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const loaded of this.#loaded.values()) loaded.close();
    // A map that holds others was created after them.
    for (const map of this.#created.reverse()) map.close();
  }

  /**
   * Programs that reach one another by tail calls are all with frags or all without, or one without could get a frame
   * in several buffers (kernel/bpf/core.c __bpf_prog_map_compatible).
   */
  #checkFrags(spec: ProgramSpec): void {
    for (const [name, { frags }] of this.#closure.programs) {
      if (frags === spec.frags) continue;
      throw new XdpbedError(
        'object-invalid',
        `programs ${spec.name} and ${name} are in tail calls of one another, and only ${frags ? name : spec.name} is for frames in several buffers`,
        { hint: 'put both in sections xdp.frags, or neither' },
      );
    }
  }

  #bringUpMap(spec: MapSpec): void {
    const given = this.options.maps?.get(spec.name);
    if (given !== undefined) {
      this.#maps.set(spec.name, given);
      return;
    }
    const map = this.#create(spec);
    this.#maps.set(spec.name, map);
    for (const entry of this.#closure.initialEntries(spec)) {
      if (!('programName' in entry)) placeElement(this.#parts, spec.name, entry);
    }
    if (spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY) this.#openPerfEvents(map);
    if (spec.frozen === true) {
      const status = map.freeze();
      if (status !== 0) {
        throw new XdpbedError('map-invalid', `map ${spec.name} cannot be frozen: ${errnoName(status)}`);
      }
    }
  }

  /** What the reader of an array of perf events does first: a program's output goes nowhere before. */
  #openPerfEvents(map: BpfMap): void {
    const key = new Uint8Array(4);
    for (let cpu = 0; cpu < Math.min(map.attributes.maxEntries, this.party.cpus); cpu++) {
      new DataView(key.buffer).setUint32(0, cpu, true);
      const status = map.update(key, new Uint8Array(4), 0n);
      if (status !== 0) throw elementProblem(map.name, key, status);
    }
  }

  #create(spec: MapSpec): BpfMap {
    const template =
      spec.inner === undefined ? undefined : this.#createOne({ ...spec.inner, name: `${spec.name}.inner` });
    try {
      const map = this.#createOne(spec, template);
      this.#created.push(map);
      return map;
    } finally {
      // As with bpf(2)'s inner_map_fd, the template only lends its attributes.
      template?.close();
    }
  }

  #createOne(spec: MapSpec, innerTemplate?: BpfMap): BpfMap {
    const { name, type, keySize, valueSize, flags, inner, btf } = spec;
    // As libbpf does: an array of perf events without a size has an entry for each CPU.
    const perCpu = type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY && spec.maxEntries === 0;
    const maxEntries = perCpu ? this.party.cpus : spec.maxEntries;
    const { mapBackend } = this.party;
    const attributes = {
      type,
      keySize,
      valueSize,
      maxEntries,
      flags,
      inner,
      ...(btf === undefined ? {} : { btf }),
    };
    const map = mapBackend.create(attributes, { name, innerTemplate });
    if (typeof map !== 'number') return map;
    throw new XdpbedError(
      'map-invalid',
      `${describeMap(name, attributes)} cannot be created by ${mapBackend.name}: ${explainMapRefusal(mapBackend, attributes, map)}`,
      { hint: mapSizeHint(name, attributes, map) },
    );
  }

  #fillProgramArrays(): void {
    for (const spec of this.#closure.maps.values()) {
      if (this.options.maps?.has(spec.name) === true) continue;
      for (const entry of this.#closure.initialEntries(spec)) {
        if ('programName' in entry) placeElement(this.#parts, spec.name, entry);
      }
    }
  }

  #verifierMap(name: string): VerifierMap {
    const map = this.#maps.get(name)!;
    const spec = this.#closure.maps.get(name)!;
    // Asked of the map and not of its initial elements, so that it holds for a map that was given, too.
    const value = spec.frozen === true ? map.lookup(new Uint8Array(spec.keySize)) : undefined;
    return {
      ...map.attributes,
      name,
      ...(value instanceof Uint8Array ? { frozenValue: value } : {}),
    };
  }
}

/** What elements may name. */
type LoadedParts = Pick<LoadedObjectProgram, 'maps' | 'programs'>;

/** Sets an element of a map that is loaded. Throws `map-invalid` when it cannot be set. */
export function placeElement({ maps, programs }: LoadedParts, name: string, entry: MapInitialEntry): void {
  const map = maps.get(name)!;
  const { key } = entry;
  const fail = (why: number | string): never => {
    throw elementProblem(name, key, why);
  };
  if ('mapName' in entry) {
    const inner = maps.get(entry.mapName) ?? fail(notLoaded(`map ${entry.mapName}`));
    const status = map.setInnerMap?.(key, inner) ?? fail('it holds no maps');
    if (status !== 0)
      fail(status === -EINVAL ? `map ${entry.mapName} is not like those that it holds` : status);
    return;
  }
  if ('programName' in entry) {
    const program = programs.get(entry.programName) ?? fail(notLoaded(`program ${entry.programName}`));
    const index = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
    const status = map.setProgram?.(index, program.id) ?? fail('it holds no programs');
    if (status !== 0) fail(status);
    return;
  }
  const value = syscallValue(map.attributes, entry, map.syscallValueSize);
  if (typeof value === 'string') return fail(value);
  const status = map.update(key, value, 0n);
  if (status !== 0) fail(status);
}

function notLoaded(what: string): string {
  return `${what} is not loaded with the program`;
}

/** @param why an errno, negative, or in words */
function elementProblem(mapName: string, key: Uint8Array, why: number | string): XdpbedError {
  const hex = Buffer.from(key).toString('hex');
  const reason = typeof why === 'number' ? errnoName(why) : why;
  return new XdpbedError(
    'map-invalid',
    `map ${mapName}: the element under key ${hex} cannot be set: ${reason}`,
  );
}
