import { CopyingDriver, type CollectResult, type CopyRequest } from '../copying-driver.js';
import type { GuestAllocator, GuestMemory } from '../guest-memory.js';
import type { QueueFormat } from '../queue-format.js';
import { XdpbedError } from '../../core/diagnostic.js';
import { StateReader } from '../state-reader.js';
import type { AddResult, DeviceQueue, QueueState } from '../virtqueue.js';

export interface QueueEndsOptions {
  readonly format: QueueFormat;
  readonly memory: GuestMemory;
  /** Where the driver's buffers, and its indirect tables, come from. */
  readonly allocator: GuestAllocator;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
}

/** What was notified, and what was not because the other side had asked not to hear of it. */
export interface NotificationCounts {
  /** By the driver. */
  kicks: number;
  /** By the device. */
  interrupts: number;
  suppressedNotifications: number;
}

/** Both ends of one virtqueue, and who is told when one of them has something for the other. */
export class QueueEnds {
  readonly driver: CopyingDriver;
  readonly device: DeviceQueue;
  /** The device is told of buffers that were published. */
  onKick: (() => void) | undefined;
  /** The driver is told of buffers that came back. */
  onInterrupt: (() => void) | undefined;
  /** The driver has added buffers since it last published. */
  #unpublished = false;
  /** The device has returned buffers since it last looked whether to interrupt. */
  #unannounced = false;

  /** @throws XdpbedError `virtio-violation` when there can be no such queue, or for a state that is none */
  constructor(
    readonly options: QueueEndsOptions,
    readonly counts: NotificationCounts,
    address: number,
    size: number,
    state?: QueueEndsState,
  ) {
    const { format, memory, allocator, eventIdx, indirect } = options;
    const saved = state === undefined ? undefined : new StateReader('the queue', { ...state });
    const driver = format.openDriver(
      memory,
      address,
      size,
      { eventIdx, indirectTables: indirect ? allocator : undefined },
      saved?.object('driver').state,
    );
    const opened = format.openDevice(
      memory,
      address,
      size,
      { eventIdx, indirect },
      saved?.object('device').state,
    );
    if (!opened.ok) throw new XdpbedError('virtio-violation', opened.violation.message);
    this.device = opened.queue;
    this.driver = new CopyingDriver(memory, driver, allocator, saved?.object('buffers').state);
    this.#unpublished = saved?.boolean('unpublished') ?? false;
    this.#unannounced = saved?.boolean('unannounced') ?? false;
  }

  save(): QueueEndsState {
    return {
      driver: this.driver.queue.save(),
      device: this.device.save(),
      buffers: this.driver.save(),
      unpublished: this.#unpublished,
      unannounced: this.#unannounced,
    };
  }

  /** Adds a buffer that `publish` will show the device. */
  submit(request: CopyRequest): AddResult {
    return this.#submitted(this.driver.submit(request));
  }

  /** The same for a frame to send, in one descriptor with its header. */
  submitFrame(header: Uint8Array, bytes: Uint8Array): AddResult {
    return this.#submitted(this.driver.submitFrame(header, bytes));
  }

  /** The same for a receive buffer. */
  submitRoom(length: number): AddResult {
    return this.#submitted(this.driver.submitRoom(length));
  }

  #submitted(added: AddResult): AddResult {
    if (added.kind === 'added') this.#unpublished = true;
    return added;
  }

  /** Shows the device what was submitted, and kicks unless it asked not to be. */
  publish(): void {
    if (!this.#unpublished) return;
    this.#unpublished = false;
    if (this.driver.publish()) {
      this.counts.kicks++;
      this.onKick?.();
    } else this.counts.suppressedNotifications++;
  }

  collect(): CollectResult {
    return this.driver.collect();
  }

  /** Called after the device has returned buffers, which `interrupt` will tell of. */
  returned(): void {
    this.#unannounced = true;
  }

  /** Interrupts for what was returned, unless the driver asked not to be: whether it was interrupted. */
  interrupt(): boolean {
    if (!this.#unannounced) return false;
    this.#unannounced = false;
    if (!this.device.shouldInterrupt()) {
      this.counts.suppressedNotifications++;
      return false;
    }
    this.counts.interrupts++;
    this.onInterrupt?.();
    return true;
  }
}

/** As JSON has it. */
export interface QueueEndsState {
  readonly driver: QueueState;
  readonly device: QueueState;
  readonly buffers: QueueState;
  readonly unpublished: boolean;
  readonly unannounced: boolean;
}
