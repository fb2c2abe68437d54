import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { StreamEvent } from '../core/contract/event.js';
import type { ResultDocument, RulingRecord } from '../core/contract/result.js';
import { AuditFile } from './audit-file.js';
import { runForTest } from './testing-terminal.js';

const folder = mkdtempSync(join(tmpdir(), 'xdpbed-audit-'));
afterAll(() => rmSync(folder, { recursive: true }));
const programs = new URL('../../testbeds/programs/', import.meta.url).pathname;

/** One guest that offloads xdp1, which has one map, against a quota of none and limits that it does not keep to. */
function testbed(name: string, chain: string, dryRun: { quota: boolean; limits: boolean }): string {
  const file = join(folder, `${name}.testbed.yaml`);
  writeFileSync(
    file,
    `version: 1
name: ${name}
${chain}
policies:
  - { use: quota, dry-run: ${dryRun.quota}, config: { per-guest: { maps: 0, entries: 1 } } }
  - { use: program-limits, dry-run: ${dryRun.limits}, config: { verdicts: [XDP_PASS] } }
workload: { use: udp-flood, config: { frames: 1 } }
programs: { xdp1: { object: ${programs}xdp1.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  alice: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, placement: host } } }
`,
  );
  return file;
}

async function run(file: string): Promise<{ result: ResultDocument; audit: Record<string, unknown>[] }> {
  const path = join(folder, 'audit.ndjson');
  const { out } = await runForTest(['run', file, '--format', 'json', '--audit', path]);
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  const audit = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  return { result: JSON.parse(out) as ResultDocument, audit };
}

const told = (rulings: readonly RulingRecord[]) =>
  rulings.map(({ operation, policy, ruling, dryRun }) => [operation, policy, ruling, dryRun ?? false]);

describe('rulings of a run', () => {
  it('are those of all policies unless the testbed says otherwise, with the numbers and where they are set', async () => {
    const { result } = await run(testbed('all', '', { quota: false, limits: false }));
    const { rulings, attachments } = result.runs[0]!;
    expect(told(rulings)).toEqual([
      ['map-create', 'quota', 'deny', false],
      ['map-create', 'program-limits', 'allow', false],
    ]);
    // rxcnt is an array of 256 elements.
    expect(rulings[0]).toEqual({
      request: 1,
      time: 0,
      guest: 'alice',
      nic: 'eth0',
      operation: 'map-create',
      policy: 'quota',
      ruling: 'deny',
      reason:
        '1 maps of guest alice exceed the quota of 0; 256 map entries of guest alice exceed the quota of 1',
      breaches: [
        { rule: 'per-guest.maps', limit: 0, asked: 1, held: 0, path: 'policies.0.config.per-guest.maps' },
        {
          rule: 'per-guest.entries',
          limit: 1,
          asked: 256,
          held: 0,
          path: 'policies.0.config.per-guest.entries',
        },
      ],
      count: 1,
    });
    expect(result.runs[0]!.audit).toMatchObject([{ request: 1, time: 0, command: 'EBPF_MAP/CREATE_MAP' }]);
    expect(attachments[0]!.attached).toBe(false);
  });

  it('end with the first deny in a chain of mode first-deny', async () => {
    const file = testbed('first', 'policy-chain: first-deny', { quota: false, limits: false });
    const { result } = await run(file);
    expect(told(result.runs[0]!.rulings)).toEqual([['map-create', 'quota', 'deny', false]]);
  });

  it('deny nothing in a dry run, and say what they would have denied', async () => {
    const file = testbed('dry', 'policy-chain: first-deny', { quota: true, limits: true });
    const { result } = await run(file);
    const { rulings, attachments, audit } = result.runs[0]!;
    expect(attachments[0]!.attached).toBe(true);
    expect(audit).toEqual([]);
    expect(told(rulings)).toContainEqual(['map-create', 'quota', 'deny', true]);
    expect(told(rulings)).toContainEqual(['program-attach', 'program-limits', 'deny', true]);
  });

  it('deny where only one of two policies is in a dry run', async () => {
    const { result } = await run(testbed('one', '', { quota: true, limits: false }));
    const { rulings, attachments } = result.runs[0]!;
    expect(attachments[0]!.attached).toBe(false);
    expect(told(rulings)).toContainEqual(['map-create', 'quota', 'deny', true]);
    expect(told(rulings)).toContainEqual(['program-attach', 'program-limits', 'deny', false]);
  });
});

describe('run --audit', () => {
  it('writes what reporter ndjson says of rulings and refused commands, and nothing else', async () => {
    const file = testbed('lines', '', { quota: true, limits: false });
    const { audit } = await run(file);
    const { out } = await runForTest(['run', file, '--format', 'ndjson']);
    const stream = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const expected = stream.filter(({ event }) => event === 'ruling' || event === 'audit');
    expect(expected.map(({ event }) => event)).toContain('audit');
    expect(expected.length).toBeGreaterThan(5);
    expect(audit).toEqual(expected);
  });

  it('gives each guest a bound of its own, and the number of what it has no room for', () => {
    const path = join(folder, 'bounded.ndjson');
    const audit = new AuditFile(path, 2000);
    const made = { request: 1, time: 0, nic: 'eth0', reason: 'no' };
    const record = (guest: string, event: 'audit' | 'ruling'): StreamEvent => {
      const asked = { operation: 'command', policy: 'p', ruling: 'deny', count: 1 } as const;
      return event === 'audit'
        ? {
            event,
            run: 'default',
            seq: 0,
            time: 0,
            record: { ...made, guest, command: 'x', outcome: 'error-ack' },
          }
        : { event, run: 'default', seq: 0, time: 0, record: { ...made, guest, ...asked } };
    };
    for (let count = 0; count < 1000; count++) {
      audit.onEvent(record('mallory', 'ruling'));
      audit.onEvent(record('mallory', 'audit'));
    }
    audit.onEvent(record('alice', 'audit'));
    audit.close();
    const text = readFileSync(path, 'utf8');
    const lines = text.trimEnd().split('\n');
    const own = lines.filter((line) => line.includes('"guest":"mallory"') && !line.includes('audit-dropped'));
    expect(own.length).toBeGreaterThan(2);
    expect(own.reduce((bytes, line) => bytes + line.length + 1, 0)).toBeLessThanOrEqual(2000);
    const events = lines.map((line) => JSON.parse(line) as { event: string });
    expect(events.at(-2)).toMatchObject({ event: 'audit', record: { guest: 'alice' } });
    const kept = (event: string): number => own.filter((line) => line.includes(`"event":"${event}"`)).length;
    expect(events.at(-1)).toEqual({
      schema: 'xdpbed.event/1',
      event: 'audit-dropped',
      guest: 'mallory',
      rulings: 1000 - kept('ruling'),
      audit: 1000 - kept('audit'),
    });
  });

  it('says so, and starts nothing, when the file cannot be made', async () => {
    const file = testbed('nowhere', '', { quota: true, limits: true });
    const path = join(folder, 'no-such-folder', 'audit.ndjson');
    const { exit, out, err } = await runForTest(['run', file, '--audit', path]);
    expect(exit).toBe(2);
    expect(out).toBe('');
    expect(err).toContain(`cannot write ${path}`);
    expect(err).toContain('[file-unwritable]');
  });

  it('fails the run when the file takes no more', async () => {
    const file = testbed('full', '', { quota: true, limits: true });
    const { exit, err } = await runForTest(['run', file, '--audit', '/dev/full']);
    expect(exit).not.toBe(0);
    expect(err).toContain('cannot write /dev/full');
  });
});
