import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { readAssembly } from '../../bpf/assembly-object.js';
import type { LineInfo } from '../../bpf/btf/btf-ext.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import { buildFrame } from '../../packet/index.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { ProgramSession } from '../program-test/program-session.js';
import { Workbench } from '../program-test/workbench.js';
import { readObjectFile } from '../testbed/object-file.js';
import { CoverageCollector, type ProgramCoverage } from './coverage-collector.js';
import { formatCoverage } from './coverage-listing.js';
import { formatLcov } from './lcov.js';
import { coverageTotals, sourceCoverage } from './source-coverage.js';

async function cover(
  object: ObjectSpec,
  frames: readonly Uint8Array[],
  program = object.programs[0]!,
): Promise<readonly ProgramCoverage[]> {
  const coverage = new CoverageCollector(object.programs);
  const bench = await Workbench.open(new PluginRegistry(BUILT_IN_PLUGINS), {
    executor: 'interpreter',
    verifiers: ['abstract'],
    coverage,
  });
  try {
    const session = await ProgramSession.open(bench, object, program);
    if ('code' in session) throw new Error(session.reason);
    for (const frame of frames) expect(session.run(frame).fault).toBeUndefined();
    session.close();
  } finally {
    await bench.close();
  }
  return coverage.coverage;
}

