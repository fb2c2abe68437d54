import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ExchangeResult } from '../../../src/core/contract/result.js';
import { PluginRegistry } from '../../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../../src/presets.js';

const file = new URL('../../../testbeds/rfc-2019-netperf.testbed.yaml', import.meta.url).pathname;
const registry = new PluginRegistry(BUILT_IN_PLUGINS);
const costs = (values: Readonly<Record<string, number>>): string[] =>
  Object.entries(values).map(([name, value]) => `plugins.fabric.config.costs.${name}=${value}`);

let text: string;
beforeAll(async () => {
  text = await readFile(file, 'utf8');
});

/** One exchange of rfc-2019-netperf after the RFC's changes, with other values set. */
async function exchange(what: string, ...set: string[]): Promise<ExchangeResult> {
  return exchangeOn('after', what, ...set);
}

async function exchangeOn(dataPath: string, what: string, ...set: string[]): Promise<ExchangeResult> {
  const testbed = await resolveTestbed(file, text, registry, {
    only: [`data-path=${dataPath}`],
    set: [
      `measure.exchanges=[{ ${what} }]`,
      'measure.samples=1',
      'workload.config.frames=1',
      'plugins.fabric.config.exchange-ms=5',
      ...set,
    ],
  });
  const { runs, failures } = await runTestbed(testbed, { version: '0' });
  if (failures !== undefined) throw new Error(failures[0]!.message);
  expect(runs[0]!.exchanges).toHaveLength(1);
  return runs[0]!.exchanges![0]!;
}

const bits = ({ bitsPerSecond }: ExchangeResult): number => bitsPerSecond!.median;
/** µs. */
const roundTrip = ({ transactionsPerSecond }: ExchangeResult): number => 1e6 / transactionsPerSecond!.median;
/** Whoever takes part but the wire and the sender is quick. */
const QUICK = costs({ 'guest-stack': 50, 'socket-receive': 50, 'skb-receive': 100, 'guest-irq': 50 });
/** A sender that is never the limit. */
const EAGER = costs({ 'socket-send': 50 });
/** No idle states: what else takes time is left. */
const AWAKE = costs({ 'idle-exit': 0 });

