import { XdpbedError } from '../../core/diagnostic.js';
import type { WorkloadContext } from '../../core/contract/workload.js';

export interface WorkloadContextOptions {
  /** Default 1. */
  readonly seed?: number | undefined;
  /** Number of targets; default 2. */
  readonly targets?: number | undefined;
  /** Files that the workload may read, by name. */
  readonly files?: Readonly<Record<string, Uint8Array>> | undefined;
}

/**
 * A context as a fabric gives it: target n is `guest<n>.eth0` with MAC 52:54:00:12:34:<n> and 192.0.2.<n+1>, the
 * sender is 02:00:00:00:00:fe. Random numbers are mulberry32's.
 */
export function workloadContext(options: WorkloadContextOptions = {}): WorkloadContext {
  const { seed = 1, targets = 2, files = {} } = options;
  let state = seed >>> 0;
  return {
    random() {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return (mixed ^ (mixed >>> 14)) >>> 0;
    },
    targets: Array.from({ length: targets }, (_, index) => ({
      guest: `guest${index}`,
      nic: 'eth0',
      mac: Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, index),
      ipv4: Uint8Array.of(192, 0, 2, index + 1),
    })),
    senderMac: Uint8Array.of(0x02, 0, 0, 0, 0, 0xfe),
    file(name) {
      const bytes = Object.hasOwn(files, name) ? files[name] : undefined;
      if (bytes === undefined) throw new XdpbedError('file-unreadable', `there is no file '${name}'`);
      return bytes;
    },
  };
}
