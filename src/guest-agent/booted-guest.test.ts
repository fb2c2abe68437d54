import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import { VirtioSerialTransport } from '../../plugins/transport-virtio-serial/virtio-serial-transport.js';
import { StructuralVerifier } from '../../plugins/verifier-structural/structural-verifier.js';
import { BpfRuntime } from '../bpf/runtime/bpf-runtime.js';
import { RIG_FEATURES, RecordingPlace } from '../conformance/offload/offload-rig.js';
import type { InstallRequest } from '../core/contract/guest-driver.js';
import { VirtualClock } from '../core/clock/virtual-clock.js';
import { messageOf } from '../core/diagnostic.js';
import { ControlEndpoint } from '../core/offload/control-endpoint.js';
import type { ControlSocketChannel } from '../core/offload/control-socket-channel.js';
import { QuotaAccounts } from '../core/offload/quota-accounts.js';
import { AGENT_PROTOCOL } from '../linux/guest/agent-messages.js';
import { findInPath } from '../linux/guest/confinement.js';
import { guestImage, type GuestImage } from '../linux/guest/guest-image.js';
import { startGuest, type RunningGuest, type StartGuestOptions } from '../linux/guest/start-guest.js';
import { PacketSocket } from '../linux/packet-socket.js';
import { TapDevice } from '../linux/tap-device.js';
import { probeNamespaces, testingNamespace, type TestingNamespace } from '../linux/testing-namespace.js';

const MAC = '52:54:00:00:00:02';

/** A guest is looked for in the cache and in the environment: tests download none. */
async function findImage(): Promise<GuestImage | string> {
  if (findInPath('qemu-system-x86_64') === undefined) return 'there is no qemu-system-x86_64 here';
  const namespaces = probeNamespaces();
  if (namespaces.status !== 'supported') return namespaces.reason;
  try {
    return await guestImage({ download: false });
  } catch (error) {
    return messageOf(error);
  }
}

const found = await findImage();
const skipped = typeof found === 'string' ? ` (skipped: ${found})` : '';

