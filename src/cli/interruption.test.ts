import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ResultDocument } from '../core/contract/result.js';
import type { CliContext } from './cli-context.js';
import { addVerbs } from './verbs.js';

const root = new URL('../../', import.meta.url).pathname;
const main = join(root, 'dist/src/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'xdpbed-interruption-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);
const pcap = join(root, 'testbeds/captures/mixed.pcap');
const xdp1 = join(root, 'testbeds/programs/xdp1.o');
const rfc2019 = join(root, 'testbeds/rfc-2019.testbed.yaml');

/** Milliseconds to the end on a machine with much else to do; by itself it is 200. */
const LIMIT_MS = 2_000;
/** By then a command that prints nothing is at work, on such a machine as well. */
const AT_WORK_MS = 1_500;

/** As testbeds/unsafe/slow_to_verify.bpf.c: many paths, which differ in what lies on the stack, and all of it decides an address. */
const SLOTS = Array.from({ length: 48 }, (_, slot) => `*(u64 *)(r10 -${8 * (slot + 1)})`);
const SLOW = `
.map sink array key=4 value=64 entries=1
.program slow
${SLOTS.map((slot) => `  call bpf_get_prandom_u32\n  ${slot} = r0`).join('\n')}
${Array.from({ length: 200 }, (_, i) => `  call bpf_get_prandom_u32\n  if r0 > ${3 * i + 1} goto +1\n  ${SLOTS[i % 48]} = r0`).join('\n')}
  r6 = 0
${SLOTS.map((slot) => `  r1 = ${slot}\n  r6 += r1`).join('\n')}
  *(u32 *)(r10 -388) = 0
  r1 = map[sink]
  r2 = r10
  r2 += -388
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r6 &= 63
  r0 += r6
  *(u8 *)(r0 +0) = 1
out:
  r0 = 2
  exit
`;

beforeAll(() => {
  writeFileSync(path('slow.s'), `.license GPL\n.program quick\n  r0 = 2\n  exit\n${SLOW}`);
  writeFileSync(path('long.s'), `.program long\n${'r0 = 2\n'.repeat(400_000)}exit\n`);
  // 180 000 rounds: as many lines of a trace, and some.
  writeFileSync(path('loop.s'), 'r6 = 0\nr6 += 1\nif r6 < 180000 goto -2\nr0 = 2\nexit\n');
  writeFileSync(
    path('many.cases.yaml'),
    `program: quick
cases:
  - { name: once, packet: { hex: '${'00'.repeat(14)}' }, expect: { verdict: XDP_PASS } }
${Array.from({ length: 100 }, (_, i) => `  - { name: often ${i}, packet: { hex: '${'00'.repeat(14)}' }, repeat: 1000000, expect: { verdict: XDP_PASS } }\n`).join('')}`,
  );
  writeFileSync(
    path('long.testbed.yaml'),
    `version: 1
name: long
programs: { count: { object: ${join(root, 'testbeds/programs/xdp1.o')} } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap: {} }
  bridges: { br0: { ports: [eth0, tap] } }
guests: { g: { count: 9, nics: { eth0: { tap: tap, mac: 52:54:00:00:00:02, program: count, placement: host } } } }
workload: { use: udp-flood, config: { frames: 10 } }
checks: [{ kind: conservation }]
matrix:
  frames:
    few: { workload.config.frames: 10 }
    many: { workload.config.frames: 100000000 }
    none: { workload.config.frames: 1 }
${['a', 'b', 'c'].map((axis) => `  ${axis}: { ${Array.from({ length: 11 }, (_, i) => `v${i}: {}`).join(', ')} }`).join('\n')}
`,
  );
});

