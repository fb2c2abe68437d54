import { describe, expect, it } from 'vitest';
import { sendSeries } from './request-series.js';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('a series of requests', () => {
  it('has as many as are due in its time', async () => {
    let calls = 0;
    const report = await sendSeries({
      send: async () => void calls++,
      perSecond: 500,
      warmUp: 0,
      seconds: 0.2,
    });
    expect(calls).toBe(100);
    expect(report).toMatchObject({ sent: 100, refused: 0, refusal: undefined });
    const { p50, p90, p99, max } = report.latency!;
    expect(p50).toBeGreaterThan(0);
    expect([p50, p90, p99, max]).toEqual([p50, p90, p99, max].sort((a, b) => a - b));
  });

  it('neither counts nor times those of its warm-up', async () => {
    let calls = 0;
    const report = await sendSeries({
      // Whatever is slow or refused before does not count.
      send: async () => (calls++ < 20 ? (await wait(1), 'EPERM') : undefined),
      perSecond: 400,
      warmUp: 0.1,
      seconds: 0.1,
    });
    expect(calls).toBe(80);
    expect(report).toMatchObject({ sent: 40, refused: 0, refusal: undefined });
  });

  it('counts a late answer for all that had to wait for it', async () => {
    let calls = 0;
    const report = await sendSeries({
      // The first is late by a fifth of a second: so are, ever less, the 99 that were due meanwhile.
      send: async () => (calls++ === 0 ? (await wait(200), undefined) : undefined),
      perSecond: 500,
      warmUp: 0,
      seconds: 0.2,
    });
    expect(report.sent).toBe(100);
    expect(report.latency!.max).toBeGreaterThanOrEqual(199_000);
    expect(report.latency!.p50).toBeGreaterThan(80_000);
  });

  it('without a rate sends one after the other, and waits for the last', async () => {
    let underWay = 0;
    let most = 0;
    const report = await sendSeries({
      send: async () => {
        most = Math.max(most, ++underWay);
        await wait(60);
        underWay--;
        return undefined;
      },
      perSecond: undefined,
      warmUp: 0,
      seconds: 0.1,
    });
    expect(most).toBe(1);
    expect(underWay).toBe(0);
    expect(report.sent).toBeGreaterThanOrEqual(1);
    expect(report.latency!.p50).toBeGreaterThanOrEqual(59_000);
    expect(report.latency!.p50).toBeLessThan(1_000_000);
  });

  it('counts refusals and tells the reason that came most often', async () => {
    let calls = 0;
    const report = await sendSeries({
      send: async () => [undefined, 'EPERM', 'EACCES', 'EACCES'][calls++ % 4],
      perSecond: 400,
      warmUp: 0,
      seconds: 0.1,
    });
    expect(report).toMatchObject({ sent: 40, refused: 30, refusal: 'EACCES' });
  });

  it('sends none in no time, and says so', async () => {
    const send = () => Promise.reject(new Error('sent'));
    for (const perSecond of [undefined, 1000]) {
      expect(await sendSeries({ send, perSecond, warmUp: 0, seconds: 0 })).toEqual({
        sent: 0,
        refused: 0,
        refusal: undefined,
        latency: undefined,
      });
    }
  });

  it('ends when it is interrupted', async () => {
    const abort = new AbortController();
    let calls = 0;
    const report = await sendSeries({
      send: async () => {
        if (++calls === 3) abort.abort();
        return undefined;
      },
      perSecond: 100,
      warmUp: 0,
      seconds: 3600,
      signal: abort.signal,
    });
    expect(report.sent).toBe(3);
  });
});
