import { readFile } from 'node:fs/promises';
import { duplexPair } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { RecordingPlace, RIG_FEATURES } from '../conformance/offload/offload-rig.js';
import type { InstallRequest, RequestsOrder } from '../core/contract/guest-driver.js';
import { VirtualClock } from '../core/clock/virtual-clock.js';
import { ControlEndpoint } from '../core/offload/control-endpoint.js';
import { QuotaAccounts } from '../core/offload/quota-accounts.js';
import { AgentClient } from '../linux/guest/agent-client.js';
import type { NicSettings } from '../linux/guest/agent-messages.js';
import { RemoteNicDriver } from '../linux/guest/remote-nic-driver.js';
import { SerialControlDevice } from '../virtio/index.js';
import { GuestAgent } from './guest-agent.js';
import { testingParty } from '../core/offload/testing-party.js';

const NIC: NicSettings = {
  guest: 'guest0',
  name: 'eth0',
  index: 0,
  mac: '52:54:00:00:00:02',
  ifindex: 2,
  queues: undefined,
  hostile: false,
  features: '0',
};

const closers: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** An agent as in a guest, but that its kernel is one of this process's, and the device that it offloads to. */
async function rig(nic: Partial<NicSettings> = {}) {
  const [hostEnd, guestEnd] = duplexPair();
  const [deviceEnd, driverEnd] = duplexPair();
  const driverPlace = new RecordingPlace();
  const devicePlace = new RecordingPlace();
  const brought: NicSettings[] = [];
  const exchanges: string[] = [];
  const endpoint = new ControlEndpoint({
    guest: 'guest0',
    nic: 'eth0',
    party: testingParty('host'),
    policies: [],
    accounts: new QuotaAccounts(),
    place: devicePlace,
    clock: new VirtualClock(),
    world: { trace: () => {} },
    events: { ruling: () => {}, audit: () => {} },
    features: RIG_FEATURES,
    queuePairs: 1,
  });
  const device = new SerialControlDevice('guest0.eth0');
  device.attach(deviceEnd);
  device.serve((request, room) => endpoint.handle(request, room));
  const agent = new GuestAgent(guestEnd, {
    party: testingParty('guest'),
    frames: () => ({ received: 7, transmitted: 5 }),
    serveExchange: async (settings, exchange) => {
      if (exchange.kind === 'tcp-rr') throw new Error('no stack');
      exchanges.push(`${settings.name} serves ${exchange.kind}/${exchange.size} at ${exchange.address}`);
      return {
        counts: () => ({ at: 12.5, messages: 3, bytes: 54 }),
        close: async () => void exchanges.push('closed'),
      };
    },
    bringUp: async (settings) => {
      if (settings.ifindex !== 2) throw new Error('no such nic');
      brought.push(settings);
      return driverPlace;
    },
    openControl: async () => driverEnd,
  });
  const ended = agent.run();
  const client = new AgentClient(hostEnd, 'guest guest0', (message) => message);
  closers.push(() => client.fail('the test is over'));
  await client.hello;
  const driver = await RemoteNicDriver.open(client, { ...NIC, ...nic });
  return { driver, client, driverPlace, devicePlace, endpoint, brought, exchanges, ended, hostEnd };
}

async function request(
  name: string,
  placement: InstallRequest['placement'],
  presets: InstallRequest['program']['presets'] = {},
): Promise<InstallRequest> {
  const object = await readFile(new URL(`../../testbeds/programs/${name}.o`, import.meta.url));
  return { program: { name, object: `${name}.o`, function: name, presets }, object, placement };
}

