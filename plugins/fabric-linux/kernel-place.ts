import type { LoadedProgram } from '../../src/core/contract/executor.js';
import type { Attachment, HookPlace } from '../../src/core/contract/hook-place.js';
import { emptyVerdictCounts, type VerdictCounts } from '../../src/core/contract/result.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  closeFd,
  isKernelProgram,
  loadKernelProgramAside,
  type KernelLoadedProgram,
  type KernelMapFds,
  VerdictCounters,
} from '../../src/linux/index.js';
import type { Program } from '../../src/bpf/program.js';
import type { Landing } from './landing.js';

/** A program as one hook needs it, and the maps by the handles that it carries. */
export interface Variant {
  readonly program: Program;
  readonly maps: KernelMapFds;
}

/** One of the ways in which packets meet the program of a place. */
export interface Way {
  /** Throws an XdpbedError for a program that cannot be had there, with the reason. */
  variant(program: KernelLoadedProgram, counters: VerdictCounters): Variant;
  readonly landing: Landing;
  /** Asked before a program is put there. Throws an XdpbedError with the reason why none may be. */
  ready?(): Promise<void>;
}

/** A program in its place: its file descriptors and what it counts in, both in the order of the ways. */
interface Attached {
  readonly counters: readonly VerdictCounters[];
  fds: number[];
}

/**
 * A place of the kernel. Its program is loaded once more for each way in which packets meet it, made over for that way
 * and so that it counts its verdicts.
 */
export class KernelPlace implements HookPlace {
  #attached: Attached | undefined;
  #closed = false;

  constructor(
    /** Where it is, for messages: `host.eth0`. */
    readonly node: string,
    readonly ways: readonly Way[],
    /** Throws an XdpbedError for a program that must not run here. */
    readonly admit: (program: KernelLoadedProgram) => void = () => undefined,
  ) {}

  /** What the program that is here returned so far; undefined without one. */
  get verdicts(): VerdictCounts | undefined {
    return this.#attached && sum(this.#attached.counters);
  }

  /** Of these, those that it returned in one of its ways. */
  verdictsOf(way: number): VerdictCounts | undefined {
    return this.#attached?.counters[way]?.read();
  }

  async attach(program: LoadedProgram): Promise<Attachment> {
    for (const way of this.ways) await way.ready?.();
    this.#requireFree();
    const counters: VerdictCounters[] = [];
    const attached: Attached = { counters, fds: [] };
    const put: Landing[] = [];
    try {
      for (const _ of this.ways) counters.push(new VerdictCounters());
      attached.fds = await this.#load(program, counters);
      // What was true before may not be any more: the kernel takes its time.
      this.#requireFree();
      for (const [index, { landing }] of this.ways.entries()) {
        landing.put(attached.fds[index]!);
        put.push(landing);
      }
    } catch (error) {
      for (const landing of put.reverse()) landing.take();
      attached.fds.forEach(closeFd);
      for (const each of counters) each.close();
      throw error;
    }
    this.#attached = attached;
    return {
      replace: (other) => this.#replace(attached, other),
      detach: async () => this.#detach(attached),
      counters: async () => sum(counters),
    };
  }

  /**
   * Has another program of the kernel stand in for the one that is here while `work` is under way, on the first of its
   * ways. Throws where none is here.
   */
  async standIn<T>(programFd: number, work: () => Promise<T>): Promise<T> {
    const attached = this.#attached;
    if (attached === undefined)
      throw new XdpbedError('plugin-failed', `${this.node}: no program is attached`);
    const { landing } = this.ways[0]!;
    landing.replace(programFd);
    try {
      return await work();
    } finally {
      if (this.#attached === attached) landing.replace(attached.fds[0]!);
    }
  }

  #requireOpen(): void {
    if (this.#closed) throw new XdpbedError('interrupted', `${this.node}: the place is closed`);
  }

  #requireFree(): void {
    this.#requireOpen();
    if (this.#attached !== undefined) {
      throw new XdpbedError('plugin-failed', `${this.node}: a program is attached already`);
    }
  }

  /** Takes away what is there; nothing comes any more. */
  close(): void {
    this.#closed = true;
    if (this.#attached !== undefined) this.#detach(this.#attached);
  }

  async #replace(attached: Attached, program: LoadedProgram): Promise<void> {
    const requireThere = (): void => {
      if (this.#attached === attached) return;
      throw new XdpbedError('plugin-failed', `${this.node}: the program to replace is not attached any more`);
    };
    requireThere();
    const fds = await this.#load(program, attached.counters);
    let replaced = 0;
    try {
      requireThere();
      for (const { landing } of this.ways) landing.replace(fds[replaced++]!);
    } catch (error) {
      for (let index = 0; index < replaced - 1; index++)
        this.ways[index]!.landing.replace(attached.fds[index]!);
      fds.forEach(closeFd);
      throw error;
    }
    attached.fds.forEach(closeFd);
    attached.fds = fds;
  }

  #detach(attached: Attached): void {
    if (this.#attached !== attached) return;
    this.#attached = undefined;
    for (const { landing } of [...this.ways].reverse()) landing.take();
    attached.fds.forEach(closeFd);
    for (const counters of attached.counters) counters.close();
  }

  async #load(program: LoadedProgram, counters: readonly VerdictCounters[]): Promise<number[]> {
    if (!isKernelProgram(program)) {
      throw new XdpbedError(
        'plugin-failed',
        `${this.node}: a program of executor ${program.executor} is not in the kernel`,
      );
    }
    this.admit(program);
    const fds: number[] = [];
    try {
      for (const [index, way] of this.ways.entries()) {
        // With the place its hooks' maps are closed as well.
        this.#requireOpen();
        const variant = way.variant(program, counters[index]!);
        const verdict = await loadKernelProgramAside(variant.program, variant.maps);
        if (!verdict.accepted) {
          throw new XdpbedError(
            'program-rejected',
            `${this.node}: the kernel rejects ${program.name} as it was made over for this hook: ${lastLine(verdict.log)}`,
          );
        }
        fds.push(verdict.programFd);
      }
      return fds;
    } catch (error) {
      fds.forEach(closeFd);
      throw error;
    }
  }
}

function sum(counters: readonly VerdictCounters[]): VerdictCounts {
  const all = emptyVerdictCounts();
  for (const each of counters) {
    for (const [verdict, count] of Object.entries(each.read()) as [keyof VerdictCounts, number][]) {
      all[verdict] += count;
    }
  }
  return all;
}

/** Of a verifier's log what the verdict was, before its counts. */
function lastLine(log: string): string {
  const lines = log.trim().split('\n');
  return (
    lines.findLast(
      (line) => !/^(processed|stack depth|verification time|peak_states|max_states)/.test(line),
    ) ?? 'no log'
  );
}
