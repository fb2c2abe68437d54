import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RateResult, TotalRate } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const file = new URL('../../testbeds/what-if-guests.testbed.yaml', import.meta.url).pathname;
const registry = new PluginRegistry(BUILT_IN_PLUGINS);

let text: string;
beforeAll(async () => {
  // Each test says itself how many guests there are and where programs run.
  text = (await readFile(file, 'utf8'))
    .replace(/\nmatrix:[^]*/, '\nchecks: [{ kind: conservation }]\n')
    .replace(/\ncomparison:.*/, '');
});

interface Rates {
  readonly rates: readonly RateResult[];
  readonly total: TotalRate;
}

/** Rates of guests that are loaded together, each with a reader and a CPU of its own unless `set` says otherwise. */
async function together(count: number, placement: 'guest' | 'host', ...set: string[]): Promise<Rates> {
  const testbed = await resolveTestbed(file, text, registry, {
    set: [
      'workload.config.frames=1',
      'plugins.verifier.use=structural',
      'plugins.fabric.config.sample-ms=1',
      'plugins.fabric.config.warm-up-ms=1',
      'plugins.fabric.config.nic-queues=1',
      'plugins.fabric.config.cpus={}',
      'plugins.fabric.config.costs={ line-rate: 25 }',
      'measure.flows=1',
      `guests.guest.count=${count}`,
      `guests.guest.nics.eth0.placement=${placement}`,
      ...set,
    ],
  });
  const { runs, failures, checks } = await runTestbed(testbed, { version: '0' });
  if (failures !== undefined) throw new Error(failures[0]!.message);
  expect(checks.filter(({ passed }) => !passed)).toEqual([]);
  return { rates: runs[0]!.rates!, total: runs[0]!.totalRate! };
}

const costs = (values: string): string => `plugins.fabric.config.costs={ line-rate: 25, ${values} }`;
const medians = (rates: readonly RateResult[]): number[] =>
  rates.map(({ framesPerSecond }) => framesPerSecond.median);
const utilisation = ({ explanation }: RateResult, cpu: string): number =>
  explanation!.cpus.find(({ name }) => name === cpu)?.utilisation ?? 0;

