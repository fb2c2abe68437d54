import { execFileSync } from 'node:child_process';
import { errnoName } from '../bpf/errno.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../bpf/map-spec.js';
import type { Program } from '../bpf/program.js';
import { closeFd, mapLookup, mapNextKey, mapUpdate } from './bpf-syscall.js';
import { createKernelMap, fdValue, kernelValue, kernelValueSize } from './kernel-map.js';
import { loadKernelProgram } from './kernel-program.js';

/** A map of a case, as generators of programs make them. */
export interface KernelCaseMap {
  readonly handle: number;
  readonly name: string;
  readonly attributes: MapAttributes;
  readonly initial: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
}

/** Programs and maps in the kernel for the length of a test; `close` ends them all. */
export class KernelCase {
  /** File descriptors by handle. */
  readonly fds = new Map<number, number>();
  readonly #maps: KernelCaseMap[] = [];
  readonly #owned: number[] = [];

  constructor(maps: readonly KernelCaseMap[] = []) {
    try {
      for (const map of maps) this.addMap(map);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  addMap(map: KernelCaseMap): number {
    const fd = this.#own(createKernelMap({ ...map.attributes, name: map.name }), `map ${map.name}`);
    this.fds.set(map.handle, fd);
    this.#maps.push(map);
    for (const { key, value } of map.initial) {
      const result = mapUpdate(fd, key, kernelValue(map.attributes, value));
      if (result < 0) throw new Error(`update of map ${map.name}: ${errnoName(result)}`);
    }
    return fd;
  }

  /** A loaded program's file descriptor. Throws the kernel's reason. */
  load(program: Program): number {
    const result = this.tryLoad(program);
    if (typeof result === 'string') throw new Error(`the kernel rejects ${program.name}: ${result}`);
    return result;
  }

  /** A loaded program's file descriptor, or why the kernel rejects it. */
  tryLoad(program: Program): number | string {
    const verdict = loadKernelProgram(program, this.fds, { logLevel: 1 });
    if (!verdict.accepted) return reasonIn(verdict.log);
    return this.#own(verdict.programFd, program.name);
  }

  /** Puts a program into a PROG_ARRAY. */
  setProgram(handle: number, index: number, programFd: number): void {
    const result = mapUpdate(this.fds.get(handle)!, u32(index), fdValue(programFd));
    if (result < 0) throw new Error(`program at ${index} of map ${handle}: ${errnoName(result)}`);
  }

  /** What an element holds, of per-CPU maps the sum over CPUs, as one u64. */
  sum(handle: number, index: number): number {
    const { attributes } = this.#maps.find((map) => map.handle === handle)!;
    const value = mapLookup(this.fds.get(handle)!, u32(index), kernelValueSize(attributes));
    if (typeof value === 'number') throw new Error(`element ${index} of map ${handle}: ${errnoName(value)}`);
    const view = new DataView(value.buffer);
    let sum = 0n;
    for (let at = 0; at < value.length; at += 8) sum += view.getBigUint64(at, true);
    return Number(sum);
  }

  /** The content of all maps that the system call shows, a line for each element. */
  mapLines(): string[] {
    return this.#maps.flatMap((map) => mapLines(map, this.fds.get(map.handle)!));
  }

  close(): void {
    for (const fd of this.#owned.splice(0).reverse()) closeFd(fd);
  }

  #own(fd: number, what: string): number {
    if (fd < 0) throw new Error(`${what}: ${errnoName(fd)}`);
    this.#owned.push(fd);
    return fd;
  }
}

/** Maps whose content the system call does not show, or shows in a form of its own. */
const UNLISTED: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF,
  BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_STACK,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
]);

export function isListed({ type }: Pick<MapAttributes, 'type'>): boolean {
  return !UNLISTED.has(type);
}

/**
 * A line for each element of a map, in order; of a per-CPU map the first CPU's value, which is the one that counts after
 * {@link pinToFirstCpu}.
 */
export function mapLines(
  { name, attributes }: Omit<KernelCaseMap, 'handle' | 'initial'>,
  fd: number,
): string[] {
  if (!isListed(attributes)) return [];
  const lines: string[] = [];
  let key: Uint8Array | number | null = null;
  while (typeof (key = mapNextKey(fd, key, attributes.keySize)) !== 'number') {
    const value = mapLookup(fd, key, kernelValueSize(attributes));
    if (typeof value === 'number') continue;
    lines.push(`map ${name}: ${hex(key)}: ${hex(value.slice(0, attributes.valueSize))}`);
  }
  return lines.sort();
}

/** Keeps this process on one CPU, so that per-CPU maps have one value that matters. */
export function pinToFirstCpu(): void {
  execFileSync('taskset', ['-cp', '0', String(process.pid)], { stdio: 'ignore' });
}

/** The line of a verifier's log that says why: the last one that is neither a count nor an insn or a state. */
function reasonIn(log: string): string {
  const lines = log
    .split('\n')
    .filter((line) => line !== '' && !/^(processed|verification time|stack depth)/.test(line));
  return lines.at(-1) ?? 'no reason given';
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
