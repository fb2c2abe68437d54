import { XdpbedError } from '../../src/core/diagnostic.js';
import type { KernelLoadedProgram } from '../../src/linux/index.js';
import { mostChainElements, type HashUser } from './hash-chains.js';

/**
 * Insns of a guest's program for one frame, helpers' work and callbacks included. The kernel counts none while a program
 * runs, and its verifier lets loops of bpf_loop be nested: two of them may hold a CPU for days. At some 7 ns for the
 * cheapest round, this many are 7 ms.
 */
const MAX_INSNS = 2 ** 20;

/** Elements of a hash chain that take about as long as an insn: docs/linux/hooks.md has what was measured. */
const CHAIN_ELEMENTS_PER_INSN = 4;

/** What {@link requireBounded} looks at. */
export type BoundedProgram = Pick<KernelLoadedProgram, 'name' | 'properties'> &
  Pick<HashUser, 'program' | 'maps' | 'facts'>;

/**
 * Throws `executor-unsupported` for a program of a guest's that may hold the host's CPU longer than that, or of which no
 * verifier told how long.
 */
export function requireBounded(loaded: BoundedProgram): void {
  const { name, program, maps, facts, properties } = loaded;
  if (properties === undefined) throw unbounded(name, 'no verifier told how many insns it may run');
  const { worstCaseInsns } = properties;
  if (!(worstCaseInsns <= MAX_INSNS))
    throw unbounded(name, `it may run ${worstCaseInsns} insns for one frame`);
  const elements = mostChainElements({ program, maps, facts, worstCaseInsns });
  if (worstCaseInsns + Math.ceil(elements / CHAIN_ELEMENTS_PER_INSN) <= MAX_INSNS) return;
  throw unbounded(
    name,
    `it may run ${worstCaseInsns} insns and pass ${elements} elements of hash chains for one frame, ${CHAIN_ELEMENTS_PER_INSN} of which count as an insn`,
    'smaller hash maps, or fewer look-ups in loops and callbacks',
  );
}

function unbounded(
  name: string,
  found: string,
  hint = 'verifier abstract tells; kernel alone does not',
): XdpbedError {
  return new XdpbedError(
    'executor-unsupported',
    `program ${name} is not for the host's kernel, which would not end it: ${found}, the limit is ${MAX_INSNS}`,
    { hint },
  );
}
