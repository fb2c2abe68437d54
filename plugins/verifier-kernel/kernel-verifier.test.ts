import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type ProgramDebugInfo } from '../../src/bpf/program.js';
import { verifierConformance } from '../../src/conformance/verifier/index.js';
import type { Rejection, Verification, VerifierMap } from '../../src/core/contract/verifier.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { KernelVerifier } from './kernel-verifier.js';
import type { KernelCode } from './rejection-codes.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const map = (name: string, type: number, extra: Partial<VerifierMap> = {}): VerifierMap => ({
  name,
  type,
  keySize: 4,
  valueSize: 8,
  maxEntries: 4,
  flags: 0,
  ...extra,
});
const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_RINGBUF } = BPF_MAP_TYPE;
const special = readObject(
  readFileSync(join(import.meta.dirname, '../../src/bpf/elf/fixtures/special_fields.o')),
  'special_fields',
).maps;
/** Bytes 0 to 3 of the value are a spin lock. */
const LOCKED = special.find(({ name }) => name === 'locked')!.btf;
/** Bytes 16 to 31 of the value are a timer. */
const TIMED = special.find(({ name }) => name === 'deep')!;
const MAPS = [
  map('flows', BPF_MAP_TYPE_HASH, { maxEntries: 2 ** 30 }),
  map('config', BPF_MAP_TYPE_ARRAY, {
    maxEntries: 1,
    flags: BPF_F_RDONLY_PROG,
    frozenValue: Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0),
  }),
  map('ring', BPF_MAP_TYPE_RINGBUF, { keySize: 0, valueSize: 0, maxEntries: 4096 }),
  map('programs', BPF_MAP_TYPE_PROG_ARRAY, { valueSize: 4 }),
  map('bad', BPF_MAP_TYPE_ARRAY, { keySize: 3 }),
  map('locked', BPF_MAP_TYPE_ARRAY, { maxEntries: 1, valueSize: 24, btf: LOCKED }),
  map('timed', TIMED.type, { valueSize: TIMED.valueSize, maxEntries: 8, btf: TIMED.btf }),
  // The kernel takes no lock there, and so no BTF.
  map('recent', BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, { valueSize: 24, btf: LOCKED }),
];
const HANDLES = new Map(MAPS.map(({ name }, index) => [name, 100 + index]));
const BY_HANDLE = new Map(MAPS.map((attributes, index) => [100 + index, attributes]));

interface Options {
  readonly perfmon?: boolean;
  readonly log?: boolean;
  readonly visits?: boolean;
  readonly debug?: ProgramDebugInfo;
}

function verify(text: string, { perfmon = true, log, visits, debug }: Options = {}): Promise<Verification> {
  return new KernelVerifier({ perfmon }).verify({
    program: {
      name: 'test',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: assemble(text, { maps: HANDLES }),
      debug,
    },
    maps: BY_HANDLE,
    log,
    visits,
  });
}

async function rejection(text: string, options?: Options): Promise<Rejection> {
  const verification = await verify(text, options);
  if (verification.accepted) throw new Error('accepted');
  return verification;
}

const LOOKUP = `
  r1 = 0
  *(u32 *)(r10 -4) = r1
  r2 = r10
  r2 += -4
  r1 = map[flows]
  call bpf_map_lookup_elem`;
const PACKET = `
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 14
  r0 = 1
  if r4 > r3 goto out`;

