import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { probeBpf } from '../bpf-probe.js';
import { KernelCase } from '../testing-kernel-case.js';
import { testRunXdp } from '../test-run.js';
import { redirectByTailCall, type TailCallRedirection } from './redirect-by-tail-call.js';
import { VERDICT_COUNTERS, VERDICT_COUNTERS_MAP } from './verdict-counters.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const map = (handle: number, name: string, type: number) => ({
  handle,
  name,
  attributes: { type, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 },
  // The loopback device is one that every kernel has.
  initial:
    type === BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY
      ? []
      : [0, 1, 2].map((key) => ({ key: Uint8Array.of(key, 0, 0, 0), value: Uint8Array.of(1, 0, 0, 0) })),
});
const PROGRAMS = map(1, 'programs', BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY);
const DEVICES = map(2, 'devices', BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP);
const HASHED = map(3, 'hashed', BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH);
const CPUS = map(4, 'cpus', BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP);
const OUTER = map(5, 'outer', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS);
const COUNTERS = { handle: 6, name: 'counters', attributes: VERDICT_COUNTERS_MAP, initial: [] };
const OPTIONS: TailCallRedirection = {
  programs: PROGRAMS.handle,
  maps: new Map(
    [PROGRAMS, DEVICES, HASHED, CPUS, OUTER].map(({ handle, attributes }) => [handle, attributes]),
  ),
};

