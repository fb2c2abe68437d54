import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isRunning, probeBpf, processStart } from '../../linux/index.js';
import { probeNamespaces } from '../../linux/testing-namespace.js';
import type { HeldState } from './holder-messages.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const main = join(root, 'dist/src/cli/main.js');
const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const TESTBED = `version: 1
name: held
plugins: { fabric: { use: linux } }
programs:
  xdp1: { object: ${root}testbeds/programs/xdp1.o }
  xdp2: { object: ${root}testbeds/programs/xdp2.o }
  to-tap:
    object: ${root}testbeds/programs/xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: redirect
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap0: {} }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, placement: host } } }
workload: { use: udp-flood, config: { frames: 1 } }
matrix:
  program: { xdp1: {}, xdp2: { guests.g0.nics.eth0.program: xdp2 } }
  placement: { host: {}, guest: { guests.g0.nics.eth0.placement: guest } }
`;

/** Sends UDP frames to the guest's MAC from the namespace that it runs in. */
function sender(count: number): string[] {
  const frame =
    '525400000002525400000009' +
    '0800' +
    '4500001c00000000401100' +
    '00c0000201c000020a' +
    '0001000200080000';
  const script = `import { PacketSocket } from ${JSON.stringify(pathToFileURL(join(root, 'dist/src/linux/index.js')).href)};
    const socket = PacketSocket.open(2, { name: 'own', run: (work) => work() });
    const frame = Buffer.concat([Buffer.from('${frame}', 'hex'), Buffer.alloc(20)]);
    for (let sent = 0; sent < ${count}; ) if (socket.send(frame)) sent++;`;
  return [process.execPath, '--input-type=module', '-e', script];
}

let folder: string;
let file: string;
let env: NodeJS.ProcessEnv;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-held-'));
  file = join(folder, 'held.testbed.yaml');
  writeFileSync(file, TESTBED);
  env = { ...process.env, XDPBED_STATE: join(folder, 'state') };
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly exit: number | null;
  readonly out: string;
  readonly err: string;
}

function xdpbed(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env, timeout: 60_000 }, (error, out, err) =>
      resolve({ exit: error === null ? 0 : ((error.code as unknown as number) ?? null), out, err }),
    );
  });
}

const ONE = ['--only', 'program=xdp1', '--only', 'placement=host'];

async function up(...args: string[]): Promise<HeldState> {
  const { exit, out, err } = await xdpbed(
    'up',
    file,
    ...(args.length === 0 ? ONE : args),
    '--format',
    'json',
  );
  expect(err).toBe('');
  expect(exit).toBe(0);
  return JSON.parse(out) as HeldState;
}

async function state(run: string): Promise<HeldState> {
  const { out } = await xdpbed('status', run, '--format', 'json');
  return (JSON.parse(out) as { runs: { state: HeldState }[] }).runs[0]!.state;
}

const ofRun = (run: string): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(`xdpbed-${run}-`));

/** Processes in a network namespace, which is given as its link in /proc. */
const inside = (namespace: string): string[] =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === namespace;
    } catch {
      return false;
    }
  });

