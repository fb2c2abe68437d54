import type { VirtualCpu } from './virtual-cpu.js';

/** What it costs that somebody sleeps and is woken; picoseconds. */
export interface SleepCosts {
  /** For whoever wakes it. */
  readonly wake: number;
  /** From then to its first turn, at the least, and what may come on top, evenly spread. */
  readonly latency: number;
  readonly jitter: number;
  /** For itself, before its first turn and after its last. */
  readonly enter: number;
  readonly leave: number;
  /** How long it looks on before it sleeps. */
  readonly pollTimeout: number;
}

export interface WorkerOptions {
  /** Whose time its work takes, when things take time. */
  readonly cpu: VirtualCpu;
  /** Frames of a turn when nothing takes time. When things do, a turn is one frame. */
  readonly batch: number;
  /** Does a turn's work: whether there is more. */
  readonly work: (most: number) => boolean;
  /** Looks for work by itself instead of being woken. */
  readonly polls?: boolean;
  /** A process: it gives way to whoever else comes to its CPU, as to an interrupt, and goes on where it was. */
  readonly isProcess?: boolean;
  readonly costs: () => SleepCosts;
}

/** How turns come about. */
export interface Scheduler {
  /** Somebody has something to do, unless awake already. */
  wake(worker: Worker): void;
}

/** Somebody who sleeps until there is something to do: a NIC's softirq, the reader of a tap, a guest's NAPI. */
export class Worker {
  /** Whether it works, or is about to. Its scheduler's. */
  awake = false;
  /** How often it was woken, asleep as it was. */
  wakeUps = 0;
  /** It gave way and has not gone on yet. Its scheduler's. */
  interrupted = false;
  /** It has kept its CPU for as long as it may, and waits for its turn as a process does (ksoftirqd). Its scheduler's. */
  overdue = false;

  constructor(readonly options: WorkerOptions) {}
}
