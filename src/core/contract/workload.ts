import type { Picoseconds } from './clock.js';
import { token } from './injection.js';

/** Role `workload`: makes the frames that a run sends. Deterministic: the same context gives the same frames. */
export interface Workload {
  readonly name: string;
  frames(context: WorkloadContext): Iterable<WorkloadFrame>;
  /** How many these are, as soon as that is known: for telling people how long it takes. */
  readonly frameCount?: number | undefined;
}

export interface WorkloadContext {
  /** Draws from the run's seed: an unsigned 32-bit integer. */
  random(): number;
  /** Where frames may go to. */
  readonly targets: readonly WorkloadTarget[];
  /** MAC address of the sender on the wire, 6 bytes. */
  readonly senderMac: Uint8Array;
  /**
   * The bytes of a file that the plugin said it reads (`Plugin.files`), by the name it gave. Throws
   * `file-unreadable` for any other.
   */
  file(name: string): Uint8Array;
}

/** A guest nic that traffic can be sent to. */
export interface WorkloadTarget {
  readonly guest: string;
  readonly nic: string;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** 4 bytes. */
  readonly ipv4: Uint8Array;
}

export interface WorkloadFrame {
  /** From the destination MAC on, without FCS. */
  readonly bytes: Uint8Array;
  /** When it is sent. */
  readonly at: Picoseconds;
}

/** MAC address of the traffic generator at the other end of the wire: 52:54:00:ff:00:01. */
export const SENDER_MAC: Readonly<Uint8Array> = Uint8Array.of(0x52, 0x54, 0x00, 0xff, 0x00, 0x01);

export const WORKLOAD = token<Workload>('workload');
