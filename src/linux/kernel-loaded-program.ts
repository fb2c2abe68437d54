import { XdpbedError } from '../core/diagnostic.js';
import { errnoName } from '../bpf/errno.js';
import { isLddw } from '../bpf/insn.js';
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from '../bpf/opcodes.js';
import type { Program } from '../bpf/program.js';
import type {
  ExecutionEnvironment,
  FrameSlots,
  LoadedProgram,
  ProgramFault,
  RunOutcome,
} from '../core/contract/executor.js';
import type { ProgramFacts, ProgramProperties } from '../core/contract/verifier.js';
import { closeFd, progInfo } from './bpf-syscall.js';
import { onCpu } from './cpu-affinity.js';
import { isKernelMap, type KernelBpfMap } from './kernel-bpf-map.js';
import { KernelFrames } from './kernel-frames.js';
import {
  loadKernelProgram,
  loadKernelProgramAside,
  type KernelMapFds,
  type KernelProgramOptions,
  type KernelVerdict,
} from './kernel-program.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';
import { forgetProgram, registerProgram } from './program-registry.js';

export interface KernelLoadOptions extends Pick<KernelProgramOptions, 'perfmon'> {
  /** Asked before each run, on which CPU it is to take place; default: whatever the thread is on. */
  readonly cpu?: (() => number) | undefined;
  /** Where the devices are that a frame's ingress_ifindex names; default: where the calling thread is. */
  readonly namespace?: NetworkNamespace | undefined;
  /** Called once, when it is closed. */
  readonly onClose?: (() => void) | undefined;
}

/**
 * A program in the kernel, with all that it takes to load it again, changed or for another hook: the program with its
 * handles, the maps behind them, what the verifier learnt. It owns its file descriptors, those of the maps included,
 * which are its own copies: they stay good when whoever made the maps closes them.
 */
export class KernelLoadedProgram implements LoadedProgram {
  readonly executor = 'kernel';
  readonly lastFault: ProgramFault | undefined = undefined;
  #programFd: number;
  readonly #mapFds: Map<number, number>;

  /**
   * BPF_PROG_LOAD. Throws `executor-unsupported` for a program that the kernel rejects, with the end of its log, or
   * whose maps are not the kernel's; `host-unsupported` when this process may not load programs.
   */
  static load(
    program: Program,
    environment: ExecutionEnvironment,
    options: KernelLoadOptions = {},
  ): KernelLoadedProgram {
    const maps = mapsToLoad(program, environment);
    const fds = duplicates(program, maps);
    try {
      const verdict = loadKernelProgram(program, fds, { perfmon: options.perfmon });
      return KernelLoadedProgram.#of(verdict, program, environment, maps, fds, options);
    } catch (error) {
      for (const fd of fds.values()) closeFd(fd);
      throw error;
    }
  }

  /** As {@link load}, and the event loop goes on meanwhile (`loadKernelProgramAside`). */
  static async loadAside(
    program: Program,
    environment: ExecutionEnvironment,
    options: KernelLoadOptions = {},
  ): Promise<KernelLoadedProgram> {
    const maps = mapsToLoad(program, environment);
    const fds = duplicates(program, maps);
    try {
      const verdict = await loadKernelProgramAside(program, fds, { perfmon: options.perfmon });
      return KernelLoadedProgram.#of(verdict, program, environment, maps, fds, options);
    } catch (error) {
      for (const fd of fds.values()) closeFd(fd);
      throw error;
    }
  }

