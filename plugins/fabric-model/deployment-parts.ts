import type { EventLoopTurns } from '../../src/core/clock/event-loop-turns.js';
import type { SteeredClock } from '../../src/core/contract/clock.js';
import type { HostPlace } from '../../src/core/contract/fabric.js';
import type { RunPlan } from '../../src/core/contract/plan.js';
import type { CostModel } from '../../src/core/cost-model/index.js';
import type { BurstScheduler } from './burst-scheduler.js';
import type { FrameAccounting } from './frame-accounting.js';
import type { ModelConfig } from './model-config.js';
import type { ModelCpus } from './model-cpus.js';
import type { ModelHost } from './model-host.js';
import type { ModelNic } from './model-nic.js';
import type { Timing } from './timing.js';
import type { Scheduler, Worker } from './worker.js';

/** Somebody who works for a guest nic. */
export interface NicWorker {
  /** As the result names it: `guest0.eth0 vhost`. */
  readonly name: string;
  /** `guest0.eth0` */
  readonly node: string;
  /** On a CPU of the guest: its NAPI. */
  readonly isGuest: boolean;
  readonly worker: Worker;
}

/** What a deployment is made of. */
export interface DeploymentParts {
  readonly plan: RunPlan;
  readonly config: ModelConfig;
  readonly host: ModelHost;
  readonly hostPlaces: readonly HostPlace[];
  readonly nics: readonly ModelNic[];
  readonly accounting: FrameAccounting;
  readonly timing: Timing;
  readonly cpus: ModelCpus;
  /** Those of a guest nic: the readers of its queues, and their NAPI. */
  readonly workers: readonly NicWorker[];
  readonly bursts: BurstScheduler;
  /** Whoever brings turns about. */
  readonly schedule: { scheduler: Scheduler };
  /** Without costs there are no rates. */
  readonly costs: CostModel | undefined;
  readonly clock: SteeredClock;
  readonly random: () => number;
  readonly turns: EventLoopTurns;
  readonly teardown: () => Promise<void>;
}
