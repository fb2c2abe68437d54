import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXCHANGE_KINDS, type ExchangeKind } from '../../core/contract/plan.js';
import { probeNamespaces, testingNamespace, type TestingNamespace } from '../testing-namespace.js';
import { ExchangeEnd } from './exchange-end.js';
import { LATENCY_BUCKETS, latencyBucket, longestOf, percentile } from './latency-histogram.js';

describe('latencies in buckets', () => {
  it('are told at most 1 % too long', () => {
    for (const value of [0, 1, 255, 256, 257, 1000, 70_123, 1_000_000, 4_999_999_999, 2 ** 37]) {
      const longest = longestOf(latencyBucket(value));
      expect(longest).toBeGreaterThanOrEqual(value);
      expect(longest - value).toBeLessThanOrEqual(value / 100);
    }
    expect(latencyBucket(1e15)).toBe(LATENCY_BUCKETS - 1);
  });

  it('have percentiles', () => {
    const counts = new Float64Array(LATENCY_BUCKETS);
    expect(percentile(counts, 0.5)).toBeUndefined();
    for (let value = 1; value <= 100; value++) counts[latencyBucket(value)]!++;
    expect([0.5, 0.9, 0.99, 1].map((share) => percentile(counts, share))).toEqual([50, 90, 99, 100]);
  });
});

const probe = probeNamespaces();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(skipped !== '')(`the two ends of an exchange${skipped}`, () => {
  let one: TestingNamespace;
  let other: TestingNamespace;
  beforeAll(() => {
    one = testingNamespace();
    other = testingNamespace();
    one.ip('link', 'add', 'one0', 'type', 'veth', 'peer', 'name', 'other0', 'netns', other.name);
    one.ip('addr', 'add', '192.0.2.2/31', 'dev', 'one0');
    other.ip('addr', 'add', '192.0.2.3/31', 'dev', 'other0');
    one.ip('link', 'set', 'one0', 'up');
    other.ip('link', 'set', 'other0', 'up');
  });
  afterAll(() => {
    one.close();
    other.close();
  });

  const server = (kind: ExchangeKind, size: number): Promise<ExchangeEnd> =>
    ExchangeEnd.open({
      role: 'server',
      kind,
      size,
      stream: 0,
      local: '192.0.2.3',
      peer: '192.0.2.2',
      namespace: other,
    });
  const client = (kind: ExchangeKind, size: number): Promise<ExchangeEnd> =>
    ExchangeEnd.open({
      role: 'client',
      kind,
      size,
      stream: 0,
      local: '192.0.2.2',
      peer: '192.0.2.3',
      namespace: one,
    });
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  it.each(EXCHANGE_KINDS.flatMap((kind) => [1, 1000].map((size) => [kind, size] as const)))(
    'count the same: %s of %i bytes',
    async (kind, size) => {
      const receiver = await server(kind, size);
      const sender = await client(kind, size);
      await pause(200);
      await sender.close();
      await pause(50);
      const [sent, got] = [sender.counts(), receiver.counts()];
      await receiver.close();
      expect([sender.failure, receiver.failure]).toEqual([undefined, undefined]);
      expect(sent.messages).toBeGreaterThan(100);
      if (kind === 'udp-stream') expect(got.messages).toBeLessThanOrEqual(sent.messages);
      if (kind.endsWith('-stream')) {
        expect(got.bytes).toBeGreaterThan(100 * size);
        expect(got.bytes).toBeLessThanOrEqual(sent.bytes);
        return;
      }
      expect(sent.unanswered).toBe(0);
      // The last answer may have been under way.
      expect(got.messages - sent.messages).toBeGreaterThanOrEqual(0);
      expect(got.messages - sent.messages).toBeLessThanOrEqual(1);
      const took = sender.latencies();
      expect(took.reduce((sum, count) => sum + count)).toBe(sent.messages);
      expect(percentile(took, 0.5)).toBeLessThanOrEqual(sender.longest * 1.01);
    },
  );

  it('says that nobody listens, and counts requests that nobody answers', async () => {
    await expect(client('tcp-rr', 1)).rejects.toThrow('client of tcp-rr: connect: ECONNREFUSED');
    other.ip('link', 'set', 'other0', 'down');
    one.ip('neigh', 'replace', '192.0.2.3', 'lladdr', '52:54:00:00:00:09', 'dev', 'one0', 'nud', 'permanent');
    const sender = await client('udp-rr', 1);
    await pause(500);
    expect(sender.counts()).toMatchObject({ messages: 0 });
    expect(sender.counts().unanswered).toBeGreaterThan(0);
    await sender.close();
    other.ip('link', 'set', 'other0', 'up');
  });
});