describe("a guest's agent, asked by the host", () => {
  it('brings a nic up as it is told', async () => {
    const { brought } = await rig({ queues: 2, hostile: true });
    expect(brought).toEqual([{ ...NIC, queues: 2, hostile: true }]);
  });

  it('serves one exchange at a time, until its nic is closed', async () => {
    const { driver, exchanges } = await rig();
    const order = { size: 18, streams: 2, address: '192.0.2.1', peer: '192.0.2.0', peerMac: NIC.mac };
    await expect(driver.exchangeCounts()).rejects.toThrow('no exchange is served');
    await driver.serveExchange({ ...order, kind: 'udp-stream' });
    expect(await driver.exchangeCounts()).toEqual({ at: 12.5, messages: 3, bytes: 54 });
    await driver.serveExchange({ ...order, kind: 'udp-rr' });
    await expect(driver.serveExchange({ ...order, kind: 'tcp-rr' })).rejects.toThrow('no stack');
    await driver.endExchange();
    await driver.serveExchange({ ...order, kind: 'tcp-stream' });
    await driver.close();
    expect(exchanges).toEqual([
      'eth0 serves udp-stream/18 at 192.0.2.1',
      'closed',
      'eth0 serves udp-rr/18 at 192.0.2.1',
      'closed',
      'eth0 serves tcp-stream/18 at 192.0.2.1',
      'closed',
    ]);
  });

  it('puts a program into its driver with presets, tells its maps, and takes it away', async () => {
    const { driver, driverPlace } = await rig();
    expect(await driver.counters()).toBeUndefined();
    const key = Uint8Array.of(3, 0, 0, 0);
    const value = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const presets = { rxcnt: [{ key, value }] };
    expect(await driver.install(await request('xdp1', 'guest', presets))).toEqual({ attached: true });
    expect(driverPlace.program?.name).toBe('xdp1');
    const maps = await driver.readMaps();
    expect(maps).toHaveLength(1);
    expect(maps[0]).toMatchObject({ name: 'rxcnt', type: 2, readFrom: 'guest-kernel' });
    expect(maps[0]!.entries).toHaveLength(256);
    expect(maps[0]!.entries[3]).toEqual({ key, value });
    expect(maps[0]!.entries[4]!.value).toEqual(new Uint8Array(8));
    expect(await driver.counters()).toMatchObject({ XDP_DROP: 0 });
    await driver.close();
    await driver.close();
    expect(driverPlace.history).toEqual(['attach', 'detach']);
  });

  it('is told values of single CPUs, and of maps by their names', async () => {
    const { driver } = await rig();
    const counters = [{ key: new Uint8Array(4), cpuValues: [{ cpu: 0, value: new Uint8Array(16).fill(7) }] }];
    const program = await request('blocklist', 'guest', { counters });
    expect(await driver.install(program)).toEqual({ attached: true });
    const content = (await driver.readMaps()).find(({ name }) => name === 'counters')!.entries;
    expect(content[0]!.value.subarray(0, 16)).toEqual(new Uint8Array(16).fill(7));
    expect(content[0]!.value.subarray(16).every((byte) => byte === 0)).toBe(true);
    const families = { by_family: [{ key: Uint8Array.of(1, 0, 0, 0), mapName: 'counts_v6' }] };
    expect(await driver.install(await request('map_in_map', 'guest', families))).toEqual({ attached: true });
    // The object has counts_v4 under 0 and counts_v6 under 2.
    const inner = (await driver.readMaps()).find(({ name }) => name === 'by_family')!.entries;
    expect(inner.map(({ key }) => key[0])).toEqual([0, 1, 2]);
    expect(inner[1]!.value).toEqual(inner[2]!.value);
    expect(inner[1]!.value).not.toEqual(inner[0]!.value);
  });

  it('offloads over its control channel, and counts what it sent', async () => {
    const { driver, client, devicePlace, driverPlace, endpoint } = await rig();
    expect(await driver.install(await request('xdp1', 'host'))).toEqual({ attached: true });
    expect(devicePlace.program?.name).toBeDefined();
    expect(driverPlace.history).toEqual([]);
    expect(await driver.readMaps()).toMatchObject([{ name: 'rxcnt', readFrom: 'device' }]);
    const { commands, acks } = await driver.control();
    expect(commands).toEqual(endpoint.statistics.commands);
    expect(acks).toEqual(endpoint.statistics.acks);
    expect(commands['EBPF_MAP/LOOKUP_ELEM']).toBe(256);
    await driver.close();
    expect(endpoint.objectCount).toBe(0);
    // The same nic once more, over the same channel.
    const again = await RemoteNicDriver.open(client, NIC);
    expect(await again.install(await request('xdp1', 'host'))).toEqual({ attached: true });
    expect(devicePlace.history).toEqual(['attach', 'detach', 'attach']);
  });

  it('says why a program was refused', async () => {
    const { driver } = await rig();
    const text = Buffer.from('.license GPL\n.program unsafe\ncall bpf_ktime_get_ns\nr0 = 2\nexit\n');
    const program = { name: 'unsafe', object: 'unsafe.s', function: 'unsafe', presets: {} };
    const answer = await driver.install({ program, object: text, placement: 'host' });
    expect(answer).toEqual({
      attached: false,
      reason:
        "insn 0: helper bpf_ktime_get_ns cannot be offloaded: the guest's driver refused it, and did not ask the host (driver-helpers)",
    });
  });

  it('throws what it cannot do at all, with the code', async () => {
    const { driver } = await rig();
    const { program, object } = await request('xdp1', 'guest');
    const absent = driver.install({ program: { ...program, function: 'xdp9' }, object, placement: 'guest' });
    await expect(absent).rejects.toMatchObject({
      code: 'object-invalid',
      message: 'guest guest0: xdp1.o holds no program xdp9',
    });
    await expect(rig({ ifindex: 3 })).rejects.toMatchObject({ code: 'internal-error' });
  });

  it('keeps asking the device until its time is over, or it is told to stop', async () => {
    const { driver, endpoint } = await rig();
    await driver.install(await request('xdp1', 'host'));
    const order = (seconds: number, signal: AbortSignal): RequestsOrder => ({
      ask: { kind: 'lookup', map: 'rxcnt' },
      perSecond: 200,
      warmUp: 0,
      seconds,
      signal,
    });
    const report = await driver.sendRequests(order(0.1, new AbortController().signal));
    expect(report.sent).toBe(20);
    expect(report).toMatchObject({ refused: 0, refusal: undefined });
    expect(report.latency!.p50).toBeGreaterThan(0);
    expect(endpoint.statistics.commands['EBPF_MAP/LOOKUP_ELEM']).toBe(20);
    const abort = new AbortController();
    const stopped = driver.sendRequests(order(3600, abort.signal));
    setTimeout(() => abort.abort(), 50);
    expect((await stopped).sent).toBeLessThan(200);

    const load = await driver.sendRequests({
      ask: { kind: 'load', install: await request('xdp2', 'host') },
      perSecond: undefined,
      warmUp: 0,
      seconds: 0.05,
      signal: new AbortController().signal,
    });
    expect(load.sent).toBeGreaterThan(0);
    expect(load.refused).toBe(0);
    expect(await driver.readMaps()).toMatchObject([{ name: 'rxcnt' }]);
  });

  it('tells maps of many elements in parts', async () => {
    const { driver } = await rig();
    // 100 000 elements of 4 and 24 bytes: three parts.
    const text = Buffer.from(
      '.license GPL\n.map big array key=4 value=24 entries=100000\n.program big\nr1 = map[big]\nr0 = 2\nexit\n',
    );
    const program = { name: 'big', object: 'big.s', function: 'big', presets: {} };
    expect(await driver.install({ program, object: text, placement: 'guest' })).toEqual({ attached: true });
    const [map] = await driver.readMaps();
    expect(map!.entries).toHaveLength(100_000);
    expect(map!.entries.at(-1)).toEqual({
      key: Uint8Array.of(0x9f, 0x86, 1, 0),
      value: new Uint8Array(24),
    });
  });

  it('ends when its host hangs up', async () => {
    const { ended, hostEnd } = await rig();
    hostEnd.end();
    await ended;
  });
});
