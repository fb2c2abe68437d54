import { readdirSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import {
  allIds,
  closeFd,
  fdById,
  programMaps,
  readLedgers,
  type BpfObjectKind,
} from '../../src/linux/index.js';

/** What there is on a machine of the kinds that a run makes. */
export interface MachineState {
  readonly namespaces: ReadonlySet<string>;
  /** Names of interfaces in this process's own network namespace. */
  readonly interfaces: ReadonlySet<string>;
  /** `program 12`, `map 3`, `link 7`. */
  readonly objects: ReadonlySet<string>;
}

const KINDS: readonly BpfObjectKind[] = ['program', 'map', 'link'];

export function machineState(): MachineState {
  const objects = new Set<string>();
  for (const kind of KINDS) {
    const ids = allIds(kind);
    if (typeof ids === 'number') throw new Error(`ids of kind ${kind} cannot be listed: ${ids}`);
    for (const id of ids) objects.add(`${kind} ${id}`);
  }
  return { namespaces: new Set(namesIn('/run/netns')), interfaces: ownInterfaces(), objects };
}

/**
 * What is there that was not before, and is nobody's: a machine is shared, so that objects of BPF of which a living
 * process has a file descriptor are passed over, and namespaces other than those of `runs`.
 */
export function leftBehind(before: MachineState, runs: ReadonlySet<string>): string[] {
  const now = machineState();
  const owned = objectsOfProcesses();
  const namespaces = [...now.namespaces].filter(
    (name) => !before.namespaces.has(name) && runs.has(/^xdpbed-(xb[0-9a-f]{8})-/.exec(name)?.[1] ?? ''),
  );
  return [
    ...namespaces.map((name) => `netns ${name}`),
    ...[...now.interfaces].filter((name) => !before.interfaces.has(name)).map((name) => `interface ${name}`),
    ...[...now.objects].filter((object) => !before.objects.has(object) && !owned.has(object)),
  ];
}

/** Ids of processes, zombies not among them, whose environment holds a text. */
export function processesWith(text: string): number[] {
  return processIds().filter((pid) => {
    if (pid === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(text);
    } catch {
      return false;
    }
  });
}

/** Files and folders that a folder of ledgers holds, what belongs to living runs included. */
export function ledgerFiles(folder: string): string[] {
  return namesIn(folder);
}

/** Names of runs of which ledgers tell now. */
export function runsIn(folder: string): string[] {
  return readLedgers(folder).map(({ run }) => run);
}

/** Objects that file descriptors of living processes stand for, as proc(5), fdinfo, names them, and the maps of programs. */
function objectsOfProcesses(): Set<string> {
  const objects = new Set<string>();
  for (const pid of processIds()) {
    for (const fd of namesIn(`/proc/${pid}/fdinfo`)) {
      let info: string;
      try {
        info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1');
      } catch {
        continue;
      }
      for (const [, name, id] of info.matchAll(/^(prog|map|link)_id:\s*(\d+)$/gm)) {
        objects.add(`${name === 'prog' ? 'program' : name} ${id}`);
      }
    }
  }
  for (const object of [...objects]) {
    const [kind, id] = object.split(' ');
    if (kind === 'program') for (const map of mapsOf(Number(id))) objects.add(`map ${map}`);
  }
  return objects;
}

/** None of a program that is gone meanwhile. */
function mapsOf(program: number): number[] {
  const fd = fdById('program', program);
  if (fd < 0) return [];
  try {
    const maps = programMaps(fd);
    return typeof maps === 'number' ? [] : maps;
  } finally {
    closeFd(fd);
  }
}

function processIds(): number[] {
  return namesIn('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid));
}

function ownInterfaces(): Set<string> {
  // Also those that are down and have no address.
  const names = namesIn('/sys/class/net');
  return new Set(names.length > 0 ? names : Object.keys(networkInterfaces()));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
