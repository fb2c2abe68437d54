import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import { ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { generateCase } from '../../conformance/program-generator/index.js';
import { probeBpf } from '../bpf-probe.js';
import { KernelCase, pinToFirstCpu } from '../testing-kernel-case.js';
import { testRunXdp } from '../test-run.js';
import { replaceExits } from './main-function.js';
import type { Rewriting, Rewritten } from './rewriting.js';
import { countVerdicts, routeVerdicts, type VerdictRoutes } from './route-verdicts.js';
import { NO_VERDICT_COUNTER, VERDICT_COUNTERS, VERDICT_COUNTERS_MAP } from './verdict-counters.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const COUNTERS = { handle: 100, name: 'counters', attributes: VERDICT_COUNTERS_MAP, initial: [] };
const PROGRAMS = {
  handle: 101,
  name: 'programs',
  attributes: {
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
    keySize: 4,
    valueSize: 4,
    maxEntries: 4,
    flags: 0,
  },
  initial: [],
};
const DEVICES = {
  handle: 102,
  name: 'devices',
  attributes: { type: BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 },
  // The loopback device is one that every kernel has.
  initial: [{ key: Uint8Array.of(2, 0, 0, 0), value: Uint8Array.of(1, 0, 0, 0) }],
};

const xdp = (text: string): Program => ({
  name: 'routed',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});
/** Returns the first byte of the packet, sign-extended. */
const RETURN_FIRST_BYTE = xdp(`
    r0 = 1
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    if r4 > r3 goto out
    r0 = *(s8 *)(r2 +0)
    if r0 == 1 goto one
  out:
    exit
  one:
    exit`);
/** The same with no register left alone, and stack down to -480. */
const CROWDED = xdp(`
    r6 = 6
    r7 = 7
    r8 = 8
    r9 = 9
    *(u64 *)(r10 -480) = r6
    *(u64 *)(r10 -8) = r7
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    r0 = 1
    if r4 > r3 goto out
    r0 = *(s8 *)(r2 +0)
  out:
    exit`);
const frame = (first: number): Uint8Array =>
  Uint8Array.from({ length: 64 }, (_, at) => (at === 0 ? first : at));

function counts(kernel: KernelCase): number[] {
  return Array.from({ length: VERDICT_COUNTERS }, (_, index) => kernel.sum(COUNTERS.handle, index));
}

function must<Extra extends object>(result: Rewriting<Extra>): Rewritten & Extra {
  if (!result.ok) throw new Error(result.reason);
  return result;
}

describe('countVerdicts', () => {
  it('says whether a program can leave past its exits', () => {
    const uncounted = (text: string): boolean =>
      must(countVerdicts(xdp(text), { counters: COUNTERS.handle })).mayLeaveUncounted;
    expect(uncounted('r0 = 2\nexit')).toBe(false);
    expect(uncounted('r2 = map[fd:1]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit')).toBe(true);
    expect(uncounted('call kernel-function#5\nr0 = 2\nexit')).toBe(true);
    // A tail call in a function replaces only that function.
    expect(uncounted('call f\nexit\nf:\nr2 = map[fd:1]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit')).toBe(
      false,
    );
  });
});

describe('routeVerdicts', () => {
  it('refuses a program that names a map of the hook itself', () => {
    const meddler = xdp('r1 = map[fd:7][0]+0\nr0 = 2\nexit');
    const refusal = {
      ok: false,
      reason: "the program itself names map 7, which is to be the hook's",
      insn: 0,
    };
    expect(countVerdicts(meddler, { counters: 7 })).toEqual(refusal);
    const routes: VerdictRoutes = {
      XDP_PASS: { action: 'tail-call', programs: 7, index: 0, ifEmpty: 'XDP_DROP' },
    };
    expect(routeVerdicts(meddler, routes)).toEqual(refusal);
  });

  it('refuses a main function without room for the context', () => {
    const full = xdp('r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 -512) = r6\nr0 = 2\nexit');
    const routes: VerdictRoutes = {
      XDP_PASS: { action: 'tail-call', programs: 1, index: 0, ifEmpty: 'XDP_DROP' },
    };
    const reason = 'the main function leaves neither a register nor 8 bytes of stack to keep the context in';
    expect(routeVerdicts(full, routes)).toEqual({ ok: false, reason });
    // Without a tail call no context is needed.
    expect(countVerdicts(full, { counters: 1 })).toMatchObject({ ok: true });
  });
});

describe.skipIf(skipped !== '')(`verdicts in the kernel${skipped}`, () => {
  it.each([RETURN_FIRST_BYTE, CROWDED])('counts each way out by its verdict, and what is none', (program) => {
    const kernel = new KernelCase([COUNTERS]);
    try {
      const counted = must(countVerdicts(program, { counters: COUNTERS.handle }));
      const fd = kernel.load(counted.program);
      for (const [first, times] of [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
        [4, 5],
        [5, 1],
        [77, 2],
        [255, 3],
      ] as const) {
        for (let i = 0; i < times; i++) {
          expect(testRunXdp(fd, { packet: frame(first) }).verdict).toBe(first === 255 ? 0xffffffff : first);
        }
      }
      expect(counts(kernel)).toEqual([1, 2, 3, 4, 5, 6]);
    } finally {
      kernel.close();
    }
  });

  it('counts the verdict of a tail call in another function, which comes back, and not that of one in the main function', () => {
    const kernel = new KernelCase([COUNTERS, PROGRAMS]);
    try {
      kernel.setProgram(PROGRAMS.handle, 0, kernel.load(xdp('r0 = 3\nexit')));
      const call = `r2 = map[fd:${PROGRAMS.handle}]\nr3 = 0\ncall bpf_tail_call\nr0 = 1`;
      const run = (text: string): number => {
        const counted = must(countVerdicts(xdp(text), { counters: COUNTERS.handle }));
        return testRunXdp(kernel.load(counted.program), { packet: frame(0) }).verdict;
      };
      // Of what comes back the caller makes another verdict.
      expect(run(`call f\nif r0 != 3 goto out\nr0 = 2\nout:\nexit\nf:\n${call}\nexit`)).toBe(2);
      expect(counts(kernel)).toEqual([0, 0, 1, 0, 0, 0]);
      expect(run(`${call}\nexit`)).toBe(3);
      expect(counts(kernel)).toEqual([0, 0, 1, 0, 0, 0]);
    } finally {
      kernel.close();
    }
  });

  it('takes a pointer that a privileged program returns for the number it is', () => {
    const kernel = new KernelCase([COUNTERS]);
    try {
      const counted = must(countVerdicts(xdp('r0 = r10\nexit'), { counters: COUNTERS.handle }));
      testRunXdp(kernel.load(counted.program), { packet: frame(0) });
      expect(counts(kernel)[NO_VERDICT_COUNTER]).toBe(1);
    } finally {
      kernel.close();
    }
  });

  it.each([RETURN_FIRST_BYTE, CROWDED])(
    'routes each verdict where it is told to, and counts it first',
    (program) => {
      const kernel = new KernelCase([COUNTERS, PROGRAMS, DEVICES]);
      try {
        // Another program finds the frame as it is, and by its own verdict shows that it ran.
        kernel.setProgram(PROGRAMS.handle, 1, kernel.load(xdp('r0 = 42\nexit')));
        const tailCall = { action: 'tail-call', programs: PROGRAMS.handle, ifEmpty: 'XDP_DROP' } as const;
        const routes: VerdictRoutes = {
          XDP_ABORTED: { ...tailCall, index: 1 },
          XDP_DROP: { action: 'return' },
          XDP_PASS: { action: 'redirect-map', map: DEVICES.handle, key: 2, flags: 0 },
          XDP_TX: { ...tailCall, index: 3 },
          XDP_REDIRECT: { action: 'redirect-map', map: DEVICES.handle, key: 1, flags: 3 },
        };
        const fd = kernel.load(must(routeVerdicts(program, routes, { counters: COUNTERS.handle })).program);
        const verdicts = [0, 1, 2, 3, 4, 5, 200].map(
          (first) => testRunXdp(fd, { packet: frame(first) }).verdict,
        );
        expect(verdicts).toEqual([42, 1, 4, 1, 3, 42, 42]);
        expect(counts(kernel)).toEqual([1, 1, 1, 1, 1, 2]);
      } finally {
        kernel.close();
      }
    },
  );

  it.each([RETURN_FIRST_BYTE, CROWDED])(
    'marks what it returns, and counts it as what became of it',
    (program) => {
      const kernel = new KernelCase([COUNTERS]);
      try {
        const routes: VerdictRoutes = {
          XDP_PASS: { action: 'mark', mark: { secret: [0x01020304, -2], ifindex: 7 } },
          XDP_REDIRECT: { action: 'return', as: 'XDP_DROP' },
        };
        const load = (text: Program): number =>
          kernel.load(must(routeVerdicts(text, routes, { counters: COUNTERS.handle })).program);
        const fd = load(program);
        const run = (first: number) => testRunXdp(fd, { packet: frame(first) });
        // What is in front of it is none of the packet's; that a tcx program finds it there, a bridge has to show.
        expect([...run(2).packet]).toEqual([...frame(2)]);
        expect(run(2).verdict).toBe(2);
        expect([...run(1).packet]).toEqual([...frame(1)]);
        expect([0, 1, 3, 4, 77].map((first) => run(first).verdict)).toEqual([0, 1, 3, 1, 77]);
        expect(counts(kernel)).toEqual([1, 2, 2, 1, 1, 1]);
        // With the headroom taken there is none for the mark. The test run's is 256 bytes, 40 of them the kernel's.
        const full = xdp('r2 = -216\ncall bpf_xdp_adjust_head\nr0 = 2\nexit');
        expect(testRunXdp(load(full), { packet: frame(2) }).verdict).toBe(0);
        expect(counts(kernel)).toEqual([2, 2, 2, 1, 1, 1]);
      } finally {
        kernel.close();
      }
    },
  );

  it('counts one after the other when a program is rewritten twice', () => {
    const second = { ...COUNTERS, handle: 110, name: 'second' };
    const kernel = new KernelCase([COUNTERS, second]);
    try {
      const once = must(countVerdicts(RETURN_FIRST_BYTE, { counters: COUNTERS.handle }));
      const twice = must(countVerdicts(once.program, { counters: second.handle }));
      testRunXdp(kernel.load(twice.program), { packet: frame(3) });
      expect([kernel.sum(COUNTERS.handle, 3), kernel.sum(second.handle, 3)]).toEqual([1, 1]);
    } finally {
      kernel.close();
    }
  });

  it('leaves what generated programs do as it was', () => {
    pinToFirstCpu();
    let [compared, everyVerdict] = [0, 0];
    for (let seed = 1; seed <= 150; seed++) {
      const generated = generateCase(seed, { target: 'kernel', statements: 25 });
      const [plain, counted] = [new KernelCase(generated.maps), new KernelCase(generated.maps)];
      try {
        counted.addMap(COUNTERS);
        counted.addMap(PROGRAMS);
        const smallVerdicts = generated.programs.map(withSmallVerdicts);
        // The route goes nowhere, so that all of it runs and nothing comes of it.
        const routes: VerdictRoutes = {
          XDP_TX: { action: 'tail-call', programs: PROGRAMS.handle, index: 0, ifEmpty: 'XDP_TX' },
        };
        const variant = must(routeVerdicts(smallVerdicts[0]!, routes, { counters: COUNTERS.handle }));
        const fds = smallVerdicts.map((program) => plain.tryLoad(program));
        if (fds.some((fd) => typeof fd === 'string')) continue;
        const others = [variant.program, ...smallVerdicts.slice(1)].map((program) => counted.load(program));
        for (const map of generated.maps) {
          for (const [index, program] of map.programs ?? []) {
            plain.setProgram(map.handle, index, fds[program] as number);
            counted.setProgram(map.handle, index, others[program]!);
          }
        }
        const tally = new Array<number>(VERDICT_COUNTERS).fill(0);
        for (const { packet } of generated.frames) {
          const expected = testRunXdp(fds[0] as number, { packet });
          expect(testRunXdp(others[0]!, { packet }), `seed ${seed}`).toEqual(expected);
          tally[Math.min(expected.verdict, NO_VERDICT_COUNTER)]!++;
        }
        const lines = counted.mapLines().filter((line) => !line.startsWith('map counters:'));
        expect(lines, `seed ${seed}`).toEqual(plain.mapLines());
        if (!variant.mayLeaveUncounted) {
          expect(counts(counted), `seed ${seed}`).toEqual(tally);
          everyVerdict |= tally.reduce((bits, count, verdict) => bits | (count > 0 ? 1 << verdict : 0), 0);
        }
        compared++;
      } finally {
        plain.close();
        counted.close();
      }
    }
    expect(compared).toBeGreaterThan(120);
    expect(everyVerdict).toBe(0b111111);
  });
});

/** What a generated program returns is mostly no verdict: here it is often one. */
function withSmallVerdicts(program: Program): Program {
  const editor = new ProgramEditor(program);
  replaceExits(editor, program, { insns: assemble('w0 %= 6\nexit') });
  return editor.finish().program;
}
