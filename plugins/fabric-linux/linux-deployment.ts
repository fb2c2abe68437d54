import { setTimeout as sleep } from 'node:timers/promises';
import {
  HOP_LIMIT,
  type Deployment,
  type HostPlace,
  type MeasuredRate,
  type Measurements,
  type Presence,
  type TrafficReport,
} from '../../src/core/contract/fabric.js';
import type { Binding } from '../../src/core/contract/party.js';
import type { MeasurePlan, RunPlan } from '../../src/core/contract/plan.js';
import type { ExchangeResult } from '../../src/core/contract/result.js';
import type { WorkloadFrame } from '../../src/core/contract/workload.js';
import { firstFrames } from '../../src/core/measurement/measured-frames.js';
import { measuredNics } from '../../src/core/measurement/measured-nics.js';
import { NETWORK_NAMESPACE, type Ledger } from '../../src/linux/index.js';
import { measureExchanges } from './exchange-measurement.js';
import type { EarlyBridge } from './early-bridge.js';
import type { FrameEnds } from './frame-ends.js';
import type { HostNic } from './host-nic.js';
import type { HostTap } from './host-tap.js';
import { countFlow } from './flow.js';
import { RateMeasurement, uniformTraffic, workloadTraffic } from './rate-measurement.js';
import type { LinuxGuestNic } from './guest-nic.js';
import { readLinkCounters } from './link-counters.js';
import type { TakenFrames } from './tap-guest.js';
import type { Topology } from './topology.js';
import type { Wire } from './wire.js';

/** Frames sent before the guests are looked after: fewer than a tap's queue holds by default. */
const BURST = 64;
/** Milliseconds without a frame taken after which a guest counts as idle. */
const GUEST_PAUSE_MS = 10;
/** Milliseconds without any change after which it counts as done. */
const GUEST_STILL_MS = 50;
/** Milliseconds that frames may still be under way when nothing is seen to move any more. */
const SETTLE_MS = 250;
/** Milliseconds after which nobody waits any more for frames that still move: between bursts, and at the end. */
const LONGEST_TAKING_MS = 1000;
const LONGEST_SETTLE_MS = 10_000;
/** Milliseconds between looks at the guests' taps without traffic of this process. */
const LEAST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 20;
/** Milliseconds that a measurement gets to end when it was interrupted; a guest may not answer any more. */
const MEASURE_END_MS = 3000;

/** The host's counters are by interface: of what left by the NIC or was lost before a tap they do not say whose it was. */
const NOT_TOGETHER =
  'fabric linux loads one guest nic after the other: the kernel does not count whose the frames are that several guests’ programs send back';

export interface LinuxDeploymentParts {
  readonly plan: RunPlan;
  readonly topology: Topology;
  readonly wire: Wire;
  readonly hostNics: readonly HostNic[];
  readonly taps: readonly HostTap[];
  /** Those of hook `bridge-early`. */
  readonly bridges: readonly EarlyBridge[];
  readonly nics: readonly LinuxGuestNic[];
  readonly hostPlaces: readonly HostPlace[];
  /** What the guests in this process made of frames. */
  readonly ends: FrameEnds;
  readonly ledger: Ledger;
  readonly signal: AbortSignal;
  readonly teardown: () => Promise<void>;
}

/** A testbed that is up on the running kernel: drives frames through it. */
export class LinuxDeployment implements Deployment {
  readonly hostPlaces: readonly HostPlace[];
  readonly nics: readonly LinuxGuestNic[];
  readonly hostBindings: readonly Binding[];
  readonly presence: Presence;
  readonly #parts: LinuxDeploymentParts;
  #measuring: Promise<void> = Promise.resolve();

  constructor(parts: LinuxDeploymentParts) {
    this.#parts = parts;
    this.hostPlaces = parts.hostPlaces;
    this.nics = parts.nics;
    this.presence = this.#presence();
    this.hostBindings = [{ token: NETWORK_NAMESPACE, value: parts.topology.host }];
  }

  /**
   * Each frame is sent when the one before has been taken by the kernel, and the guests are looked after in between, so
   * that no queue overflows: what is counted here is where frames end, not how many can be had in a second.
   */
  async traffic(frames: Iterable<WorkloadFrame>): Promise<TrafficReport> {
    const { wire, signal } = this.#parts;
    let sent = 0;
    for (const { bytes } of frames) {
      while (!signal.aborted && !wire.send(bytes)) await this.#serve(BURST);
      if (signal.aborted) break;
      sent++;
      if (sent % BURST === 0) await this.#serve(BURST);
    }
    return this.#settle(sent);
  }

