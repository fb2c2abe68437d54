import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { HELPER_NAMES } from '../../bpf/helper-ids.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import { closeFd, loadKernelProgram, probeBpf } from '../../linux/index.js';
import { HELPER_CLASS_NAMES, HELPER_CLASSES, helperClass, OFFLOADABLE_CLASSES } from './helper-classes.js';
import { OFFLOADABLE_HELPERS, WITHHELD_HELPERS } from './offloadable-helpers.js';

const helpers = HELPER_CLASS_NAMES.flatMap((name) => [...HELPER_CLASSES[name].helpers]);
const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe('classes of helpers', () => {
  it('have each helper once', () => {
    expect([...new Set(helpers)]).toEqual(helpers);
  });

  it('of which those that are offered by default hold what may be offloaded by default, and nothing else', () => {
    const offered: string[] = OFFLOADABLE_CLASSES.flatMap((name) => [...HELPER_CLASSES[name].helpers]);
    expect(offered.sort()).toEqual(Object.keys(OFFLOADABLE_HELPERS).sort());
    expect(offered.filter((name) => name in WITHHELD_HELPERS)).toEqual([]);
  });

  it.skipIf(skipped !== '')(`hold all that this kernel lets an XDP program call${skipped}`, () => {
    // Whether a type of program may call a helper is asked before its arguments are looked at.
    const callable = HELPER_NAMES.flatMap((name, id) => {
      if (id === 0 || name === 'bpf_MAX_ID') return [];
      const insns = assemble(`call ${id}\nr0 = 2\nexit`);
      const program: Program = {
        name: 'probe',
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        insns,
      };
      const verdict = loadKernelProgram(program, new Map(), { logLevel: 1 });
      if (verdict.accepted) closeFd(verdict.programFd);
      return /cannot use helper|unknown func|invalid func/.test(verdict.log) ? [] : [id];
    });
    expect(callable.length).toBeGreaterThan(80);
    expect(callable.filter((id) => helperClass(id) === undefined).map((id) => HELPER_NAMES[id])).toEqual([]);
  });
});