describe.skipIf(skipped !== '')(`a real guest${skipped}`, () => {
  const image = found as GuestImage;
  let folder: string;
  let namespace: TestingNamespace;
  const closers: (() => unknown)[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'xdpbed-guest-'));
    namespace = testingNamespace();
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  afterAll(async () => {
    namespace.close();
    await rm(folder, { recursive: true });
  });

  const start = async (options: Partial<StartGuestOptions> = {}): Promise<RunningGuest> => {
    const guest = await startGuest({
      name: 'guest0',
      cpus: 1,
      memoryMiB: 512,
      nics: [],
      image,
      accelerator: 'tcg',
      ...options,
    });
    closers.push(() => guest.close());
    return guest;
  };

  const openTap = (queues: number): TapDevice => {
    const tap = TapDevice.open({ name: 'tap0', ifindex: 10, queues, vnetHeader: true }, namespace);
    closers.push(() => tap.close());
    namespace.ip('link', 'set', 'dev', 'tap0', 'address', '52:54:00:00:00:01', 'up');
    return tap;
  };

  const openChannel = async (): Promise<ControlSocketChannel> => {
    const channel = await new VirtioSerialTransport().open({ label: 'guest0.eth0', features: RIG_FEATURES });
    closers.push(() => channel.close());
    return channel;
  };

  it('runs XDP in its driver, offloads it over its control channel, and leaves nothing behind', async () => {
    const tap = openTap(2);
    const channel = await openChannel();
    const place = new RecordingPlace();
    const device = new ControlEndpoint({
      guest: 'guest0',
      nic: 'eth0',
      party: memoryParty(),
      policies: [],
      accounts: new QuotaAccounts(),
      place,
      clock: new VirtualClock(),
      world: { trace: () => {} },
      events: { ruling: () => {}, audit: () => {} },
      features: RIG_FEATURES,
      queuePairs: 1,
    });
    await channel.server.serve((request, room) => device.handle(request, room));

    const pids: number[] = [];
    const guest = await start({
      nics: [{ mac: MAC, tapFds: tap.fds, queueSize: 256, control: channel.address }],
      consoleLog: join(folder, 'console.log'),
      onResource: (_kind, pid) => void pids.push(pid),
    });
    expect(pids).toEqual([guest.pid]);
    expect(guest.greeting).toMatchObject({ protocol: AGENT_PROTOCOL, node: process.version });
    expect(await guest.qmp.execute('query-status')).toMatchObject({ status: 'running' });

    // Two queue pairs: one for the guest's only CPU, one for what XDP transmits.
    const driver = await guest.openNic({ index: 0, name: 'wan0', ifindex: 2, queues: 1 });
    expect(await driver.counters()).toBeUndefined();
    expect(await driver.install(await program('xdp1', 'guest'))).toEqual({ attached: true });
    // Counts by IP protocol: 3 of UDP (17), 2 of TCP (6), and drops all.
    const frames = [17, 6, 17, 6, 17].map(ipFrame);
    const socket = PacketSocket.open(10, namespace);
    closers.push(() => socket.close());
    for (const frame of frames) socket.send(frame);
    await until(async () => (await driver.counters())!.XDP_DROP === frames.length);
    expect(await driver.counters()).toEqual({
      XDP_ABORTED: 0,
      XDP_DROP: 5,
      XDP_PASS: 0,
      XDP_TX: 0,
      XDP_REDIRECT: 0,
    });
    const [map] = await driver.readMaps();
    expect(map).toMatchObject({ name: 'rxcnt', type: 2, readFrom: 'guest-kernel' });
    expect(map!.entries).toHaveLength(256);
    expect(counted(map!.entries)).toEqual({ 6: 2, 17: 3 });

    // What its own verifier rejects, it says with the reason.
    const unsafe = { name: 'unsafe', object: 'unsafe.s', function: 'unsafe', presets: {} };
    const text = Buffer.from('.license GPL\n.program unsafe\nr0 = r3\nexit\n');
    const refused = await driver.install({ program: unsafe, object: text, placement: 'guest' });
    expect(refused).toMatchObject({ attached: false });
    expect((refused as { reason: string }).reason).toMatch(
      /^program unsafe was rejected by verifier kernel: R3/,
    );

    await driver.close();
    const offloading = await guest.openNic({ index: 0, name: 'wan0', ifindex: 2, queues: 1 });
    expect(await offloading.install(await program('xdp1', 'host'))).toEqual({ attached: true });
    expect(place.history).toEqual(['attach']);
    expect(await offloading.readMaps()).toMatchObject([{ name: 'rxcnt', readFrom: 'device' }]);
    const { commands, acks } = await offloading.control();
    expect(commands).toMatchObject({ 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_MAP/LOOKUP_ELEM': 256 });
    expect(acks.err).toBe(1); // The key after the last one.
    expect(channel.statistics.commands).toBe(acks.ok + acks.err);
    await offloading.close();
    expect(place.history).toEqual(['attach', 'detach']);
    expect(device.objectCount).toBe(0);

    await guest.close();
    await guest.close();
    expect(isAlive(guest.pid)).toBe(false);
    expect(channel.statistics.violations).toBe(0);
  }, 60_000);

  it('ends with the process that started it, even if that is killed', async () => {
    const library = new URL('../../dist/src/linux/index.js', import.meta.url).href;
    const starter = `
      const { guestImage, startGuest } = await import(${JSON.stringify(library)});
      const image = await guestImage({ download: false });
      await startGuest({
        name: 'orphan', cpus: 1, memoryMiB: 512, nics: [], image, accelerator: 'tcg',
        onResource: (kind, pid) => process.stdout.write(pid + '\\n'),
      });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', starter], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    closers.push(() => child.kill('SIGKILL'));
    const pid = Number(
      await new Promise<string>((resolve) => child.stdout.once('data', (text) => resolve(String(text)))),
    );
    await until(async () => readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('qemu'));
    child.kill('SIGKILL');
    await until(async () => !isAlive(pid));
  }, 60_000);

  it('is nobody, with no file of the host’s but those it was given, and says how it died', async () => {
    const tap = openTap(1);
    const channel = await openChannel();
    const guest = await start({
      nics: [{ mac: MAC, tapFds: tap.fds, queueSize: 256, control: channel.address }],
    });
    const driver = await guest.openNic({ index: 0, name: 'eth0', ifindex: 2 });
    const status = readFileSync(`/proc/${guest.pid}/status`, 'utf8');
    expect(status).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
      expect(status).toMatch(new RegExp(`^Cap${set}:\\t0+$`, 'm'));
    // Nor any network of the host's.
    for (const kind of ['net', 'ipc'])
      expect(readlinkSync(`/proc/${guest.pid}/ns/${kind}`)).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
    const files = readdirSync(`/proc/${guest.pid}/fd`)
      .map((fd) => readlinkSync(`/proc/${guest.pid}/fd/${fd}`))
      .filter((path) => path.startsWith('/') && path !== '/dev/null');
    expect(files.sort()).toEqual(['/dev/net/tun', image.initramfs, image.kernel].sort());
    const failed = new Promise<Error>((resolve) => guest.onFailed(resolve));
    process.kill(guest.pid, 'SIGKILL');
    expect((await failed).message).toContain('guest guest0: QEMU ended with SIGKILL');
    await expect(driver.counters()).rejects.toMatchObject({ code: 'guest-failed' });
    // Another one can have the same tap and the same channel.
    const next = await start({
      nics: [{ mac: MAC, tapFds: tap.fds, queueSize: 256, control: channel.address }],
    });
    await expect(next.openNic({ index: 0, name: 'eth0', ifindex: 7 })).rejects.toThrow(
      'has ifindex 2, the plan says 7',
    );
  }, 60_000);

  it('says why it did not come up, and is gone', async () => {
    const pids: number[] = [];
    const broken = { ...image, initWords: ['/nothing.mjs'] };
    const failed = start({ image: broken, onResource: (_kind, pid) => void pids.push(pid) });
    await expect(failed).rejects.toThrow(
      /QEMU ended with exit code 0; its console ends with:[\s\S]*nothing\.mjs/,
    );
    const late = start({ readyWithin: 1, onResource: (_kind, pid) => void pids.push(pid) });
    await expect(late).rejects.toThrow('its agent was not there within 1 ms (accelerator tcg)');
    expect(pids).toHaveLength(2);
    expect(pids.filter(isAlive)).toEqual([]);
  }, 60_000);
});

function memoryParty() {
  const runtime = new BpfRuntime({ memoryBytes: 4 * 1024 * 1024 });
  return {
    name: 'host',
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier: new StructuralVerifier(),
  };
}

async function program(name: string, placement: InstallRequest['placement']): Promise<InstallRequest> {
  const object = `${name}.o`;
  return {
    program: { name, object, function: name, presets: {} },
    object: await readFile(new URL(`../../testbeds/programs/${object}`, import.meta.url)),
    placement,
  };
}

/** 64 bytes: Ethernet, and an IPv4 header as far as programs look. */
function ipFrame(protocol: number): Uint8Array {
  const frame = new Uint8Array(64);
  frame.set(Buffer.from(MAC.replaceAll(':', ''), 'hex'));
  frame.set([0x52, 0x54, 0, 0, 0, 9, 8, 0, 0x45], 6);
  frame[14 + 9] = protocol;
  return frame;
}

function counted(
  entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[],
): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { key, value } of entries) {
    const count = Number(Buffer.from(value).readBigUInt64LE());
    if (count > 0) counts[Buffer.from(key).readUInt32LE()] = count;
  }
  return counts;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(done: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error('it did not happen');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
