import type { Placement, ProgramPlan, RequestTimes, ViewName } from './plan.js';
import type { VerdictCounts } from './result.js';

/**
 * What a guest does with one of its nics when the core asks for it. In this process the core's own driver does it,
 * in a real guest an agent does. That the guest is refused something is an answer; a throw means that the guest
 * cannot be spoken to.
 */
export interface GuestDriver {
  /** Loads a program, puts its presets into its maps, and attaches it in the driver or offloads it. */
  install(request: InstallRequest): Promise<InstallAnswer>;
  /** The maps of the program that is attached, as the guest reads them; none when none is. */
  readMaps(): Promise<readonly GuestMapContent[]>;
  /** What the programs in the driver returned; undefined when none was ever there. */
  counters(): Promise<VerdictCounts | undefined>;
  /** Control commands sent and acks received so far. */
  control(): Promise<ControlCounts>;
  /** Keeps asking the device for something. Absent where the guest cannot. Throws `host-unsupported` for what it cannot ask. */
  sendRequests?(requests: RequestsOrder): Promise<RequestsReport>;
  /** What the guest's user sees of what is offloaded. Absent where it cannot be asked. */
  show?(view: ViewName): Promise<GuestView>;
  /** Detaches and unloads everything. */
  close(): Promise<void>;
}

/** A view as people read it, and as JSON. */
export interface GuestView {
  readonly command: string;
  readonly text: string;
  readonly json: unknown;
}

export interface RequestsOrder extends RequestTimes {
  readonly ask:
    /** Reads the first element of a map of the program that is attached. */
    | { readonly kind: 'lookup'; readonly map: string }
    /** Loads a program and offloads it, in place of the one before. */
    | { readonly kind: 'load'; readonly install: InstallRequest };
  /** Fires when the run was interrupted. */
  readonly signal: AbortSignal;
}

/** Microseconds from when a request was due to its answer, by the machine's clock. */
export interface RequestLatency {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export interface RequestsReport {
  readonly sent: number;
  /** Of these, those that the device or the guest's own driver refused. */
  readonly refused: number;
  /** The reason given most often. */
  readonly refusal: string | undefined;
  /** Undefined when none was sent. */
  readonly latency: RequestLatency | undefined;
}

export interface InstallRequest {
  readonly program: ProgramPlan;
  /** The bytes of its object file. */
  readonly object: Uint8Array;
  readonly placement: Placement;
}

export type InstallAnswer =
  | { readonly attached: true }
  /** What the guest was told, by its own kernel or by the device. */
  | { readonly attached: false; readonly reason: string };

export interface GuestMapContent {
  /** Name in the object file. */
  readonly name: string;
  /** BPF_MAP_TYPE_*. */
  readonly type: number;
  /** Where the guest read it: in its own kernel, or over the control channel. */
  readonly readFrom: 'guest-kernel' | 'device';
  /** In the map's own order. */
  readonly entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
  /** Of a map for records: what programs wrote, oldest first. */
  readonly records?:
    readonly { readonly cpu: number; readonly data: Uint8Array; readonly lost: number }[] | undefined;
  /** Why there are no entries, or not all of them; a ring buffer, say, has no keys to read by. */
  readonly unreadable?: string | undefined;
}

export interface ControlCounts {
  /** By name, e.g. `EBPF_MAP/CREATE_MAP`. */
  readonly commands: Readonly<Record<string, number>>;
  readonly acks: { readonly ok: number; readonly err: number };
}
