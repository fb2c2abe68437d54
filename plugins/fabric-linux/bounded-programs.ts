import { XdpbedError } from '../../src/core/diagnostic.js';
import type { KernelLoadedProgram } from '../../src/linux/index.js';

/**
 * Insns of a guest's program for one frame, helpers' work and callbacks included. The kernel counts none while a program
 * runs, and its verifier lets loops of bpf_loop be nested: two of them may hold a CPU for days. At some 7 ns for the
 * cheapest round, this many are 7 ms.
 */
const MAX_INSNS = 2 ** 20;

/**
 * Throws `executor-unsupported` for a program of a guest's that may hold the host's CPU longer than that, or of which no
 * verifier told how long.
 */
export function requireBounded({ name, properties }: KernelLoadedProgram): void {
  const insns = properties?.worstCaseInsns;
  if (insns !== undefined && insns <= MAX_INSNS) return;
  const found =
    insns === undefined
      ? 'no verifier told how many insns it may run'
      : `it may run ${insns} insns for one frame`;
  throw new XdpbedError(
    'executor-unsupported',
    `program ${name} is not for the host's kernel, which would not end it: ${found}, the limit is ${MAX_INSNS}`,
    { hint: 'verifier abstract tells; kernel alone does not' },
  );
}