  #presence(): Presence {
    const { plan, topology, ledger } = this.#parts;
    return {
      name: ledger.run,
      namespaces: topology.presence(plan),
      announce: (testbed) => {
        ledger.note({ testbed, held: true });
        return ledger.ownFolder();
      },
      serve: (signal) => this.#serveUntil(signal),
    };
  }

  /** Nothing tells of a frame for a guest, so that this looks: often while there are some, seldom while there are none. */
  async #serveUntil(signal: AbortSignal): Promise<void> {
    for (let pause = LEAST_PAUSE_MS; !signal.aborted;) {
      const frames = this.#take();
      for (const each of frames) each.receive();
      pause = frames.length > 0 ? LEAST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
  }

  measure(measure: MeasurePlan, frames: Iterable<WorkloadFrame>): Promise<Measurements> {
    const measuring = this.#measure(measure, frames);
    this.#measuring = measuring.then(
      () => undefined,
      () => undefined,
    );
    return measuring;
  }

  async #measure(measure: MeasurePlan, frames: Iterable<WorkloadFrame>): Promise<Measurements> {
    const rates: MeasuredRate[] = [];
    const wanted = new Set(measuredNics(this.#parts.plan, measure).map(({ node }) => node));
    const nics = this.nics.filter(({ node }) => wanted.has(node));
    const isUnmeasured = measure.together && nics.length > 1;
    const workload = firstFrames(frames);
    for (const nic of isUnmeasured ? [] : nics) {
      const traffic =
        measure.frames === 'workload' ? workloadTraffic(nic, workload) : uniformTraffic(nic, measure);
      rates.push(await new RateMeasurement(this.#parts, nic, measure, traffic).run());
    }
    const exchanges: ExchangeResult[] = [];
    for (const nic of this.nics) exchanges.push(...(await measureExchanges(this.#parts, nic, measure)));
    return { rates, ...(isUnmeasured ? { ratesUnmeasured: NOT_TOGETHER } : {}), exchanges };
  }

  async down(): Promise<void> {
    // One that was interrupted takes away what it has made, which is in the ledger, before the ledger is closed.
    await Promise.race([this.#measuring, sleep(MEASURE_END_MS, undefined, { ref: false })]);
    await this.#parts.teardown();
  }

  /** What is there for the guests of this process now. What they send for each other is there the next time. */
  #take(): TakenFrames[] {
    return this.nics.flatMap((nic) => nic.take() ?? []);
  }

  /**
   * Lets guests take what is there for them, until nothing is. Of frames that they send back at each other the
   * {@link HOP_LIMIT}th round is the last.
   *
   * @param fresh frames that were sent since the guests were looked after
   */
  async #serve(fresh: number): Promise<void> {
    let rounds = 0;
    let taken = 0;
    for (;;) {
      const frames = this.#take();
      if (frames.length === 0) break;
      // Frames that come in late, one by one, make rounds as well: with copies by flooding no more than this many.
      const isLoop = rounds++ >= HOP_LIMIT && taken > fresh * this.nics.length;
      taken += frames.reduce((sum, { count }) => sum + count, 0);
      for (const each of frames) {
        if (isLoop) each.endLoop();
        else each.receive();
      }
      await nextTurn();
      if (this.#parts.signal.aborted) break;
    }
    for (const bridge of this.#parts.bridges) bridge.follow();
    await nextTurn();
    if (this.#hasRealGuest) await this.#untilTaken();
  }

  get #hasRealGuest(): boolean {
    return this.nics.some(({ driver }) => driver.kind === 'remote');
  }

  /** Guests in other processes take frames when they please: waits until they have been still for a while. */
  async #untilTaken(): Promise<void> {
    let last = -1;
    const end = Date.now() + LONGEST_TAKING_MS;
    while (Date.now() < end) {
      const links = await readLinkCounters(this.#parts.topology.host.name);
      const taken = this.#parts.taps.reduce(
        (sum, { options }) => sum + (links.get(options.plan.name)?.transmitted ?? 0),
        0,
      );
      if (taken === last || this.#parts.signal.aborted) return;
      last = taken;
      await sleep(GUEST_PAUSE_MS);
    }
  }

  /**
   * Waits until every frame has ended somewhere, or until nothing has moved for a while. Frames that go round in guests of
   * other processes move for ever: after a while it is left at what is known.
   */
  async #settle(sent: number): Promise<TrafficReport> {
    let last: TrafficReport | undefined;
    let since = Date.now();
    const end = since + LONGEST_SETTLE_MS;
    for (;;) {
      await this.#serve(sent % BURST);
      const report = await countFlow(this.#parts, sent);
      const ended = report.ends.reduce((sum, { frames }) => sum + frames, 0);
      const isStill = JSON.stringify(report) === JSON.stringify(last);
      // What a real guest has got and not yet counted looks as if it had ended.
      if (ended === report.framesSent + report.framesCopied && (isStill || !this.#hasRealGuest))
        return report;
      if (this.#parts.signal.aborted || Date.now() > end) return report;
      if (!isStill) since = Date.now();
      else if (Date.now() - since > SETTLE_MS) return report;
      last = report;
      await sleep(this.#hasRealGuest ? GUEST_STILL_MS : 5);
    }
  }
}

/** Others, signals among them, get their turn first. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
