import type { Picoseconds, SteeredClock } from '../../src/core/contract/clock.js';
import type { Timing } from './timing.js';
import type { VirtualCpu } from './virtual-cpu.js';
import type { Scheduler, SleepCosts, Worker } from './worker.js';

/** What a CPU is at. */
type Phase =
  /** Its worker has work. */
  | 'working'
  /** Its worker found nothing and looks on for a while. */
  | 'polling'
  /** Its worker found nothing and is on the way to sleep: who comes now need not wake it. */
  | 'leaving';

/** A CPU and those who work on it. */
class Core {
  phase: Phase = 'working';
  running: Worker | undefined;
  /** Awake, and waiting for the CPU. */
  readonly waiting: Worker[] = [];
  /** Who ran last: another pays for the change. */
  last: Worker | undefined;
  sliceEnd: Picoseconds = 0;
  /** Calls off the end of polling. */
  stopPolling: (() => void) | undefined;

  constructor(
    readonly cpu: VirtualCpu,
    readonly resume: () => void,
  ) {}
}

/**
 * Turns when things take time: each worker on its CPU, one frame a turn, so that everybody sees of the others what is
 * there by then. A CPU runs on by itself as long as nothing else is due before it is done; what it does to others
 * happens when it has taken its time. A worker keeps its CPU until it sleeps, or until its slice is over and others wait.
 */
export class TimedScheduler implements Scheduler {
  readonly #cores = new Map<VirtualCpu, Core>();

  constructor(
    readonly clock: SteeredClock,
    readonly timing: Timing,
    /** An unsigned 32-bit integer. */
    readonly random: () => number,
  ) {}

  /** Wakes it at the expense of the CPU that works now. */
  wake(worker: Worker): void {
    if (worker.awake) {
      this.#endPolling(worker);
      return;
    }
    const { timing } = this;
    const costs = worker.options.costs();
    timing.charge(costs.wake);
    this.#wakeAt(worker, timing.now + costs.latency, costs);
  }

  /** Wakes it for something that nobody's CPU has done: a frame arrives at the NIC. */
  wakeAt(worker: Worker, time: Picoseconds): void {
    if (worker.awake) return;
    const costs = worker.options.costs();
    this.#wakeAt(worker, time + costs.latency, costs);
  }

  #wakeAt(worker: Worker, time: Picoseconds, { jitter }: SleepCosts): void {
    worker.awake = true;
    worker.wakeUps++;
    const late = jitter === 0 ? 0 : Math.floor((this.random() / 2 ** 32) * jitter);
    this.clock.at(time + late, () => {
      const core = this.#coreOf(worker.options.cpu);
      core.waiting.push(worker);
      if (core.running === undefined) this.#dispatch(core);
      // Nobody looks on while others wait: vhost's busy loop asks need_resched.
      else if (core.phase === 'polling') this.#leave(core);
    });
  }

  #coreOf(cpu: VirtualCpu): Core {
    let core = this.#cores.get(cpu);
    if (core === undefined) {
      const made: Core = new Core(cpu, () => this.#run(made));
      this.#cores.set(cpu, (core = made));
    }
    return core;
  }

  /** Gives the CPU to who waits longest. */
  #dispatch(core: Core): void {
    const worker = core.waiting.shift();
    core.running = worker;
    if (worker === undefined) return;
    const { cpu } = core;
    const { timing } = this;
    cpu.time = Math.max(cpu.time, this.clock.now());
    if (core.last !== undefined && core.last !== worker) cpu.charge(timing.costs['context-switch']);
    core.last = worker;
    cpu.charge(worker.options.costs().enter);
    core.phase = 'working';
    core.sliceEnd = cpu.time + timing.costs.slice;
    this.#run(core);
  }

  #run(core: Core): void {
    const { cpu } = core;
    const { clock, timing } = this;
    for (;;) {
      // Others may have charged it, too.
      if (cpu.time > clock.now() && !clock.leapTo(cpu.time)) {
        clock.at(cpu.time, core.resume);
        return;
      }
      timing.work(cpu);
      const effect = cpu.nextEffect();
      if (effect !== undefined) {
        effect();
        continue;
      }
      const worker = core.running!;
      if (core.phase === 'working' && core.waiting.length > 0 && cpu.time >= core.sliceEnd) {
        core.waiting.push(worker);
        this.#dispatch(core);
        return;
      }
      if (worker.options.work(1)) {
        core.phase = 'working';
        continue;
      }
      // It may have found nothing more and yet done something: the end of its batch.
      if (cpu.hasEffects || cpu.time > clock.now()) continue;
      if (core.phase === 'working') {
        if (this.#startPolling(core, worker)) return;
        core.phase = 'leaving';
        cpu.charge(worker.options.costs().leave);
        continue;
      }
      worker.awake = false;
      this.#dispatch(core);
      return;
    }
  }

  /** Whether it looks on: then it is resumed when there is something, its time is over, or others want the CPU. */
  #startPolling(core: Core, worker: Worker): boolean {
    const { pollTimeout } = worker.options.costs();
    if (worker.options.polls !== true || pollTimeout === 0 || core.waiting.length > 0) return false;
    core.phase = 'polling';
    core.stopPolling = this.clock.at(core.cpu.time + pollTimeout, () => this.#leave(core));
    return true;
  }

  /** A worker that was looking on goes to sleep. */
  #leave(core: Core): void {
    core.stopPolling!();
    this.#spin(core);
    core.phase = 'leaving';
    core.cpu.charge(core.running!.options.costs().leave);
    this.#run(core);
  }

  /** There is something for a worker that is awake. */
  #endPolling(worker: Worker): void {
    const core = this.#cores.get(worker.options.cpu);
    if (core === undefined || core.running !== worker || core.phase !== 'polling') return;
    core.phase = 'working';
    core.stopPolling!();
    this.clock.at(this.timing.now, () => {
      this.#spin(core);
      this.#run(core);
    });
  }

  /** It has been looking until now: its CPU was taken, for nothing that anybody waits for. */
  #spin({ cpu }: Core): void {
    cpu.time = Math.max(cpu.time, this.clock.now());
  }
}
