import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';

/** Where the UDP source port is in a frame of IPv4 without options. */
const SOURCE_PORT = 14 + 20;
const FIRST_PORT = 10_000;
/** Of a uniform frame, the shortest on the wire: its headers, and what of a payload stands there. */
const HEADER_BYTES = 60;
/** Fractions of a nanosecond that the time between two frames is kept in. */
const FRACTIONS = 256;
/** Frames that may be sent at once after a pause in which none could be: as many as the kernel takes in one go. */
const BURST = 64;
/** Nanoseconds of a pause that are made up for, at most. */
const LONGEST_PAUSE = 10_000_000;

/** What a generator sends over and over. */
export type GeneratorTraffic =
  | {
      readonly kind: 'uniform';
      /** A UDP frame over IPv4, from the destination MAC on, of 60 bytes at least. */
      readonly frame: Uint8Array;
      readonly flows: number;
    }
  | {
      readonly kind: 'workload';
      /** From the destination MAC on, sent by turns. */
      readonly frames: readonly Uint8Array[];
      readonly longest: number;
    };

/** Handles of the maps that the program uses. */
export const GENERATOR_MAPS = { counter: 1, devices: 2, state: 3, frames: 4 } as const;

/**
 * `state`: +0 when the next frame is due, in 1/256 ns of bpf_ktime_get_ns · +8 which frame of the workload is next.
 * One thread runs the program, so nothing else writes there.
 */
export const STATE_SIZE = 16;

/** An element of `frames`: +0 bytes of the frame u32 · +4 the frame. */
export function frameElement(frame: Uint8Array, longest: number): Uint8Array {
  const element = new Uint8Array(frameElementSize(longest));
  new DataView(element.buffer).setUint32(0, frame.length, true);
  element.set(frame, 4);
  return element;
}

export function frameElementSize(longest: number): number {
  return 4 + longest;
}

/**
 * Each time that the kernel has an empty frame for it: waits until one is due, where frames are paced; writes what is to
 * be sent; counts it, and sends it out. To wait is to drop the empty frame, which costs a CPU some ten nanoseconds, and is
 * as exact as the kernel's batches: 64 frames go on together.
 *
 * The kernel uses a frame's memory again: what programs on the way wrote into one frame would be in a later one.
 */
export function generatorProgram(traffic: GeneratorTraffic, rate: number | undefined): Program {
  return {
    name: 'generator',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(
      `
        r6 = r1
        *(u32 *)(r10 -4) = 0
        r1 = map[state]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r7 = r0
        ${rate === undefined ? '' : untilDue(rate)}
        ${traffic.kind === 'workload' ? workloadFrame(traffic) : ''}
        *(u32 *)(r10 -4) = 0
        r1 = map[counter]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = *(u64 *)(r0 +0)
        r1 += 1
        *(u64 *)(r0 +0) = r1
        ${traffic.kind === 'uniform' ? uniformFrame(traffic) : ''}
        r1 = map[devices]
        r2 = 0
        r3 = 0
        call bpf_redirect_map
        exit
      out:
        r0 = 1
        exit`,
      { maps: new Map(Object.entries(GENERATOR_MAPS)) },
    ),
  };
}

/** Goes on when a frame is due, and says when the next one is. What could not be sent in time is made up for in part. */
function untilDue(rate: number): string {
  const interval = Math.round((1e9 * FRACTIONS) / rate);
  const slack = Math.min(BURST * interval, LONGEST_PAUSE * FRACTIONS);
  return `
        call bpf_ktime_get_ns
        r0 *= ${FRACTIONS}
        r1 = *(u64 *)(r7 +0)
        if r0 < r1 goto out
        r2 = ${interval}ll
        r1 += r2
        r2 = ${slack}ll
        r0 -= r2
        if r1 >= r0 goto inTime
        r1 = r0
      inTime:
        *(u64 *)(r7 +0) = r1`;
}

/** The headers, with the next source port where there are several flows. r1: how many frames were sent with it. */
function uniformFrame({ frame, flows }: Extract<GeneratorTraffic, { kind: 'uniform' }>): string {
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
  return `
        r2 = *(u32 *)(r6 +0)
        r3 = *(u32 *)(r6 +4)
        r4 = r2
        r4 += ${HEADER_BYTES}
        if r4 > r3 goto out
        ${words.map((word, index) => `*(u32 *)(r2 +${4 * index}) = ${word}`).join('\n')}
        ${ports}`;
}

/** The next frame, as long as it is: the empty one is as long as the longest. */
function workloadFrame({ frames, longest }: Extract<GeneratorTraffic, { kind: 'workload' }>): string {
  return `
        r8 = *(u64 *)(r7 +8)
        *(u32 *)(r10 -4) = r8
        r1 = map[frames]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r9 = r0
        r8 += 1
        if r8 < ${frames.length} goto more
        r8 = 0
      more:
        *(u64 *)(r7 +8) = r8
        r8 = *(u32 *)(r9 +0)
        r1 = r6
        r2 = r8
        r2 -= ${longest}
        call bpf_xdp_adjust_tail
        if r0 != 0 goto out
        if r8 == 0 goto out
        if r8 > ${longest} goto out
        r1 = r6
        r2 = 0
        r3 = r9
        r3 += 4
        r4 = r8
        call bpf_xdp_store_bytes
        if r0 != 0 goto out`;
}
