import type { Sha256 } from '../../core/contract/run-spec.js';
import type { FailureMessage } from '../../core/failure-message.js';
import type { Printed } from '../../report/printed.js';
import type { UpDocument } from '../../report/status-schema.js';

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
export type HeldState = Printed<Omit<UpDocument, 'schema'>>;

/** The socket in a run's folder: who connects gets a {@link HeldState} as JSON, and then the end. */
export const STATE_SOCKET = 'state.socket';
export const LOG_FILE = 'log';
