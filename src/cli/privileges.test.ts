import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { probeBpf } from '../linux/index.js';
import { NEEDED_CAPABILITIES } from '../linux/capabilities.js';
import { probeNamespaces } from '../linux/testing-namespace.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const main = join(root, 'dist/src/cli/main.js');
const NOBODY = 65_534;
/** As an ordinary user already, or as one that root turns into. */
const ordinary = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
const reachable = spawnSync(process.execPath, [main, '--version'], ordinary).status === 0;
const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

interface Outcome {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-privileges-'));
  chmodSync(folder, 0o755);
  mkdirSync(join(folder, 'closed'), { mode: 0o700 });
  writeFileSync(
    join(folder, 'small.testbed.yaml'),
    `version: 1
name: small
plugins: { fabric: { use: linux } }
host: { case: bridge, nics: { eth0: { mac: '52:54:00:00:00:01' } }, taps: { tap0: {} }, bridges: { br0: { ports: [eth0, tap0] } } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: '52:54:00:00:00:02' } } } }
workload: { use: udp-flood, config: { frames: 1 } }
`,
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

function xdpbed(user: { uid?: number; gid?: number }, state: string, ...args: string[]): Promise<Outcome> {
  const env = { ...process.env, XDPBED_STATE: state };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { ...user, env, timeout: 60_000 }, (error, out, err) =>
      resolve({ exit: error === null ? 0 : (error.code as unknown as number), out, err }),
    );
  });
}

interface Found {
  readonly name: string;
  readonly optional: boolean;
  readonly result: { readonly status: string };
}

function doctorDocument(out: string): { schema: string; works: boolean; found: Found[] } {
  return JSON.parse(out) as { schema: string; works: boolean; found: Found[] };
}

const unreachable = reachable ? '' : ' (skipped: such a user cannot read this folder)';

describe.skipIf(!reachable)(`an ordinary user${unreachable}`, () => {
  it.each(['run', 'up'])('is told by %s what is missing and what would help', async (verb) => {
    const { exit, err } = await xdpbed(ordinary, folder, verb, join(folder, 'small.testbed.yaml'));
    expect(exit).toBe(3);
    expect(err).toMatch(
      /plugin fabric linux cannot work here: .*CAP_BPF and CAP_NET_ADMIN.* \[host-unsupported\]/,
    );
    expect(err).toContain('hint: run it as root: sudo xdpbed …; xdpbed doctor');
  });

  it('is told by doctor of every capability by its name', async () => {
    const { exit, out } = await xdpbed(ordinary, folder, 'doctor', '--format', 'json');
    expect(exit).toBe(3);
    const { schema, works, found } = doctorDocument(out);
    expect([schema, works]).toEqual(['xdpbed.doctor/1', false]);
    for (const { name } of NEEDED_CAPABILITIES) {
      expect(found.find((each) => each.name === name)?.result.status).toBe('unsupported');
    }
    const table = await xdpbed(ordinary, folder, 'doctor');
    expect(table.out).toContain('✗ CAP_NET_RAW: this process does not have it\n');
    expect([table.exit, table.out.endsWith('fabric linux does not work here\n')]).toEqual([3, true]);
  });

  it.skipIf(process.getuid?.() !== 0).each(['prune', 'status', 'down'])(
    'is not told by %s that nothing is there, of a folder that is not theirs to read',
    async (verb) => {
      const { exit, out, err } = await xdpbed(ordinary, join(folder, 'closed'), verb);
      expect([exit, out]).toEqual([3, '']);
      expect(err).toMatch(/closed is not a folder that only its user can write/);
    },
  );
});

describe.skipIf(skipped !== '')(`root${skipped}`, () => {
  it('has all that fabric linux needs, and doctor leaves nothing', async () => {
    const state = join(folder, 'state');
    const { exit, out } = await xdpbed({}, state, 'doctor', '--format', 'json');
    const { works, found } = doctorDocument(out);
    expect([exit, works]).toEqual([0, true]);
    expect(found.filter(({ optional, result }) => !optional && result.status !== 'supported')).toEqual([]);
    expect((await xdpbed({}, state, 'status')).err).toBe('nothing is up\n');
  });

  it.each(NEEDED_CAPABILITIES.filter(({ name }) => !['CAP_BPF', 'CAP_PERFMON'].includes(name)))(
    'without $name cannot run it, and is told so',
    async ({ name }) => {
      const word = name.slice('CAP_'.length).toLowerCase();
      const { status, stderr } = spawnSync(
        'setpriv',
        [`--bounding-set=-${word}`, process.execPath, main, 'run', join(folder, 'small.testbed.yaml')],
        { encoding: 'utf8', env: { ...process.env, XDPBED_STATE: join(folder, 'state') } },
      );
      expect(stderr).toContain(name);
      expect(status).toBe(3);
    },
  );
});
