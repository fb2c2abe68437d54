import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runForTest } from '../testing-terminal.js';
import type { CalibrationReport, SensitivityReport } from './reports.js';

const root = new URL('../../..', import.meta.url).pathname;
const xdpbed = (...args: string[]) => runForTest(args);

const TESTBED = `
version: 1
name: tiny
plugins:
  fabric: { use: model, config: { calibration: costs.yaml, sample-ms: 1, warm-up-ms: 0.5 } }
programs:
  xdp1: { object: ${root}testbeds/programs/xdp1.o }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:01:00, ipv4: 192.0.2.10, program: xdp1, placement: guest }
workload: { use: udp-flood, config: { frames: 2 } }
measure: { seconds: 1, samples: 1, warm-up: 0.1, size: 60, flows: 1 }
matrix:
  placement:
    guest: { guests.g0.nics.eth0.placement: guest }
    host: { guests.g0.nics.eth0.placement: host }
`;

/** What the rates that are to be met were made with; the file says 510. */
const TRUTH = 700;

/** The calibration that there is, of which one or two parameters may be fitted. */
function calibration(free: Readonly<Record<string, string>>): string {
  const text = readFileSync(join(root, 'testbeds/calibration/rfc-2019.yaml'), 'utf8');
  return text
    .split('\n')
    .map((line) => (/^\s+free:/.test(line) ? '' : line))
    .join('\n')
    .replace(
      /^ {2}skb-receive:[^]*?(?=^ {2}\S)/m,
      `  skb-receive: { value: 510, source: test, free: ${free['skb-receive']} } # kept\n`,
    )
    .replace(
      /^ {2}tap-receive:[^]*?(?=^ {2}\S)/m,
      `  tap-receive: { value: 250, source: test, free: ${free['tap-receive']} }\n`,
    );
}

let folder: string;
let testbed: string;
let costs: string;
let result: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-cost-'));
  [testbed, costs, result] = ['tiny.testbed.yaml', 'costs.yaml', 'result.json'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  writeFileSync(testbed, TESTBED);
  writeCalibration();
  const set = `plugins.fabric.config.costs={ skb-receive: ${TRUTH} }`;
  const { out, exit, err } = await xdpbed('run', testbed, '--set', set, '--format', 'json');
  expect(exit, err).toBe(0);
  writeFileSync(result, out);
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => writeCalibration());

function writeCalibration(): void {
  writeFileSync(
    costs,
    calibration({
      'skb-receive': '{ prior: 510, spread: 1000 }',
      // Nothing comes in by the tap when frames are dropped.
      'tap-receive': '{ prior: 250, spread: 50 }',
    }),
  );
}

