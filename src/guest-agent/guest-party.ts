import { availableParallelism } from 'node:os';
import { KernelExecutor } from '../../plugins/executor-kernel/kernel-executor.js';
import { KernelMapBackend } from '../../plugins/map-backend-kernel/kernel-map-backend.js';
import { KernelVerifier } from '../../plugins/verifier-kernel/kernel-verifier.js';
import type { Party } from '../core/contract/party.js';

/** MiB for maps, more than guests have: the kernel has the last word. */
const MAP_MEMORY_MIB = 64 * 1024;
/** Of each CPU in a PERF_EVENT_ARRAY. */
const PERF_BUFFER_PAGES = 16;

/** The kernel that this runs on, as the party whose programs it verifies and runs. */
export function kernelParty(): Party {
  return {
    name: 'kernel',
    cpus: availableParallelism(),
    mapBackend: new KernelMapBackend({ memoryMiB: MAP_MEMORY_MIB, perfBufferPages: PERF_BUFFER_PAGES }),
    verifier: new KernelVerifier(),
    executor: new KernelExecutor({ cpu: 0, perfmon: true }),
  };
}
