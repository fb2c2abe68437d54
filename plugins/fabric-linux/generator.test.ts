import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildFrame } from '../../src/packet/index.js';
import { probeBpf, TapDevice } from '../../src/linux/index.js';
import {
  probeNamespaces,
  testingNamespace,
  type TestingNamespace,
} from '../../src/linux/testing-namespace.js';
import type { GeneratorTraffic } from './generator-program.js';
import { Generator } from './generator.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

/** More of them than the tap holds, so that none is lost while nobody reads. */
const RING = 8192;

describe.skipIf(skipped !== '')(`a generator${skipped}`, () => {
  let namespace: TestingNamespace;
  let tap: TapDevice;
  beforeEach(() => {
    namespace = testingNamespace();
    // Of the frames on the tap none is the kernel's own.
    namespace.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1'));
    tap = TapDevice.open({ name: 'tap0', ifindex: 7, queues: 1, vnetHeader: false }, namespace);
    namespace.ip('link', 'set', 'tap0', 'txqueuelen', String(RING), 'up');
  });
  afterEach(() => {
    tap.close();
    namespace.close();
  });

  /** What it sends in so many milliseconds, or until the tap is full, and how many it says it has sent. */
  async function sent(
    traffic: GeneratorTraffic,
    rate: number,
    ms: number,
  ): Promise<{ readonly frames: Uint8Array[]; readonly count: number; readonly seconds: number }> {
    const generator = await Generator.open({ traffic, rate, ifindex: 7, namespace, cpu: undefined });
    try {
      const from = performance.now();
      generator.start();
      await new Promise((resolve) => setTimeout(resolve, ms));
      await generator.stop();
      const seconds = (performance.now() - from) / 1000;
      const frames: Uint8Array[] = [];
      const buffer = new Uint8Array(65_536);
      for (let length = tap.read(0, buffer); length > 0; length = tap.read(0, buffer))
        frames.push(buffer.slice(0, length));
      return { frames, count: generator.sent, seconds };
    } finally {
      await generator.close();
    }
  }

  it('sends frames of any length by turns, each as it is', async () => {
    const lengths = [14, 60, 61, 1518, 590, 60];
    const own = lengths.map((length, index) => {
      const frame = Uint8Array.from({ length }, (_, at) => (at * 7 + index) & 0xff);
      // No group address: a tap has nothing against either, but a frame is for somebody.
      frame[0] = 0x52;
      return frame;
    });
    const traffic = { kind: 'workload', frames: own, longest: 1518 } as const;
    const { frames, count } = await sent(traffic, 20_000, 200);
    expect(count).toBeGreaterThan(2 * lengths.length);
    expect(frames).toHaveLength(count);
    for (const [index, frame] of frames.entries())
      expect(Buffer.compare(frame, own[index % own.length]!)).toBe(0);
  });

  it('sends uniform frames from each port in turn', async () => {
    const frame = buildFrame({
      eth: { src: '52:54:00:ff:00:01', dst: '52:54:00:00:00:02' },
      ipv4: { src: '198.18.0.1', dst: '192.0.2.1' },
      udp: { srcPort: 10_000, dstPort: 9, checksum: 0 },
      size: 100,
    });
    const { frames, count } = await sent({ kind: 'uniform', frame, flows: 3 }, 20_000, 100);
    expect(frames).toHaveLength(count);
    const ports = frames.slice(0, 6).map((each) => Buffer.from(each).readUInt16BE(34));
    expect([...new Set(ports)].sort()).toEqual([10_000, 10_001, 10_002]);
    expect(ports.slice(3)).toEqual(ports.slice(0, 3));
    expect(new Set(frames.map(({ length }) => length))).toEqual(new Set([100]));
  });

  it.each([10, 1000, 20_000])('sends no more than %s in a second, but what it makes up for', async (rate) => {
    const traffic = { kind: 'workload', frames: [new Uint8Array(60).fill(2)], longest: 60 } as const;
    const { count, seconds } = await sent(traffic, rate, 300);
    // The first, what a pause of 10 ms let go by, and what was due meanwhile.
    expect(count).toBeLessThanOrEqual(1 + Math.min(64, rate / 100) + Math.ceil(rate * seconds));
    expect(count).toBeGreaterThan(0);
  });
});
