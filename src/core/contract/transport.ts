import type { GuestMemory } from '../../virtio/guest-memory.js';
import type { SplitLayout } from '../../virtio/split-layout.js';
import { token } from './injection.js';

/**
 * Role `transport`: carries control commands and their answers between a guest's driver and its device, whose two
 * ends may be in different processes. Frames travel apart from it. One channel for each guest nic.
 *
 * What gives way to others by the time that commands take goes by CLOCK, so that a run in virtual time, which stands still
 * meanwhile, comes about in the same way each time.
 */
export interface Transport {
  readonly name: string;
  open(options: ControlChannelOptions): Promise<ControlChannel>;
}

export interface ControlChannelOptions {
  /** Used in messages: `guest0.eth0`. */
  readonly label: string;
  /** Feature bits both sides agreed on. */
  readonly features: bigint;
  /**
   * Where files of the channel may be, if it has any: a folder that goes with the run, whatever ends it. Asked for only by a
   * transport that needs one; absent: it finds one of its own.
   */
  readonly folder?: (() => string) | undefined;
}

/** A channel, seen from the host. */
export interface ControlChannel {
  /** The device's end. Whatever arrives there has been written by a hostile guest. */
  readonly server: ControlServer;
  /** The driver's end, for a driver in this process. Rejects where there can be none. */
  connect(): Promise<ControlClient>;
  /** Where a driver in another process finds its end, as JSON has it; undefined when only this process reaches it. */
  readonly address?: unknown;
  /** The queue in the guest's memory, for a guest that is hostile; undefined where it is not in this process. */
  readonly ring?: ControlRing | undefined;
  readonly statistics: ControlChannelStatistics;
  /** Called once when the guest has broken a rule of the channel, or `break` was called. */
  onBroken(handler: (reason: string) => void): void;
  /** Takes the channel down, because the guest has broken a rule elsewhere on the same device. */
  break(reason: string): void;
  /** Device reset: what is under way is forgotten, a broken channel works again. */
  reset(): void;
  close(): Promise<void>;
}

/**
 * Carries out one command.
 * @param request the device-readable bytes, already copied once out of the guest's reach
 * @param room device-writable bytes: how many the answer may have; the ack is its last byte
 *
 * Must not throw; a throw, or an answer that is too long, breaks the channel and not the host. Answering at once, where
 * there is nothing to wait for, saves a turn of the event loop for each command.
 */
export type ControlHandler = (request: Uint8Array, room: number) => Uint8Array | Promise<Uint8Array>;

/** The device's end. */
export interface ControlServer {
  /**
   * Has commands carried out, in the order in which they come, until the returned function is called.
   * @param driverGone called, by a channel that can tell, when a driver that has sent commands is gone or another has
   *   come in its place, before any command of that is handed over: what it held on the device is nobody's any more
   */
  serve(handler: ControlHandler, driverGone?: () => void): Promise<Closer>;
  /**
   * As `serve`, and the handler can look at each command where it lies in the guest's memory. For a device that is meant
   * to be weak (`Device.unguarded`); absent where the guest's memory is not in this process.
   */
  serveUnguarded?(handler: UnguardedHandler): Promise<Closer>;
  /**
   * Sets what the driver reads in device-specific configuration space (virtio 1.3, 2.5); before the driver comes up, and not
   * changed for as long as it uses the device. Absent in a channel that has no such space: a stream of bytes.
   */
  configure?(space: Uint8Array): void;
}

/** As ControlHandler, with the chain in the guest's memory. */
export type UnguardedHandler = (
  request: Uint8Array,
  room: number,
  chain: UnguardedChain,
) => Uint8Array | Promise<Uint8Array>;

/**
 * A command where it lies in the guest's memory: what is read twice may differ, and what is written there the guest sees.
 * Bounded by the chain's descriptors, as QEMU's iov_to_buf and iov_from_buf are.
 */
export interface UnguardedChain {
  /** Device-readable bytes. */
  readonly readableBytes: number;
  /** Copies what is there now, from `offset` on: as many of `length` bytes as the chain has. */
  read(offset: number, length: number): Uint8Array;
  /** Writes into the device-readable part, as many as it has room for: which a device must not (virtio 1.3, 2.7.5.1). */
  overwrite(offset: number, bytes: Uint8Array): void;
}

export type Closer = () => Promise<void>;

/** A split control virtqueue as a guest has it that keeps to no rule: it writes where it likes. */
export interface ControlRing {
  readonly memory: GuestMemory;
  readonly layout: SplitLayout & Readonly<Record<'descriptorTable' | 'availRing' | 'usedRing', number>>;
  /** Where the driver's buffers begin, which reach to the end of the memory. */
  readonly buffers: number;
  /** The available buffer notification. */
  kick(): void;
  /** The guest has broken a rule, and the device wants to be reset. */
  readonly isDown: boolean;
}

/** The driver's end. */
export interface ControlClient {
  /**
   * Sends a command and waits for the bytes that the device wrote, at most `room`. Rejects with an XdpbedError when
   * the channel is down or goes down meanwhile; commands sent side by side are carried out in the order of the calls.
   */
  send(parts: readonly Uint8Array[], room: number): Promise<Uint8Array>;
  /**
   * What is in device-specific configuration space: as many of `length` bytes from `offset` on as the device has. Absent in a
   * channel that has no such space.
   */
  readConfig?(offset: number, length: number): Uint8Array;
}

export interface ControlChannelStatistics {
  /** Commands that reached the device. */
  readonly commands: number;
  /** Notifications by the driver, by the device, and those that the other side had asked not to get. */
  readonly kicks: number;
  readonly interrupts: number;
  readonly suppressedNotifications: number;
  /** Rules of the channel that the guest broke. */
  readonly violations: number;
}

export const TRANSPORT = token<Transport>('transport');
