import { token } from './injection.js';

/**
 * Role `transport`: carries control commands and frames between a guest's driver and its device. One link per
 * guest nic. Whatever arrives at the device side has been written by a hostile guest.
 */
export interface Transport {
  readonly name: string;
  open(options: LinkOptions): Promise<TransportLink>;
}

export interface LinkOptions {
  /** Used in messages: `guest0.eth0`. */
  readonly label: string;
  readonly queuePairs: number;
  /** Descriptors per queue, a power of two. */
  readonly queueSize: number;
  /** Feature bits both sides agreed on. */
  readonly features: bigint;
  readonly device: DeviceHandlers;
}

/** What the device does with what arrives. Handlers must not throw; a throw breaks the link, not the host. */
export interface DeviceHandlers {
  /**
   * A control command: the device-readable bytes, already copied once out of the guest's reach. Returns what
   * goes into the device-writable part, at most `writableLength` bytes; the ack is its last byte.
   */
  control(readable: Uint8Array, writableLength: number): Uint8Array | Promise<Uint8Array>;
  /** A frame that the guest sends, without its virtio-net header, on transmit queue `queue`. */
  transmit(queue: number, frame: Uint8Array): void;
  /** The guest broke a rule of the transport; the link stays down until it is reset. */
  broken(reason: string): void;
}

export interface TransportLink {
  readonly driver: DriverPort;
  readonly device: DevicePort;
  /** Counters of the link, for results: kicks, suppressed notifications, violations. */
  readonly statistics: LinkStatistics;
  /** Device reset: outstanding buffers are forgotten, a broken link works again. */
  reset(): void;
  close(): Promise<void>;
}

/** The guest's side. */
export interface DriverPort {
  /** Sends a control command and waits for the device: the bytes that the device wrote. */
  control(readable: readonly Uint8Array[], writableLength: number): Promise<Uint8Array>;
  /** Offers receive buffers until the queue is full; called by the driver after each poll. */
  refill(queue: number): void;
  /** Takes up to `budget` received frames out of receive queue `queue`. */
  receive(queue: number, budget: number): Uint8Array[];
  /** Queues a frame for transmission: false when the queue is full. */
  send(queue: number, frame: Uint8Array): boolean;
  /** Tells the device of what was queued, unless it asked not to be told. */
  kick(queue: number): void;
}

/** The host's side. */
export interface DevicePort {
  /** Puts a frame into a receive buffer of the guest: false when the guest offers none. */
  deliver(queue: number, frame: Uint8Array): boolean;
  /** Interrupts the guest for delivered frames, unless it asked not to be: whether it was interrupted. */
  notify(queue: number): boolean;
  /** Takes frames that the guest queued, up to `budget`, and hands each to `DeviceHandlers.transmit`. */
  poll(queue: number, budget: number): number;
}

export interface LinkStatistics {
  controlCommands: number;
  framesToGuest: number;
  framesFromGuest: number;
  kicks: number;
  interrupts: number;
  suppressedNotifications: number;
  violations: number;
}

export const TRANSPORT = token<Transport>('transport');
