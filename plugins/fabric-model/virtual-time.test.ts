import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RateResult } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const file = new URL('../../testbeds/rfc-2019.testbed.yaml', import.meta.url).pathname;
const registry = new PluginRegistry(BUILT_IN_PLUGINS);
const costs = (values: Readonly<Record<string, number>>): string[] =>
  Object.entries(values).map(([name, value]) => `plugins.fabric.config.costs.${name}=${value}`);

let text: string;
beforeAll(async () => {
  text = await readFile(file, 'utf8');
});

/** The rate of one cell of rfc-2019, with other values set. */
async function rate(cell: string, ...set: string[]): Promise<RateResult> {
  const [hostCase, program, placement] = cell.split('/');
  const testbed = await resolveTestbed(file, text, registry, {
    only: [`case=${hostCase}`, `program=${program}`, `placement=${placement}`],
    set: [
      'workload={ use: udp-flood, config: { frames: 1 } }',
      'plugins.executor={ use: wasm }',
      'plugins.fabric.config.sample-ms=1',
      'plugins.fabric.config.warm-up-ms=1',
      'guests.guest0.nics.eth0.features=[VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_XDP_OFFLOAD, VIRTIO_NET_F_MQ]',
      ...set,
    ],
  });
  const { runs, failures } = await runTestbed(testbed, { version: '0' });
  if (failures !== undefined) throw new Error(failures[0]!.message);
  const [result] = runs[0]!.rates!;
  expect(result!.unexplained).toBe(0);
  return result!;
}

const perSecond = ({ framesPerSecond }: RateResult): number => framesPerSecond.median;
const utilisation = (result: RateResult, name: string): number =>
  result.explanation!.cpus.find((cpu) => cpu.name === name)?.utilisation ?? 0;
const NIC = 'host.eth0 softirq';
const VHOST = 'guest0.eth0 vhost';

