import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { disassemble } from '../bpf/disassembler.js';
import { readObject } from '../bpf/elf/object-spec.js';
import type { Insn } from '../bpf/insn.js';
import type { Program } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import { measureKernelBody, repeatBody } from './kernel-body.js';
import { loadKernelObject } from './kernel-object.js';
import { runInKernel } from './test-run.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const program = (insns: readonly Insn[]): Program => ({
  name: 'body',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns,
});

describe('copies of a body', () => {
  it('turns each exit into a jump to the next copy, ctx kept in a free register', () => {
    const copies = repeatBody(assemble('r0 = 1\nif r1 == 0 goto out\nexit\nout:\nr0 = 2\nexit'), 2);
    if (typeof copies === 'string') throw new Error(copies);
    expect(disassemble(copies, { indices: false }).trim().split(/\n\s*/)).toEqual([
      'r9 = r1',
      'r0 = 1',
      'if r1 == 0x0 goto pc+1',
      'goto pc+2',
      'r0 = 2',
      'goto pc+0',
      'r1 = r9',
      'r0 = 1',
      'if r1 == 0x0 goto pc+1',
      'goto pc+2',
      'r0 = 2',
      'goto pc+0',
      'exit',
    ]);
  });

  it('keeps ctx below the stack of a body that uses all registers', () => {
    const copies = repeatBody(
      assemble('r6 = 1\nr7 = 1\nr8 = 1\nr9 = 1\nr2 = r10\nr2 += -20\nr0 = 0\nexit'),
      2,
    );
    if (typeof copies === 'string') throw new Error(copies);
    expect(disassemble(copies)).toContain('*(u64 *)(r10 -32) = r1');
    expect(disassemble(copies)).toContain('r1 = *(u64 *)(r10 -32)');
  });

  it('says when there is no room for ctx', () => {
    const text = 'r6 = 1\nr7 = 1\nr8 = 1\nr9 = 1\n*(u64 *)(r10 -512) = 0\nr0 = 0\nexit';
    expect(repeatBody(assemble(text), 2)).toBe(
      'it leaves neither a register nor 8 bytes of stack to keep ctx in',
    );
  });
});

describe.skipIf(skipped !== '')(`the cost of a body${skipped}`, () => {
  it('runs each copy once, functions shared', () => {
    // Adds 1 to the packet's first byte, in a function.
    const insns = assemble(`
      r6 = r1
      call add
      r0 = 2
      exit
    add:
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r4 = r2
      r4 += 14
      r0 = 0
      if r4 > r3 goto out
      r4 = *(u8 *)(r2 +0)
      r4 += 1
      *(u8 *)(r2 +0) = r4
    out:
      exit`);
    const copies = repeatBody(insns, 7);
    if (typeof copies === 'string') throw new Error(copies);
    const result = runInKernel(program(copies), new Map(), [{ packet: new Uint8Array(64) }]);
    if (!result.accepted) throw new Error(result.log);
    expect(result.runs[0]).toMatchObject({ verdict: 2 });
    expect(result.runs[0]!.packet[0]).toBe(7);
  });

  it('measures real programs', () => {
    for (const file of ['xdp2.o', 'flow_count.o']) {
      const object = readObject(
        readFileSync(new URL(`../../testbeds/programs/${file}`, import.meta.url)),
        file,
      );
      const kernel = loadKernelObject(object, object.programs[0]!);
      if (!kernel.accepted) throw new Error(kernel.log);
      const packet = new Uint8Array(64);
      packet.set([8, 0, 0x45], 12);
      const body = measureKernelBody(kernel.program, kernel.handles, packet, { repeat: 20_000, rounds: 3 });
      kernel.close();
      // No closer bounds: this may run on a busy machine.
      expect(body).toMatchObject({ copies: 100 });
      expect(body.nanoseconds).toBeGreaterThan(0);
      expect(body.nanoseconds).toBeLessThan(1000);
    }
  });

  it('says why there is no figure', () => {
    const tail = program(assemble('r2 = -4\ncall bpf_xdp_adjust_head\nr0 = 2\nexit'));
    expect(measureKernelBody(tail, new Map(), new Uint8Array(64))).toMatchObject({
      reason: 'bpf_xdp_adjust_head moves the start of the packet, so that each copy would find another one',
    });
    const invalid = program(assemble('r0 = r3\nexit'));
    expect(measureKernelBody(invalid, new Map(), new Uint8Array(64))).toMatchObject({
      reason: 'EACCES, R3 !read_ok',
    });
  });
});
