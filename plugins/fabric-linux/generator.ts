import { assemble } from '../../src/bpf/assembler.js';
import { EINTR, errnoName } from '../../src/bpf/errno.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  BpfThread,
  closeFd,
  CpuCounters,
  loadKernelProgram,
  type NetworkNamespace,
} from '../../src/linux/index.js';
import { HookMap, pair } from './landing.js';

/** Frames of one call: so many that its set-up, some 40 ms, is no part of what is measured. */
const REPEAT = 0x7fff_ffff;
/** Where the UDP source port is in a frame of IPv4 without options. */
const SOURCE_PORT = 14 + 20;
const FIRST_PORT = 10_000;
/** Of a frame, the shortest on the wire: its headers, and what of a payload stands there. */
const HEADER_BYTES = 60;

export interface GeneratorOptions {
  /** A UDP frame over IPv4, from the destination MAC on, of 60 bytes at least. */
  readonly frame: Uint8Array;
  readonly flows: number;
  /** The device that frames go out by. */
  readonly ifindex: number;
  readonly namespace: NetworkNamespace;
  readonly cpu: number | undefined;
}

/**
 * Frames from the kernel itself (BPF_F_TEST_XDP_LIVE_FRAMES): a program that redirects each to a device, as fast as the
 * other side takes them, counted where they are made.
 */
export class Generator {
  #running: Promise<number> | undefined;

  private constructor(
    readonly options: GeneratorOptions,
    readonly thread: BpfThread,
    readonly devices: HookMap,
    readonly counter: CpuCounters,
    readonly program: number,
  ) {}

  static async open(options: GeneratorOptions): Promise<Generator> {
    const { namespace, ifindex, flows, cpu } = options;
    const devices = HookMap.devices('wire', 1, namespace);
    let counter: CpuCounters | undefined;
    let program = -1;
    try {
      devices.set(0, pair(ifindex, -1));
      counter = new CpuCounters('generated', 1);
      const verdict = loadKernelProgram(
        generatorProgram(options.frame, flows),
        new Map([
          [1, counter.fd],
          [2, devices.fd],
        ]),
      );
      if (!verdict.accepted)
        throw new XdpbedError('host-unsupported', `the generator is refused: ${verdict.log}`);
      program = verdict.programFd;
      const thread = await BpfThread.open({ namespace, cpus: cpu === undefined ? undefined : [cpu] });
      return new Generator(options, thread, devices, counter, program);
    } catch (error) {
      devices.close();
      counter?.close();
      if (program >= 0) closeFd(program);
      throw error;
    }
  }

  start(): void {
    this.#running ??= this.thread.liveFrames(this.program, { data: this.options.frame, repeat: REPEAT });
  }

  /** Resolves when no frame comes any more. Throws `host-unsupported` when none could be made at all. */
  async stop(): Promise<void> {
    if (this.#running === undefined) return;
    await this.thread.interrupt();
    const status = await this.#running;
    this.#running = undefined;
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
    this.devices.close();
  }
}

/**
 * Counts the frame, writes its headers, gives it the next source port where there are several flows, and sends it out.
 * The kernel uses the frame's memory again: what programs on the way wrote into one frame would be in a later one.
 */
function generatorProgram(frame: Uint8Array, flows: number): Program {
  const template = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const words = Array.from({ length: HEADER_BYTES / 4 }, (_, index) => template.getInt32(4 * index, true));
  const ports =
    flows === 1
      ? ''
      : `
        r5 = r1
        r5 %= ${flows}
        r5 += ${FIRST_PORT}
        r5 = be16 r5
        *(u16 *)(r2 +${SOURCE_PORT}) = r5`;
  return {
    name: 'generator',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(
      `
        r6 = r1
        *(u32 *)(r10 -4) = 0
        r1 = map[counter]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = *(u64 *)(r0 +0)
        r1 += 1
        *(u64 *)(r0 +0) = r1
        r2 = *(u32 *)(r6 +0)
        r3 = *(u32 *)(r6 +4)
        r4 = r2
        r4 += ${HEADER_BYTES}
        if r4 > r3 goto out
        ${words.map((word, index) => `*(u32 *)(r2 +${4 * index}) = ${word}`).join('\n')}
        ${ports}
        r1 = map[devices]
        r2 = 0
        r3 = 0
        call bpf_redirect_map
        exit
      out:
        r0 = 1
        exit`,
      {
        maps: new Map([
          ['counter', 1],
          ['devices', 2],
        ]),
      },
    ),
  };
}
