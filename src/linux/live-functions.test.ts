import { describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { disassemble } from '../bpf/disassembler.js';
import type { Program } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import { closeFd } from './bpf-syscall.js';
import { loadKernelProgram, type KernelVerdict } from './kernel-program.js';
import { withLiveFunctions } from './live-functions.js';
import { testRunXdp } from './test-run.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const program = (text: string): Program => ({
  name: 'live',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

const LOOP = `
  r1 = 3
  r3 = 0
  r4 = 0
  call bpf_loop`;

describe('functions whose address is taken', () => {
  it('have one that is called in front of them, and one behind all', () => {
    const live = withLiveFunctions(
      program(`
        r2 = subprog[a]
        r3 = subprog[b]
        if r1 == 0 goto out
        r0 = 1
        exit
      out:
        r0 = 2
        exit
      a: r0 = 0
        exit
      b: r0 = 0
        exit`),
    );
    if (!live.ok) throw new Error(live.reason);
    const expected = assemble(`
        r2 = subprog[a]
        r3 = subprog[b]
        if r1 == 0 goto out
        r0 = 1
        r6 = r0
        call live
        r0 = r6
        exit
      out:
        r0 = 2
        r6 = r0
        call live
        r0 = r6
        exit
      before_a: r0 = 0
        exit
      a: r0 = 0
        exit
      before_b: r0 = 0
        exit
      b: r0 = 0
        exit
      live:
        call before_a
        call before_b
        r0 = 0
        exit`);
    expect(disassemble(live.program.insns)).toBe(disassemble(expected));
  });

  it('go by their own slots in the log', () => {
    // Slots: 0 lddw, 2 exit, 3 a; made over: 0 lddw, 2 to 4 in front of the exit, 5 exit, 6 and 7 in front of a, 8 a.
    const live = withLiveFunctions(program('r2 = subprog[a]\nexit\na: r0 = 0\nexit'));
    if (!live.ok) throw new Error(live.reason);
    expect(
      live.translateLog!(
        '0: (18) r2 = 0x9\n2: (bf) r6 = r0\n5: (95) exit\nfrom 5 to 8: R0=0\n8: (b7) r0 = 0\nunreachable insn 8\nprocessed 8 insns',
      ),
    ).toBe(
      '0: (18) r2 = 0x9\n2: (bf) r6 = r0\n2: (95) exit\nfrom 2 to 3: R0=0\n3: (b7) r0 = 0\nunreachable insn 3\nprocessed 8 insns',
    );
  });

  it('are no reason to touch a program that has none, or only calls them', () => {
    const calls = program('call f\nexit\nf: r0 = 2\nexit');
    expect(withLiveFunctions(calls)).toEqual({ ok: true, program: calls });
  });

  it.each([
    ['whose main function has no exit', 'r2 = subprog[a]\nagain: goto again\na: r0 = 0\nexit', /no exit/],
    [
      'that calls functions of the kernel',
      'r2 = subprog[a]\ncall kernel-function#2\nr0 = 2\nexit\na: r0 = 0\nexit',
      /functions of the kernel/,
    ],
  ])('are refused in a program %s', (_, text, reason) => {
    const verdict = withLiveFunctions(program(text));
    expect(!verdict.ok && verdict.reason).toMatch(reason);
  });
});

describe.skipIf(skipped !== '')(`functions that the kernel finds dead${skipped}`, () => {
  function load(text: string, perfmon?: boolean): KernelVerdict {
    return loadKernelProgram(program(text), new Map(), { logLevel: 1, perfmon });
  }

  /** The loop is behind a branch that the kernel knows to go the other way. */
  const unlessTaken = (addresses: string): string => `
    r6 = 1
    ${addresses}
    if r6 != 2 goto out
    ${LOOP}
  out:
    r0 = 2
    exit`;

  it.each([
    ['the last one', `${unlessTaken('r2 = subprog[cb]')}\ncb: r0 = 0\nexit`],
    ['one in the middle', `${unlessTaken('call f\nr2 = subprog[cb]')}\ncb: r0 = 0\nexit\nf: r0 = 0\nexit`],
    [
      'two in a row',
      `${unlessTaken('call f\nr2 = subprog[first]\nr2 = subprog[second]')}
      first: r1 = 1\nr0 = 0\nexit\nsecond: r0 = 0\nexit\nf: r0 = 0\nexit`,
    ],
    [
      'one together with the end of what stands in front of it',
      `${unlessTaken('call f\ncall g\nr2 = subprog[cb]')}
      f: r0 = 0\nif r0 == 0 goto done\nr0 = 1\nr0 = 2\ngoto more\ndone: r0 = 0\nexit\nmore: r0 = 3\nr0 = 4\nexit
      cb: r0 = 0\nexit\ng: r0 = 0\nexit`,
    ],
    [
      'one that a loop of no rounds would run',
      'r1 = 0\nr2 = subprog[cb]\nr3 = 0\nr4 = 0\ncall bpf_loop\nr0 = 2\nexit\ncb: r0 = 0\nexit',
    ],
    ['one that nothing runs', 'r2 = subprog[cb]\nr0 = 2\nexit\ncb: r0 = 0\nexit'],
  ])('do not bring it into trouble: %s', (_, text) => {
    for (const perfmon of [true, false]) {
      const verdict = load(text, perfmon);
      expect(verdict.log).not.toContain('verifier bug');
      expect(verdict.accepted, verdict.log).toBe(true);
      if (!verdict.accepted) continue;
      expect(testRunXdp(verdict.programFd, { packet: new Uint8Array(64) }).verdict).toBe(2);
      closeFd(verdict.programFd);
    }
  });

  it('leave the slots of a log as they are', () => {
    const verdict = load(`r2 = subprog[cb]\n${LOOP}\nr0 = 2\nexit\ncb: r0 = *(u32 *)(r0 +0)\nexit`);
    expect(verdict.accepted).toBe(false);
    // 0 lddw, 2 to 4 what bpf_loop gets, 5 the call, 6 and 7 the end.
    expect(verdict.log).toMatch(/^8: \(61\) r0 = .*\nR0 !read_ok/m);
  });

  it('are refused where references lead nowhere', () => {
    const insns = assemble('r2 = subprog[cb]\nr0 = 2\nexit\ncb: r0 = 0\nexit');
    insns[0] = { ...insns[0]!, imm: 100 };
    const verdict = loadKernelProgram({ ...program(''), insns }, new Map());
    expect(verdict).toMatchObject({ accepted: false, errno: 22 });
    expect(verdict.log).toContain('slot 101 of program live is not the first of an insn');
  });
});
