import type { HookPlace } from './hook-place.js';
import type { Binding } from './party.js';
import type { MeasurePlan, RunPlan } from './plan.js';
import type { GuestDriver } from './guest-driver.js';
import type { EndResult, ExchangeResult, RateResult } from './result.js';
import type { ControlClient, ControlRing, ControlServer } from './transport.js';
import type { WorkloadFrame } from './workload.js';
import { token } from './injection.js';

/**
 * Role `fabric`: places and traffic. It builds guests, devices and links for one run and drives frames through
 * them; what is put into the places, and what guests and host say to each other about it, is the core's.
 *
 * What it works with, it takes by constructor: CLOCK (or VIRTUAL_CLOCK), TRANSPORT, RUN_SIGNAL, EVENTS, RANDOM.
 */
export interface Fabric {
  readonly name: string;
  /**
   * Builds everything the plan names, without any program. Throws `host-unsupported` for a plan with something in it
   * that this fabric does not have. Whatever it made is gone when it throws.
   */
  deploy(plan: RunPlan): Promise<Deployment>;
}

export interface Deployment {
  /** Where programs of the host's own are put: at least for each NIC and tap of the plan that has one. */
  readonly hostPlaces: readonly HostPlace[];
  /** In the order of the plan. */
  readonly nics: readonly NicPlaces[];
  /** What plugins of the host's parties may inject: where its interfaces are, say. */
  readonly hostBindings?: readonly Binding[];
  /**
   * Programs of all parties have their work counted, for a fabric whose places charge for it: `LoadedProgram.work` of
   * what is attached. It costs the programs some of their speed. Default: not. Guests with a kernel of their own have
   * nothing to do with it.
   */
  readonly countWork?: boolean;
  /** Sends the frames in by the first NIC of the plan and waits until each has ended somewhere. */
  traffic(frames: Iterable<WorkloadFrame>): Promise<TrafficReport>;
  /**
   * Measures what the plan says. Called when the traffic is over and what came of it has been read. Absent where
   * nothing can be measured.
   *
   * @param frames of the workload from the start, lazily, once more; none where they are not asked for
   */
  measure?(measure: MeasurePlan, frames: Iterable<WorkloadFrame>): Promise<Measurements>;
  /**
   * Where others on the machine find the run while it is up. Absent where all of it is inside of this process: there is
   * nothing to be held up for them.
   */
  readonly presence?: Presence;
  /** Removes everything, programs that are still in their places included; may be called at any time and more than once. */
  down(): Promise<void>;
}

/** A run as others on the machine see it: they may look into its namespaces and send traffic of their own. */
export interface Presence {
  /** Unique on the machine; what the run makes there is named after it. */
  readonly name: string;
  readonly namespaces: readonly NamespacePresence[];
  /** Writes down what the run is, for who finds it; returns the path of a folder for files about it that goes with it. */
  announce(testbed: string): string;
  /** Has the guests take what comes for them until the signal fires; rejects when one of them cannot any more. */
  serve(signal: AbortSignal): Promise<void>;
}

export interface NamespacePresence {
  /** `wire`: where traffic comes from; `host`: where the host's interfaces are. */
  readonly role: 'wire' | 'host';
  readonly name: string;
  readonly interfaces: readonly {
    readonly name: string;
    readonly ifindex: number;
    readonly kind: 'nic' | 'tap' | 'bridge';
  }[];
}

export interface HostPlace {
  /** `host-nic`: a NIC's native XDP; `tap-rx`: what meets the frames that a guest sends. */
  readonly site: 'host-nic' | 'tap-rx';
  /** Name of the NIC or tap in the plan. */
  readonly interface: string;
  readonly place: HookPlace;
}

/** One guest nic as the core sees it. */
export interface NicPlaces {
  readonly guest: string;
  readonly nic: string;
  /** The device's end of the control channel. */
  readonly control: ControlServer;
  /** In the host, in front of the guest: where what the guest offloads runs. It serves all queues of the nic. */
  readonly offload: HookPlace;
  readonly driver: LocalDriver | RemoteDriver;
  /** Called once when the guest has broken a rule of the link or the channel; what the guest sends is then refused. */
  onBroken(handler: (reason: string) => void): void;
  /** Counters of the link and of the control channel together. */
  statistics(): Promise<LinkStatistics>;
}

/** A guest whose driver runs in this process: the core is its driver. */
export interface LocalDriver {
  readonly kind: 'local';
  /** The driver's end of the control channel. */
  readonly control: ControlClient;
  /** The receive path of the driver, on every queue: native XDP. */
  readonly hook: HookPlace;
  /** The control queue in the guest's memory, for a guest that is hostile; absent where it is not in this process. */
  readonly ring?: ControlRing | undefined;
  /** The interface goes up: from now on the guest receives. */
  up(): Promise<void>;
  /**
   * The guest resets its device: the queues are new, a broken link works again. The core sees to the rest. Absent where it
   * cannot; the interface is then as after `up`.
   */
  reset?(): Promise<void>;
}

/** A guest with a kernel of its own, in another process: its agent does what the core asks for. */
export interface RemoteDriver extends GuestDriver {
  readonly kind: 'remote';
}

/** Counters of one nic's link, its control channel included. */
export interface LinkStatistics {
  readonly framesToGuest: number;
  readonly framesFromGuest: number;
  readonly kicks: number;
  readonly interrupts: number;
  readonly suppressedNotifications: number;
  readonly violations: number;
}

export interface TrafficReport {
  /** Frames that were sent into the host. */
  readonly framesSent: number;
  /** Copies made on the way, by flooding. */
  readonly framesCopied: number;
  /**
   * Where they ended, sorted by place, then fate; together as many as were sent and copied. A place goes by the
   * plan's names: `host.` and a NIC, tap or bridge; a guest, a dot and its nic.
   */
  readonly ends: readonly EndResult[];
}

export interface Measurements {
  /** Of the guest nics that were to be measured, in the order of the plan. */
  readonly rates: readonly MeasuredRate[];
  /** Why there are no rates, where some were to be measured. */
  readonly ratesUnmeasured?: string | undefined;
  /** With each guest nic, in the order of the plan, and with each in that of the plan's exchanges. */
  readonly exchanges: readonly ExchangeResult[];
}

/**
 * Programs that one frame meets at most; then it counts as caught in a loop between programs that send it to each other
 * (fate `hop-limit`).
 */
export const HOP_LIMIT = 16;

/**
 * What it counts for, in programs, that a bridge floods a frame that a program has sent back. A frame may be flooded so once and
 * meet programs, and the second time it meets none: among many guests it would else become as many as there are ports to
 * the power of HOP_LIMIT.
 */
export const HOPS_OF_A_FLOOD = 7;

/** Addresses that a bridge learns at most; from others it floods. Any sender can make up as many as it sends frames. */
export const LEARNED_ADDRESSES = 16_384;

/** What was measured at one guest nic; program and placement are the plan's to tell. */
export type MeasuredRate = Omit<RateResult, 'program' | 'placement'>;

export const FABRIC = token<Fabric>('fabric');
