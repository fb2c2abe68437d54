import { statSync } from 'node:fs';
import { assemble } from '../bpf/assembler.js';
import { EMSGSIZE, errnoName } from '../bpf/errno.js';
import { BPF_PROG_TYPE_RAW_TRACEPOINT, type Program } from '../bpf/program.js';
import { XdpbedError } from '../core/diagnostic.js';
import { closeFd, mapInfo, rawTracepointOpen } from './bpf-syscall.js';
import { CpuCounters } from './cpu-counters.js';
import { loadKernelProgram } from './kernel-program.js';
import { KernelTypes } from './kernel-types.js';
import type { NetworkNamespace } from './network-namespace.js';

/**
 * Counts frames that XDP programs redirected and that got lost on the way, at a tracepoint of the kernel
 * (include/trace/events/xdp.h) that has their number. It runs once for each bulk of frames, of the whole machine, and adds
 * up those of one target.
 */
export class RedirectDrops {
  readonly #counter: CpuCounters;
  readonly #fds: number[];

  private constructor(counter: CpuCounters, fds: number[]) {
    this.#counter = counter;
    this.#fds = fds;
  }

  /**
   * Frames that a device did not take, those included that a program on its entry of the device map dropped
   * (`xdp_devmap_xmit`). No counter of the device tells of them reliably: tun's `tx_dropped` counts one for up to 16.
   * Throws `host-unsupported` where the kernel does not let one look, with the reason.
   */
  static ofDevice(ifindex: number, namespace: NetworkNamespace): RedirectDrops {
    return RedirectDrops.#open('xdp_devmap_xmit', deviceDrops(ifindex, inodeOf(namespace), kernelLayout()));
  }

  /** Frames that a CPU's queue of a CPUMAP had no room for (`xdp_cpumap_enqueue`). Throws as above. */
  static ofCpuMap(mapFd: number): RedirectDrops {
    return RedirectDrops.#open('xdp_cpumap_enqueue', cpuMapDrops(idOf(mapFd)));
  }

  /**
   * Frames that were not taken for a redirect through a device map (`xdp_redirect_err`), since they were longer than the
   * device's MTU allows: dropped by who redirected them, in nobody else's counters. Throws as above.
   */
  static tooLongFor(mapFd: number): RedirectDrops {
    return RedirectDrops.#open('xdp_redirect_err', redirectErrors(idOf(mapFd), EMSGSIZE));
  }

  static #open(tracepoint: string, program: Program): RedirectDrops {
    const counter = new CpuCounters('drops', 1);
    const fds: number[] = [];
    try {
      const verdict = loadKernelProgram(program, new Map([[1, counter.fd]]));
      if (!verdict.accepted) {
        throw new XdpbedError('host-unsupported', `the counter of drops is refused: ${verdict.log.trim()}`);
      }
      fds.push(verdict.programFd);
      const link = rawTracepointOpen(tracepoint, verdict.programFd);
      if (link < 0) {
        throw new XdpbedError(
          'host-unsupported',
          `tracepoint ${tracepoint} cannot be had: ${errnoName(link)}`,
        );
      }
      fds.push(link);
      return new RedirectDrops(counter, fds);
    } catch (error) {
      fds.forEach(closeFd);
      counter.close();
      throw error;
    }
  }

  /** Frames that were dropped since it was opened. */
  get count(): number {
    return this.#counter.read()[0]!;
  }

  close(): void {
    for (const fd of this.#fds.splice(0).reverse()) closeFd(fd);
    this.#counter.close();
  }
}

function idOf(mapFd: number): number {
  const info = mapInfo(mapFd);
  if (typeof info === 'number')
    throw new XdpbedError('plugin-failed', `a map tells nothing of itself: ${errnoName(info)}`);
  return info.id;
}

/** Byte offsets in structs of the running kernel. */
interface KernelLayout {
  /** `struct net_device`: ifindex, and the pointer to its `struct net`. */
  readonly ifindex: number;
  readonly namespace: number;
  /** `struct net`: the inode number of its namespace. */
  readonly inode: number;
}

let layout: KernelLayout | undefined;

function kernelLayout(): KernelLayout {
  const types = KernelTypes.own;
  layout ??= {
    ifindex: types.offsetOf('net_device', 'ifindex'),
    namespace: types.offsetOf('net_device', 'nd_net.net'),
    inode: types.offsetOf('net', 'ns.inum'),
  };
  return layout;
}

function inodeOf(namespace: NetworkNamespace): number {
  return namespace.run(() => statSync('/proc/thread-self/ns/net').ino);
}

/** Arguments of the tracepoint, 8 bytes each: from_dev, to_dev, sent, drops, err. */
function deviceDrops(ifindex: number, inode: number, offsets: KernelLayout): Program {
  return counting(`
    r6 = *(u64 *)(r1 +8)
    r7 = *(u64 *)(r1 +24)
    w7 = w7
    if r7 == 0 goto out
    r1 = r10
    r1 += -8
    r2 = 4
    r3 = r6
    r3 += ${offsets.ifindex}
    call bpf_probe_read_kernel
    r1 = *(u32 *)(r10 -8)
    if r1 != ${ifindex} goto out
    r1 = r10
    r1 += -8
    r2 = 8
    r3 = r6
    r3 += ${offsets.namespace}
    call bpf_probe_read_kernel
    r3 = *(u64 *)(r10 -8)
    r3 += ${offsets.inode}
    r1 = r10
    r1 += -8
    r2 = 4
    call bpf_probe_read_kernel
    r1 = *(u32 *)(r10 -8)
    r2 = ${inode | 0} ll
    w2 = w2
    if r1 != r2 goto out`);
}

/** Arguments of the tracepoint: map_id, processed, drops, to_cpu. */
function cpuMapDrops(mapId: number): Program {
  return counting(`
    r6 = *(u64 *)(r1 +0)
    w6 = w6
    if r6 != ${mapId} goto out
    r7 = *(u64 *)(r1 +16)
    w7 = w7
    if r7 == 0 goto out`);
}

/** Arguments of the tracepoint: dev, prog, target, err, map_type, map_id, index. It is of one frame. */
function redirectErrors(mapId: number, errno: number): Program {
  return counting(`
    r6 = *(u64 *)(r1 +40)
    w6 = w6
    if r6 != ${mapId} goto out
    r6 = *(u64 *)(r1 +24)
    if w6 != ${-errno} goto out
    r7 = 1`);
}

/** Adds R7 to the counter, unless `filter` goes to `out` before. */
function counting(filter: string): Program {
  return {
    name: 'redirect_drops',
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(
      `
        ${filter}
        *(u32 *)(r10 -8) = 0
        r1 = map[drops]
        r2 = r10
        r2 += -8
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = *(u64 *)(r0 +0)
        r1 += r7
        *(u64 *)(r0 +0) = r1
      out:
        r0 = 0
        exit`,
      { maps: new Map([['drops', 1]]) },
    ),
  };
}
