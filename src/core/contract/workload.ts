import { token } from './injection.js';

/** Role `workload`: makes the frames that a run sends. Deterministic: the same context gives the same frames. */
export interface Workload {
  readonly name: string;
  frames(context: WorkloadContext): Iterable<WorkloadFrame>;
}

export interface WorkloadContext {
  /** Draws from the run's seed: an unsigned 32-bit integer. */
  random(): number;
  /** Where frames may go to. */
  readonly targets: readonly WorkloadTarget[];
  /** MAC address of the sender on the wire, 6 bytes. */
  readonly senderMac: Uint8Array;
  /** Folder of the testbed file, which relative paths in a config start from; default: the working directory. */
  readonly folder?: string | undefined;
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
  /** Virtual nanoseconds since the start of the workload. */
  readonly at: bigint;
}

export const WORKLOAD = token<Workload>('workload');
