import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { requiredMaps } from '../../src/bpf/elf/object-closure.js';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import { linkProgram } from '../../src/bpf/link.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, type MapSpec } from '../../src/bpf/map-spec.js';
import type { Insn } from '../../src/bpf/insn.js';
import type { Program } from '../../src/bpf/program.js';
import { verifierConformance } from '../../src/conformance/verifier/verifier-conformance.js';
import type { Acceptance, Rejection, Verification, VerifierMap } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { type AbstractVerifierConfig, DEFAULT_CONFIG } from './config.js';
import { MOST_REFERENCES } from './references.js';
import { Simulation } from './simulation.js';
import { TWINS } from './twins/index.js';
import { TWIN_MAPS } from './twins/twin.js';

const HANDLES = new Map(TWIN_MAPS.map((map, index) => [map.name, index + 1]));
const MAPS = new Map(TWIN_MAPS.map((map, index) => [index + 1, map]));

function programOf(text: string, rest: Partial<Program> = {}): Program {
  const insns = assemble(text, { maps: HANDLES });
  return { name: 'test', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns, ...rest };
}

function verify(
  program: Program,
  config: Partial<AbstractVerifierConfig> = {},
  log = false,
): Promise<Verification> {
  return new AbstractVerifier({ ...DEFAULT_CONFIG, ...config }).verify({ program, maps: MAPS, log });
}

async function accept(text: string, config?: Partial<AbstractVerifierConfig>): Promise<Acceptance> {
  const result = await verify(programOf(text), config);
  if (!result.accepted) expect.fail(`${result.code} at insn ${result.insn}: ${result.reason}`);
  return result;
}

async function reject(program: Program, config?: Partial<AbstractVerifierConfig>): Promise<Rejection> {
  const result = await verify(program, config);
  if (result.accepted) expect.fail('accepted');
  return result;
}

verifierConformance('abstract', () => new AbstractVerifier({ ...DEFAULT_CONFIG, maxProcessedInsns: 20_000 }));

describe('statistics', () => {
  it('tell how often each insn was simulated, where that is asked for', async () => {
    // The fourth insn is come to twice, and what is behind it is explored once.
    const text = 'r2 = *(u32 *)(r1 +12)\nif r2 > 5 goto pc+1\nr2 = 0\nr0 = 2\nexit';
    const judge = (visits: boolean): Promise<Verification> =>
      new AbstractVerifier(DEFAULT_CONFIG).verify({ program: programOf(text), maps: MAPS, visits });
    const { statistics } = await judge(true);
    expect(statistics.visits).toEqual([1, 1, 1, 2, 2]);
    expect(statistics).toMatchObject({ processedInsns: 7, prunedPaths: 0 });
    expect((await judge(false)).statistics.visits).toBeUndefined();
  });

  it('count the paths that were pruned', async () => {
    const long = (name: string): string =>
      `${'r0 = 0\n'.repeat(9)} goto ${name}\n ${name}: goto ${name}2\n ${name}2:`;
    const text = `r2 = *(u32 *)(r1 +12)\nif r2 > 5 goto join\nr2 = 0\njoin: r2 = 0\n${long('a')} ${long('b')} r0 = 2\nexit`;
    expect((await accept(text)).statistics.prunedPaths).toBe(1);
  });
});

