import { BpfAttr } from './bpf-attr.js';
import { BPF_ATTR, BPF_CMD } from './bpf-layout.js';

export interface ProgramTestRun {
  readonly data: Uint8Array;
  /** `struct xdp_md` as the run starts with; see {@link progTestRun}. */
  readonly context?: Uint8Array | undefined;
  /** Bytes that the packet may have grown to. */
  readonly outputSize?: number | undefined;
  /** How often the program runs on the same packet, which is not restored in between; 0 and 1: once. */
  readonly repeat?: number | undefined;
}

export interface ProgramTestResult {
  /** R0's lower 32 bits after the last run. */
  readonly retval: number;
  /** Nanoseconds of one run on average, the kernel's own loop included (some 29 ns). */
  readonly duration: number;
  /** From data_meta to data_end. */
  readonly data: Uint8Array;
  /** As long as `context` was. */
  readonly context: Uint8Array;
}

/** A live-frames run: what {@link progLiveFrames} takes. */
export interface LiveFramesRun {
  /** From data_meta to data_end of each frame. */
  readonly data: Uint8Array;
  /** `struct xdp_md`: `ingress_ifindex` names the device that the frames seem to come from, `rx_queue_index` a queue. */
  readonly context?: Uint8Array | undefined;
  /** Frames. */
  readonly repeat: number;
  /** Frames that are run before any of them is sent on, 256 at most; left out: 64. */
  readonly batchSize?: number | undefined;
}

/** `flags` of a test run: frames go where the verdict says, as from a driver. */
export const BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1;

/** A call to be made, here or in another thread, and what its answer means. */
export interface PreparedTestRun<Result> {
  readonly attr: BpfAttr;
  /** To be asked for once the call has returned `status`. */
  readonly result: (status: number) => Result | number;
}

const TEST = BPF_ATTR.test;

/**
 * BPF_PROG_TEST_RUN of a program: the result, or `-errno`. Of an XDP program, EINVAL: fewer than 14 bytes, a context
 * that does not fit the data, or a program for a devmap or cpumap, which the kernel does not run so. ENOSPC: the packet
 * outgrew `outputSize`.
 * In the context, `data` is the length of the metadata that `data` begins with, `data_end` the length of `data`,
 * `ingress_ifindex` a device of the calling thread's network namespace (0: as the loopback device), and the rest 0,
 * before and after.
 */
export function progTestRun(fd: number, run: ProgramTestRun): ProgramTestResult | number {
  let prepared = prepareTestRun(fd, run);
  let status = prepared.attr.call(BPF_CMD.BPF_PROG_TEST_RUN);
  for (let attempt = 1; status === -EINTR && attempt < RETRIES; attempt++) {
    prepared = prepareTestRun(fd, run);
    status = prepared.attr.call(BPF_CMD.BPF_PROG_TEST_RUN);
  }
  return prepared.result(status);
}

/** How often a run is tried again that a signal interrupted: its results are those of a run as a whole. */
const RETRIES = 5;
const EINTR = 4;

export function prepareTestRun(fd: number, run: ProgramTestRun): PreparedTestRun<ProgramTestResult> {
  const output = new Uint8Array(run.outputSize ?? run.data.length);
  const context = run.context ?? null;
  const contextOutput = new Uint8Array(context?.length ?? 0);
  const attr = new BpfAttr()
    .u32(TEST.prog_fd, fd)
    .u32(TEST.data_size_in, run.data.length)
    .u32(TEST.data_size_out, output.length)
    .pointer(TEST.data_in, run.data)
    .pointer(TEST.data_out, output)
    .u32(TEST.repeat, run.repeat ?? 1)
    .u32(TEST.ctx_size_in, contextOutput.length)
    .u32(TEST.ctx_size_out, contextOutput.length)
    .pointer(TEST.ctx_in, context)
    .pointer(TEST.ctx_out, contextOutput);
  const result = (status: number): ProgramTestResult | number =>
    status < 0
      ? status
      : {
          retval: attr.read32(TEST.retval),
          duration: attr.read32(TEST.duration),
          data: output.subarray(0, attr.read32(TEST.data_size_out)),
          context: contextOutput,
        };
  return { attr, result };
}

/**
 * BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES: `repeat` frames from one, each run through the program and sent
 * where its verdict says: XDP_TX out of the device, XDP_REDIRECT through it, XDP_PASS up its stack. 0, or `-errno`.
 * EINTR: a signal came, and the frames until then are gone: how many, only the program's own maps tell. So it is not
 * tried again.
 * Takes as long as the frames take, and some 40 ms to set up and tear down: long runs belong in a `BpfThread`.
 * Frames come from pages that are used again: what a program wrote into one, the next may find there.
 */
export function progLiveFrames(fd: number, run: LiveFramesRun): number {
  const { attr, result } = prepareLiveFrames(fd, run);
  return result(attr.call(BPF_CMD.BPF_PROG_TEST_RUN));
}

export function prepareLiveFrames(fd: number, run: LiveFramesRun): PreparedTestRun<number> {
  const context = run.context ?? null;
  const attr = new BpfAttr()
    .u32(TEST.prog_fd, fd)
    .u32(TEST.data_size_in, run.data.length)
    .pointer(TEST.data_in, run.data)
    .u32(TEST.repeat, run.repeat)
    .u32(TEST.ctx_size_in, context?.length ?? 0)
    .pointer(TEST.ctx_in, context)
    .u32(TEST.flags, BPF_F_TEST_XDP_LIVE_FRAMES)
    .u32(TEST.batch_size, run.batchSize ?? 0);
  return { attr, result: (status) => (status < 0 ? status : 0) };
}
