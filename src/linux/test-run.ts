import { XdpbedError } from '../core/diagnostic.js';
import { EINVAL, ENODEV, ENOMEM, errnoName } from '../bpf/errno.js';
import type { Program } from '../bpf/program.js';
import { XDP_MD, XDP_MD_SIZE } from '../bpf/xdp.js';
import { closeFd, progTestRun } from './bpf-syscall.js';
import { loadKernelProgram, type KernelMapFds, type KernelProgramOptions } from './kernel-program.js';

/** What {@link testRunXdp} gives a program. */
export interface KernelFrame {
  /**
   * 14 to 73152 bytes. More than the 3520 that a page holds beside head- and tailroom make a multi-buffer frame; the
   * kernel gives one here even to a program without BPF_F_XDP_HAS_FRAGS, which no driver would do.
   */
  readonly packet: Uint8Array;
  /** Bytes in front of the packet, from data_meta on: a multiple of 4, at most 255. */
  readonly meta?: Uint8Array | undefined;
  /**
   * A device of the calling thread's network namespace, and one of its receive queues: what the program sees. 0: the
   * loopback device, 1, and queue 0.
   */
  readonly ingressIfindex?: number | undefined;
  readonly rxQueueIndex?: number | undefined;
}

/** What one run left behind. */
export interface KernelRun {
  /** R0's lower 32 bits. */
  readonly verdict: number;
  /** From data to data_end. */
  readonly packet: Uint8Array;
  /** From data_meta to data; empty unless there was some, or the program made some. */
  readonly meta: Uint8Array;
}

export type KernelRuns =
  | { readonly accepted: true; readonly runs: readonly KernelRun[] }
  | { readonly accepted: false; readonly errno: number; readonly log: string };

/**
 * The kernel as an oracle: loads a program, runs it on each frame in order, unloads it. Maps are the caller's, who
 * can fill them before and read them after. Verdict and packet are the kernel's own; side effects are not carried
 * out (nothing is redirected).
 *
 * What the kernel sets differently from a real device: headroom is 256 bytes less the metadata.
 * Throws `packet-invalid` for a frame that the kernel does not take.
 */
export function runInKernel(
  program: Program,
  maps: KernelMapFds,
  frames: readonly KernelFrame[],
  options: KernelProgramOptions = {},
): KernelRuns {
  const verdict = loadKernelProgram(program, maps, options);
  if (!verdict.accepted) return { accepted: false, errno: verdict.errno, log: verdict.log };
  try {
    return { accepted: true, runs: frames.map((frame) => testRunXdp(verdict.programFd, frame)) };
  } finally {
    closeFd(verdict.programFd);
  }
}

/** One run of a loaded program. Throws `packet-invalid` for a frame that the kernel does not take. */
export function testRunXdp(programFd: number, frame: KernelFrame): KernelRun {
  const meta = frame.meta ?? new Uint8Array(0);
  const data = new Uint8Array(meta.length + frame.packet.length);
  data.set(meta);
  data.set(frame.packet, meta.length);
  const context = new Uint8Array(XDP_MD_SIZE);
  const fields = new DataView(context.buffer);
  fields.setUint32(XDP_MD.data, meta.length, true);
  fields.setUint32(XDP_MD.data_end, data.length, true);
  fields.setUint32(XDP_MD.ingress_ifindex, frame.ingressIfindex ?? 0, true);
  fields.setUint32(XDP_MD.rx_queue_index, frame.rxQueueIndex ?? 0, true);
  const result = progTestRun(programFd, { data, context, outputSize: data.length + GROWTH });
  if (typeof result === 'number') throw refusal(frame, meta.length, result);
  const after = new DataView(result.context.buffer);
  const metaLength = after.getUint32(XDP_MD.data, true);
  return {
    verdict: result.retval,
    meta: result.data.slice(0, metaLength),
    packet: result.data.slice(metaLength),
  };
}

/** What one run of a program for skbs left behind. */
export interface KernelSkbRun {
  /** What the program returned, e.g. TCX_NEXT (-1). */
  readonly action: number;
  /** From the MAC header on. */
  readonly packet: Uint8Array;
}

/**
 * One run of a loaded SCHED_CLS program on an skb with the packet in one piece, as on egress of a device. The kernel
 * redirects nothing here either. Throws `packet-invalid` for a packet that it does not take: of fewer than 14 bytes, of
 * more than some 3500, or, on newer kernels, with the EtherType of IP and no whole IP header.
 */
export function testRunSkb(programFd: number, packet: Uint8Array): KernelSkbRun {
  const result = progTestRun(programFd, { data: packet, outputSize: packet.length + GROWTH });
  if (typeof result === 'number') {
    throw new XdpbedError(
      'packet-invalid',
      `BPF_PROG_TEST_RUN refused an skb of ${packet.length} bytes: ${errnoName(result)}`,
    );
  }
  return { action: result.retval | 0, packet: result.data.slice() };
}

function refusal(frame: KernelFrame, metaLength: number, errno: number): XdpbedError {
  const { packet, ingressIfindex = 0, rxQueueIndex = 0 } = frame;
  if (errno === -ENODEV || (errno === -EINVAL && (ingressIfindex !== 0 || rxQueueIndex !== 0))) {
    return new XdpbedError(
      'packet-invalid',
      `BPF_PROG_TEST_RUN refused a frame from queue ${rxQueueIndex} of ifindex ${ingressIfindex}: ${errnoName(errno)}`,
      { hint: 'the device has to be there, with that many receive queues; ifindex 1 is always there' },
    );
  }
  return new XdpbedError(
    'packet-invalid',
    `BPF_PROG_TEST_RUN refused a frame of ${packet.length} bytes with ${metaLength} bytes of metadata: ${errnoName(errno)}`,
    errno === -EINVAL || errno === -ENOMEM
      ? { hint: 'a frame has 14 bytes at least and 73152 at most: 3520 in the first page, and 17 pages' }
      : {},
  );
}

/** Bytes that a program can add: headroom, and a page for the tail. */
const GROWTH = 256 + 4096;
