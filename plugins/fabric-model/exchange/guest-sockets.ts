import type { Picoseconds } from '../../../src/core/contract/clock.js';
import type { DeploymentParts } from '../deployment-parts.js';
import type { ModelNic } from '../model-nic.js';
import type { TimedScheduler } from '../timed-scheduler.js';
import { Worker } from '../worker.js';
import { MAX_SEGMENT, streamOf } from './exchange-frames.js';
import type { Process } from './processes.js';
import type { Socket, SocketHost } from './socket.js';

/**
 * The sockets of a guest, behind the nic that an exchange is with, and their processes. A process is on the virtual CPU after
 * that of the queue's NAPI poll, which is the same where the guest has but one.
 */
export class GuestSockets {
  readonly workers: Worker[] = [];
  readonly #sockets: Socket[] = [];

  constructor(
    readonly parts: DeploymentParts,
    readonly scheduler: TimedScheduler,
    readonly nic: ModelNic,
  ) {
    nic.guestNic.onStack = (frame) =>
      this.#sockets[streamOf(frame.bytes, 'to-server') ?? -1]?.receive(frame.bytes);
  }

  /** What the socket of a stream stands on, whose frames come by this queue of the nic. */
  host(queue: number): SocketHost {
    const { accounting, timing } = this.parts;
    const { guestNic } = this.nic;
    return {
      timing,
      // What the virtqueue carries is cut already.
      longestSegment: MAX_SEGMENT,
      transmit: (frames): Picoseconds => {
        for (const bytes of frames) {
          timing.charge(timing.costs['guest-tx']);
          timing.then(() => guestNic.transmit(accounting.begin(bytes, timing.now), queue));
        }
        return timing.now;
      },
      whenSent: (_, done) => timing.then(done),
    };
  }

  /** The process of the next stream, whose frames come by this queue. */
  addProcess(queue: number, socket: Socket, process: Process): Worker {
    const { timing } = this.parts;
    const { cpus } = this.nic;
    const cpu = cpus[(queue + 1) % cpus.length]!;
    const isAlone = cpu === cpus[queue % cpus.length];
    const worker = new Worker({
      cpu,
      batch: 1,
      isProcess: true,
      work: () => process.turn(),
      costs: () => ({
        // Another virtual CPU is told by an interrupt, for which the guest is left as for a kick.
        wake: timing.costs['process-wakeup'] + (isAlone ? 0 : timing.costs.kick),
        latency: isAlone ? 0 : timing.costs['guest-latency'],
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

  close(): void {
    this.nic.guestNic.onStack = undefined;
  }
}
