import type { Verifier } from '../../src/core/contract/verifier.js';

/**
 * The verifier of the kernel that this runs on, or why there is none. Loaded only where it is asked for: it needs
 * the native bindings and the right to load programs.
 */
export async function openKernelVerifier(perfmon: boolean): Promise<Verifier | string> {
  const { KernelVerifier } = await import('../../plugins/verifier-kernel/kernel-verifier.js');
  const verifier = new KernelVerifier({ perfmon });
  const probe = verifier.probe();
  return probe.status === 'unsupported' ? probe.reason : verifier;
}