describe('streams in virtual time', () => {
  it('of UDP are as fast as the sender, whose time for a message is what it does for it', async () => {
    // syscall + socket-send + nic-tx + a byte's copy for each: 230 + 1250 + 40 + 18 · 0.05 ns.
    const short = await exchange('kind: udp-stream, size: 18', ...QUICK);
    expect(short.messagesSentPerSecond! / (1e9 / 1520.9)).toBeCloseTo(1, 2);
    expect(short.messagesReceivedPerSecond! / short.messagesSentPerSecond!).toBeCloseTo(1, 2);
    expect(bits(short)).toBeCloseTo(short.messagesReceivedPerSecond! * 18 * 8, -3);
    expect(short.explanation!.bottleneck).toBe('peer cpu0');
    const slower = await exchange('kind: udp-stream, size: 18', ...QUICK, ...costs({ 'socket-send': 2500 }));
    expect(1e9 / slower.messagesSentPerSecond! - 1e9 / short.messagesSentPerSecond!).toBeCloseTo(1250, -1);
  });

  it('of UDP are as fast as the wire at most: 1472 of the 1538 bytes that a message takes there', async () => {
    const ten = await exchange('kind: udp-stream', ...QUICK, ...EAGER);
    expect(bits(ten) / ((10e9 * 1472) / 1538)).toBeCloseTo(1, 2);
    expect(ten.explanation!.bottleneck).toBe('the wire');
    const one = await exchange('kind: udp-stream', ...QUICK, ...EAGER, ...costs({ 'line-rate': 1 }));
    expect(bits(one) / ((1e9 * 1472) / 1538)).toBeCloseTo(1, 2);
    // Who waits for the wire does not work.
    const sender = one.explanation!.cpus.find(({ name }) => name === 'peer cpu0')!;
    expect(sender.utilisation).toBeLessThan(0.1);
  });

  it('of UDP lose what the guest has no time for', async () => {
    const slow = await exchange('kind: udp-stream, size: 18', ...costs({ 'socket-receive': 3000 }));
    expect(slow.messagesReceivedPerSecond!).toBeLessThan(0.8 * slow.messagesSentPerSecond!);
    expect(slow.explanation!.bottleneck).toBe('guest0 cpu0');
    // What the process has of the CPU is what interrupts leave it, less than all: 230 + 3000 + 0.9 ns a message.
    expect(slow.messagesReceivedPerSecond!).toBeLessThan(1e9 / 3230.9);
    const other = await exchange(
      'kind: udp-stream, size: 18',
      ...costs({ 'socket-receive': 3000 }),
      'guests.guest0.cpus=2',
    );
    // With a CPU of its own it has all of it.
    expect(other.messagesReceivedPerSecond! / (1e9 / 3230.9)).toBeCloseTo(1, 2);
    expect(other.explanation!.bottleneck).toBe('guest0 cpu1');
  });

  it('of TCP fill the wire, 1448 of 1538 bytes, in long frames', async () => {
    const stream = await exchange('kind: tcp-stream');
    expect(stream.unmeasured).toBeUndefined();
    expect(bits(stream) / 10e9).toBeGreaterThan(0.941);
    expect(bits(stream) / 10e9).toBeLessThan(0.949);
    expect(bits(stream) / ((10e9 * 1448) / 1538)).toBeCloseTo(1, 2);
    expect(stream.explanation!.bottleneck).toBe('the wire');
    const four = await exchange('kind: tcp-stream, streams: 4');
    expect(bits(four) / bits(stream)).toBeCloseTo(1, 1);
  });

  it('of TCP go as slow as the slowest, and lose nothing', async () => {
    const long = 'plugins.fabric.config.exchange-ms=20';
    // 1 ns for a byte of each copy: the guest's process copies 8 Gbit/s at most, and does other things.
    const slow = await exchange('kind: tcp-stream', long, ...costs({ 'copy-byte': 1000 }));
    expect(slow.unmeasured).toBeUndefined();
    expect(bits(slow)).toBeLessThan(8e9);
    expect(bits(slow)).toBeGreaterThan(5e9);
    const slower = await exchange('kind: tcp-stream', long, ...costs({ 'copy-byte': 2000 }));
    expect(slower.unmeasured).toBeUndefined();
    expect(bits(slow) / bits(slower)).toBeGreaterThan(1.6);
    expect(bits(slow) / bits(slower)).toBeLessThan(2.05);
  });

  it('of TCP are cheaper for the guest with long frames than with one for each segment', async () => {
    const features =
      'guests.guest0.nics.eth0.features=[VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ]';
    const long = await exchange('kind: tcp-stream');
    const each = await exchange('kind: tcp-stream', features);
    expect(each.unmeasured).toBeUndefined();
    expect(bits(each)).toBeLessThan(0.9 * bits(long));
  });
});

