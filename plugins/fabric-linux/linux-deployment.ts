import { setTimeout as sleep } from 'node:timers/promises';
import type { Deployment, HostPlace, MeasuredRate, TrafficReport } from '../../src/core/contract/fabric.js';
import type { Binding } from '../../src/core/contract/party.js';
import type { MeasurePlan, RunPlan } from '../../src/core/contract/plan.js';
import type { WorkloadFrame } from '../../src/core/contract/workload.js';
import { NETWORK_NAMESPACE, type Ledger } from '../../src/linux/index.js';
import type { EarlyBridge } from './early-bridge.js';
import type { FrameEnds } from './frame-ends.js';
import type { HostNic } from './host-nic.js';
import type { HostTap } from './host-tap.js';
import { countFlow } from './flow.js';
import { RateMeasurement } from './rate-measurement.js';
import type { TapNic } from './tap-nic.js';
import type { Topology } from './topology.js';
import type { Wire } from './wire.js';

/** Frames sent before the guests are looked after: fewer than a tap's queue holds by default. */
const BURST = 64;
/** Milliseconds that frames may still be under way when nothing is seen to move any more. */
const SETTLE_MS = 250;

export interface LinuxDeploymentParts {
  readonly plan: RunPlan;
  readonly topology: Topology;
  readonly wire: Wire;
  readonly hostNics: readonly HostNic[];
  readonly taps: readonly HostTap[];
  /** Those of hook `bridge-early`. */
  readonly bridges: readonly EarlyBridge[];
  readonly nics: readonly TapNic[];
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
  readonly nics: readonly TapNic[];
  readonly hostBindings: readonly Binding[];
  readonly #parts: LinuxDeploymentParts;

  constructor(parts: LinuxDeploymentParts) {
    this.#parts = parts;
    this.hostPlaces = parts.hostPlaces;
    this.nics = parts.nics;
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
      while (!wire.send(bytes)) await this.#serve();
      sent++;
      if (sent % BURST === 0) await this.#serve();
      if (signal.aborted) break;
    }
    return this.#settle(sent);
  }

  /** One guest nic after the other, those with a program. */
  async measure(measure: MeasurePlan): Promise<MeasuredRate[]> {
    const rates: MeasuredRate[] = [];
    for (const guest of this.#parts.plan.guests) {
      for (const plan of guest.nics) {
        if (plan.program === undefined) continue;
        const nic = this.nics.find((each) => each.guest === guest.name && each.nic === plan.name)!;
        rates.push(await new RateMeasurement(this.#parts, nic, plan, measure).run());
      }
    }
    return rates;
  }

  async down(): Promise<void> {
    await this.#parts.teardown();
  }

  /** Lets guests take what is there for them, until nothing is. */
  async #serve(): Promise<void> {
    while (this.nics.some((nic) => nic.driver.poll()));
    for (const bridge of this.#parts.bridges) bridge.follow();
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Waits until every frame has ended somewhere, or until nothing has moved for a while. */
  async #settle(sent: number): Promise<TrafficReport> {
    let last: TrafficReport | undefined;
    let since = Date.now();
    for (;;) {
      await this.#serve();
      const report = await countFlow(this.#parts, sent);
      const ended = report.ends.reduce((sum, { frames }) => sum + frames, 0);
      if (ended === report.framesSent + report.framesCopied) return report;
      if (JSON.stringify(report) !== JSON.stringify(last)) since = Date.now();
      else if (Date.now() - since > SETTLE_MS || this.#parts.signal.aborted) return report;
      last = report;
      await sleep(5);
    }
  }
}