/** Programs by the code that they are rejected with, and the slot that is to blame. */
const REJECTED: readonly (readonly [KernelCode, number | undefined, string])[] = [
  ['packet-bounds', 6, `${PACKET}\nr0 = *(u32 *)(r2 +12)\nout:\nexit`],
  [
    'stale-packet-pointer',
    8,
    `r6 = r1\nr7 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r7\nr4 += 14\nif r4 > r3 goto pc+3
     r2 = 0\ncall bpf_xdp_adjust_head\nr0 = *(u8 *)(r7 +0)\nr0 = 1\nexit`,
  ],
  ['map-value-bounds', 8, `${LOOKUP}\nif r0 == 0 goto out\nr0 = *(u32 *)(r0 +8)\nout:\nr0 = 0\nexit`],
  ['null-dereference', 7, `${LOOKUP}\nr0 = *(u64 *)(r0 +0)\nexit`],
  ['stack-bounds', 1, 'r1 = 0\n*(u64 *)(r10 -520) = r1\nr0 = 0\nexit'],
  ['stack-alignment', 1, 'r1 = 0\n*(u64 *)(r10 -9) = r1\nr0 = 0\nexit'],
  ['uninitialised-register', 0, 'r0 = r3\nexit'],
  ['frame-pointer-write', 0, 'r10 = 0\nr0 = 0\nexit'],
  ['not-a-pointer', 1, 'r1 = 5\nr0 = *(u32 *)(r1 +0)\nexit'],
  ['context-write', 0, '*(u32 *)(r1 +0) = 1\nr0 = 0\nexit'],
  ['context-access', 0, 'r0 = *(u32 *)(r1 +24)\nexit'],
  ['context-modified', 1, 'r1 += 4\nr0 = *(u32 *)(r1 +0)\nexit'],
  ['pointer-arithmetic', 1, 'r2 = r10\nr2 += r1\nr0 = 0\nexit'],
  ['pointer-offset-unbounded', 7, `${PACKET}\nr1 = *(u64 *)(r10 -8)\nr2 += r1\nout:\nexit`],
  ['atomic-target', 6, `${PACKET}\nlock *(u32 *)(r2 +0) += r0\nout:\nexit`],
  ['infinite-loop', 1, 'again:\nr0 = 0\nif r1 != 0 goto again\nexit'],
  ['too-many-insns', undefined, 'r0 = 0\nagain:\nr0 += 1\nif r0 < 900000 goto again\nexit'],
  ['unreachable-insn', 2, 'r0 = 0\nexit\nr0 = 1\nexit'],
  ['jump-out-of-range', 1, 'r0 = 0\ngoto pc+5\nexit'],
  ['falls-through', 1, 'r0 = 0\nr0 = 1'],
  ['helper-unknown', 0, 'call 9999\nr0 = 0\nexit'],
  ['helper-unknown', 0, 'call bpf_skb_load_bytes\nr0 = 0\nexit'],
  ['helper-argument', 2, 'r1 = 5\nr2 = r10\ncall bpf_map_lookup_elem\nr0 = 0\nexit'],
  ['map-helper-mismatch', 3, 'r2 = map[flows]\nr3 = 0\ncall bpf_tail_call\nr0 = 0\nexit'],
  ['reference-leak', 6, 'r1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\nr0 = 0\nexit'],
  ['call-depth', 2, 'call f\nexit\nf:\ncall f\nexit'],
  ['stack-depth', undefined, '*(u64 *)(r10 -512) = 0\ncall f\nexit\nf:\n*(u64 *)(r10 -64) = 0\nr0 = 0\nexit'],
  ['insn-invalid', 0, '.quad 0x00000000000000ff\nr0 = 0\nexit'],
  ['division-by-zero', 1, 'r0 = 1\nr0 /= 0\nexit'],
  ['shift-too-far', 1, 'r0 = 1\nr0 <<= 64\nexit'],
  ['lock-argument', 2, 'r1 = map[locked][0]+4\ncall bpf_spin_lock\nr0 = 0\nexit'],
  ['lock-argument', 2, 'r1 = map[config][0]+0\ncall bpf_spin_lock\nr0 = 0\nexit'],
  ['lock-held', 4, 'r1 = map[locked][0]+0\ncall bpf_spin_lock\nr0 = 0\nexit'],
  ['lock-held', 3, 'r1 = map[locked][0]+0\ncall bpf_spin_lock\ncall bpf_ktime_get_ns\nr0 = 0\nexit'],
  ['special-field', 2, 'r1 = map[locked][0]+0\nr0 = *(u32 *)(r1 +0)\nr0 = 0\nexit'],
  ['map-invalid', undefined, 'r1 = map[bad]\nr0 = 0\nexit'],
  ['map-unknown', 0, 'r1 = map[fd:1]\nr0 = 0\nexit'],
  ['insn-unsupported', 0, 'r1 = btf[id:1]\nr0 = 0\nexit'],
];

