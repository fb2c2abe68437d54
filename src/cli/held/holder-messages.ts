import type { NamespacePresence } from '../../core/contract/fabric.js';
import type { Sha256 } from '../../core/contract/run-spec.js';
import type { OffloadResult } from '../../core/contract/result.js';
import type { FailureMessage } from '../../core/failure-message.js';
import type { ProgramInPlace } from '../../core/offload/nic-session.js';

/** What the process that holds a run is told to hold: nothing but data, so that it reads no file a second time. */
export interface HoldMessage {
  readonly testbed: string;
  /** Absolute path of the testbed's folder, which relative names of plugins start from. */
  readonly folder: string;
  /** A run spec as text (run-spec-codec.ts). */
  readonly spec: string;
  readonly objects: ReadonlyMap<Sha256, Uint8Array>;
}

export type FromHolder =
  | { readonly kind: 'up'; readonly state: HeldState }
  | { readonly kind: 'failed'; readonly failures: readonly FailureMessage[] };

/** A run that is up, as its own process describes it. */
export interface HeldState {
  /** Unique on the machine. */
  readonly name: string;
  readonly testbed: string;
  /** The run's id in the testbed. */
  readonly run: string;
  readonly case: string;
  /** The hook in front of the guests. */
  readonly hook: string;
  readonly pid: number;
  /** ISO 8601. */
  readonly since: string;
  /** Path of the file in which its process writes what goes wrong. */
  readonly log: string;
  readonly namespaces: readonly NamespacePresence[];
  readonly programs: readonly ProgramInPlace[];
  /** What the host holds at each tap for its guest. */
  readonly offloads: readonly OffloadResult[];
}

/** The socket in a run's folder: who connects gets a {@link HeldState} as JSON, and then the end. */
export const STATE_SOCKET = 'state.socket';
export const LOG_FILE = 'log';
