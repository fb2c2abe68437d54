import { XdpbedError } from '../core/diagnostic.js';
import type { ProbeResult } from '../core/contract/plugin.js';
import { ENOTSUPP, EPERM, errnoName } from '../bpf/errno.js';
import { BPF_ALU64, BPF_K, BPF_MOV, OP_EXIT } from '../bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE } from '../bpf/program.js';
import { XDP_PASS } from '../bpf/xdp.js';
import { closeFd, progLoad } from './bpf-syscall.js';

/**
 * Can this process load XDP programs? Found out by loading the shortest one, `r0 = XDP_PASS; exit`: neither the uid
 * nor the kernel's version tells, since capabilities, containers and lockdown all have a say.
 */
export function probeBpf(): ProbeResult {
  let fd: number;
  try {
    ({ fd } = progLoad({
      name: 'xdpbed_probe',
      type: BPF_PROG_TYPE_XDP,
      license: 'Proprietary',
      expectedAttachType: XDP_ATTACH_TYPE.BPF_XDP,
      logLevel: 0,
      insns: [
        { opcode: BPF_ALU64 | BPF_MOV | BPF_K, dst: 0, src: 0, off: 0, imm: XDP_PASS },
        { opcode: OP_EXIT, dst: 0, src: 0, off: 0, imm: 0 },
      ],
    }));
  } catch (error) {
    if (error instanceof XdpbedError) {
      return { status: 'unsupported', reason: error.message, remedy: error.hint };
    }
    throw error;
  }
  if (fd >= 0) {
    closeFd(fd);
    return { status: 'supported' };
  }
  if (fd === -EPERM) {
    return {
      status: 'unsupported',
      reason: 'loading an XDP program needs root, or CAP_BPF and CAP_NET_ADMIN (the kernel said EPERM)',
      remedy: 'run it as root: sudo xdpbed …; xdpbed doctor names every capability that is missing',
    };
  }
  if (fd === -ENOSYS || fd === -ENOTSUPP) {
    return { status: 'unsupported', reason: `this kernel has no BPF for XDP (${errnoName(fd)})` };
  }
  return { status: 'inconclusive', reason: `the kernel refused a trivial XDP program: ${errnoName(fd)}` };
}

const ENOSYS = 38;