describe('limits', () => {
  const counting = 'r6 = 0\nagain: r6 += 1\nr7 = r6\nif r7 != 1000000 goto again\nr0 = 2\nexit';

  it('names programs that are no XDP programs, empty or too long', async () => {
    expect((await reject(programOf('r0 = 2\nexit', { type: 1 }))).code).toBe('program-type');
    expect((await reject(programOf('', { insns: [] }))).code).toBe('program-empty');
    expect((await reject(programOf('r0 = 2\nexit'), { maxProgramInsns: 1 })).code).toBe('program-too-long');
  });

  it('ends what takes too long, too many insns or too much memory', async () => {
    expect((await reject(programOf(counting), { maxProcessedInsns: 5_000 })).code).toBe('too-many-insns');
    expect((await reject(programOf(counting), { maxMilliseconds: 1 })).code).toBe('out-of-time');
    expect((await reject(programOf(counting), { maxMemoryMiB: 1 })).code).toBe('out-of-memory');
  });

  it('ends a loop that goes round as long as there are callbacks, which a helper never lacks', async () => {
    const loop = (behind: string): string =>
      `r6 = 3\nagain: *(u64 *)(r10 -8) = 0\nr1 = 4\nr2 = subprog[cb]\nr3 = r10\nr3 += -8\nr4 = 0\ncall bpf_loop\nr1 = *(u64 *)(r10 -8)\nif r1 == 0 goto out\n${behind}out: r0 = 2\nexit\ncb: *(u64 *)(r2 +0) = 1\nr0 = 0\nexit`;
    const { code } = await reject(programOf(loop('goto again\n')), { maxPendingBranches: 100 });
    expect(code).toBe('too-many-branches');
    await accept(loop('r6 += -1\nif r6 != 0 goto again\n'));
  });

  it('counts what one insn changes in all the stacks of a path', async () => {
    const everywhere = Array.from(
      { length: 64 },
      (_, slot) => `*(u64 *)(r10 -${8 * (slot + 1)}) = r6\n`,
    ).join('');
    const frame = (depth: number, next: string): string =>
      `f${depth}: r6 = r1\n ${everywhere} r1 = r6\n call ${next}\n r0 = 2\n exit\n`;
    const frames = [1, 2, 3, 4, 5, 6]
      .map((depth) => frame(depth, depth < 6 ? `f${depth + 1}` : 'last'))
      .join('');
    const last =
      'last: r6 = r1\n r8 = 1\n again: if r6 < r8 goto out\n r8 += 1\n if r8 < 100000 goto again\n out: r0 = 2\n exit';
    const text = `r1 = *(u32 *)(r1 +12)\n call f1\n r0 = 2\n exit\n ${frames} ${last}`;
    const { code, statistics } = await reject(programOf(text), { maxMemoryMiB: 32 });
    expect(code).toBe('out-of-memory');
    expect(statistics.processedInsns).toBeLessThan(4_000);
  });

  it('lets a program hold no more references than there is room for pointers to them', async () => {
    const reserve = 'r1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\n';
    const held = (count: number): Promise<Rejection> =>
      reject(programOf(`${reserve.repeat(count)}r0 = 2\nexit`));
    const most = await held(MOST_REFERENCES);
    expect(most.reason).toMatch(/^the program ends, but the ring buffer record that insn 4 acquired/);
    const more = await held(2 * MOST_REFERENCES);
    expect(more.reason).toMatch(/^592 are held, more than there is room for/);
    expect(more.code).toBe('reference-leak');
    expect(more.statistics.processedInsns).toBe(4 * MOST_REFERENCES + 4);
  });

  it('counts the references that each state holds', async () => {
    const reserve = 'r1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\n';
    const stored = `${'r0 = 0\n'.repeat(8)}goto pc+0\ngoto pc+0\n`.repeat(500);
    const codeOf = async (references: number): Promise<string> =>
      (await reject(programOf(`${reserve.repeat(references)}${stored}r0 = 2\nexit`), { maxMemoryMiB: 3 }))
        .code;
    expect(await codeOf(50)).toBe('reference-leak');
    expect(await codeOf(500)).toBe('out-of-memory');
  });

  it('refuses a format that is longer than executors read', async () => {
    const insns = assemble(
      'r1 = r10\n r1 += -8\n r2 = 8\n r3 = map[text][0]+0\n r4 = 0\n r5 = 0\n call bpf_snprintf\n r0 = 2\n exit',
      { maps: new Map([['text', 1]]) },
    );
    const format = (length: number): VerifierMap => ({
      name: 'text',
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 5000,
      maxEntries: 1,
      flags: BPF_F_RDONLY_PROG,
      frozenValue: new Uint8Array(5000).fill(0x61, 0, length),
    });
    const verified = (length: number) =>
      new AbstractVerifier(DEFAULT_CONFIG).verify({
        program: programOf('', { insns }),
        maps: new Map([[1, format(length)]]),
      });
    expect((await verified(4095)).accepted).toBe(true);
    const longer = await verified(4096);
    expect(longer.accepted ? 'accepted' : longer.code).toBe('helper-argument');
  });

  it('reads a format once for all arguments that it may name', async () => {
    const told = vi.spyOn(Simulation.prototype, 'preciseNumber');
    const format = 'r1 = 0x6161616161616161 ll\n*(u64 *)(r10 -8) = r1\n';
    await accept(
      `${format}r1 = r10\nr1 += -8\nr2 = 8\nr3 = 0\nr4 = 0\nr5 = 0\ncall bpf_trace_printk\nr0 = 2\nexit`,
    );
    // Each byte, and the size.
    expect(told).toHaveBeenCalledTimes(9);
    told.mockRestore();
  });

  it('survives a program of the greatest length', async () => {
    const insns = new Array<Insn>(999_999).fill({ opcode: 0xb7, dst: 0, src: 0, off: 0, imm: 2 });
    const result = await verify(programOf('', { insns: insns.concat(assemble('exit')) }));
    expect(result.accepted).toBe(true);
  }, 30_000);

  it('keeps the event loop turning', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await verify(programOf(counting), { maxProcessedInsns: 100_000 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  });
});

describe('what an acceptance tells', () => {
  it('has facts for accesses and calls', async () => {
    const { facts } = await accept(`
      r6 = r1
      *(u32 *)(r10 -8) = 1
      r2 = r10
      r2 += -8
      r1 = map[flows]
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r1 = *(u64 *)(r0 +0)
    out:
      r0 = 2
      exit`);
    expect(facts!.calls.get(6)).toMatchObject({ helper: 1, map: HANDLES.get('flows') });
    expect(facts!.accesses.get(1)).toEqual({
      region: 'stack',
      write: true,
      size: 4,
      minOffset: -8,
      maxOffset: -8,
    });
    expect(facts!.accesses.get(8)).toEqual({
      region: 'map-value',
      write: false,
      size: 8,
      minOffset: 0,
      maxOffset: 0,
      map: HANDLES.get('flows'),
    });
    expect(facts!.unreachable.size).toBe(0);
  });

  it('drops facts on which paths disagree', async () => {
    const { facts } = await accept(`
      r6 = *(u32 *)(r1 +12)
      *(u64 *)(r10 -8) = 0
      r2 = r10
      r2 += -8
      if r6 == 1 goto read
      r2 = map[wide][0]+0
    read:
      r0 = *(u64 *)(r2 +0)
      exit`);
    expect(facts!.accesses.has(7)).toBe(false);
    expect(facts!.accesses.has(1)).toBe(true);
  });

  it('knows insns that no path reaches, and constants only where nothing else can be', async () => {
    const { facts } = await accept(`
      r6 = 5
      if r6 == 5 goto in
      r6 = 6
    in:
      r1 = map[devices]
      r2 = 0
      r3 = 2
      call bpf_redirect_map
      exit`);
    expect([...facts!.unreachable]).toEqual([2]);
    expect(facts!.calls.get(7)!.constants).toEqual(
      new Map([
        [2, 0n],
        [3, 2n],
      ]),
    );
  });

  it('does not take a constant from one path for all', async () => {
    // Paths meet with different flags; the second is pruned, because flags are never looked at.
    const { facts, properties } = await accept(`
      r6 = *(u32 *)(r1 +12)
      r7 = *(u32 *)(r1 +16)
      r3 = 1
      if r6 == 1 goto a
      r3 = 2
    a: if r7 == 1 goto b
      r7 = 9
    b: r8 = 0
      r8 = 1
      r8 = 2
      r8 = 3
      if r7 == 7 goto c
      r8 = 4
    c:
      r1 = map[devices]
      r2 = 0
      call bpf_redirect_map
      exit`);
    expect(facts!.calls.get(16)!.constants.has(3)).toBe(false);
    expect(properties!.verdicts).toEqual(expect.arrayContaining(['XDP_DROP', 'XDP_PASS', 'XDP_REDIRECT']));
  });

  it('knows every verdict, also of paths that were pruned', async () => {
    const { properties } = await accept(`
      r6 = *(u32 *)(r1 +12)
      r7 = *(u32 *)(r1 +16)
      r9 = 1
      if r6 == 1 goto a
      r9 = 2
      if r6 == 2 goto a
      r9 = 3
    a: if r7 == 1 goto b
      r7 = 9
    b: r8 = 0
      r8 = 1
      r8 = 2
      r8 = 3
      if r7 == 7 goto c
      r8 = 4
    c: if r7 == 8 goto d
      r8 = 5
    d: r0 = r9
      exit`);
    expect(properties!.verdicts).toEqual(['XDP_DROP', 'XDP_PASS', 'XDP_TX']);
  });

  it('has the properties that policies ask for', async () => {
    const { properties } = await accept(`
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      *(u64 *)(r10 -24) = 0
      r4 = r2
      r4 += 1
      r0 = 1
      if r4 > r3 goto out
      *(u8 *)(r2 +0) = 7
      r0 = 3
    out:
      exit`);
    expect(properties).toEqual({
      helpers: [],
      mapTypes: [],
      writesPacket: true,
      verdicts: ['XDP_DROP', 'XDP_TX'],
      worstCaseInsns: 10,
      stackBytes: 32,
    });
  });

  it('counts the rounds of loops and of callbacks', async () => {
    const loop = await accept('r6 = 0\nagain: r6 += 1\nif r6 != 10 goto again\nr0 = 2\nexit');
    expect(loop.properties!.worstCaseInsns).toBe(1 + 10 * 2 + 2);
    const callback = await accept(`
      r1 = 100
      r2 = subprog[cb]
      r3 = 0
      r4 = 0
      call bpf_loop
      r0 = 2
      exit
    cb: r0 = 0
      exit`);
    expect(callback.properties!.worstCaseInsns).toBeGreaterThanOrEqual(200);
  });

  it('counts callbacks as often as they may be called', async () => {
    /** Worst case without what the callback itself takes, and a few insns that are counted twice. */
    const worstCase = async (call: string, callback: string): Promise<number> => {
      const { properties } = await accept(`${call}\nr0 = 2\nexit\ncb: ${callback}\nr0 = 0\nexit`);
      return properties!.worstCaseInsns;
    };
    const loop = (rounds: string): string => `${rounds}\nr2 = subprog[cb]\nr3 = 0\nr4 = 0\ncall bpf_loop`;
    const forEach = (map: string): string =>
      `r1 = map[${map}]\nr2 = subprog[cb]\nr3 = 0\nr4 = 0\ncall bpf_for_each_map_elem`;
    const body = 'r5 = 1\n'.repeat(98);
    const close = (worst: number, rounds: number): void => {
      expect(worst).toBeGreaterThanOrEqual(7 + 100 * rounds);
      expect(worst).toBeLessThanOrEqual(7 + 100 * (rounds + 2));
    };
    close(await worstCase(loop('r1 = 50'), body), 50);
    close(await worstCase(loop('r1 = *(u32 *)(r1 +12)\nr1 &= 0x7f'), body), 127);
    close(await worstCase(loop('r1 = *(u32 *)(r1 +12)'), body), 1 << 23);
    // Arrays and hashes have as many elements as they may have.
    close(await worstCase(forEach('values'), body), 4);
    close(await worstCase(forEach('flows'), body), 16);
    // The longer way through the callback counts, though it meets the shorter one, which is explored first.
    const ways = `r1 = *(u64 *)(r10 -8)\n${'r5 = 1\n'.repeat(8)}`;
    const short = `*(u64 *)(r10 -8) = 0\n if r1 == 0 goto long\ngoto join\nlong: ${body}\njoin: ${ways}\ngoto a\na: goto b\nb: ${ways}`;
    const both = await worstCase(loop('r1 = 50'), short);
    expect(both).toBeGreaterThanOrEqual(7 + 50 * (98 + 20));
    // Rounds of both ways one after the other are counted as if each way were always taken.
    expect(both).toBeLessThanOrEqual(2 * (7 + 50 * (98 + 30)));
    // One loop in the other: 10 rounds of 20.
    const nested = await accept(`${loop('r1 = 10')}
      r0 = 2
      exit
    cb: r1 = 20
      r2 = subprog[inner]
      r3 = 0
      r4 = 0
      call bpf_loop
      r0 = 0
      exit
    inner: ${body}
      r0 = 0
      exit`);
    expect(nested.properties!.worstCaseInsns).toBeGreaterThanOrEqual(7 + 10 * (7 + 20 * 100));
    expect(nested.properties!.worstCaseInsns).toBeLessThanOrEqual(2.2 * (7 + 10 * (7 + 20 * 100)));
  });

  it('knows no worst case where elements may come while they are visited', async () => {
    const update =
      '*(u32 *)(r10 -4) = 1\n*(u64 *)(r10 -16) = 0\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -16\nr4 = 0';
    const program = (map: string): string => `r1 = map[flows]
      r2 = subprog[cb]
      r3 = 0
      r4 = 0
      call bpf_for_each_map_elem
      r0 = 2
      exit
    cb: r1 = map[${map}]
      ${update}
      call bpf_map_update_elem
      r0 = 0
      exit`;
    expect((await accept(program('pair'))).properties!.worstCaseInsns).toBeLessThan(1000);
    expect((await accept(program('flows'))).properties!.worstCaseInsns).toBe(Infinity);
    const inner = await accept(`*(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r1 = map[tables]
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r1 = r0
      r2 = subprog[cb]
      r3 = 0
      r4 = 0
      call bpf_for_each_map_elem
    out: r0 = 2
      exit
    cb: r0 = 0
      exit`);
    expect(inner.properties!.worstCaseInsns).toBe(Infinity);
  });

  it('knows the verdicts where half of a number is one, which is another on the second of two ways', async () => {
    const meet = `${'r0 = 0\n'.repeat(9)}goto a\na: goto b\nb: ${'r0 = 0\n'.repeat(9)}goto c\nc: goto d\nd:`;
    const { properties } = await accept(`r6 = *(u32 *)(r1 +12)
      r7 = 0
      if r6 > 3 goto second
      goto join
    second: r7 = 0x200000000 ll
    join: *(u64 *)(r10 -8) = r7
      r7 = 0
      r6 = 0
      ${meet} r0 = *(u32 *)(r10 -4)
      exit`);
    expect(properties!.verdicts).toEqual(['XDP_ABORTED', 'XDP_PASS']);
  });

  it('knows the verdicts behind a callback that stores in its caller', async () => {
    const { properties } = await accept(`*(u64 *)(r10 -16) = r1
      *(u64 *)(r10 -8) = 0
      r1 = 1500
      r2 = subprog[cb]
      r3 = r10
      r3 += -16
      r4 = 0
      call bpf_loop
      r0 = 2
      r1 = *(u64 *)(r10 -8)
      if r1 == 0 goto out
      r0 = 1
    out: exit
    cb: r5 = *(u64 *)(r2 +0)
      r3 = *(u32 *)(r5 +0)
      r4 = *(u32 *)(r5 +4)
      r0 = 1
      r5 = r3
      r5 += 2
      if r5 > r4 goto stop
      r0 = 0
      r4 = *(u8 *)(r3 +0)
      if r4 != 13 goto stop
      *(u64 *)(r2 +8) = r1
      r0 = 1
    stop: exit`);
    expect(properties!.verdicts).toEqual(['XDP_DROP', 'XDP_PASS']);
    // The same, but what the callback stored is returned.
    const returned = await accept(`*(u64 *)(r10 -8) = 2
      r1 = 4
      r2 = subprog[cb]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop
      r0 = *(u64 *)(r10 -8)
      exit
    cb: *(u64 *)(r2 +0) = r1
      r0 = 0
      exit`);
    expect(returned.properties!.verdicts).toHaveLength(5);
  });

  it('knows a verdict that a callback sets exactly, and does not count what the callback itself returns', async () => {
    /** `s` is what the callback stores, in a slot of `size` bits; it returns 0 or 1. */
    const captured = (size: 32 | 64, s: string, end = ''): string => `*(u64 *)(r10 -8) = 2
      r1 = 1500
      r2 = subprog[cb]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop
      r0 = *(u${size} *)(r10 -8)
      ${end}
      exit
    cb: r0 = 0
      if r1 != 7 goto out
      *(u${size} *)(r2 +0) = ${s}
      r0 = 1
    out: exit`;
    for (const size of [32, 64] as const) {
      expect((await accept(captured(size, '1'))).properties!.verdicts).toEqual(['XDP_DROP', 'XDP_PASS']);
      expect((await accept(captured(size, '3'))).properties!.verdicts).toEqual(['XDP_PASS', 'XDP_TX']);
      const end = 'if r0 != 2 goto pc+1\nr0 = 4';
      expect((await accept(captured(size, '1', end))).properties!.verdicts).toEqual([
        'XDP_DROP',
        'XDP_REDIRECT',
      ]);
    }
    // Where there are more values than verdicts, all may be.
    const counted = await accept(`*(u64 *)(r10 -8) = 0
      r1 = 1 ll
      r1 <<= 22
      r2 = subprog[cb]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop
      r0 = *(u64 *)(r10 -8)
      exit
    cb: r1 = *(u64 *)(r2 +0)
      r1 += 1
      *(u64 *)(r2 +0) = r1
      r0 = 0
      exit`);
    expect(counted.properties!.verdicts).toHaveLength(5);
    expect(counted.statistics.processedInsns).toBeLessThan(500);
  });

  it('tells of a comparison that was made on another copy of the pointer', async () => {
    const text = (end: string): string => `r2 = *(u32 *)(r1 +0)
      r8 = *(u32 *)(r1 +4)
      r3 = r2
      r3 += 15
      if r3 > r8 goto out
      r7 = *(u8 *)(r2 +0)
      r3 = r2
      r3 += r7
      r3 += 4
      if r3 > r8 goto out
      ${end}
      r2 += r7
      r0 = *(u32 *)(r2 +0)
      out: r0 = 2
      exit`;
    const there = await reject(programOf(text('r4 = 0')));
    expect(there.suggestion).toMatch(/^the bytes that were proved belong to R3/);
    const gone = await reject(programOf(text('r3 = 0')));
    expect(gone.suggestion).toMatch(
      /^insn 9 compared R3, a pointer that was added up on its own and is gone by now/,
    );
  });

  it('names no map where facts would speak of one that a lookup gave', async () => {
    const { facts } = await accept(`*(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r1 = map[nested]
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r1 = r0
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r0 = *(u8 *)(r0 +0)
    out: r0 = 2
      exit`);
    expect(facts!.calls.get(5)!.map).toBe(HANDLES.get('nested'));
    expect(facts!.calls.get(10)!.map).toBeUndefined();
    expect(facts!.accesses.has(12)).toBe(false);
  });

  it('does not take for a constant what was computed from a number that paths disagree on', async () => {
    const { facts } = await accept(`
      r6 = *(u32 *)(r1 +12)
      r7 = *(u32 *)(r1 +16)
      r9 = 1
      if r6 == 1 goto a
      r9 = 2
    a: if r7 == 1 goto b
      r7 = 9
    b: r8 = 0
      r8 = 1
      r8 = 2
      r8 = 3
      if r7 == 7 goto c
      r8 = 4
    c: r9 += 1
      r1 = r9
      r2 = 0
      call bpf_redirect
      exit`);
    const call = [...facts!.calls.values()].find(({ helper }) => helper === 23)!;
    expect(call.constants.has(1)).toBe(false);
    expect(call.constants.get(2)).toBe(0n);
  });

  it('says of the context what is read: a field in another width, or none', async () => {
    expect((await reject(programOf('r0 = *(u64 *)(r1 +0)\nexit'))).reason).toMatch(
      /^data of xdp_md is read as 8 bytes/,
    );
    expect((await reject(programOf('r0 = *(u32 *)(r1 +2)\nexit'))).reason).toMatch(
      /^offset 2 is no field of xdp_md/,
    );
  });

  it('reports where the states are', async () => {
    const text = `r6 = *(u32 *)(r1 +12)\nr7 = 0\nagain: r7 += 1\nr2 = map[wide][0]+0\nr2 += r7\nr3 = *(u8 *)(r2 +0)\nif r3 == 5 goto again2\nr6 += 1\nagain2: if r7 < 100 goto again\nr0 = 2\nexit`;
    const { statistics } = await accept(text);
    expect(statistics.hotspots!.length).toBeGreaterThan(0);
    expect(statistics.hotspots!.map((spot) => spot.kind)).toContain('loop');
    expect(statistics.processedInsns).toBeGreaterThan(600);
  });

  it('is the same every time when asked to be', async () => {
    const program = programOf(TWINS[11]!.accepted);
    const first = await verify(program, { deterministic: true }, true);
    expect(await verify(program, { deterministic: true }, true)).toEqual(first);
  });
});

describe('map values that are not all data', () => {
  const object = readObject(
    readFileSync(join(import.meta.dirname, '../../src/bpf/elf/fixtures/special_fields.o')),
    'special_fields',
  );
  const judge = (
    name: string,
    change: (map: MapSpec) => VerifierMap = (map) => map,
  ): Promise<Verification> => {
    const spec = object.programs.find((program) => program.name === name)!;
    const maps = requiredMaps(object, spec);
    return new AbstractVerifier(DEFAULT_CONFIG).verify({
      program: linkProgram(spec, new Map(maps.map((map, index) => [map.name, index + 1]))),
      maps: new Map(maps.map((map, index) => [index + 1, change(map)])),
    });
  };

  it.each(['lock', 'lock_global', 'read_deep'])('%s of a compiled object is accepted', async (name) => {
    expect(await judge(name)).toMatchObject({ accepted: true });
  });

  it('says which field is not modelled, and what would have to be', async () => {
    expect(await judge('start_timer')).toMatchObject({
      code: 'helper-unsupported',
      reason: expect.stringMatching(
        /would run the timer.*expiry\[0\]\.timer of map deep, a bpf_timer/,
      ) as string,
    });
    expect(await judge('read_list')).toMatchObject({
      code: 'special-field',
      reason: expect.stringContaining('head of map listed, a bpf_list_head') as string,
    });
  });

  it('says of a map without BTF, such as a guest has on its device, that this is missing', async () => {
    const plain = await judge('lock', ({ btf: _, ...map }) => map);
    expect(plain).toMatchObject({
      code: 'lock-argument',
      reason: expect.stringContaining('map locked has no BTF') as string,
      suggestion: expect.stringContaining('a guest creates on the device') as string,
    });
  });
});

describe('a weak function that is not there', () => {
  const object = readObject(
    readFileSync(join(import.meta.dirname, '../../src/bpf/elf/fixtures/weak_symbols.o')),
    'weak_symbols',
  );
  const judge = (name: string): Promise<Verification> => {
    const spec = object.programs.find((program) => program.name === name)!;
    const maps = requiredMaps(object, spec);
    const frozenValue = new Uint8Array(32);
    return new AbstractVerifier(DEFAULT_CONFIG).verify({
      program: linkProgram(spec, new Map(maps.map((map, index) => [map.name, index + 1]))),
      maps: new Map(maps.map((map, index) => [index + 1, { ...map, frozenValue }])),
    });
  };

  it.each(['calls_if_there', 'calls_in_function', 'reads_weak_settings'])(
    'is not called by %s, as the test is false: one verdict',
    async (name) => {
      expect(await judge(name)).toMatchObject({ accepted: true, properties: { verdicts: ['XDP_PASS'] } });
    },
  );

  it('is named when a path comes to the call', async () => {
    expect(await judge('calls_without_test')).toMatchObject({
      code: 'helper-unknown',
      reason: 'bpf_xdp_metadata_rx_hash is called, which is weak and not there',
      suggestion: expect.stringContaining('bpf_ksym_exists(bpf_xdp_metadata_rx_hash)') as string,
    });
  });
});

describe('a trusted loader', () => {
  it('may see addresses when it is allowed to', async () => {
    const leak = 'r2 = r10\n*(u64 *)(r10 -8) = r2\nw2 = w2\nr0 = r2\nexit';
    expect((await reject(programOf(leak))).code).toBe('pointer-leak');
    expect((await verify(programOf(leak), { allowPointerLeaks: true })).accepted).toBe(true);
  });

  it.each([
    ['stores', '*(u32 *)(r10 -8) = r1\nr0 = 2\nexit'],
    ['loads', '*(u64 *)(r10 -8) = r1\nr0 = *(u8 *)(r10 -5)\nr0 = 2\nexit'],
  ])('%s no part of a pointer, as with the kernel', async (_, text) => {
    expect((await reject(programOf(text), { allowPointerLeaks: true })).code).toBe('spill-size');
  });
});

describe('log', () => {
  it('is in the notation of the kernel', async () => {
    const result = await verify(
      programOf(
        'r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 14\nr0 = 1\nif r4 > r3 goto out\nr0 = *(u8 *)(r2 +13)\nout: exit',
      ),
      {},
      true,
    );
    await expect(result.log).toMatchFileSnapshot('golden/log.txt');
  });
});

describe('advice on a number that is not bounded as it has to be', () => {
  /** R6 = any number; R0 = a value of 16 bytes. */
  const value = (checks: string): string => `*(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[values]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r6 = *(u64 *)(r0 +0)
    ${checks}
    r0 += r6
    r1 = *(u8 *)(r0 +0)
    out: r0 = 2
    exit`;

  it.each([
    ['no comparison', '', /^nothing bounds R6 on this path: .*compare it as unsigned/],
    [
      'a signed one',
      'if r6 s> 15 goto out',
      /^the comparison that bounds R6 .* is a signed one.*as unsigned/,
    ],
    [
      'signed ones on both sides',
      'if r6 s> 15 goto out\nif r6 s< -4 goto out',
      /may be negative, as low as -4/,
    ],
    [
      'one for the sign alone',
      'if r6 s< 0 goto out',
      /known not to be negative, but nothing bounds it above/,
    ],
    ['one on 32 bits', 'if w6 > 15 goto out', /^only the low 32 bits of R6 are bounded/],
    ['an unsigned one with too much', 'if r6 > 99 goto out', /at most 15|up to 99/],
    ['a mask with too much', 'r6 &= 127', /at most 15|up to 127/],
    ['an unsigned one, and something taken off', 'if r6 > 15 goto out\nr0 += -8', /at least 8 more/],
  ])('takes account of %s', async (_, checks, advice) => {
    const { suggestion } = await reject(programOf(value(checks)));
    expect(suggestion).toMatch(advice);
  });

  it.each([
    ['one for the sign alone', 'if r6 s< 0 goto out'],
    ['an unsigned one with too much', 'if r6 > 99 goto out'],
    ['a very large one', 'r1 = 0x7fffffffff ll\nif r6 > r1 goto out'],
    ['a mask with too much', 'r6 &= 127'],
    ['an unsigned one, and something taken off', 'if r6 > 15 goto out\nr0 += -8'],
  ])('does not say to compare as unsigned after %s', async (_, checks) => {
    const { suggestion } = await reject(programOf(value(checks)));
    expect(suggestion).not.toMatch(/unsigned/);
  });

  it('does so for sizes that helpers are given', async () => {
    const size = (checks: string): string => `*(u64 *)(r10 -8) = 0
      *(u32 *)(r10 -12) = 0
      r9 = r1
      r2 = r10
      r2 += -12
      r1 = map[values]
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r5 = *(u64 *)(r0 +0)
      ${checks}
      r1 = r9
      r2 = map[events]
      r3 = 0
      r4 = r10
      r4 += -8
      call bpf_perf_event_output
      out: r0 = 2
      exit`;
    const advice = async (checks: string): Promise<string> =>
      (await reject(programOf(size(checks)))).suggestion ?? '';
    expect(await advice('')).toMatch(/^nothing bounds R5/);
    expect(await advice('if r5 s> 8 goto out')).toMatch(/signed one/);
    expect(await advice('if r5 s< 1 goto out')).toMatch(/known not to be negative/);
  });
});

describe('explanations', () => {
  const names = [
    'packet read one byte past what was compared',
    'the branches of the comparison swapped',
    'two variable offsets are not one',
    'packet pointer used after bpf_xdp_adjust_head',
    'index bounded only as signed',
    'check for NULL through a spilled copy',
    'key with padding that was not cleared',
    'address stored in a map by way of the stack',
    'ring buffer record kept',
    'counter in the context of a callback, used as an index',
    'loop that changes nothing',
    'map that a helper does not take',
  ];
  it.each(names)('%s', async (name) => {
    const twin = TWINS.find((candidate) => candidate.name === name)!;
    const result = await reject(programOf(twin.rejected), { deterministic: true });
    const lines = [
      `${result.code}: ${result.reason}`,
      `at insn ${result.insn}: ${result.disassembly}`,
      ...(result.registers ?? []).map((register) => `  ${register}`),
      'path:',
      ...(result.path ?? []).map((step) => `  ${step.insn}: ${step.text}`),
      `help: ${result.suggestion}`,
    ];
    await expect(`${lines.join('\n')}\n`).toMatchFileSnapshot(
      `golden/${name.replace(/[^a-zA-Z0-9]+/g, '-')}.txt`,
    );
  });
});
