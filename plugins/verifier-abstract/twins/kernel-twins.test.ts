import { describe, expect, it } from 'vitest';
import { openKernelVerifier } from '../../../bench/verifier/kernel-oracle.js';
import { assemble } from '../../../src/bpf/assembler.js';
import type { Verification } from '../../../src/core/contract/verifier.js';
import { TWINS } from './index.js';
import { type Twin, TWIN_MAPS } from './twin.js';

const HANDLES = new Map(TWIN_MAPS.map((map, index) => [map.name, index + 1]));
const MAPS = new Map(TWIN_MAPS.map((map, index) => [index + 1, map]));

/** The kernel of this machine as root asks it. */
const kernel = await openKernelVerifier(true);
const skipped = typeof kernel === 'string' ? ` (skipped: ${kernel})` : '';

function judge(twin: Twin, form: 'rejected' | 'accepted'): Promise<Verification> {
  if (typeof kernel === 'string') throw new Error(kernel);
  const insns = assemble(twin[form], { maps: HANDLES });
  const gplCompatible = twin.gpl !== false;
  return kernel.verify({
    program: { name: 'twin', type: 6, attachType: 'BPF_XDP', gplCompatible, insns },
    maps: MAPS,
  });
}

describe.skipIf(typeof kernel === 'string')(
  `the kernel says of each twin what its notes say${skipped}`,
  () => {
    it.each(TWINS.map((twin) => [twin.name, twin] as const))('%s', async (_, twin) => {
      const rejected = await judge(twin, 'rejected');
      expect(rejected.accepted, twin.kernelAcceptsAsRoot).toBe(twin.kernelAcceptsAsRoot !== undefined);
      const accepted = await judge(twin, 'accepted');
      const says = accepted.accepted ? '' : `${accepted.code}: ${accepted.reason}`;
      expect(accepted.accepted, says).toBe(twin.kernelRejectsAccepted === undefined);
    });
  },
);
