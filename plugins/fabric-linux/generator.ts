import { EINTR, errnoName } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  BpfThread,
  closeFd,
  CpuCounters,
  loadKernelProgram,
  type NetworkNamespace,
} from '../../src/linux/index.js';
import {
  frameElement,
  frameElementSize,
  GENERATOR_MAPS,
  generatorProgram,
  STATE_SIZE,
  type GeneratorTraffic,
} from './generator-program.js';
import { HookMap, pair } from './landing.js';

/** Frames of one call: so many that its set-up, some 40 ms, is no part of what is measured. */
const REPEAT = 0x7fff_ffff;

export interface GeneratorOptions {
  readonly traffic: GeneratorTraffic;
  /** Frames per second; undefined: as many as can be had. */
  readonly rate: number | undefined;
  /** The device that frames go out by. */
  readonly ifindex: number;
  readonly namespace: NetworkNamespace;
  readonly cpu: number | undefined;
}

/**
 * Frames from the kernel itself (BPF_F_TEST_XDP_LIVE_FRAMES): a program that redirects each to a device, as fast as the
 * other side takes them or as is wanted, counted where they are made. While it runs it takes a CPU, paced or not.
 */
export class Generator {
  #calls: Promise<number> | undefined;
  #stopping = false;

  private constructor(
    readonly thread: BpfThread,
    readonly data: Uint8Array,
    readonly counter: CpuCounters,
    readonly program: number,
    readonly maps: readonly HookMap[],
  ) {}

  static async open(options: GeneratorOptions): Promise<Generator> {
    const { namespace, ifindex, traffic, rate, cpu } = options;
    const maps: HookMap[] = [];
    let counter: CpuCounters | undefined;
    let program = -1;
    try {
      const devices = HookMap.devices('wire', 1, namespace);
      maps.push(devices);
      devices.set(0, pair(ifindex, -1));
      const state = new HookMap({ ...ARRAY, name: 'pace', maxEntries: 1, valueSize: STATE_SIZE });
      maps.push(state);
      counter = new CpuCounters('generated', 1);
      const fds = new Map<number, number>([
        [GENERATOR_MAPS.counter, counter.fd],
        [GENERATOR_MAPS.devices, devices.fd],
        [GENERATOR_MAPS.state, state.fd],
      ]);
      if (traffic.kind === 'workload') {
        const frames = workloadMap(traffic);
        maps.push(frames);
        fds.set(GENERATOR_MAPS.frames, frames.fd);
      }
      const verdict = loadKernelProgram(generatorProgram(traffic, rate), fds);
      if (!verdict.accepted)
        throw new XdpbedError('host-unsupported', `the generator is refused: ${verdict.log}`);
      program = verdict.programFd;
      const thread = await BpfThread.open({ namespace, cpus: cpu === undefined ? undefined : [cpu] });
      const data = traffic.kind === 'uniform' ? traffic.frame : new Uint8Array(traffic.longest);
      return new Generator(thread, data, counter, program, maps);
    } catch (error) {
      for (const map of maps) map.close();
      counter?.close();
      if (program >= 0) closeFd(program);
      throw error;
    }
  }

  start(): void {
    if (this.#calls !== undefined) return;
    this.#stopping = false;
    this.#calls = this.#run();
  }

  /** Resolves when no frame comes any more. Throws `host-unsupported` when none could be made at all. */
  async stop(): Promise<void> {
    if (this.#calls === undefined) return;
    this.#stopping = true;
    await this.thread.interrupt();
    const status = await this.#calls;
    this.#calls = undefined;
    if (status < 0 && status !== -EINTR) {
      throw new XdpbedError('host-unsupported', `the kernel makes no frames: ${errnoName(status)}`, {
        hint: 'it needs BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18 or later',
      });
    }
  }

  /** Frames made so far. */
  get sent(): number {
    return this.counter.read()[0]!;
  }

  async close(): Promise<void> {
    await this.thread.close();
    closeFd(this.program);
    this.counter.close();
    for (const map of this.maps) map.close();
  }

  /** One call after the other: what is not due uses frames up, too, 2^31 of them in some minute. */
  async #run(): Promise<number> {
    for (;;) {
      const status = await this.thread.liveFrames(this.program, { data: this.data, repeat: REPEAT });
      if (status < 0 || this.#stopping) return status;
    }
  }
}

const ARRAY = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY } as const;

function workloadMap({ frames, longest }: Extract<GeneratorTraffic, { kind: 'workload' }>): HookMap {
  const map = new HookMap({
    ...ARRAY,
    name: 'workload',
    maxEntries: frames.length,
    valueSize: frameElementSize(longest),
  });
  try {
    for (const [index, frame] of frames.entries()) map.set(index, frameElement(frame, longest));
    return map;
  } catch (error) {
    map.close();
    throw error;
  }
}
