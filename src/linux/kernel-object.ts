import { XdpbedError } from '../core/diagnostic.js';
import { requiredMaps } from '../bpf/elf/object-closure.js';
import { errnoName, EPERM } from '../bpf/errno.js';
import type { ObjectSpec } from '../bpf/elf/object-spec.js';
import { linkProgram } from '../bpf/link.js';
import type { MapInitialEntry, MapSpec } from '../bpf/map-spec.js';
import { syscallValue } from '../bpf/per-cpu-value.js';
import type { Program, ProgramSpec } from '../bpf/program.js';
import { closeFd, mapFreeze, mapUpdate } from './bpf-syscall.js';
import { createKernelMap, fdValue, kernelValueSize, mapCreationProblem } from './kernel-map.js';
import {
  loadKernelProgram,
  type KernelMapFds,
  type KernelProgramOptions,
  type KernelVerdict,
} from './kernel-program.js';

export interface KernelObjectOptions extends KernelProgramOptions {
  /** Elements to place in maps after those of the object, by map name. */
  readonly initial?: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
  /** Maps that are there already, by name: used as they are, and left open. */
  readonly maps?: ReadonlyMap<string, number> | undefined;
}

/** A program in the kernel with everything that it needs. Nothing is pinned: closing is the end of it. */
export interface KernelObject {
  readonly accepted: true;
  readonly programFd: number;
  /** As it was linked, with handles. */
  readonly program: Program;
  /** File descriptor by the handle that {@link program} carries. */
  readonly handles: KernelMapFds;
  /** File descriptor by name of every map that the program, or one it tail-calls, refers to. */
  readonly maps: ReadonlyMap<string, number>;
  /** What the verifier said of the program. */
  readonly log: string;
  /** Closes every file descriptor made here. The second and later calls do nothing. */
  close(): void;
}

/** The kernel's no, and to which program: the one that was asked for, or one in its PROG_ARRAY maps. */
export type KernelObjectRejection = Extract<KernelVerdict, { accepted: false }> & {
  readonly programName: string;
};

/**
 * Brings a program of an object up in the kernel as libbpf does: creates the maps it refers to (those in its maps
 * of maps and of the programs it tail-calls included), places their initial elements, freezes `.rodata`, loads the
 * programs, and puts the tail-called ones into their PROG_ARRAY maps.
 *
 * A rejection is a value, and nothing is left of the attempt. Throws, after the same clean-up: `map-invalid` for a
 * map or an element that the kernel does not take, `object-unsupported` and `object-invalid` for what the object is
 * at fault for, `host-unsupported` without the right to load programs.
 */
export function loadKernelObject(
  object: Pick<ObjectSpec, 'maps' | 'programs'>,
  program: ProgramSpec,
  options: KernelObjectOptions = {},
): KernelObject | KernelObjectRejection {
  const owned: number[] = [];
  const close = (): void => {
    for (const fd of owned.splice(0).reverse()) closeFd(fd);
  };
  try {
    const result = bringUp(object, program, options, owned);
    if (!result.accepted) {
      close();
      return result;
    }
    return { ...result, close };
  } catch (error) {
    close();
    throw error;
  }
}

function bringUp(
  object: Pick<ObjectSpec, 'maps' | 'programs'>,
  main: ProgramSpec,
  options: KernelObjectOptions,
  owned: number[],
): Omit<KernelObject, 'close'> | KernelObjectRejection {
  const specs = requiredMaps(object, main, options.initial);
  const elementsOf = (spec: MapSpec): readonly MapInitialEntry[] => [
    ...spec.initial,
    ...(options.initial?.get(spec.name) ?? []),
  ];
  const maps = new Map<string, number>();
  for (const spec of specs) {
    const given = options.maps?.get(spec.name);
    if (given !== undefined) {
      maps.set(spec.name, given);
      continue;
    }
    const fd = createKernelMap(spec);
    if (fd < 0) throw mapProblem(mapCreationProblem(spec, fd), fd);
    owned.push(fd);
    maps.set(spec.name, fd);
    for (const entry of elementsOf(spec)) {
      if (!('programName' in entry)) placeElement(spec, fd, entry, maps);
    }
    if (spec.frozen === true) {
      const status = mapFreeze(fd);
      if (status < 0) throw mapProblem(`map ${spec.name} cannot be frozen: ${errnoName(status)}`, status);
    }
  }

  const names = [...maps.keys()];
  const numbers = new Map(names.map((name, index) => [name, index + 1]));
  const handles: KernelMapFds = new Map(names.map((name, index) => [index + 1, maps.get(name)!]));
  const loaded = new Map<string, number>();
  const load = (spec: ProgramSpec): { program: Program; verdict: KernelVerdict } => {
    const program = linkProgram(spec, numbers);
    const verdict = loadKernelProgram(program, handles, options);
    if (verdict.accepted) {
      owned.push(verdict.programFd);
      loaded.set(spec.name, verdict.programFd);
    }
    return { program, verdict };
  };

  const { program, verdict } = load(main);
  if (!verdict.accepted) return { ...verdict, programName: main.name };
  for (const spec of specs) {
    if (options.maps?.has(spec.name) === true) continue;
    for (const entry of elementsOf(spec)) {
      if (!('programName' in entry)) continue;
      if (!loaded.has(entry.programName)) {
        // requiredMaps has found it before.
        const callee = object.programs.find(({ name }) => name === entry.programName)!;
        const other = load(callee).verdict;
        if (!other.accepted) return { ...other, programName: callee.name };
      }
      update(spec, maps.get(spec.name)!, entry.key, fdValue(loaded.get(entry.programName)!));
    }
  }
  return { accepted: true, programFd: verdict.programFd, program, handles, maps, log: verdict.log };
}

function placeElement(
  spec: MapSpec,
  fd: number,
  entry: Exclude<MapInitialEntry, { programName: string }>,
  maps: ReadonlyMap<string, number>,
): void {
  // An inner map comes before the map that holds it.
  if ('mapName' in entry) return update(spec, fd, entry.key, fdValue(maps.get(entry.mapName)!));
  const value = syscallValue(spec, entry, kernelValueSize(spec));
  if (typeof value === 'string') throw new XdpbedError('map-invalid', `map ${spec.name}: ${value}`);
  // The kernel reads as much as the map says, whatever there is.
  if (entry.key.length !== spec.keySize || value.length !== kernelValueSize(spec)) {
    throw new XdpbedError(
      'map-invalid',
      `map ${spec.name}: an element of ${entry.key.length} + ${value.length} bytes, where ${spec.keySize} + ${spec.valueSize} are needed`,
    );
  }
  update(spec, fd, entry.key, value);
}

function update(spec: MapSpec, fd: number, key: Uint8Array, value: Uint8Array): void {
  const status = mapUpdate(fd, key, value);
  if (status === 0) return;
  const hex = Buffer.from(key).toString('hex');
  throw mapProblem(
    `map ${spec.name}: the element under key ${hex} cannot be set: ${errnoName(status)}`,
    status,
  );
}

function mapProblem(message: string, errno: number): XdpbedError {
  return new XdpbedError(errno === -EPERM ? 'host-unsupported' : 'map-invalid', message);
}
