/** Limits of the kernel's map types, as of Linux 6.18 on x86-64 with 4 KiB pages. */

import {
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY,
  BPF_F_WRONLY_PROG,
} from '../../src/bpf/map-spec.js';

export const PAGE_SIZE = 4096;
/** The largest kmalloc: what a hash element, a queue or a trie node is held against. */
export const KMALLOC_MAX_SIZE = 4 * 1024 * 1024;
/** The largest per-CPU allocation, and so the largest per-CPU value. */
export const PCPU_MIN_UNIT_SIZE = 32 * 1024;
export const INT_MAX = 0x7fff_ffff;
export const U32_SIZE = 4;

/** `BPF_F_PRESERVE_ELEMS`: perf events outlive the handle that put them there. */
export const BPF_F_PRESERVE_ELEMS = 1 << 11;

/** `BPF_F_ACCESS_MASK` of the kernel. */
export const ACCESS_FLAGS = BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
export const NUMA_AND_SYSCALL_ACCESS = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;

/** The access flags do not contradict each other. */
export function accessFlagsOk(flags: number): boolean {
  return (
    (flags & (BPF_F_RDONLY | BPF_F_WRONLY)) !== (BPF_F_RDONLY | BPF_F_WRONLY) &&
    (flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)) !== (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)
  );
}

/** No flag outside `allowed` is set. Flags are a u32 and may have bit 31 set. */
export function onlyFlags(flags: number, allowed: number): boolean {
  return (flags & ~allowed) === 0;
}