describe('guests that are loaded together', () => {
  it('share a NIC that is too slow for them: their rates add up to what it can, in equal parts', async () => {
    // Flushed at once each, frames cost the same whichever guests they are for.
    const set = costs('redirect-bulk: 1');
    const alone = await together(1, 'host', set);
    const four = await together(4, 'host', set);
    expect(four.total.framesPerSecond.median / alone.total.framesPerSecond.median).toBeCloseTo(1, 2);
    expect(medians(four.rates).reduce((a, b) => a + b)).toBeCloseTo(four.total.framesPerSecond.median, 3);
    for (const rate of medians(four.rates))
      expect(rate / four.total.framesPerSecond.median).toBeCloseTo(1 / 4, 3);
    expect(four.total.fairness).toBeCloseTo(1, 6);
    expect(four.rates.map(({ explanation }) => explanation!.bottleneck)).toEqual(
      new Array(4).fill('host.eth0 softirq'),
    );
  });

  it('share what the wire brings where everybody keeps up', async () => {
    // 1 Gbit/s of 84 bytes a frame: 1.488 Mpps.
    const { rates, total } = await together(3, 'host', 'plugins.fabric.config.costs={ line-rate: 1 }');
    expect(total.framesPerSecond.median / (1e9 / 8 / 84)).toBeCloseTo(1, 2);
    for (const rate of medians(rates)) expect(rate / (1e9 / 8 / 84 / 3)).toBeCloseTo(1, 2);
    expect(rates.map(({ explanation }) => explanation!.bottleneck)).toEqual(new Array(3).fill('the wire'));
  });

  it('share a CPU of vhost: together they have what one has alone, and each its part', async () => {
    const set = [
      'plugins.fabric.config.sample-ms=2',
      costs('line-rate: 10, context-switch: 0, slice: 100').replace('line-rate: 25, ', ''),
    ];
    const alone = await together(1, 'guest', ...set);
    const shared = await together(4, 'guest', 'plugins.fabric.config.cpus={ vhost: 1 }', ...set);
    expect(shared.total.framesPerSecond.median / alone.total.framesPerSecond.median).toBeGreaterThan(0.95);
    expect(shared.total.framesPerSecond.median / alone.total.framesPerSecond.median).toBeLessThan(1.03);
    // A poll of 64 frames more or less in 2 ms, of some 1280 for each.
    for (const rate of medians(shared.rates))
      expect(Math.abs(rate / (shared.total.framesPerSecond.median / 4) - 1)).toBeLessThan(0.1);
    expect(shared.rates.map(({ explanation }) => explanation!.bottleneck)).toEqual(
      new Array(4).fill('vhost cpu0'),
    );
    // With CPUs of their own, each has what one has alone.
    const apart = await together(
      4,
      'guest',
      'plugins.fabric.config.nic-queues=4',
      'measure.flows=64',
      ...set,
    );
    expect(apart.total.framesPerSecond.median / alone.total.framesPerSecond.median).toBeGreaterThan(3.5);
  });

  it('do not slow each other where they share nothing that is short, and do where they share a CPU', async () => {
    // 3.5 Mpps each: too much for the vhost of one that drops them itself, and little for that of one that is offloaded.
    const other = [
      'host.hook=tun_recvmsg',
      'host.taps.side={}',
      'guests.other={ nics: { eth0: { tap: side, mac: "52:54:00:00:09:00", program: xdp1, placement: host } } }',
      'programs.to-tap.maps.fdb=[{ key: { mac: guest.eth0 }, value: 0 }, { key: { mac: other.eth0 }, value: 1 }]',
      'programs.to-tap.maps.tx_port=[{ key: 0, value: { ifindex: tap } }, { key: 1, value: { ifindex: side } }]',
      costs('slice: 100'),
      'measure.rate=7000000',
      'plugins.fabric.config.sample-ms=2',
    ];
    const { rates } = await together(1, 'guest', ...other);
    const [busy, quiet] = rates;
    expect(busy!.explanation!.bottleneck).toBe('guest0.eth0 vhost');
    expect(busy!.framesPerSecond.median).toBeLessThan(0.8 * busy!.offeredPerSecond);
    expect(quiet!.framesPerSecond.median / 3.5e6).toBeCloseTo(1, 2);
    expect(quiet!.explanation!.bottleneck).toBe('the rate that was asked for');
    expect(quiet!.ends).toEqual([{ place: 'host.side', fate: 'xdp-drop', frames: quiet!.framesSent }]);
    const shared = await together(1, 'guest', 'plugins.fabric.config.cpus={ vhost: 1 }', ...other);
    // It waits for the other’s slice of 100 µs to end, with a ring that is long enough for that.
    expect(shared.rates[1]!.explanation!.latency.p90 - quiet!.explanation!.latency.p90).toBeGreaterThan(
      50_000,
    );
    // What it works the other cannot; it wakes up less often than alone.
    const left = shared.rates[0]!.framesPerSecond.median / busy!.framesPerSecond.median;
    expect(left).toBeGreaterThan(1 - utilisation(quiet!, 'other.eth0 vhost') - 0.03);
    expect(left).toBeLessThan(0.9);
  });

  it('follow the utilisation law: a shared CPU works for the sum of what is done for each', async () => {
    const set = [
      'measure.rate=800000',
      'plugins.fabric.config.cpus={ vhost: 1 }',
      'plugins.fabric.config.sample-ms=2',
    ];
    const base = await together(4, 'guest', ...set, costs('vhost-wakeup: 0, context-switch: 0'));
    const more = await together(
      4,
      'guest',
      ...set,
      costs('vhost-wakeup: 0, context-switch: 0, vhost-rx: 470'),
    );
    for (const rate of medians(base.rates)) expect(rate / 200_000).toBeCloseTo(1, 1);
    // 100 ns more than the calibration’s 370 for 800 000 frames a second: 8 % of the time, less what sleeping less saves.
    const grown = utilisation(more.rates[0]!, 'vhost cpu0') - utilisation(base.rates[0]!, 'vhost cpu0');
    expect(grown).toBeGreaterThan(0.05);
    expect(grown).toBeLessThan(0.09);
    expect(utilisation(more.rates[3]!, 'vhost cpu0')).toBe(utilisation(more.rates[0]!, 'vhost cpu0'));
  });

  it('are told apart: each has its own frames, queue and CPUs, and only those that were named', async () => {
    const { rates } = await together(3, 'guest', 'measure.nics=[guest0.eth0, guest2.eth0]');
    expect(rates.map(({ node }) => node)).toEqual(['guest0.eth0', 'guest2.eth0']);
    const [, last] = rates;
    expect(last!.explanation!.queues.map(({ name }) => name)).toEqual(['host.tap2 ring']);
    expect(last!.explanation!.cpus.map(({ name }) => name)).toEqual([
      'guest2 cpu0',
      'guest2.eth0 vhost',
      'host.eth0 softirq',
    ]);
    expect(new Set(last!.ends.map(({ place }) => place))).toEqual(
      new Set(['guest2.eth0', 'host.eth0', 'host.tap2']),
    );
    for (const { unexplained, framesSent } of rates) {
      expect(unexplained).toBe(0);
      expect(framesSent).toBeGreaterThan(1000);
    }
    const again = await together(3, 'guest', 'measure.nics=[guest0.eth0, guest2.eth0]');
    expect(again.rates).toEqual(rates);
  });
});