describe.skipIf(skipped !== '')(`verifier kernel${skipped}`, () => {
  if (skipped === '') verifierConformance('kernel', () => new KernelVerifier(), { randomPrograms: 500 });

  it.each(REJECTED)('rejects with %s at insn %s', async (code, insn, text) => {
    const result = await rejection(text);
    expect({ code: result.code, insn: result.insn }, JSON.stringify(result)).toEqual({ code, insn });
    expect(result.suggestion).toBeDefined();
  });

  it('tells how the register at fault came to be', async () => {
    const result = await rejection(`${PACKET}
      r5 = *(u8 *)(r2 +0)
      r2 += r5
      r0 = *(u8 *)(r2 +1)
    out:
      exit`);
    expect(result).toMatchObject({
      code: 'packet-bounds',
      reason:
        'invalid access to packet, off=1 size=1, R2(id=1,off=1,r=0); R2 offset is outside of the packet',
      insn: 8,
      disassembly: 'r0 = *(u8 *)(r2 +1)',
    });
    expect(result.registers).toHaveLength(1);
    expect(result.registers![0]).toMatch(/^R2=pkt\(id=1,.*r=0/);
    expect(result.path!.map(({ insn }) => insn)).toEqual([0, 5, 6, 7]);
    expect(result.path![1]!.text).toMatch(/^if r4 > r3 goto pc\+3: not taken ; /);
    expect(result.statistics.processedInsns).toBe(9);
  });

  it('names maps, source lines, and where a reference was acquired', async () => {
    const debug: ProgramDebugInfo = {
      functions: [{ insn: 0, name: 'log', linkage: 'global', typeId: 0 }],
      lines: [
        { insn: 0, file: 'log.bpf.c', text: 'event = bpf_ringbuf_reserve(&ring, 8, 0);', line: 7, column: 4 },
        { insn: 5, file: 'log.bpf.c', text: 'return 0;', line: 8, column: 4 },
      ],
    };
    const text = 'r1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\nr0 = 0\nexit';
    const result = await rejection(text, { debug, log: true });
    expect(result).toMatchObject({ line: { line: 8 }, path: [{ insn: 4, line: { line: 7 } }] });
    expect(result.log).toContain('; return 0; @ log.bpf.c:8');
    const mismatch = await rejection('r2 = map[flows]\nr3 = 0\ncall bpf_tail_call\nr0 = 0\nexit');
    expect(mismatch.path![0]!.text).toMatch(/^r2 = map\[flows\] ; R2=map_ptr\(map=flows/);
  });

  it('follows a register into a function and a value through the stack', async () => {
    const call = await rejection(
      'r1 = *(u32 *)(r1 +0)\n*(u64 *)(r10 -8) = r1\nr2 = *(u64 *)(r10 -8)\ncall f\nr0 = 0\nexit\nf:\nr0 = *(u8 *)(r2 +0)\nexit',
    );
    expect(call.path!.map(({ insn }) => insn)).toEqual([0, 1, 2, 3]);
    const lost = await rejection('r2 = 1\ncall f\nr0 = r2\nexit\nf:\nr0 = 0\nexit');
    expect(lost.code).toBe('uninitialised-register');
    expect(lost.path!.at(-1)!.text).toBe('exit');
  });

  it('treats the content of a frozen map as constant', async () => {
    // Only with config = 3 is the access through a number never reached.
    const text =
      'r1 = map[config][0]+0\nr1 = *(u32 *)(r1 +0)\nr0 = 0\nif r1 == 3 goto out\nr0 = *(u64 *)(r0 +0)\nout:\nexit';
    expect(await verify(text)).toMatchObject({ accepted: true });
  });

  it('without CAP_PERFMON rejects what root may do', async () => {
    for (const [text, code] of [
      ['r0 = r1\nexit', 'pointer-leak'],
      ['r0 = *(u64 *)(r10 -8)\nexit', 'uninitialised-stack'],
    ] as const) {
      expect(await verify(text)).toMatchObject({ accepted: true });
      expect(await verify(text, { perfmon: false })).toMatchObject({ accepted: false, code });
    }
  });

  it('counts, where that is asked for, how often each insn was simulated', async () => {
    const text = 'r2 = *(u32 *)(r1 +12)\nif r2 > 5 goto pc+1\nr2 = 0\nr0 = 2\nexit';
    const { statistics } = await verify(text, { visits: true });
    expect(statistics.visits).toEqual([1, 1, 1, 2, 2]);
    expect(statistics.processedInsns).toBe(7);
    expect((await verify(text)).statistics.visits).toBeUndefined();
    const { visits } = (await rejection(`${PACKET}\nr0 = *(u32 *)(r2 +12)\nout:\nexit`, { visits: true }))
      .statistics;
    expect(visits).toEqual([1, 1, 1, 1, 1, 1, 1, 0]);
    // Too many to be named one by one.
    const endless = 'r1 = 0\nagain: r1 += 1\nif r1 != 2000000 goto again\nr0 = 2\nexit';
    expect((await rejection(endless, { visits: true })).statistics.visits).toBeUndefined();
  });

  it('gives counts with an acceptance, and the log that was asked for', async () => {
    const result = await verify('r0 = 2\nexit', { log: true });
    expect(result).toMatchObject({ accepted: true, statistics: { processedInsns: 2 } });
    expect(result.log).toContain('0: (b7) r0 = 2');
    expect((await verify('r0 = 2\nexit')).log).toBeUndefined();
  });

  it('takes maps with their BTF, and without it where the kernel does not take that', async () => {
    const locks = (name: string): string =>
      `${LOOKUP.replace('flows', name)}\nif r0 == 0 goto out\nr6 = r0\nr1 = r6\ncall bpf_spin_lock\nr1 = r6\ncall bpf_spin_unlock\nout:\nr0 = 2\nexit`;
    expect(await verify(locks('locked'))).toMatchObject({ accepted: true });
    expect(await rejection(locks('recent'))).toMatchObject({ code: 'lock-argument' });
  });

  it('judges timers by the BTF of their map', async () => {
    const timed = (insn: string): string =>
      `${LOOKUP.replace('flows', 'timed')}\nif r0 == 0 goto out\n${insn}\nout:\nr0 = 2\nexit`;
    const start = 'r1 = r0\nr1 += 16\nr2 = map[timed]\nr3 = 1\ncall bpf_timer_init';
    expect(await verify(timed(start))).toMatchObject({ accepted: true });
    expect(await verify(timed('r1 = *(u64 *)(r0 +8)'))).toMatchObject({ accepted: true });
    for (const insn of ['r1 = *(u64 *)(r0 +16)', '*(u64 *)(r0 +24) = 0']) {
      expect(await rejection(timed(insn))).toMatchObject({ code: 'special-field', insn: 8 });
    }
  });

  it('leaves nothing open', async () => {
    const before = readdirSync('/proc/self/fd').length;
    for (const [, , text] of REJECTED) await verify(text);
    await verify(`${LOOKUP}\nr0 = 0\nexit`);
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
});

it('says whether it can work here', () => {
  expect(['supported', 'unsupported', 'inconclusive']).toContain(new KernelVerifier().probe().status);
});