describe('xdpbed calibrate', { timeout: 180_000 }, () => {
  it('finds the cost that made the rates, and says what they do not tell', async () => {
    const { exit, out, err } = await xdpbed('calibrate', testbed, '--reference', result, '--format', 'json');
    expect(exit, err).toBe(0);
    const report = JSON.parse(out) as CalibrationReport;
    expect(report).toMatchObject({
      schema: 'xdpbed.calibration-fit/1',
      calibration: 'costs.yaml',
      reference: `${result} (fabric model)`,
      passed: true,
      written: false,
      order: { pairs: 1, wrong: [] },
    });
    expect(report.guests.model).toHaveLength(1);
    expect(report.guests.reference).toEqual(report.guests.model);
    const [skb, tap] = report.parameters;
    expect(Math.abs(skb!.value / TRUTH - 1)).toBeLessThan(0.03);
    expect(skb).toMatchObject({ name: 'skb-receive', unit: 'ns', before: 510, prior: 510, identified: true });
    expect(skb!.deviation).toBeLessThan(100);
    expect(tap).toMatchObject({ name: 'tap-receive', value: 250, told: 0, identified: false, deviation: 50 });
    expect(report.cells.map(({ run, referenceHook }) => [run, referenceHook])).toEqual([
      ['guest', undefined],
      ['host', 'tun_recvmsg'],
    ]);
    for (const cell of report.cells) {
      expect(Math.abs(cell.error)).toBeLessThan(0.03);
      // One unknown and two rates: each tells of the other.
      expect(Math.abs(cell.leaveOneOut!.error)).toBeLessThan(0.05);
    }
  });

  it('predicts a run that it was not fitted to, and writes what it found', async () => {
    const before = readFileSync(costs, 'utf8');
    const { exit, out, err } = await xdpbed(
      ...['calibrate', testbed, '--reference', result, '--hold-out', 'h*st', '--no-leave-one-out', '--write'],
    );
    expect(exit, err).toBe(0);
    expect(out).toContain('predicted, not fitted to:');
    expect(out).toContain('written to costs.yaml');
    expect(out).toContain('not identified');
    expect(out).toMatch(/^guests there: \S.*; here: \S/m);
    expect(out).toContain('compared by the id of the run');
    const after = readFileSync(costs, 'utf8');
    const written = /skb-receive: \{ value: ([\d.]+), source: test/.exec(after)![1]!;
    expect(Math.abs(Number(written) / TRUTH - 1)).toBeLessThan(0.03);
    expect(after).toBe(before.replace('value: 510, source: test', `value: ${written}, source: test`));
    // What was printed is what a run gives.
    const run = await xdpbed('run', testbed, '--format', 'json');
    const rates = (JSON.parse(run.out) as { runs: { rates: { framesPerSecond: { median: number } }[] }[] })
      .runs;
    for (const {
      rates: [rate],
    } of rates) {
      expect(out).toContain((rate!.framesPerSecond.median / 1e6).toFixed(3));
    }
  });

  it('ends in exit code 1 when a run is further off than it may be', async () => {
    // No cost of an skb makes a run in the guest ten times as fast as one on the host.
    const figures =
      '{ axis: placement, baseline: guest, reference: { name: Utopia, mpps: { guest: 10, host: 1 } } }';
    const set = ['--set', `comparison=${figures}`];
    const { exit, out } = await xdpbed('calibrate', testbed, '--no-leave-one-out', ...set);
    expect(out).toContain('costs.yaml against Utopia');
    expect(out).toContain(': not within 5 %');
    expect(exit).toBe(1);
  });

  it.each([
    ['no figures', [], 'no figures to fit to'],
    ['another fabric', ['--reference', 'x', '--from', 'linux'], 'both say what to fit to'],
    ['an unknown fabric', ['--from', 'windows'], "'windows' is not linux"],
    ['no result', ['--reference', testbedItself], 'cannot read'],
    ['an unknown run', ['--hold-out', 'gast'], "'gast' is no run"],
    ['nothing left', ['--hold-out', '*'], 'every run is held out'],
    ['no number', ['--within', 'five'], 'not a number of per cent'],
    ['a fixed cost', ['--set', 'plugins.fabric.config.costs={ skb-receive: 1 }'], 'cannot be fitted'],
    ['no fabric that predicts', ['--set', 'plugins.fabric.config={}'], 'predicts no rates'],
  ] as [string, (string | (() => string))[], string][])('refuses %s', async (_, args, message) => {
    const words = args.map((arg) => (typeof arg === 'string' ? arg : arg()));
    const reference = words.some((word) => word === '--hold-out' || word.includes('config.costs'))
      ? ['--reference', result]
      : [];
    const { exit, err } = await xdpbed('calibrate', testbed, ...words, ...reference);
    expect(err).toContain(message);
    expect(exit).toBe(2);
  });
});

function testbedItself(): string {
  return testbed;
}

describe('xdpbed sensitivity', { timeout: 180_000 }, () => {
  it('finds what moves the rates, in both directions, and what does not', async () => {
    const { exit, out, err } = await xdpbed(
      ...['sensitivity', testbed, '--only', 'placement=guest', '--format', 'json'],
      ...[
        '--cost',
        'skb-receive',
        '--cost',
        'tap-receive',
        '--cost',
        'helper.default',
        '--vary',
        'measure.size=60,1514',
      ],
    );
    expect(exit, err).toBe(0);
    const report = JSON.parse(out) as SensitivityReport;
    expect(report.runs.map(({ run }) => run)).toEqual(['guest']);
    const effects = new Map(report.runs[0]!.effects.map((effect) => [effect.what, effect]));
    expect([...effects.keys()].sort()).toEqual([
      'helper.default',
      'measure.size',
      'skb-receive',
      'tap-receive',
    ]);
    const skb = effects.get('skb-receive')!;
    expect(skb.low.value).toBeCloseTo(459, 6);
    expect(skb.high.value).toBeCloseTo(561, 6);
    // The CPU that makes skbs is the bottleneck: less work, more frames.
    expect(skb.low.change).toBeGreaterThan(0.02);
    expect(skb.high.change).toBeLessThan(-0.02);
    expect(effects.get('tap-receive')).toMatchObject({ low: { change: 0 }, high: { change: 0 } });
    // 1538 bytes at 10 Gbit/s are 813 000 frames a second.
    expect(effects.get('measure.size')!.high.change).toBeLessThan(effects.get('measure.size')!.low.change);
  });

  it('draws the longest bar first', async () => {
    const { exit, out, err } = await xdpbed(
      ...['sensitivity', testbed, '--only', 'placement=guest', '--top', '1', '--by', '20'],
      ...['--cost', 'skb-receive', '--cost', 'nic-poll', '--cost', 'tap-receive'],
    );
    expect(exit, err).toBe(0);
    expect(out).toContain('20 % less');
    expect(out).toMatch(/skb-receive +408 – 612 ns +\+\d+\.\d % +−\d+\.\d % +█+│░{16}\n/);
    expect(out).toContain('1 do not move it');
  });

  it.each([
    [['--cost', 'skb-recieve'], "did you mean 'skb-receive'"],
    [['--vary', 'measure.size=60'], 'is not path=low,high'],
    [['--by', '100'], 'cannot fall by all of it'],
    [['--top', '0'], 'not a number from 1'],
  ])('refuses %j', async (args, message) => {
    const { exit, err } = await xdpbed('sensitivity', testbed, ...args);
    expect(err).toContain(message);
    expect(exit).toBe(2);
  });
});
