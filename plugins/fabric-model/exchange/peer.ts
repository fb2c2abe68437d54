import type { Picoseconds } from '../../../src/core/contract/clock.js';
import type { DeploymentParts } from '../deployment-parts.js';
import { NAPI_BUDGET } from '../guest-nic.js';
import { softirqCosts } from '../nic-receiver.js';
import type { TimedScheduler } from '../timed-scheduler.js';
import { Worker } from '../worker.js';
import { MAX_MERGED, streamOf } from './exchange-frames.js';
import type { Process } from './processes.js';
import type { Socket, SocketHost } from './socket.js';
import { ArrivalQueue, type WireDirection } from './wire-direction.js';

/**
 * The machine at the other end of the wire: a NIC that cuts segments and sends them as fast as the wire takes them, the
 * softirq that receives, and a process with a socket for each stream. Each has a CPU of its own.
 */
export class Peer implements SocketHost {
  readonly longestSegment = MAX_MERGED;
  readonly queue: ArrivalQueue;
  readonly workers: Worker[] = [];
  readonly #softirq: Worker;
  readonly #sockets: Socket[] = [];
  readonly #tasks: (() => void)[] = [];
  #polled = 0;

  constructor(
    readonly parts: DeploymentParts,
    readonly scheduler: TimedScheduler,
    readonly wire: WireDirection,
  ) {
    const { cpus, timing } = parts;
    this.queue = new ArrivalQueue(timing.costs['nic-ring']);
    this.queue.onComing = () => this.#expect();
    this.#softirq = new Worker({
      cpu: cpus.named('peer softirq'),
      batch: NAPI_BUDGET,
      work: () => this.#poll(),
      costs: () => softirqCosts(timing),
    });
    this.workers.push(this.#softirq);
  }

  get timing(): DeploymentParts['timing'] {
    return this.parts.timing;
  }

  /** The process of the next stream. */
  addProcess(socket: Socket, process: Process): Worker {
    const { timing } = this;
    const worker = new Worker({
      cpu: this.parts.cpus.named(`peer cpu${this.#sockets.length}`),
      batch: 1,
      isProcess: true,
      work: () => process.turn(),
      costs: () => ({
        wake: timing.costs['process-wakeup'],
        latency: timing.costs['process-latency'],
        jitter: 0,
        enter: timing.costs['process-switch'],
        leave: 0,
        pollTimeout: 0,
      }),
    });
    socket.onReady = () => this.scheduler.wake(worker);
    this.#sockets.push(socket);
    this.workers.push(worker);
    return worker;
  }

  transmit(frames: readonly Uint8Array[]): Picoseconds {
    const { timing, wire } = this;
    timing.charge(timing.costs['nic-tx']);
    return frames.reduce((_, frame) => wire.send(frame, timing.now), 0);
  }

  whenSent(time: Picoseconds, done: () => void): void {
    this.parts.clock.at(time, () => {
      this.#tasks.push(done);
      this.scheduler.wakeAt(this.#softirq, time);
    });
  }

  #poll(): boolean {
    const { timing } = this;
    const task = this.#tasks.shift();
    if (task !== undefined) {
      timing.charge(timing.costs['nic-tx-clean']);
      timing.then(task);
      return true;
    }
    const received = this.queue.take(timing.now);
    if (received === undefined) {
      this.#polled = 0;
      this.#expect();
      return false;
    }
    if (this.#polled++ % NAPI_BUDGET === 0) timing.charge(timing.costs['nic-poll']);
    timing.charge(timing.costs['nic-rx'] + timing.costs['skb-receive'] + timing.costs['guest-stack']);
    const socket = this.#sockets[streamOf(received.bytes, 'to-client') ?? -1];
    if (socket !== undefined) timing.then(() => socket.receive(received.bytes));
    return true;
  }

  /** Has the softirq run when the next frame arrives. */
  #expect(): void {
    const { nextAt } = this.queue;
    if (nextAt !== Infinity) this.parts.clock.at(nextAt, () => this.scheduler.wakeAt(this.#softirq, nextAt));
  }
}
