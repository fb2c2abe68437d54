import { createHistogram } from 'node:perf_hooks';
import type { RequestLatency, RequestsReport } from '../contract/guest-driver.js';

export interface RequestSeries {
  /** Sends one request; undefined when it was done, else why not. */
  readonly send: () => Promise<string | undefined>;
  /** When requests are due; undefined: one after the other. */
  readonly perSecond: number | undefined;
  /** After which none is sent any more. */
  readonly seconds: number;
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
  seconds,
  signal,
}: RequestSeries): Promise<RequestsReport> {
  const latency = createHistogram();
  const refusals = new Map<string, number>();
  let sent = 0;
  let refused = 0;
  const start = performance.now();
  const end = start + seconds * 1000;
  for (;;) {
    // A turn of the loop between any two: whoever else has something to do may do it.
    let now = await nextTurn();
    const due = perSecond === undefined ? now : start + (sent * 1000) / perSecond;
    if (due >= end) break;
    while (now < due && signal?.aborted !== true) now = await waitTowards(due, now);
    if (signal?.aborted === true) break;
    const reason = await send();
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

async function waitTowards(due: number, now: number): Promise<number> {
  if (due - now > MS_OF_TURNS)
    await new Promise((resolve) => setTimeout(resolve, Math.min(due - now - MS_OF_TURNS, 100)));
  return nextTurn();
}

/** A time, milliseconds. */
async function nextTurn(): Promise<number> {
  await new Promise((resolve) => setImmediate(resolve));
  return performance.now();
}
