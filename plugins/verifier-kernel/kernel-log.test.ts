import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { REJECTION_CODES } from '../verifier-abstract/rejection-codes.js';
import { countVisits, readKernelLog, type KernelLog } from './kernel-log.js';
import { codeOf, KERNEL_ONLY_CODES, SUGGESTIONS } from './rejection-codes.js';

/** Logs of kernel 6.18, captured from programs of the tests. */
const fixture = (name: string): KernelLog =>
  readKernelLog(readFileSync(new URL(`fixtures/${name}.log`, import.meta.url), 'utf8'));
const slots = (log: KernelLog): number[] => log.path.map(({ insn }) => insn);

describe('a log of the kernel', () => {
  it('has the path, the registers at its end, what was said, and the counts', () => {
    const log = fixture('null-with-lines');
    expect(slots(log)).toEqual([0, 1, 2, 3, 4, 6, 7]);
    expect(log.messages).toEqual(["R0 invalid mem access 'map_value_or_null'"]);
    expect(Object.fromEntries(log.frames[0]!)).toEqual({
      R0: 'map_value_or_null(id=1,map=flows,ks=4,vs=8)',
      R10: 'fp0',
      'fp-8': '0000????',
    });
    expect(log.statistics).toMatchObject({ processedInsns: 7, totalStates: 0, peakStates: 0 });
    expect(log.statistics.milliseconds).toBeGreaterThan(0);
    expect(log.stackDepth).toEqual([8]);
  });

  it('follows local calls and their return', () => {
    const log = fixture('local-call');
    expect(log.path.map(({ insn, frame }) => `${frame}:${insn}`)).toEqual([
      '0:0',
      '0:1',
      '0:2',
      '0:3',
      '1:6',
      '1:7',
      '1:8',
      '0:4',
    ]);
    expect(Object.fromEntries(log.frames[0]!)).toEqual({ R0: '0', R6: 'ctx()', R7: 'pkt(r=0)', R10: 'fp0' });
    expect(log.messages).toEqual(['R2 !read_ok']);
    expect(log.stackDepth).toEqual([0, 0]);
  });

  it('drops the paths that did not fail from a log of level 2', () => {
    const log = fixture('two-paths-level-2');
    expect(slots(log)).toEqual([0, 1, 4, 5]);
    expect(log.messages[0]).toBe('invalid access to packet, off=7 size=1, R2(id=0,off=7,r=0)');
    expect(log.frames[0]!.get('R0')).toBe('5');
  });

  it('tells in level 2 how often each insn was simulated', () => {
    const text = readFileSync(new URL('fixtures/two-paths-level-2.log', import.meta.url), 'utf8');
    const insns = assemble(
      'r0 = *(u32 *)(r1 +16)\nif r0 == 5 goto pc+2\nr0 = 2\ngoto pc+2\nr2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +7)\nexit',
    );
    expect(countVisits(text, insns)).toEqual([1, 1, 1, 1, 1, 1, 1]);
    // Insns that were put in front of one go by its number.
    expect(countVisits(`6: (bf) r6 = r0\n6: (85) call pc+3\n6: (95) exit\n9: (95) exit\n`, insns)).toEqual([
      0, 0, 0, 0, 0, 0, 1,
    ]);
  });

  it('reads the notation of older kernels', () => {
    const log = readKernelLog(
      [
        '0: R1=ctx(off=0,imm=0) R10=fp0',
        '0: (b7) r2 = 4                        ; R2_w=4',
        '1: (0f) r1 += r2',
        'last_idx 1 first_idx 0',
        'regs=4 stack=0 before 0: (b7) r2 = 4',
        '2: R1_w=ctx(off=4,imm=0) R2_w=P4',
        '2: (61) r0 = *(u32 *)(r1 +0)',
        'dereference of modified ctx ptr R1 off=4 disallowed',
        'processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0',
        '',
      ].join('\n'),
    );
    expect(slots(log)).toEqual([0, 1, 2]);
    expect(Object.fromEntries(log.frames[0]!)).toEqual({ R1: 'ctx(off=4,imm=0)', R2: '4' });
    expect(log.messages).toEqual(['dereference of modified ctx ptr R1 off=4 disallowed']);
  });

  it('separates a message that lacks its newline, and reads a log whose beginning is missing', () => {
    const log = readKernelLog(
      '(07) r1 += 1   ; R1=4\n3: (85) call bpf_tail_call#12\nexpected prog array map for tail callprocessed 3 insns (limit 1000000) max_states_per_insn 0 total_states 2 peak_states 1 mark_read 0\n',
    );
    expect(log.messages).toEqual(['expected prog array map for tail call']);
    expect(log.statistics).toEqual({ processedInsns: 3, totalStates: 2, peakStates: 1 });
  });

  it('makes nothing of nothing', () => {
    expect(readKernelLog('')).toMatchObject({ path: [], messages: [] });
  });
});

describe('codes', () => {
  it('are those of verifier abstract, and the few that only a kernel needs', () => {
    const others = Object.keys(SUGGESTIONS).filter((code) => !(code in REJECTION_CODES));
    expect(others.sort()).toEqual([...KERNEL_ONLY_CODES].sort());
  });

  // Messages of the kernel that are hard to provoke, besides those that kernel-verifier.test.ts provokes.
  it.each([
    ['R1 type=map_value_or_null expected=fp, pkt, map_value', 'null-dereference'],
    ['invalid indirect read from stack R2 off -8+4 size 8', 'uninitialised-stack'],
    ['invalid read from stack off -16+0 size 8', 'uninitialised-stack'],
    ['invalid unbounded variable-offset write to stack R1', 'stack-bounds'],
    ['jump into the middle of ldimm64 insn 4', 'jump-into-lddw'],
    ['back-edge from insn 3 to 0', 'infinite-loop'],
    ['value -2147483648 makes pkt pointer be out of bounds', 'pointer-offset-unbounded'],
    ['At callback return the register R0 has value (0x2; 0x0)', 'callback-invalid'],
    ['helper access to the packet is not allowed', 'packet-memory-argument'],
    ['read from map forbidden, value_size=8 off=0 size=8', 'write-only'],
    ['something that a kernel to come will say', 'kernel-other'],
  ])('%s', (message, code) => {
    expect(codeOf(message)).toBe(code);
  });
});