const xdp = (text: string): Program => ({
  name: 'redirects',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

/** Redirects to the device under the packet's first byte; before and after it whatever is asked for. */
const redirector = (flags: string, before = '', after = ''): Program =>
  xdp(`
    ${before}
    r0 = 1
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    if r4 > r3 goto out
    r2 = *(u8 *)(r2 +0)
    if r2 == 9 goto plain
    r1 = map[fd:${DEVICES.handle}]
    r3 = ${flags}
    call bpf_redirect_map
    ${after}
  out:
    exit
  plain:
    r0 = 4
    exit`);
const frame = (first: number): Uint8Array =>
  Uint8Array.from({ length: 64 }, (_, at) => (at === 0 ? first : at));

/** What a verifier would say of the flags of the redirects. */
function factsOf({ insns }: Program, flags: bigint): ProgramFacts {
  const calls = insns.flatMap(({ opcode, imm }, slot) => (opcode === 0x85 && imm === 51 ? [slot] : []));
  const fact = { helper: 51, map: DEVICES.handle, constants: new Map([[3, flags]]) };
  return {
    accesses: new Map(),
    calls: new Map(calls.map((slot) => [slot, fact])),
    unreachable: new Set(),
  };
}

/** Of programs that return 40 + index where index 0 and 2 have one; and what was counted, by verdict. */
function outcome(program: Program, firsts: readonly number[], options: Partial<TailCallRedirection> = {}) {
  const kernel = new KernelCase([PROGRAMS, DEVICES, HASHED, COUNTERS]);
  try {
    for (const index of [0, 2]) {
      kernel.setProgram(PROGRAMS.handle, index, kernel.load(xdp(`r0 = ${40 + index}\nexit`)));
    }
    const result = redirectByTailCall(program, { ...OPTIONS, ...options });
    if (!result.ok) throw new Error(result.reason);
    const fd = kernel.load(result.program);
    return {
      verdicts: firsts.map((first) => testRunXdp(fd, { packet: frame(first) }).verdict),
      counted: Array.from({ length: VERDICT_COUNTERS }, (_, index) => kernel.sum(COUNTERS.handle, index)),
    };
  } finally {
    kernel.close();
  }
}

const verdicts = (program: Program, firsts: readonly number[], facts?: ProgramFacts): number[] =>
  outcome(program, firsts, { facts }).verdicts;

describe.skipIf(skipped !== '')(`redirects as tail calls in the kernel${skipped}`, () => {
  it('goes on in the program of the device, and redirects where there is none', () => {
    // 0 and 2: a program; 1: only a device; 3: neither, so the flags say; 9: XDP_REDIRECT without a redirect.
    expect(verdicts(redirector('2'), [0, 1, 2, 3, 9])).toEqual([40, 4, 42, 2, 4]);
  });

  it('keeps context and key on the stack where no register is left', () => {
    const crowded = 'r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 -480) = r6';
    expect(verdicts(redirector('2', crowded), [0, 1, 2, 3, 9])).toEqual([40, 4, 42, 2, 4]);
  });

  it('follows what the program returns, not what it called', () => {
    expect(verdicts(redirector('2', '', 'r0 = 2'), [0, 1, 2])).toEqual([2, 2, 2]);
  });

  it('takes the last of several redirects', () => {
    const again = `r1 = map[fd:${DEVICES.handle}]\nr2 = 1\nr3 = 2\ncall bpf_redirect_map`;
    expect(verdicts(redirector('2', '', again), [0, 2])).toEqual([4, 4]);
  });

  it('hands a broadcast over to nobody', () => {
    expect(verdicts(redirector('8'), [0, 1, 2])).toEqual([4, 4, 4]);
  });

  describe.each([
    ['no register is taken', ''],
    ['all are', 'r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 -480) = r6\n*(u64 *)(r10 -8) = r6'],
  ])('where %s', (_, before) => {
    const program = redirector('2', before);
    const facts = factsOf(program, 2n);
    const [firsts, expected] = [
      [0, 1, 2, 3, 9, 9],
      [40, 4, 42, 2, 4, 4],
    ];

    it.each([
      ['at the exit', undefined],
      ['in place of the redirect', facts],
    ])('counts what the program returns, a frame once, however it goes on (%s)', (_where, known) => {
      // Redirected: to 0, 1 and 2, and twice by the verdict alone. Passed: 3, of which there is no device.
      expect(outcome(program, firsts, { facts: known, counters: COUNTERS.handle })).toEqual({
        verdicts: expected,
        counted: [0, 0, 1, 0, 5, 0],
      });
    });

    it.each([[[]], [[0]], [[1, 2]], [[0, 1, 2, 3]]])('looks for keys %j first', (likelyKeys) => {
      for (const known of [undefined, facts])
        expect(verdictsWith({ facts: known, likelyKeys })).toEqual(expected);
    });
    const verdictsWith = (options: Partial<TailCallRedirection>): number[] =>
      outcome(program, firsts, options).verdicts;
  });

  it('calls no redirect where a program goes on, if the flags are known and the program ends with it', () => {
    const own = (program: Program, flags: bigint | undefined) => {
      const facts = flags === undefined ? undefined : factsOf(program, flags);
      const result = redirectByTailCall(program, { ...OPTIONS, facts });
      if (!result.ok) throw new Error(result.reason);
      const [redirect, tailCall] = [51, 12].map((helper) =>
        result.program.insns.findIndex(({ opcode, imm }) => opcode === 0x85 && imm === helper),
      );
      return tailCall! < redirect! ? 'in place' : 'at the exit';
    };
    expect(own(redirector('2'), 2n)).toBe('in place');
    expect(own(redirector('2', '', 'goto out'), 2n)).toBe('in place');
    expect(own(redirector('2'), undefined)).toBe('at the exit');
    expect(own(redirector('8'), 8n)).toBe('at the exit');
    // Of no meaning: the helper returns XDP_ABORTED.
    expect(own(redirector('4'), 4n)).toBe('at the exit');
    expect(own(redirector('2', '', 'r0 = 2'), 2n)).toBe('at the exit');
  });

  it('follows flags that mean nothing, a broadcast and another verdict as well when they are known', () => {
    const known = (program: Program, flags: bigint): number[] =>
      verdicts(program, [0, 1, 2, 3], factsOf(program, flags));
    expect(known(redirector('4'), 4n)).toEqual([0, 0, 0, 0]);
    expect(known(redirector('8'), 8n)).toEqual([4, 4, 4, 4]);
    expect(known(redirector('2', '', 'r0 = 2'), 2n)).toEqual([2, 2, 2, 2]);
  });

  it('has redirects of both kinds in one program', () => {
    const both = xdp(`
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r0 = 1
      r4 = r2
      r4 += 14
      if r4 > r3 goto out
      r2 = *(u8 *)(r2 +0)
      r1 = map[fd:${DEVICES.handle}]
      r3 = 2
      if r2 == 2 goto other
      call bpf_redirect_map
      exit
    other:
      call bpf_redirect_map
      if r0 == 4 goto out
      r0 = 3
    out:
      exit`);
    expect(outcome(both, [0, 1, 2, 3], { facts: factsOf(both, 2n), counters: COUNTERS.handle })).toEqual({
      verdicts: [40, 4, 42, 2],
      counted: [0, 0, 1, 0, 3, 0],
    });
  });

  it('does the same with a hashed device map', () => {
    const hashed = xdp(`r1 = map[fd:${HASHED.handle}]\nr2 = 2\nr3 = 0\ncall bpf_redirect_map\nexit`);
    expect(verdicts(hashed, [0])).toEqual([42]);
  });
});

describe('redirectByTailCall', () => {
  const redirect = (handle: number): string =>
    `r1 = map[fd:${handle}]\nr2 = 0\nr3 = 0\ncall bpf_redirect_map`;

  it('names the device map', () => {
    expect(redirectByTailCall(redirector('0'), OPTIONS)).toMatchObject({
      ok: true,
      deviceMap: DEVICES.handle,
    });
  });

  it.each([
    ['r0 = 2\nexit', 'the program names no device map', undefined],
    [`r1 = map[fd:${DEVICES.handle}]\nr0 = 2\nexit`, 'the program redirects nothing', undefined],
    [`${redirect(2)}\n${redirect(3)}\nexit`, 'the program redirects into more than one device map', 5],
    [`${redirect(4)}\nexit`, 'the program redirects into a BPF_MAP_TYPE_CPUMAP', 0],
    [`${redirect(99)}\nexit`, 'the program names map 99, of which nothing is known', 0],
    [
      `r1 = map[fd:5]\nr0 = 2\nexit`,
      'the program takes maps out of a map, so that it is not known what it redirects into',
      0,
    ],
    [
      `${redirect(2)}\ncall bpf_redirect\nexit`,
      'bpf_redirect names a device by its ifindex, for which there is no program',
      5,
    ],
    [
      `call f\nexit\nf:\n${redirect(2)}\nexit`,
      'bpf_redirect_map is called in another function than the main one',
      6,
    ],
    [
      `${redirect(2)}\ncall kernel-function#3\nexit`,
      'the program calls a function of the kernel, of which nothing is known',
      5,
    ],
    [
      `r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 -504) = r6\n${redirect(2)}\nexit`,
      'the main function leaves no registers or stack to keep the context and the key in',
      undefined,
    ],
  ])('refuses %j', (text, reason, insn) => {
    expect(redirectByTailCall(xdp(text), OPTIONS)).toEqual({
      ok: false,
      reason,
      ...(insn !== undefined && { insn }),
    });
  });
});