const ETH = { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' };
const ipv4 = (ttl: number, src = '10.0.0.1'): Uint8Array =>
  buildFrame({ eth: ETH, ipv4: { src, dst: '10.0.0.2', protocol: 47, ttl } });

describe('coverage of testbeds/programs/ip_sanity.bpf.c', () => {
  // Too short, not IPv4, TTL 0, and two that go through: nobody from 127/8, no fragment.
  const frames = [new Uint8Array(20), new Uint8Array(60), ipv4(0), ipv4(64), ipv4(1)];

  it('names the branches that no packet takes, with what they lead to', async () => {
    const object = await readObjectFile('testbeds/programs/ip_sanity.o', {});
    const text = formatCoverage(await cover(object, frames));
    const rows = text.split('\n').map((line) => line.trim().replace(/ +/g, ' '));
    // The source: line 29 is reached by all five, 31 by all but the short one, and so on.
    expect(rows).toEqual(
      expect.arrayContaining([
        'ip_sanity: called 5 times',
        '5 29 if ((void *)(ip + 1) > data_end)',
        '4 31 if (eth->h_proto != bpf_htons(ETH_P_IP))',
        '3 34 if (ip->ttl == 0) {',
        '1 35 expired++;',
        '2 38 if ((ip->saddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)) {',
        '##### 39 spoofer = ip->saddr;',
        '2 42 if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)) {',
        '##### 43 fragment_bytes += data_end - data;',
        './ip_sanity.bpf.c lines 10 of 12 (83.3 %), branches 8 of 10 (80.0 %) (of each both ways), functions 1 of 1 (100.0 %)',
      ]),
    );
    expect(rows.filter((row) => row.startsWith('!'))).toEqual([
      expect.stringMatching(
        /^! never goes to line 39 `spoofer = ip->saddr;`: insn \d+, if .*, is always taken$/,
      ),
      expect.stringMatching(
        /^! never goes to line 43 `fragment_bytes .*`: insn \d+, if .*, is always taken$/,
      ),
    ]);
  });

  it('says nothing more once every way was taken', async () => {
    const object = await readObjectFile('testbeds/programs/ip_sanity.o', {});
    const fragment = ipv4(64);
    fragment[20] = 0x20;
    const text = formatCoverage(await cover(object, [...frames, ipv4(64, '127.9.9.9'), fragment]));
    expect(text).not.toMatch(/! |#####/);
    expect(text).toContain('lines 12 of 12 (100.0 %), branches 10 of 10 (100.0 %)');
  });

  it('is a tracefile for lcov', async () => {
    const object = await readObjectFile('testbeds/programs/ip_sanity.o', {});
    const files = sourceCoverage(await cover(object, frames));
    const lines = formatLcov(files, (file) => file.replace('./', '/src/')).split('\n');
    expect(lines.slice(0, 6)).toEqual([
      'TN:',
      'SF:/src/ip_sanity.bpf.c',
      'FN:22,ip_sanity',
      'FNDA:5,ip_sanity',
      'FNF:1',
      'FNH:1',
    ]);
    expect(lines.filter((line) => line.startsWith('BRDA:34'))).toEqual(['BRDA:34,0,0,2', 'BRDA:34,0,1,1']);
    expect(lines.filter((line) => line.startsWith('BRDA:42'))).toEqual(['BRDA:42,0,0,2', 'BRDA:42,0,1,0']);
    expect(lines).toEqual(
      expect.arrayContaining(['DA:29,5', 'DA:35,1', 'DA:39,0', 'DA:43,0', 'BRF:10', 'BRH:8']),
    );
    expect(lines.slice(-4)).toEqual(['LF:12', 'LH:10', 'end_of_record', '']);
  });

  it('has a branch whose jump never ran without a number in lcov', async () => {
    const object = await readObjectFile('testbeds/programs/ip_sanity.o', {});
    const lines = formatLcov(sourceCoverage(await cover(object, [new Uint8Array(20)]))).split('\n');
    expect(lines).toEqual(
      expect.arrayContaining(['BRDA:29,0,0,1', 'BRDA:29,0,1,0', 'BRDA:34,0,0,-', 'BRDA:34,0,1,-']),
    );
  });
});

it('counts the programs that tail calls lead to, each with its own lines', async () => {
  const object = await readObjectFile('testbeds/programs/tail_chain.o', {});
  const entry = object.programs.find(({ name }) => name === 'tail_entry');
  const [file] = sourceCoverage(await cover(object, [new Uint8Array(60), new Uint8Array(60)], entry));
  expect(file!.functions.map(({ name, count }) => `${name} ${count}`)).toEqual([
    'tail_entry 2',
    'stage1 2',
    'stage2 2',
    'stage3 2',
    'stage4 2',
  ]);
  // Behind a tail call that never comes back; only the last stage makes none.
  const behind = file!.lines.filter(({ text }) => text === 'return XDP_PASS;');
  expect(behind.map(({ count }) => count)).toEqual([0, 0, 0, 0, 2]);
});

it('has programs that are never loaded with zeros', async () => {
  const object = await readObjectFile('testbeds/programs/tail_chain.o', {});
  const stage4 = object.programs.find(({ name }) => name === 'stage4');
  const [file] = sourceCoverage(await cover(object, [new Uint8Array(60)], stage4));
  expect(coverageTotals([file!]).functions).toEqual({ hit: 1, found: 5 });
});

it('goes by insns without line info', async () => {
  const object = readAssembly(
    '.program bare\n  r0 = *(u32 *)(r1 +12)\n  if r0 == 7 goto seven\n  r0 = 2\n  exit\nseven:\n  r0 = 1\n  exit\n',
  );
  const coverage = await cover(object, [new Uint8Array(60)]);
  expect(sourceCoverage(coverage)).toEqual([]);
  expect(formatLcov(sourceCoverage(coverage))).toBe('');
  expect(formatCoverage(coverage).replace(/ +/g, ' ').trim().split('\n')).toEqual([
    'program bare, which has no line info: its insns',
    ' 1 0 r0 = *(u32 *)(r1 +12)',
    ' 1 1 if r0 == 0x7 goto pc+2',
    ' ! never taken',
    ' 1 2 r0 = 2',
    ' 1 3 exit',
    ' ##### 4 r0 = 1',
    ' ##### 5 exit',
    'insns 4 of 6 (66.6 %), branches 1 of 2 (50.0 %) (of each both ways)',
  ]);
});

describe('sourceCoverage', () => {
  /** A program of one file; each line starts at the insn that is its index's. */
  function programOf(
    name: string,
    text: string,
    lines: readonly (readonly [insn: number, line: number])[],
    functions: readonly (readonly [insn: number, name: string])[] = [[0, name]],
  ): ProgramSpec {
    return {
      name,
      section: 'xdp',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      frags: false,
      license: '',
      insns: assemble(text),
      references: [],
      debug: {
        functions: functions.map(([insn, each]) => ({ insn, name: each, linkage: 'static', typeId: 1 })),
        lines: lines.map(([insn, line]): LineInfo => ({
          insn,
          line,
          file: 'x.c',
          text: `line ${line}`,
          column: 1,
        })),
      },
    };
  }
  const coverageOf = (
    program: ProgramSpec,
    executed: number[],
    taken: Record<number, number> = {},
    unreachable: number[] = [],
  ): ProgramCoverage => ({
    program,
    counts: {
      executed: Float64Array.from(executed),
      taken: Float64Array.from(executed, (_, slot) => taken[slot] ?? 0),
    },
    unreachable: new Set(unreachable),
  });

  it('takes the insn of a line that ran most, and adds up the programs that a function is in', () => {
    const text = 'call sub\nexit\nsub: if r1 == 1 goto out\nr0 = 1\nout: exit';
    const lines = [
      [0, 10],
      [2, 3],
      [3, 4],
      [4, 3],
    ] as const;
    const one = programOf('one', text, lines, [
      [0, 'one'],
      [2, 'sub'],
    ]);
    const two = programOf(
      'two',
      `r6 = r1\n${text}`,
      lines.map(([insn, line]) => [insn && insn + 1, line]),
      [
        [0, 'two'],
        [3, 'sub'],
      ],
    );
    const [file] = sourceCoverage([
      coverageOf(one, [5, 5, 5, 2, 4], { 2: 3 }),
      coverageOf(two, [7, 7, 7, 7, 7, 7], { 3: 0 }),
    ]);
    expect(file!.lines.map(({ line, count }) => [line, count])).toEqual([
      [3, 12],
      [4, 9],
      [10, 12],
    ]);
    expect(file!.functions.map(({ name, line, count }) => [name, line, count])).toEqual([
      ['sub', 3, 12],
      ['one', 10, 5],
      ['two', 10, 7],
    ]);
    // One branch, although it is in two programs.
    expect(file!.lines[0]!.branches).toMatchObject([{ taken: { count: 3 }, fallThrough: { count: 9 } }]);
  });

  it('has insns of no line count for none', () => {
    const program = programOf('p', 'r1 = 1\nr0 = 2\nexit', [
      [0, 5],
      [1, 0],
      [2, 6],
    ]);
    const [file] = sourceCoverage([coverageOf(program, [1, 9, 1])]);
    expect(file!.lines.map(({ line, count }) => [line, count])).toEqual([
      [5, 1],
      [6, 1],
    ]);
  });

  it('keeps what names of the object hold in their records of lcov', () => {
    const program = programOf('p', 'r0 = 2\nexit', [[0, 5]], [[0, 'f\nDA:9,9']]);
    const text = formatLcov(
      sourceCoverage([coverageOf(program, [1, 1])]),
      (file) => `${file}\nend_of_record`,
    );
    expect(text.split('\n').slice(0, 4)).toEqual([
      'TN:',
      String.raw`SF:x.c\u000aend_of_record`,
      String.raw`FN:5,f\u000aDA:9,9`,
      String.raw`FNDA:1,f\u000aDA:9,9`,
    ]);
  });

  it('sets apart what the verifier says that no path reaches', () => {
    const program = programOf('p', 'if r1 == 1 goto dead\nr0 = 2\nexit\ndead: r0 = 1\nexit', [
      [0, 5],
      [1, 6],
      [3, 7],
    ]);
    const files = sourceCoverage([coverageOf(program, [4, 4, 4, 0, 0], {}, [3, 4])]);
    expect(files[0]!.lines.map(({ line, unreachable }) => [line, unreachable])).toEqual([
      [5, false],
      [6, false],
      [7, true],
    ]);
    expect(coverageTotals(files)).toMatchObject({
      lines: { hit: 2, found: 2 },
      branches: { hit: 1, found: 1 },
    });
    expect(formatLcov(files)).not.toContain('DA:7');
    expect(formatLcov(files)).toContain('BRF:1\n');
    const text = formatCoverage([coverageOf(program, [4, 4, 4, 0, 0], {}, [3, 4])]);
    expect(text).toMatch(/-----\s+7 {2}line 7/);
    expect(text).not.toContain('!');
  });
});

describe('CoverageCollector', () => {
  it('calls an insn unreachable that is so in every load', () => {
    const object = readAssembly('.program p\n  r0 = 2\n  exit\n');
    const collector = new CoverageCollector(object.programs);
    const [program] = object.programs;
    const load = (unreachable: number[]): unknown =>
      collector.countsFor(
        { ...program!, gplCompatible: true },
        { accesses: new Map(), calls: new Map(), unreachable: new Set(unreachable) },
      );
    expect(load([0, 1])).toBe(load([1]));
    expect([...collector.coverage[0]!.unreachable]).toEqual([1]);
    load([]);
    expect([...collector.coverage[0]!.unreachable]).toEqual([]);
  });
});