interface Interrupted {
  readonly exit: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly milliseconds: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command and sends it a signal: once what it printed matches, or after some time. */
async function interrupt(
  args: readonly string[],
  when: RegExp | number,
  name: NodeJS.Signals = 'SIGINT',
): Promise<Interrupted> {
  const child = spawn(process.execPath, [main, ...args], { cwd: root });
  let [out, err] = ['', ''];
  const printed = new Promise<void>((resolve, reject) => {
    const look = (): void => {
      if (typeof when !== 'number' && when.test(out + err)) resolve();
    };
    child.stdout.setEncoding('utf8').on('data', (text: string) => ((out += text), look()));
    child.stderr.setEncoding('utf8').on('data', (text: string) => ((err += text), look()));
    if (typeof when === 'number') setTimeout(resolve, when);
    child.once('exit', () => reject(new Error(`it ended by itself: ${err || out.slice(-200)}`)));
  });
  try {
    await printed;
    const ended = once(child, 'close');
    const started = performance.now();
    child.kill(name);
    const [exit, signal] = (await ended) as [number | null, NodeJS.Signals | null];
    return { exit, signal, milliseconds: performance.now() - started, out, err };
  } finally {
    child.kill('SIGKILL');
  }
}

/** By verb: a command line that takes long, when it is interrupted, and what it has printed then. */
const LONG: Readonly<
  Record<string, { args: () => string[]; when: RegExp | number; out?: RegExp; err?: RegExp }>
> = {
  run: {
    args: () => [path('long.testbed.yaml'), ...['a', 'b', 'c'].flatMap((axis) => ['--only', `${axis}=v0`])],
    when: /run 2 of 3/,
    out: /XDP_DROP[^]*interrupted[^]*not +│[^]*1 interrupted, 1 not started, 0 of 2 checks passed\n$/,
    err: /interrupted in run many\/v0\/v0\/v0/,
  },
  validate: { args: () => [path('long.testbed.yaml')], when: 1_200 },
  plan: { args: () => [path('long.testbed.yaml')], when: 1_200 },
  calibrate: { args: () => [rfc2019], when: /fit, parameters/, err: /\[interrupted\]/ },
  sensitivity: {
    args: () => [rfc2019, '--only', 'case=redirect', '--cost', 'skb-receive'],
    when: /run 2 of 4/,
    out: /redirect\/xdp1\/guest: [\d.]+ Mpps/,
    err: /\[interrupted\]/,
  },
  'prog disasm': { args: () => [path('long.s')], when: /1000: /, out: /^long \(section/ },
  'prog verify': {
    args: () => [path('slow.s')],
    when: AT_WORK_MS,
    out: /^quick: accepted/,
    err: /interrupted while program slow was verified \[interrupted\]/,
  },
  'prog trace': {
    args: () => [path('loop.s'), '--pcap', pcap, '--limit', '1000000'],
    when: /r6 \+= 1/,
    err: /\[interrupted\]/,
  },
  'prog test': {
    args: () => [path('slow.s'), path('many.cases.yaml')],
    when: 2 * AT_WORK_MS,
    out: /✓ once[^]* passed, 0 failed/,
  },
  'prog diff': {
    args: () => [xdp1, xdp1, '--packets', '1000000000'],
    when: 2 * AT_WORK_MS,
    out: /interrupted; the same so far/,
  },
  'prog fuzz': {
    args: () => [xdp1, '--packets', '1000000000'],
    when: 2 * AT_WORK_MS,
    out: /interrupted; holds so far/,
  },
  'prog bench': {
    args: () => [xdp1, '--pcap', pcap, '--rounds', '1000'],
    when: 2 * AT_WORK_MS,
    // Behind so much else it may not have come to its first round.
    out: /^(interpreter +\d+\.\d ns a packet +1\.000 of interpreter\nwasm.*\n)?$/,
    err: /^\d+ of 1000 rounds were measured\nxdpbed: interrupted/,
  },
  conformance: { args: () => [], when: AT_WORK_MS, err: /interrupted while the program was awaited/ },
};

/** Why a verb is not among them. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'prog run': 'src/cli/prog/long-capture.test.ts',
  'prog info': 'is through with the longest object in a fraction of a second',
  'plugins list': 'is through at once',
  'plugins show': 'is through at once',
  doctor: 'is through in a fraction of a second, and takes away what it has tried before it ends',
  prune: 'is through in a fraction of a second',
  status: 'is through at once',
  up: 'src/cli/held/held.test.ts',
  exec: 'ends with what it ran',
  down: 'waits for another process, and ends at once when it is interrupted',
};

function verbsOf(command: Command): string[] {
  return command.commands.flatMap((child) =>
    child.commands.length === 0 ? [child.name()] : verbsOf(child).map((name) => `${child.name()} ${name}`),
  );
}

describe('an interruption (of the built command: npm run build)', () => {
  it('is tried on every verb', () => {
    const program = new Command().enablePositionalOptions();
    addVerbs(program, { verb: () => async () => undefined } as unknown as CliContext);
    expect([...Object.keys(LONG), ...Object.keys(ELSEWHERE)].sort()).toEqual(verbsOf(program).sort());
  });

  it.each(Object.keys(LONG))('%s ends soon, with 130 and what there was', async (verb) => {
    const { args, when, out, err } = LONG[verb]!;
    if (verb === 'prog disasm')
      writeFileSync(path('long.s'), `.program long\n${'r0 = 2\n'.repeat(400_000)}exit\n`);
    const ended = await interrupt([...verb.split(' '), ...args()], when);
    expect(ended).toMatchObject({ exit: 130, signal: null });
    expect(ended.milliseconds).toBeLessThan(LIMIT_MS);
    if (out !== undefined) expect(ended.out).toMatch(out);
    if (err !== undefined) expect(ended.err).toMatch(err);
  });

  it('prog test ends soon while a program is verified, too', async () => {
    writeFileSync(
      path('slow.cases.yaml'),
      `program: slow\ncases: [{ name: a, packet: { hex: '${'00'.repeat(14)}' }, expect: { verdict: XDP_PASS } }]\n`,
    );
    const ended = await interrupt(['prog', 'test', path('slow.s'), path('slow.cases.yaml')], AT_WORK_MS);
    expect(ended).toMatchObject({ exit: 130, signal: null });
    expect(ended.out).toMatch(/0 passed, 0 failed/);
    expect(ended.milliseconds).toBeLessThan(LIMIT_MS);
  });

  it('prog test ends soon while cases are read, with a document all the same', async () => {
    mkdirSync(path('tables'));
    const rows = Array.from({ length: 8_000 }, (_, i) => `      - { i: ${i} }\n`).join('');
    const packet = '{ ipv4: { src: 192.0.2.1, dst: 192.0.2.2 }, udp: { srcPort: $i, dstPort: 53 } }';
    for (let file = 0; file < 20; file++)
      writeFileSync(
        path(`tables/${file}.cases.yaml`),
        `object: ${xdp1}\ncases:\n  - name: c $i\n    each:\n${rows}    packet: ${packet}\n    expect: { verdict: XDP_DROP }\n`,
      );
    const ended = await interrupt(['prog', 'test', path('tables'), '--format', 'json'], AT_WORK_MS);
    expect(ended).toMatchObject({ exit: 130, signal: null });
    expect(ended.milliseconds).toBeLessThan(LIMIT_MS);
    expect(JSON.parse(ended.out)).toMatchObject({ schema: 'xdpbed.prog-test/1', interrupted: true });
  });

  it('prog diff and prog fuzz end soon while a program is verified, too', async () => {
    const args = [path('slow.s'), path('slow.s'), '--packets', '50', '--format', 'json'];
    const diff = await interrupt(['prog', 'diff', ...args], 2 * AT_WORK_MS);
    expect(diff).toMatchObject({ exit: 130, signal: null });
    expect(diff.err).toMatch(/interrupted while program slow was verified/);
    expect(diff.milliseconds).toBeLessThan(LIMIT_MS);
    // What came of the first program is told, and which was under way.
    expect(JSON.parse(diff.out)).toMatchObject({
      programs: [{ program: 'quick', result: 'same' }],
      interrupted: 'slow',
    });
    const fuzz = await interrupt(['prog', 'fuzz', path('slow.s'), '--program', 'slow'], AT_WORK_MS);
    expect(fuzz).toMatchObject({ exit: 130, signal: null, out: '' });
    expect(fuzz.err).toMatch(/interrupted while program slow was verified/);
    expect(fuzz.milliseconds).toBeLessThan(LIMIT_MS);
  });

  it.each(['json', 'ndjson', 'junit', 'csv'])('is in the result of a run: %s', async (format) => {
    const { args, when } = LONG.run!;
    const { exit, out } = await interrupt(['run', ...args(), '--format', format], when, 'SIGTERM');
    expect(exit).toBe(130);
    if (format === 'junit') expect(out).toMatch(/<error type="interrupted"[^]*<\/testsuites>\n$/);
    if (format === 'csv')
      expect(out.split('\r\n').filter((line) => line.includes(',interrupted,'))).toHaveLength(1);
    if (format === 'ndjson') {
      const last = JSON.parse(out.trimEnd().split('\n').at(-1)!) as unknown;
      expect(last).toMatchObject({ event: 'summary', interrupted: true, runs: 1, runsNotStarted: 1 });
    }
    if (format !== 'json') return;
    const result = JSON.parse(out) as ResultDocument;
    expect(result.interrupted).toMatchObject({ run: 'many/v0/v0/v0', index: 1 });
    expect(result).toMatchObject({ passed: false, runs: [{ framesSent: 10 }], notStarted: [{ index: 2 }] });
  });
});