describe('rates in virtual time', () => {
  it('are those of the wire where everybody keeps up, 14.88 Mpps of 60 bytes at 10 Gbit/s and a tenth at 1', async () => {
    const quick = costs({ 'nic-rx': 0, 'xdp-redirect': 0, 'tun-recv': 0 });
    // (60 + 24) · 8 bits: 67.2 ns a frame.
    const fast = await rate('redirect/xdp1/host', ...quick);
    expect(perSecond(fast) / (1e9 / 67.2)).toBeCloseTo(1, 2);
    expect(fast.explanation!.bottleneck).toBe('the wire');
    const slow = await rate('redirect/xdp1/host', ...costs({ 'line-rate': 1 }));
    expect(perSecond(slow) / (1e8 / 67.2)).toBeCloseTo(1, 2);
    expect(slow.ends).toEqual([{ place: 'host.tap0', fate: 'xdp-drop', frames: slow.framesSent }]);
  });

  it('are one by the time of the CPU that has none left, whatever the others do', async () => {
    // vhost-rx is by far the most of what vhost does for a frame: doubled, it adds exactly itself to the time of each.
    const long = 'plugins.fabric.config.sample-ms=4';
    const base = await rate('redirect/xdp1/guest', long, ...costs({ 'vhost-rx': 400 }));
    const double = await rate('redirect/xdp1/guest', long, ...costs({ 'vhost-rx': 800 }));
    expect(base.explanation!.bottleneck).toBe(VHOST);
    const added = 1e9 / perSecond(double) - 1e9 / perSecond(base);
    // A sample ends in the middle of a guest's poll of 64 frames: half a per cent either way.
    expect(added).toBeGreaterThan(394);
    expect(added).toBeLessThan(406);
    // The NIC has been losing frames before that, and the wire's rate does not matter.
    const wider = await rate('redirect/xdp1/guest', long, ...costs({ 'vhost-rx': 400, 'line-rate': 40 }));
    expect(perSecond(wider) / perSecond(base)).toBeCloseTo(1, 2);
  });

  it('follow the utilisation law: rate times service time is the part of the time that a CPU works', async () => {
    // 1 Mpps wanted; every frame takes vhost the same.
    const base = await rate('redirect/xdp1/guest', 'measure.rate=1000000');
    expect(perSecond(base) / 1e6).toBeCloseTo(1, 2);
    const more = await rate('redirect/xdp1/guest', 'measure.rate=1000000', ...costs({ 'vhost-rx': 470 }));
    // 100 ns more than 370 for a million frames a second are a tenth of the time, less what it saves in wake-ups.
    const grown = utilisation(more, VHOST) - utilisation(base, VHOST);
    expect(grown).toBeGreaterThan(0.06);
    expect(grown).toBeLessThan(0.11);
    // Without what is paid once for several frames, half the frames are half the work.
    const each = costs({ 'nic-poll': 0, 'redirect-flush': 0, 'vhost-wakeup': 0 });
    const whole = await rate('redirect/xdp1/guest', 'measure.rate=1000000', ...each);
    const half = await rate('redirect/xdp1/guest', 'measure.rate=500000', ...each);
    expect(utilisation(half, NIC) / utilisation(whole, NIC)).toBeCloseTo(0.5, 2);
    expect(half.explanation!.bottleneck).toBe('the rate that was asked for');
  });

  it('follow Little’s law: frames in the ring are the rate times the time they spend there', async () => {
    // vhost is saturated, so the ring is full, and a frame waits until all before it are served.
    const full = await rate('redirect/xdp1/guest');
    const [ring] = full.explanation!.queues;
    expect(ring!.capacity).toBe(1024);
    expect(ring!.mean).toBeGreaterThan(1000);
    const inRing = ring!.mean / perSecond(full);
    // The rest of the way, NIC ring included, is short beside it: the NIC is not the bottleneck of what it enqueues.
    expect(full.explanation!.latency.p50 / 1e9 / inRing).toBeGreaterThan(0.95);
    expect(full.explanation!.latency.p50 / 1e9 / inRing).toBeLessThan(1.15);
    const half = await rate('redirect/xdp1/guest', 'host.taps.tap0.ring=512');
    expect(half.explanation!.latency.p50 / full.explanation!.latency.p50).toBeLessThan(0.6);
    expect(perSecond(half) / perSecond(full)).toBeCloseTo(1, 2);
  });

  it('depend on what the program does, not on its name', async () => {
    const costly = costs({ insn: 3 });
    const base = await rate('redirect/xdp2/host');
    const slow = await rate('redirect/xdp2/host', ...costly);
    const insns = (1e9 / perSecond(slow) - 1e9 / perSecond(base)) / 2.7;
    // xdp2 is some tens of insns long, tap_drop a few more: 2.7 ns more for each that ran.
    expect(insns).toBeGreaterThan(30);
    expect(insns).toBeLessThan(120);
    const dear = await rate(
      'redirect/xdp1/host',
      'plugins.fabric.config.costs={ helper.bpf_map_lookup_elem: 500 }',
    );
    expect(perSecond(dear)).toBeLessThan(2.1e6);
  });

  it('rise in case bridge when vhost polls: no frame pays for waking it', async () => {
    const asleep = await rate('bridge/xdp1/host');
    const polling = await rate('bridge/xdp1/host', 'host.reader.polling=true');
    const woken = (result: RateResult): number =>
      result.explanation!.wakeUps.find(({ name }) => name === VHOST)?.perFrame ?? 0;
    expect(woken(asleep)).toBeGreaterThan(0.3);
    expect(woken(polling)).toBeLessThan(0.01);
    expect(perSecond(polling)).toBeGreaterThan(1.03 * perSecond(asleep));
  });

  it('grow with the queues of NIC and guest, as long as flows keep them busy', async () => {
    const queues = (count: number): Promise<RateResult> =>
      rate(
        'redirect/xdp1/guest',
        'measure.flows=64',
        `plugins.fabric.config.nic-queues=${count}`,
        `guests.guest0.nics.eth0.queues=${count}`,
        `guests.guest0.cpus=${count}`,
        'plugins.fabric.config.costs.line-rate=25',
      );
    const one = perSecond(await queues(1));
    expect(perSecond(await queues(4)) / one).toBeGreaterThan(3);
    expect(perSecond(await queues(4)) / one).toBeLessThan(4.1);
  });

  it('are shared where readers share a CPU', async () => {
    const shared = await rate(
      'redirect/xdp1/guest',
      'measure.flows=64',
      'plugins.fabric.config.nic-queues=2',
      'guests.guest0.nics.eth0.queues=2',
      'guests.guest0.cpus=2',
      'plugins.fabric.config.cpus.vhost=1',
    );
    const alone = await rate('redirect/xdp1/guest');
    expect(perSecond(shared) / perSecond(alone)).toBeGreaterThan(0.85);
    expect(perSecond(shared) / perSecond(alone)).toBeLessThan(1.05);
  });

  it('are the same for both executors, and whenever they are asked for', async () => {
    const wasm = await rate('bridge/xdp2/guest');
    expect(await rate('bridge/xdp2/guest')).toEqual(wasm);
    expect(await rate('bridge/xdp2/guest', 'plugins.executor={ use: interpreter }')).toEqual(wasm);
    expect(await rate('bridge/xdp2/guest', 'seed=7')).not.toEqual(wasm);
  });

  it('say of a cost that is none what it is', async () => {
    await expect(rate('bridge/xdp1/host', ...costs({ 'vhost-rxx': 1 }))).rejects.toThrow(
      "the cost model has no parameter 'vhost-rxx'",
    );
  });
});
