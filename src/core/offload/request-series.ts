import { createHistogram } from 'node:perf_hooks';
import type { RequestLatency, RequestsReport } from '../contract/guest-driver.js';
import type { RequestTimes } from '../contract/plan.js';

export interface RequestSeries extends RequestTimes {
  /** Sends one request; undefined when it was done, else why not. */
  readonly send: () => Promise<string | undefined>;
  /** Ends the series early, as if its time were over. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Sends requests for some time, by the machine's clock, and says how long each took: from when it was due to when it
 * was answered, so that one answer which is late counts for all that had to wait for it.
 */
export async function sendSeries({
  send,
  perSecond,
  warmUp,
  seconds,
  signal,
}: RequestSeries): Promise<RequestsReport> {
  const latency = createHistogram();
  const refusals = new Map<string, number>();
  let sent = 0;
  let refused = 0;
  const start = performance.now();
  const warm = start + warmUp * 1000;
  const end = warm + seconds * 1000;
  for (let n = 0; ; n++) {
    // A turn of the loop between any two: whoever else has something to do may do it.
    await untilDue(0, signal);
    const due = perSecond === undefined ? performance.now() : start + (n * 1000) / perSecond;
    if (due >= end) break;
    await untilDue(due, signal);
    if (signal?.aborted === true) break;
    const reason = await send();
    if (due < warm) continue;
    sent++;
    latency.record(Math.max(1, Math.round((performance.now() - due) * 1e6)));
    if (reason === undefined) continue;
    refused++;
    if (refusals.size < MAX_REASONS || refusals.has(reason)) {
      refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
    }
  }
  const us = (ns: number): number => Math.round(ns / 100) / 10;
  const measured: RequestLatency | undefined =
    sent === 0
      ? undefined
      : {
          p50: us(latency.percentile(50)),
          p90: us(latency.percentile(90)),
          p99: us(latency.percentile(99)),
          max: us(latency.max),
        };
  const [mostly] = [...refusals].sort(([, a], [, b]) => b - a);
  return { sent, refused, latency: measured, refusal: mostly?.[0] };
}

/** Different reasons that are counted. */
const MAX_REASONS = 64;

/** A timer is late by up to a millisecond or two; what is nearer is waited for by turns of the loop. */
const MS_OF_TURNS = 2;
/**
 * The longest that others wait for a turn in which nothing is done but look at the clock. With no such wait, turns would follow
 * each other so fast that what they leave behind fills the young generation a hundred times a second, and collecting it is
 * then most of what the latencies show.
 */
const MS_OF_LOOKING = 0.02;

/** At least one turn of the loop. */
function untilDue(due: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const turn = (): void => {
      let now = performance.now();
      const yieldAt = now + MS_OF_LOOKING;
      while (now < due && now < yieldAt) now = performance.now();
      if (now >= due || signal?.aborted === true) resolve();
      else if (due - now > MS_OF_TURNS) setTimeout(turn, Math.min(due - now - MS_OF_TURNS, 100));
      else setImmediate(turn);
    };
    setImmediate(turn);
  });
}