describe('requests in virtual time', () => {
  it.each(['udp-rr', 'tcp-rr'])('of %s are one by the round trip, which is the latency', async (kind) => {
    const one = await exchange(`kind: ${kind}`);
    expect(roundTrip(one) / one.latency!.p50).toBeCloseTo(1, 1);
    expect(one.explanation!.bottleneck).toBe('the round trip');
    expect(one.unanswered).toBe(0);
    // Little: requests under way are the rate times the latency.
    const four = await exchange(`kind: ${kind}, streams: 4`);
    expect((four.transactionsPerSecond!.median * four.latency!.p50) / 1e6).toBeGreaterThan(3.6);
    expect((four.transactionsPerSecond!.median * four.latency!.p50) / 1e6).toBeLessThan(4.4);
  });

  it('take longer by what is added on the way, as often as it is there', async () => {
    const base = roundTrip(await exchange('kind: udp-rr', ...AWAKE));
    const longer = async (values: Record<string, number>): Promise<number> =>
      roundTrip(await exchange('kind: udp-rr', ...AWAKE, ...costs(values))) - base;
    // The guest is interrupted once, kicks once; both NICs interrupt: 1 µs, 1 µs, 2 · 1 µs more.
    expect(await longer({ 'guest-latency': 4000 })).toBeCloseTo(1, 1);
    expect(await longer({ kick: 2500 })).toBeCloseTo(1, 1);
    expect(await longer({ 'nic-interrupt': 6000 })).toBeCloseTo(2, 1);
    // Each process calls send and receive once.
    expect(await longer({ syscall: 730 })).toBeCloseTo(2, 1);
    // NIC, vhost, and the peer's NIC and process have been idle for longer than 5 µs when it is their turn; when the guest
    // kicks, vhost has not.
    const idle = { 'idle-residency': 12_000, 'idle-exit': 10_000 };
    expect(await longer(idle)).toBeCloseTo(40, 0);
  });

  it('of TCP take longer than of UDP by what TCP does: four times, at either end twice', async () => {
    const tcp = roundTrip(await exchange('kind: tcp-rr', ...AWAKE));
    const udp = roundTrip(await exchange('kind: udp-rr', ...AWAKE));
    // 12 bytes of a header more at either end are paid on the wire and by the copies of vhost.
    expect(tcp - udp).toBeGreaterThan(2);
    expect(tcp - udp).toBeLessThan(2.2);
    const long = await exchange('kind: tcp-rr, size: 65536', ...AWAKE);
    expect(long.unmeasured).toBeUndefined();
    // The bytes alone are on the wire for 2 · 55.7 µs.
    expect(roundTrip(long)).toBeGreaterThan(tcp + 2 * 50);
  });

  it('take longer when vhost calls the tap for a frame, by that call', async () => {
    const call = costs({ 'tun-recv-call': 1000 });
    const after = await exchange('kind: udp-rr', ...AWAKE, ...call);
    const before = await exchangeOn('before', 'kind: udp-rr', ...AWAKE, ...call);
    expect(roundTrip(after) - roundTrip(before)).toBeCloseTo(1, 1);
  });
});

describe('exchanges', () => {
  it('are the same whenever they are asked for, and with another seed hardly others', async () => {
    const [first, second] = [await exchange('kind: udp-stream'), await exchange('kind: udp-stream')];
    expect(second).toEqual(first);
    const other = await exchange('kind: udp-stream', 'seed=7');
    expect(other).not.toEqual(first);
    expect(bits(other) / bits(first)).toBeCloseTo(1, 1);
  });

  it('that nobody answers say so, and the others are measured', async () => {
    // In case redirect what the guest sends ends in the host.
    const redirect = [
      'host.case=redirect',
      'programs.to-tap={ object: programs/xdp_redirect.o, maps: { fdb: [{ key: { mac: guest0.eth0 }, value: 0 }], tx_port: [{ key: 0, value: { ifindex: tap0 } }] } }',
      'host.nics.eth0.program=to-tap',
    ];
    const requests = await exchange('kind: udp-rr', ...redirect);
    expect(requests).toMatchObject({ samples: [], unmeasured: 'no answer came to any request' });
    const stream = await exchange('kind: udp-stream', ...redirect);
    expect(bits(stream)).toBeGreaterThan(5e9);
  });

  it('meet the program that the guest has', async () => {
    const program = (name: string): string[] => [
      `programs.it={ object: programs/${name}.o }`,
      'guests.guest0.nics.eth0.program=it',
    ];
    const dropped = await exchange('kind: tcp-stream', ...program('xdp1'));
    expect(dropped.unmeasured).toBe('nothing of what was sent came to a receiver in the guest');
    // A driver with a program takes no long frames.
    const passed = await exchange('kind: tcp-stream', ...program('pass'));
    expect(passed.unmeasured).toBeUndefined();
    expect(bits(passed)).toBeLessThan(bits(await exchange('kind: tcp-stream')));
  });

  it('go by several queues', async () => {
    const several = await exchange(
      'kind: udp-stream, size: 18, streams: 4',
      ...QUICK,
      'guests.guest0.cpus=4',
      'guests.guest0.nics.eth0.queues=4',
      'guests.guest0.nics.eth0.features=[VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ]',
      'plugins.fabric.config.nic-queues=4',
    );
    const one = await exchange('kind: udp-stream, size: 18', ...QUICK);
    expect(several.messagesReceivedPerSecond!).toBeGreaterThan(1.5 * one.messagesReceivedPerSecond!);
  });
});
