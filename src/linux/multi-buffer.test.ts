import { describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { FRAGS_CASES } from '../conformance/executor/frags-cases.js';
import { probeBpf } from './bpf-probe.js';
import { runInKernel } from './test-run.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

/** What needs maps, or devices of a certain MTU, is not to be had from BPF_PROG_TEST_RUN alone. */
const cases = FRAGS_CASES.filter(({ maps, network }) => maps === undefined && network === undefined);

describe.skipIf(skipped !== '')(`frames in several buffers in the kernel${skipped}`, () => {
  it.each(cases)('$name', ({ name, program, frags, packet, verdict, packetAfter, metadataAfter }) => {
    const result = runInKernel(
      {
        name: 'frags_case',
        type: 6,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        frags: frags === true,
        insns: assemble(program),
      },
      new Map(),
      [{ packet: packet! }],
    );
    if (!result.accepted) throw new Error(`${name}: ${result.log}`);
    const run = result.runs[0]!;
    expect(run.verdict).toBe(verdict);
    expect(Buffer.compare(run.packet, packetAfter ?? packet!)).toBe(0);
    if (metadataAfter !== undefined) expect(run.meta).toEqual(metadataAfter);
  });
});