  static #of(
    verdict: KernelVerdict,
    program: Program,
    { facts, properties }: ExecutionEnvironment,
    maps: ReadonlyMap<number, KernelBpfMap>,
    fds: Map<number, number>,
    options: KernelLoadOptions,
  ): KernelLoadedProgram {
    if (!verdict.accepted) throw rejected(program, verdict.errno, verdict.log);
    const { programFd } = verdict;
    const info = progInfo(programFd);
    if (typeof info === 'number') {
      closeFd(programFd);
      throw unsupported(program, `it cannot be found: ${errnoName(info)}`);
    }
    return new KernelLoadedProgram(program, programFd, info.id, maps, fds, facts, properties, options);
  }

  private constructor(
    readonly program: Program,
    programFd: number,
    /** The kernel's id of it. */
    readonly id: number,
    /** By handle: those that the program's insns name. */
    readonly maps: ReadonlyMap<number, KernelBpfMap>,
    mapFds: Map<number, number>,
    readonly facts: ProgramFacts | undefined,
    readonly properties: ProgramProperties | undefined,
    readonly options: KernelLoadOptions,
  ) {
    this.#programFd = programFd;
    this.#mapFds = mapFds;
    registerProgram(id, programFd);
  }

  get name(): string {
    return this.program.name;
  }

  /** -1 once it is closed. */
  get programFd(): number {
    return this.#programFd;
  }

  /** File descriptors of {@link maps}, by handle; none once it is closed. */
  get mapFds(): KernelMapFds {
    return this.#mapFds;
  }

  openFrames(slots: number, longest?: number): KernelFrames {
    return new KernelFrames(slots, this.program.frags === true, longest);
  }

  /**
   * BPF_PROG_TEST_RUN. Throws `executor-unsupported` for a program of a devmap or cpumap, which the kernel runs on real
   * frames only, and `packet-invalid` for a frame that it does not take.
   */
  run(frames: FrameSlots, slot: number): RunOutcome {
    const own = this.#ownFrames(frames);
    return { verdict: this.#inPlace(() => own.run(this.#programFd, slot)) };
  }

  /** A test run tells of no faults: what the kernel has verified makes none. Always 0. */
  runBatch(frames: FrameSlots, first: number, count: number): number {
    const own = this.#ownFrames(frames);
    this.#inPlace(() => {
      for (let index = 0; index < count; index++) own.run(this.#programFd, (first + index) % own.slots);
    });
    return 0;
  }

  /** The kernel keeps the program for as long as a link or a map has it. */
  close(): void {
    if (this.#programFd < 0) return;
    forgetProgram(this.id, this.#programFd);
    closeFd(this.#programFd);
    this.#programFd = -1;
    for (const fd of this.#mapFds.values()) closeFd(fd);
    this.#mapFds.clear();
    this.options.onClose?.();
  }

  #ownFrames(frames: FrameSlots): KernelFrames {
    if (!(frames instanceof KernelFrames)) {
      throw new XdpbedError(
        'executor-unsupported',
        `program ${this.name} runs on frames of its own party only`,
      );
    }
    if (this.program.attachType !== 'BPF_XDP') {
      throw unsupported(this.program, `the kernel runs programs of ${this.program.attachType} in maps only`);
    }
    return frames;
  }

  #inPlace<T>(work: () => T): T {
    const { cpu, namespace } = this.options;
    const there = namespace === undefined ? work : () => namespace.run(work);
    return cpu === undefined ? there() : onCpu(cpu(), there);
  }
}

export function isKernelProgram(loaded: LoadedProgram): loaded is KernelLoadedProgram {
  return loaded instanceof KernelLoadedProgram;
}

function unsupported(program: Program, reason: string, insn?: number): XdpbedError {
  return new XdpbedError(
    'executor-unsupported',
    `program ${program.name} cannot run in the kernel: ${reason}`,
    insn === undefined ? {} : { at: { insn } },
  );
}

function mapsToLoad(program: Program, environment: ExecutionEnvironment): Map<number, KernelBpfMap> {
  if ((environment.helperOverrides?.size ?? 0) > 0) throw unsupported(program, 'its helpers are its own');
  if (environment.programId !== undefined) throw unsupported(program, 'it gives programs ids of its own');
  return kernelMaps(program, environment);
}

/** File descriptors of the maps that are the caller's to close; on a throw there are none. */
function duplicates(program: Program, maps: ReadonlyMap<number, KernelBpfMap>): Map<number, number> {
  const fds = new Map<number, number>();
  for (const [handle, map] of maps) {
    const fd = libc().duplicate(map.fd);
    if (fd < 0) {
      for (const each of fds.values()) closeFd(each);
      throw unsupported(program, `map ${map.name} is closed (${errnoName(fd)})`);
    }
    fds.set(handle, fd);
  }
  return fds;
}

/** The maps that the program's insns name, by handle. */
function kernelMaps(program: Program, environment: ExecutionEnvironment): Map<number, KernelBpfMap> {
  const maps = new Map<number, KernelBpfMap>();
  const { insns } = program;
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (!isLddw(insn)) continue;
    if (insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE) {
      const map = environment.maps.get(insn.imm);
      if (map === undefined) throw unsupported(program, `insn ${slot}: there is no map ${insn.imm}`, slot);
      if (!isKernelMap(map)) {
        throw new XdpbedError(
          'executor-unsupported',
          `program ${program.name} cannot run in the kernel: insn ${slot}: map ${map.name} is not in the kernel`,
          { at: { insn: slot }, hint: 'use map backend kernel with it' },
        );
      }
      maps.set(insn.imm, map);
    }
    slot++;
  }
  return maps;
}

function rejected(program: Program, errno: number, log: string): XdpbedError {
  // Before the counts that every log ends with.
  const lines = log
    .trimEnd()
    .split('\n')
    .filter((line) => !/^(processed |stack depth |verification time |$)/.test(line));
  const insn = lines.findLast((line) => LOG_INSN.test(line));
  const slot = insn === undefined ? undefined : Number(LOG_INSN.exec(insn)![1]);
  const where = slot === undefined ? '' : ` at insn ${slot}`;
  const message = lines.at(-1) === undefined ? '' : `, ${lines.at(-1)}`;
  const before = lines.slice(-LOG_LINES, -1).map((line) => `\n  ${line}`);
  return unsupported(
    program,
    `it is rejected${where}: ${errnoName(errno)}${message}${before.join('')}`,
    slot,
  );
}

/** The message and the insns before it. */
const LOG_LINES = 4;
/** `12: (85) call bpf_map_lookup_elem#1 ; R0=…` */
const LOG_INSN = /^(\d+): \([0-9a-f]{2}\) /;