describe('verbs of runs that are held', () => {
  it.each([
    [
      ['up', 'FILE'],
      /testbed held has 4 runs/,
      /--only program=xdp1 --only placement=host {3}\(program: xdp1, xdp2;/,
    ],
    [
      ['up', 'FILE', ...ONE, '--fabric', 'model', '--set', 'plugins.executor={ use: interpreter }'],
      /model has nothing that could be held up/,
      /--fabric linux/,
    ],
    [['up', 'FILE', '--format', 'xml'], /--format 'xml'/, /$/],
    [['status', 'xb00000000'], /there is no run xb00000000/, /there is none at all/],
    [['exec', 'xb00000000', '--', 'true'], /there is no run xb00000000/, /$/],
    [['down', '--timeout', 'soon'], /--timeout 'soon'/, /$/],
    [['down', 'xb00000000', '--all'], /either xb00000000 or --all/, /$/],
  ])('%j is told what is wrong', async (args, message, hint) => {
    const { exit, err } = await xdpbed(...args.map((arg) => (arg === 'FILE' ? file : arg)));
    expect(err).toMatch(message);
    expect(err).toMatch(hint);
    expect(exit).toBe(2);
  });

  it('have nothing to do where nothing is up', async () => {
    expect(await xdpbed('status')).toEqual({ exit: 0, out: '', err: 'nothing is up\n' });
    expect(await xdpbed('down', '--all')).toMatchObject({ exit: 0, err: 'nothing is up\n' });
    // It may have been taken down already.
    expect(await xdpbed('down', 'xb00000000')).toMatchObject({ exit: 0 });
    expect((await xdpbed('status', '--format', 'json')).out).toMatch(
      /"schema": "xdpbed.status\/1",\s+"runs": \[\]/,
    );
  });

  it('tell a stale ledger from a run', async () => {
    const ledgers = join(folder, 'state');
    mkdirSync(ledgers, { recursive: true });
    const ledger = join(ledgers, 'xb0000000a.ledger');
    const lines = [
      { ledger: 1, run: 'xb0000000a', owner: `${process.pid} 1`, since: '2026-01-01T00:00:00.000Z' },
      { note: { run: 'r', testbed: 't', held: true } },
    ];
    writeFileSync(ledger, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const { out } = await xdpbed('status');
    expect(out).toBe(`xb0000000a  t: r, stale since its process ${process.pid} is gone: xdpbed prune\n`);
    const { exit, err } = await xdpbed('exec', 'xb0000000a', '--', 'true');
    expect([exit, err]).toEqual([2, expect.stringContaining('is not up any more')]);
    expect((await xdpbed('down', 'xb0000000a')).out).toBe('xb0000000a is down\n');
    expect(existsSync(ledger)).toBe(false);
  });
});

describe.skipIf(skipped !== '')(`runs that are held${skipped}`, () => {
  afterEach(async () => {
    expect((await xdpbed('down', '--all')).exit).toBe(0);
    expect(readdirSync(join(folder, 'state'))).toEqual([]);
  });

  it('are there with everything attached, see traffic of others, and go', async () => {
    const run = await up();
    const { name, pid } = run;
    expect(run).toMatchObject({ testbed: 'held', run: 'xdp1/host', case: 'redirect', hook: 'tail-call' });
    expect(
      run.namespaces.map(({ role, interfaces }) => [
        role,
        interfaces.map((link) => [link.name, link.ifindex]),
      ]),
    ).toEqual([
      ['wire', [['eth0', 2]]],
      [
        'host',
        [
          ['eth0', 2],
          ['tap0', 3],
        ],
      ],
    ]);
    expect(run.programs.map(({ site, node, program, attached }) => [site, node, program, attached])).toEqual([
      ['host-nic', 'host.eth0', 'to-tap', true],
      ['offload', 'g0.eth0', 'xdp1', true],
    ]);
    // Its session is its own: nothing that ends this one ends it.
    expect(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ')[3]).toBe(String(pid));
    expect(readFileSync(run.log, 'utf8')).toBe('');

    const { exit, err } = await xdpbed('exec', name, 'wire', '--', ...sender(5));
    expect([exit, err]).toEqual([0, '']);
    const seen = await state(name);
    expect(seen.programs.map(({ verdicts }) => verdicts)).toMatchObject([
      { XDP_REDIRECT: 5, XDP_DROP: 0 },
      { XDP_DROP: 5, XDP_PASS: 0 },
    ]);
    const { out } = await xdpbed('status');
    expect(out).toContain('✓ xdp1 at offload of g0.eth0: XDP_DROP 5');
    expect(seen.offloads).toMatchObject([
      {
        tap: 'tap0',
        guest: 'g0',
        nic: 'eth0',
        capabilities: { word: '0x00010001', names: ['XDP_OFFLOAD', 'RFC_2019'] },
        program: { name: 'xdp1', executor: 'kernel', verdicts: { XDP_DROP: 5 } },
        maps: [{ maxEntries: 256, used: true }],
      },
    ]);
    const [{ program, mapMemory }] = seen.offloads as [(typeof seen.offloads)[0]];
    expect(mapMemory).toBeGreaterThan(256 * 8);
    expect(program!.loaded).toBeGreaterThan(0);
    const held = `tag ${program!.tag}, ${program!.insns} insns, loaded at [0-9.]+ s; 1 map, [0-9]+ KiB`;
    expect(out).toMatch(new RegExp(`  tap0  of g0.eth0, XDP_OFFLOAD\\|RFC_2019: ${held}\n`));

    expect(await xdpbed('down', name)).toEqual({ exit: 0, out: `${name} is down\n`, err: '' });
    expect([ofRun(name), isRunning(`${pid} ${processStart(pid)}`)]).toEqual([[], false]);
    expect(await xdpbed('down', name)).toMatchObject({ exit: 0, out: '' });
  });

  it('have guests that take what comes for them', async () => {
    const { name } = await up('--only', 'program=xdp2', '--only', 'placement=guest');
    await xdpbed('exec', name, 'wire', '--', ...sender(40));
    await expect
      .poll(
        async () => (await state(name)).programs.find(({ site }) => site === 'guest-driver')?.verdicts.XDP_TX,
        {
          timeout: 10_000,
        },
      )
      .toBe(40);
  });

  it('are two at once without touching each other', async () => {
    const [a, b] = await Promise.all([up(), up('--only', 'program=xdp2', '--only', 'placement=host')]);
    expect(a.name).not.toBe(b.name);
    await xdpbed('exec', a.name, 'wire', '--', ...sender(3));
    const all = await xdpbed('down');
    expect([all.exit, all.err]).toEqual([2, expect.stringContaining('2 runs are up')]);
    expect((await xdpbed('down', a.name)).exit).toBe(0);
    expect([ofRun(a.name).length, ofRun(b.name).length]).toEqual([0, 2]);
    const left = await state(b.name);
    expect(
      left.programs.every(({ verdicts }) => Object.values(verdicts).every((frames) => frames === 0)),
    ).toBe(true);
    // It is the only one now.
    expect((await xdpbed('down')).out).toBe(`${b.name} is down\n`);
  });

  it('run commands in their namespaces, whose exit codes are the command’s', async () => {
    const { name } = await up();
    const links = async (...words: string[]): Promise<string[]> => {
      const { out } = await xdpbed('exec', name, ...words);
      return (JSON.parse(out) as { ifname: string }[]).map(({ ifname }) => ifname);
    };
    const show = ['ip', '-json', 'link'];
    const host = ['lo', 'eth0', 'tap0'];
    expect(await links('wire', '--', ...show)).toEqual(['lo', 'eth0']);
    expect(await links('wire', ...show)).toEqual(['lo', 'eth0']);
    expect(await links('host', '--', ...show)).toEqual(host);
    expect(await links('--', ...show)).toEqual(host);
    expect(await links(...show)).toEqual(host);
    expect((await xdpbed('exec', name, '--', 'sh', '-c', 'exit 7')).exit).toBe(7);
    expect((await xdpbed('exec', name, '--', 'sh', '-c', 'kill -9 $$')).exit).toBe(137);
    // `--` of the command's own, and a command that is called as a namespace.
    expect((await xdpbed('exec', name, '--', 'sh', '-c', 'echo "$@"', '--', '--', '-x')).out).toBe('-- -x\n');
    expect((await xdpbed('exec', name, 'attic', '--', 'true')).err).toContain("'attic' is not a namespace");
    expect((await xdpbed('exec', name, 'wire')).err).toContain('there is no command');
  });

  it('end commands that are run in them when they go down, and nobody else’s', async () => {
    const [a, b] = await Promise.all([up(), up('--only', 'program=xdp2', '--only', 'placement=host')]);
    const sleeping = (name: string, command: string): { pid: Promise<string>; exit: Promise<unknown> } => {
      const words = [main, 'exec', name, 'wire', '--', 'sh', '-c', command];
      const child = spawn(process.execPath, words, { env, stdio: ['ignore', 'pipe', 'inherit'] });
      const pid = once(child.stdout, 'data').then(([text]) => String(text).trim());
      return { pid, exit: once(child, 'exit').then(([code]) => code as unknown) };
    };
    const plain = sleeping(a.name, 'echo $$; exec sleep 600');
    // It has left one behind, in a session of its own, and hears of no signal.
    const stubborn = sleeping(
      a.name,
      'trap "" TERM; (setsid sleep 600 &); echo $$; while :; do sleep 600; done',
    );
    const others = sleeping(b.name, 'echo $$; exec sleep 600');
    const pids = await Promise.all([plain, stubborn, others].map(({ pid }) => pid));
    const [wire, otherWire] = pids.slice(1).map((pid) => readlinkSync(`/proc/${pid}/ns/net`));
    // The shell says its number before it has started the last of them.
    await expect.poll(() => inside(wire!).length).toBe(4);
    expect(inside(otherWire!)).toEqual([pids[2]]);

    const going = xdpbed('down', a.name);
    expect(await plain.exit).toBe(128 + 15);
    // The other does not end so soon; but nobody comes any more.
    const { exit, err } = await xdpbed('exec', a.name, '--', 'true');
    expect([exit, err]).toEqual([2, expect.stringContaining(`run ${a.name} is not up any more`)]);
    expect(await going).toEqual({ exit: 0, out: `${a.name} is down\n`, err: '' });
    expect(await stubborn.exit).toBe(128 + 9);
    expect([inside(wire!), inside(otherWire!)]).toEqual([[], [pids[2]]]);

    // Its process is gone, and cannot do it.
    process.kill(b.pid, 'SIGKILL');
    await expect.poll(() => isRunning(`${b.pid} ${processStart(b.pid)}`)).toBe(false);
    expect(inside(otherWire!)).toEqual([pids[2]]);
    expect((await xdpbed('prune')).exit).toBe(0);
    expect([inside(otherWire!), ofRun(b.name)]).toEqual([[], []]);
    expect(await others.exit).toBe(128 + 15);
  });

  it('end when what brings them up is killed before they are up', async () => {
    const child = spawn(process.execPath, [main, 'up', file, ...ONE], { env, stdio: 'ignore' });
    const ledgers = (): string[] =>
      readdirSync(join(folder, 'state')).filter((name) => name.endsWith('.ledger'));
    await expect.poll(() => ledgers().length, { timeout: 20_000, interval: 2 }).toBe(1);
    const run = ledgers()[0]!.replace('.ledger', '');
    child.kill('SIGKILL');
    await expect.poll(() => readdirSync(join(folder, 'state')), { timeout: 20_000 }).toEqual([]);
    expect(ofRun(run)).toEqual([]);
  });

  it('are killed when they do not answer, and what they leave is removed', async () => {
    const { name, pid } = await up();
    process.kill(pid, 'SIGSTOP');
    expect((await xdpbed('status')).out).toContain('which does not say how it is');
    expect(await xdpbed('down', name, '--timeout', '0.2')).toEqual({
      exit: 0,
      out: `${name} is down\n`,
      err: '',
    });
    expect(ofRun(name)).toEqual([]);
  });

  it('report what keeps them from coming up as `run` does', async () => {
    const { exit, err } = await xdpbed('up', file, ...ONE, '--set', 'host.hook=tcx-egress');
    expect([exit, err]).toEqual([2, expect.stringContaining('fabric linux has no hook tcx-egress')]);
    // Found out by the process that was to hold it: an interface that cannot be.
    const long = TESTBED.replaceAll('tap0', 'a-name-that-is-too-long');
    writeFileSync(join(folder, 'long.testbed.yaml'), long);
    const failed = await xdpbed('up', join(folder, 'long.testbed.yaml'), ...ONE);
    expect(failed).toEqual({
      exit: 3,
      out: '',
      err:
        "xdpbed: 'a-name-that-is-too-long' cannot be the name of an interface on linux [host-unsupported]\n" +
        "  hint: it has at most 15 characters and is not 'lo'\n",
    });
  });
});
