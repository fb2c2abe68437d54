import { readFileSync } from 'node:fs';
import { XdpbedError } from '../core/diagnostic.js';
import { errnoName } from '../bpf/errno.js';
import { libc } from './libc.js';

/** Capabilities by number (include/uapi/linux/capability.h). */
export const CAP_NET_ADMIN = 12;
export const CAP_NET_RAW = 13;
export const CAP_SYS_ADMIN = 21;
export const CAP_PERFMON = 38;
export const CAP_BPF = 39;

/** What fabric `linux` needs, and for what: found out by trying each call without each (docs/linux/operation.md). */
export const NEEDED_CAPABILITIES: readonly {
  readonly name: string;
  readonly number: number;
  readonly neededFor: string;
}[] = [
  {
    name: 'CAP_SYS_ADMIN',
    number: CAP_SYS_ADMIN,
    neededFor: 'making, entering and removing network namespaces',
  },
  { name: 'CAP_NET_ADMIN', number: CAP_NET_ADMIN, neededFor: 'interfaces, taps, XDP programs, device maps' },
  { name: 'CAP_NET_RAW', number: CAP_NET_RAW, neededFor: 'sending the traffic’s frames' },
  { name: 'CAP_BPF', number: CAP_BPF, neededFor: 'loading programs, making maps' },
  { name: 'CAP_PERFMON', number: CAP_PERFMON, neededFor: 'counting the frames that a redirect loses' },
];

/** Whether this process has a capability; CAP_SYS_ADMIN stands for those that were once a part of it (capabilities(7)). */
export function hasCapability(number: number): boolean {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/thread-self/status', 'latin1'));
  const effective = BigInt(`0x${line?.[1] ?? '0'}`);
  const has = (capability: number): boolean => ((effective >> BigInt(capability)) & 1n) === 1n;
  return has(number) || ((number === CAP_BPF || number === CAP_PERFMON) && has(CAP_SYS_ADMIN));
}

const LINUX_CAPABILITY_VERSION_3 = 0x20080522;

/**
 * Runs `work` with some of this thread's capabilities put aside, then takes them back. It must be synchronous:
 * whatever else this thread did meanwhile would lack them, too. Other threads keep theirs.
 *
 * ```
 * struct __user_cap_header_struct   +0 version u32 · +4 pid i32 (0: the calling thread)
 * struct __user_cap_data_struct[2]  +0 effective u32 · +4 permitted u32 · +8 inheritable u32, each 32 capabilities
 * ```
 * Throws `host-unsupported` when they cannot be put aside; that they cannot be taken back does not happen, since
 * they stay permitted.
 */
export function withoutCapabilities<T>(capabilities: readonly number[], work: () => T): T {
  const header = new Uint8Array(8);
  new DataView(header.buffer).setUint32(0, LINUX_CAPABILITY_VERSION_3, true);
  const before = new Uint8Array(24);
  check('capget', libc().capget(header, before));
  const reduced = before.slice();
  const view = new DataView(reduced.buffer);
  for (const capability of capabilities) {
    const at = (capability >>> 5) * 12;
    view.setUint32(at, view.getUint32(at, true) & ~(1 << (capability & 31)), true);
  }
  check('capset', libc().capset(header, reduced));
  try {
    return work();
  } finally {
    check('capset', libc().capset(header, before));
  }
}

function check(call: string, result: number): void {
  if (result < 0) throw new XdpbedError('host-unsupported', `${call}(2) failed: ${errnoName(result)}`);
}
