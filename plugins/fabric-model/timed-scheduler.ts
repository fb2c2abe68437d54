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
  /** Since when it has had nothing to do; undefined while it has, or before it ever had. */
  idleSince: Picoseconds | undefined;
  /** Calls off the end of polling. */
  stopPolling: (() => void) | undefined;

  constructor(
    readonly cpu: VirtualCpu,
    readonly resume: () => void,
  ) {}

  /** Whether somebody waits for whom the process that runs has to give way at once. */
  get isInterrupted(): boolean {
    const [first] = this.waiting;
    return first !== undefined && isInterrupt(first) && this.running?.options.isProcess === true;
  }

  /** Has it wait for its turn; interrupts before processes. */
  queue(worker: Worker): void {
    const { waiting } = this;
    if (isInterrupt(worker) || worker.interrupted) {
      const place = waiting.findIndex((other) => !isInterrupt(other));
      waiting.splice(place < 0 ? waiting.length : place, 0, worker);
    } else waiting.push(worker);
  }
}

function isInterrupt({ options, overdue }: Worker): boolean {
  return options.isProcess !== true && !overdue;
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
    this.clock.at(time + late + this.#leavingIdle(worker.options.cpu, time), () => {
      const core = this.#coreOf(worker.options.cpu);
      core.queue(worker);
      if (core.running === undefined) this.#dispatch(core);
      // Nobody looks on while others wait: vhost's busy loop asks need_resched.
      else if (core.phase === 'polling') this.#leave(core);
    });
  }

  /** How long it takes a CPU to come back from the idle state that it is in, if it is in one. */
  #leavingIdle(cpu: VirtualCpu, time: Picoseconds): Picoseconds {
    const since = this.#cores.get(cpu)?.idleSince;
    const { 'idle-residency': residency, 'idle-exit': exit } = this.timing.costs;
    return cpu.idles && since !== undefined && time - since >= residency ? exit : 0;
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
    const { cpu } = core;
    const { timing } = this;
    core.idleSince = worker === undefined ? this.clock.now() : undefined;
    if (worker === undefined) return;
    cpu.time = Math.max(cpu.time, this.clock.now());
    // Of a process, the change is in what it costs to begin.
    if (worker.options.isProcess !== true) {
      if (core.last !== undefined && core.last !== worker) cpu.charge(timing.costs['context-switch']);
      core.last = worker;
    }
    if (!worker.interrupted) cpu.charge(worker.options.costs().enter);
    worker.interrupted = false;
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
      if (core.phase === 'working' && core.waiting.length > 0) {
        if (core.isInterrupted) {
          worker.interrupted = true;
          core.queue(worker);
          this.#dispatch(core);
          return;
        }
        if (cpu.time >= core.sliceEnd) {
          worker.overdue = worker.options.isProcess !== true;
          core.waiting.push(worker);
          this.#dispatch(core);
          return;
        }
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
      worker.overdue = false;
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
