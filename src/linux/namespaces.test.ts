import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { insideRun } from './enter-run.js';
import { runIp, showIp } from './iproute2.js';
import { isRunning, Ledger, processStart, readLedgers } from './ledger.js';
import { endMembers } from './namespace-members.js';
import { OwnedNamespace } from './owned-namespace.js';
import { PacketSocket } from './packet-socket.js';
import { prune } from './prune.js';
import { TapDevice } from './tap-device.js';
import { probeNamespaces } from './testing-namespace.js';

const probe = probeNamespaces();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-ledger-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A process that is gone, as a ledger names it. */
function deadProcess(): string {
  return `${process.pid} 1`;
}

/** A ledger whose process is gone. */
function leftLedger(run: string, held: readonly object[], tail = ''): string {
  const lines = [{ ledger: 1, run, owner: deadProcess() }, ...held.map((add) => ({ add }))];
  const file = join(folder, `${run}.ledger`);
  writeFileSync(file, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n${tail}`);
  return file;
}

describe('a ledger', () => {
  it('tells what is held, and goes when nothing is', () => {
    const ledger = Ledger.create(folder);
    ledger.add('netns', 'a');
    ledger.add('folder', '/b');
    ledger.strike('netns', 'a');
    const [read] = readLedgers(folder);
    expect(read).toMatchObject({ run: ledger.run, alive: true, held: [{ kind: 'folder', id: '/b' }] });
    ledger.close();
    expect(readLedgers(folder)).toHaveLength(1);
    ledger.strike('folder', '/b');
    ledger.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('has a folder that goes with it, and says what the run is', () => {
    const ledger = Ledger.create(folder);
    ledger.note({ run: 'redirect/xdp1' });
    ledger.note({ testbed: 't', held: true });
    const own = ledger.ownFolder();
    expect(ledger.ownFolder()).toBe(own);
    writeFileSync(join(own, 'log'), 'x');
    ledger.add('netns', 'a');
    const [read] = readLedgers(folder);
    expect(read).toMatchObject({
      pid: process.pid,
      note: { run: 'redirect/xdp1', testbed: 't', held: true },
      held: [{ kind: 'folder', id: own }, { kind: 'netns' }],
    });
    expect(Math.abs(Date.parse(read!.since) - Date.now())).toBeLessThan(10_000);
    // Not while something is left that the files in there may tell of.
    ledger.close();
    expect(existsSync(own)).toBe(true);
    ledger.strike('netns', 'a');
    ledger.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('says whose it is as soon as it is there, and is not made anew when somebody takes it away', () => {
    const ledger = Ledger.create(folder);
    const [name] = readdirSync(folder);
    expect(readdirSync(folder)).toEqual([`${ledger.run}.ledger`]);
    rmSync(join(folder, name!));
    ledger.add('netns', 'a');
    expect(readdirSync(folder)).toEqual([]);
    ledger.strike('netns', 'a');
    ledger.close();
    expect(() => ledger.add('netns', 'b')).toThrow('is closed');
  });

  it('is read as far as it was written', () => {
    leftLedger('xb00000001', [{ kind: 'netns', id: 'xdpbed-xb00000001-a' }], '{"add":{"kind":"net');
    expect(readLedgers(folder)).toMatchObject([{ alive: false, held: [{ id: 'xdpbed-xb00000001-a' }] }]);
  });

  it('tells a process from another that later got its number', () => {
    const own = `${process.pid} ${processStart(process.pid)}`;
    expect(isRunning(own)).toBe(true);
    expect(isRunning(deadProcess())).toBe(false);
    expect(isRunning('')).toBe(false);
  });
});

describe('pruning', () => {
  it('leaves runs alone whose process is there, and files that are no ledger', async () => {
    const ledger = Ledger.create(folder);
    ledger.add('folder', join(folder, ledger.run));
    mkdirSync(join(folder, ledger.run));
    writeFileSync(join(folder, 'notes.ledger'), 'x');
    expect(await prune(folder)).toEqual([]);
    expect(existsSync(join(folder, ledger.run))).toBe(true);
  });

  it('removes what was to become a ledger when its process was ended', async () => {
    const own = `.xb00000004.${process.pid}-${processStart(process.pid)}.draft`;
    writeFileSync(join(folder, `.xb00000005.${process.pid}-1.draft`), '');
    writeFileSync(join(folder, own), '');
    await prune(folder);
    expect(readdirSync(folder)).toEqual([own]);
  });

  it('believes no ledger that others may have written, and waits for none', async () => {
    const others = leftLedger('xb00000011', []);
    chmodSync(others, 0o666);
    symlinkSync(leftLedger('xb00000012', []), join(folder, 'xb00000013.ledger'));
    mkdirSync(join(folder, 'xb00000014.ledger'));
    execFileSync('mkfifo', [join(folder, 'xb00000015.ledger')]);
    writeFileSync(join(folder, 'xb00000016.ledger'), 'null\n');
    expect(
      readLedgers(folder)
        .map(({ run }) => run)
        .sort(),
    ).toEqual(['xb00000012', 'xb00000016']);
    chmodSync(folder, 0o777);
    await expect(prune(folder)).rejects.toThrow('is not a folder that only its user can write');
    expect(() => Ledger.create(folder)).toThrow('is not a folder that only its user can write');
  });

  it('ends processes and removes folders, and may be done again', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    const id = `${child.pid} ${processStart(child.pid!)}`;
    const own = join(folder, 'xb00000002');
    mkdirSync(own);
    const file = leftLedger('xb00000002', [
      { kind: 'folder', id: own },
      { kind: 'process', id },
    ]);
    const [pruned] = await prune(folder);
    expect(pruned!.left).toEqual([]);
    expect(pruned!.removed.map(({ kind }) => kind)).toEqual(['process', 'folder']);
    await ended;
    expect([existsSync(own), existsSync(file)]).toEqual([false, false]);
    expect(await prune(folder)).toEqual([]);
  });

  it('does not touch what is not of the run, whatever its ledger says', async () => {
    const foreign = mkdtempSync(join(tmpdir(), 'xdpbed-foreign-'));
    const file = leftLedger('xb00000003', [
      { kind: 'folder', id: foreign },
      { kind: 'folder', id: join(folder, 'xb00000003', '..', '..') },
      { kind: 'netns', id: 'somebody-elses' },
      { kind: 'netns', id: 'xdpbed-xb00000003-/../somebody-elses' },
      // The number of a process that is there, with another start.
      { kind: 'process', id: `${process.ppid} 1` },
    ]);
    const [pruned] = await prune(folder);
    expect(pruned!.left.map(({ resource }) => resource.kind)).toEqual(['netns', 'netns', 'folder', 'folder']);
    expect([existsSync(foreign), existsSync(file)]).toEqual([true, true]);
    rmSync(foreign, { recursive: true });
  });
});

describe.skipIf(skipped !== '')(`network namespaces${skipped}`, () => {
  /** Of a run: other tests make others at the same time. */
  const namespaces = (run: string): string[] =>
    readdirSync('/run/netns').filter((name) => name.startsWith(`xdpbed-${run}-`));
  /** Processes with a thread in a namespace. */
  const withNamespace = (inode: string): string[] =>
    readdirSync('/proc').filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === `net:[${inode}]`;
      } catch {
        return false;
      }
    });
  const fds = (): number => readdirSync('/proc/self/fd').length;

  it('are entered for a while, hold interfaces of given numbers, and go with all of it', async () => {
    const before = fds();
    const ledger = Ledger.create(folder);
    const [a, b] = OwnedNamespace.create([`xdpbed-${ledger.run}-a`, `xdpbed-${ledger.run}-b`], ledger);
    expect(ledger.held).toHaveLength(2);
    await runIp([`link add name x index 7 type veth peer name y index 9 netns ${b!.name}`], {
      namespace: a!.name,
    });
    const tap = TapDevice.open({ name: 'tap0', ifindex: 5, queues: 2, vnetHeader: false }, a!);
    const links = (await showIp(['link', 'show'], { namespace: a!.name })) as {
      ifname: string;
      ifindex: number;
    }[];
    expect(links.map(({ ifname, ifindex }) => [ifname, ifindex])).toEqual([
      ['lo', 1],
      ['tap0', 5],
      ['x', 7],
    ]);
    tap.close();
    a!.close();
    b!.close();
    b!.close();
    ledger.close();
    expect(namespaces(ledger.run)).toEqual([]);
    expect(fds()).toBe(before);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('are made all or none', async () => {
    const ledger = Ledger.create(folder);
    const names = [`xdpbed-${ledger.run}-a`, `xdpbed-${ledger.run}-a`];
    expect(() => OwnedNamespace.create(names, ledger)).toThrow(
      expect.objectContaining({ code: 'host-unsupported' }),
    );
    expect(ledger.held).toEqual([]);
    expect(namespaces(ledger.run)).toEqual([]);
  });

  it('come out again when what was done in there throws', async () => {
    const ledger = Ledger.create(folder);
    const [a] = OwnedNamespace.create([`xdpbed-${ledger.run}-a`], ledger);
    const where = (): string => execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' });
    const home = where();
    expect(a!.run(where)).not.toBe(home);
    expect(() =>
      a!.run(() => {
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(where()).toBe(home);
    a!.close();
  });

  it('of a process that was killed are pruned', async () => {
    const run = 'xb0000000f';
    execFileSync('ip', ['netns', 'add', `xdpbed-${run}-a`]);
    // The process was ended between the name and the namespace.
    writeFileSync(`/run/netns/xdpbed-${run}-half-made`, '');
    leftLedger(run, [
      { kind: 'netns', id: `xdpbed-${run}-a` },
      { kind: 'netns', id: `xdpbed-${run}-half-made` },
      { kind: 'netns', id: `xdpbed-${run}-never-made` },
    ]);
    const [pruned] = await prune(folder);
    expect(pruned!.left).toEqual([]);
    expect(namespaces(run)).toEqual([]);
  });

  describe('with somebody in them', () => {
    const sleepers: ChildProcess[] = [];
    afterEach(() => sleepers.splice(0).forEach((child) => child.kill('SIGKILL')));

    /** Words run in a namespace by name, or in that of this process; once they have printed a line. */
    async function started(netns: string | undefined, ...words: string[]): Promise<ChildProcess> {
      const command = netns === undefined ? words : ['ip', 'netns', 'exec', netns, ...words];
      const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
      sleepers.push(child);
      await once(child.stdout, 'data');
      return child;
    }
    const isOver = ({ exitCode, signalCode }: ChildProcess): boolean =>
      exitCode !== null || signalCode !== null;
    const SLEEP = ['sh', '-c', 'echo in; exec sleep 60'];
    /** Of which the last goes on in a session of its own when its parent is gone. */
    const FAMILY = ['sh', '-c', 'trap "" TERM; setsid sh -c "echo in; exec sleep 60" & wait'];

    it('are closed when these have been ended, whatever they have started, and nobody else has', async () => {
      const ledger = Ledger.create(folder);
      const other = Ledger.create(folder);
      const [a] = OwnedNamespace.create([`xdpbed-${ledger.run}-a`], ledger);
      const [b] = OwnedNamespace.create([`xdpbed-${other.run}-b`], other);
      const inside = [await started(a!.name, ...SLEEP), await started(a!.name, ...FAMILY)];
      const outside = [await started(b!.name, ...SLEEP), await started(undefined, ...SLEEP)];
      const gone = inside.map((child) => once(child, 'exit'));
      const inode = String(statSync(`/run/netns/${a!.name}`, { bigint: true }).ino);
      expect(withNamespace(inode)).toHaveLength(3);
      await OwnedNamespace.vacate([a!], ledger);
      // It had the chance to end by itself; the other would not hear of it.
      expect((await Promise.all(gone)).map(([, signal]) => signal as string)).toEqual(['SIGTERM', 'SIGKILL']);
      a!.close();
      expect([namespaces(ledger.run), withNamespace(inode)]).toEqual([[], []]);
      expect(outside.map(isOver)).toEqual([false, false]);
      await OwnedNamespace.vacate([b!], other);
      b!.close();
    });

    it('of a process that was killed are pruned with them', async () => {
      const run = 'xb0000001f';
      const netns = `xdpbed-${run}-a`;
      execFileSync('ip', ['netns', 'add', netns]);
      const inode = String(statSync(`/run/netns/${netns}`, { bigint: true }).ino);
      const child = await started(netns, ...FAMILY);
      leftLedger(run, [{ kind: 'netns', id: netns, inode }]);
      const gone = once(child, 'exit');
      expect((await prune(folder))[0]!.left).toEqual([]);
      await gone;
      expect([namespaces(run), withNamespace(inode)]).toEqual([[], []]);
    });

    it('are not the run’s when their name has become another’s: nobody in there is ended', async () => {
      const run = 'xb0000002f';
      const netns = `xdpbed-${run}-a`;
      execFileSync('ip', ['netns', 'add', netns]);
      const inode = String(statSync(`/run/netns/${netns}`, { bigint: true }).ino);
      const child = await started(netns, ...SLEEP);
      leftLedger(run, [{ kind: 'netns', id: netns, inode: `${BigInt(inode) + 1n}` }]);
      expect((await prune(folder))[0]!.left).toEqual([]);
      expect(isOver(child)).toBe(false);
    });

    it('are waited for when they only look in, with one of their threads', async () => {
      const ledger = Ledger.create(folder);
      const [a] = OwnedNamespace.create([`xdpbed-${ledger.run}-a`], ledger);
      const script = `
        const koffi = require('koffi');
        const fs = require('node:fs');
        const setns = koffi.load(null).func('int setns(int fd, int type)');
        const [there, home] = ['/run/netns/${a!.name}', '/proc/self/ns/net'].map((path) => fs.openSync(path));
        setns(there, 0);
        console.log('in');
        setTimeout(() => setns(home, 0), 400);
        setTimeout(() => undefined, 60_000);`;
      const visitor = await started(undefined, process.execPath, '-e', script);
      const start = performance.now();
      await OwnedNamespace.vacate([a!], ledger);
      expect(performance.now() - start).toBeGreaterThan(200);
      expect(isOver(visitor)).toBe(false);
      a!.close();
    });

    it('are nobody when the namespace is that of this process', async () => {
      const inode = statSync('/proc/self/ns/net', { bigint: true }).ino;
      await expect(endMembers(new Set([inode]))).rejects.toThrow('is not of a run');
    });

    it('let a process in that another run holds, until it is taken down', async () => {
      const ledger = Ledger.create(folder);
      const [a] = OwnedNamespace.create([`xdpbed-${ledger.run}-a`], ledger);
      const where = (): string => execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' });
      const enter = (): string => insideRun(ledger.run, a!.name, where, folder);
      const home = where();
      expect(enter()).toBe(a!.run(where));
      expect(where()).toBe(home);
      await OwnedNamespace.vacate([a!], ledger);
      expect(enter).toThrow('is not up any more');
      expect(where()).toBe(home);
      a!.close();
      expect(enter).toThrow('is not up any more');
    });
  });

  it('carry frames from a packet socket to the file of a tap', async () => {
    const ledger = Ledger.create(folder);
    const [a] = OwnedNamespace.create([`xdpbed-${ledger.run}-a`], ledger);
    const tap = TapDevice.open({ name: 'tap0', ifindex: 5, queues: 1, vnetHeader: false }, a!);
    a!.run(() => execFileSync('sysctl', ['-qw', 'net.ipv6.conf.all.disable_ipv6=1']));
    await runIp(['link set tap0 up'], { namespace: a!.name });
    const socket = PacketSocket.open(5, a!);
    const frame = Uint8Array.from({ length: 60 }, (_, index) => index);
    expect(socket.send(frame)).toBe(true);
    const into = new Uint8Array(100);
    expect(tap.read(0, into)).toBe(60);
    expect(into.subarray(0, 60)).toEqual(frame);
    expect(tap.read(0, into)).toBe(-11);
    expect(() => socket.send(new Uint8Array(100_000))).toThrow(
      'a frame of 100000 bytes cannot be sent: EMSGSIZE',
    );
    socket.close();
    tap.close();
    a!.close();
  });

  it('say what iproute2 would not do', async () => {
    await expect(runIp(['link set lo up', 'link add name x type nothing'])).rejects.toThrow(
      /^ip link add name x type nothing: .*(Unknown|unsupported|Not supported)/i,
    );
  });
});
