import { XdpbedError } from '../core/diagnostic.js';
import { errnoName } from '../bpf/errno.js';
import { libc } from './libc.js';

/**
 * Runs `work` with the calling thread on one CPU, and lets it go back to those it may run on. `work` is synchronous.
 * Throws `host-unsupported` for a CPU that the thread may not have.
 */
export function onCpu<T>(cpu: number, work: () => T): T {
  const { schedGetaffinity, schedSetaffinity } = bound();
  const before = schedGetaffinity();
  if (typeof before === 'number') {
    throw new XdpbedError('host-unsupported', `sched_getaffinity(2): ${errnoName(before)}`);
  }
  const status = schedSetaffinity([cpu]);
  if (status < 0) {
    throw new XdpbedError(
      'host-unsupported',
      `this process cannot run on CPU ${cpu}, only on ${before.join(', ')}: ${errnoName(status)}`,
    );
  }
  try {
    return work();
  } finally {
    schedSetaffinity(before);
  }
}

function bound(): {
  schedGetaffinity: () => number[] | number;
  schedSetaffinity: (cpus: readonly number[]) => number;
} {
  const c = libc();
  return {
    schedGetaffinity: () => c.schedGetaffinity(0),
    schedSetaffinity: (cpus) => c.schedSetaffinity(0, cpus),
  };
}
