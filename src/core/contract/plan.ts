import type { MapInitialEntry } from '../../bpf/map-spec.js';

/**
 * One run, fully resolved: every default filled in, every name looked up, every rule of the case applied, nothing
 * left to guess or to parse. Inert data, so that `xdpbed plan` prints exactly what a fabric gets.
 */
export interface RunPlan {
  /** Variants joined by `/`, e.g. `redirect/xdp1/guest`; `default` without a matrix. */
  readonly id: string;
  readonly axes: Readonly<Record<string, string>>;
  readonly host: HostPlan;
  readonly guests: readonly GuestPlan[];
  /** What is to be measured, where the fabric can; undefined: nothing. */
  readonly measure: MeasurePlan | undefined;
  /** Programs by their name in the testbed: only those that this run attaches. */
  readonly programs: Readonly<Record<string, ProgramPlan>>;
}

/**
 * What is measured when the workload is through: the rate of frames to guest nics with a program, one after the
 * other or all `together`, then each exchange with each guest nic, one after the other.
 */
export interface MeasurePlan {
  /** Of one sample. */
  readonly seconds: number;
  readonly samples: number;
  /** Seconds of traffic before the first sample. */
  readonly warmUp: number;
  /**
   * What frames rates are measured with: `uniform`, equal UDP frames of `size` bytes and `flows` source ports;
   * `workload`, over and over those of the testbed's workload that are for the nic's address or for a group's.
   */
  readonly frames: FrameSource;
  /** Frames per second that are sent, of all flows together; undefined: as many as can be had. */
  readonly rate: number | undefined;
  /** Bytes of a uniform frame, without FCS. */
  readonly size: number;
  /** UDP source ports that uniform frames have by turns. */
  readonly flows: number;
  /** Guest nics with a program whose rate is measured, as `guest0.eth0`; undefined: all. */
  readonly nics: readonly string[] | undefined;
  /**
   * These nics are loaded at the same time: frames for each by turns, of a workload those that are for one of them, in
   * its order. `rate` is that of all together. Frames for a group are left out, as they would be of none alone.
   */
  readonly together: boolean;
  readonly exchanges: readonly ExchangePlan[];
}

export const FRAME_SOURCES = ['uniform', 'workload'] as const;
export type FrameSource = (typeof FRAME_SOURCES)[number];

/**
 * What netperf calls UDP_STREAM, TCP_STREAM, UDP_RR and TCP_RR: a client on the wire sends to a server in the guest as
 * much as it can, or a request each time that the one before is answered.
 */
export const EXCHANGE_KINDS = ['udp-stream', 'tcp-stream', 'udp-rr', 'tcp-rr'] as const;
export type ExchangeKind = (typeof EXCHANGE_KINDS)[number];

/** Bytes of a UDP message that goes into one frame of an MTU of 1500, over IPv4. */
export const MAX_UDP_PAYLOAD = 1500 - 20 - 8;

export interface ExchangePlan {
  readonly kind: ExchangeKind;
  /** Bytes of payload: of a message (UDP), of what is given to the stack in one go (TCP), of a request and its answer. */
  readonly size: number;
  /** How many of it at the same time, each from a port of its own. */
  readonly streams: number;
}

export type HostCase = 'redirect' | 'bridge';

/**
 * Where an offloaded program meets the frames that go to the guest. Which of them there are is the fabric's matter
 * (`Plugin.hooks`).
 *
 * In a patched tun driver (drivers/net/tun.c): in the reader's context when the frame is taken from the tap
 * (`tun_recvmsg`), when the stack sends one skb to the tap (`tun_net_xmit`), or when XDP frames are redirected to the
 * tap (`tun_xdp_xmit`).
 *
 * In a stock kernel, where the tap itself has no such hook (docs/linux/hooks.md): called by the NIC's program in place
 * of its redirect (`tail-call`), on the device map's entry (`devmap`) or another CPU's (`cpumap`), on a pair of
 * interfaces in front of the tap (`veth-shim`), on the skb as it leaves by the tap (`tcx-egress`), or on the NIC
 * before there is an skb for the bridge (`bridge-early`).
 */
export const HOOK_POINTS = [
  'tun_recvmsg',
  'tun_net_xmit',
  'tun_xdp_xmit',
  'tail-call',
  'devmap',
  'cpumap',
  'veth-shim',
  'tcx-egress',
  'bridge-early',
] as const;
export type HookPoint = (typeof HOOK_POINTS)[number];

/** What plays a guest where guests are real: a virtual machine, or a process that reads the tap's file. */
export const GUEST_KINDS = ['qemu', 'tap-reader'] as const;
export type GuestKind = (typeof GUEST_KINDS)[number];

export interface HostPlan {
  /** What the run is called after; what follows from it (which programs, which bridges) is in the fields below. */
  readonly case: HostCase;
  readonly hook: HookPoint;
  readonly cpus: number;
  readonly nics: readonly HostNicPlan[];
  readonly taps: readonly TapPlan[];
  /** Those that are up: none in case `redirect`. */
  readonly bridges: readonly BridgePlan[];
  readonly reader: ReaderPlan;
  readonly verification: VerificationPlan;
  /** What a control command of few bytes takes of the device's thread where commands take virtual time. */
  readonly commandMicroseconds: number;
}

/**
 * Of a testbed that says nothing of it: a lookup of 8 bytes through queue and endpoint took 5.4 to 5.9 µs on a machine of two
 * virtual cores that was busy otherwise.
 */
export const DEFAULT_COMMAND_MICROSECONDS = 5;

export interface HostNicPlan {
  readonly name: string;
  readonly ifindex: number;
  /** 6 bytes as `52:54:00:00:00:01`. */
  readonly mac: string;
  /** Name of the native XDP program. Case `bridge` has none. */
  readonly program: string | undefined;
}

export interface TapPlan {
  readonly name: string;
  readonly ifindex: number;
  /** Name of the native XDP program in the tap's Rx path: what meets frames that the guest sends. */
  readonly rxProgram: string | undefined;
  /** Entries of each queue's ptr_ring (the tap's tx_queue_len). */
  readonly ring: number;
}

export interface BridgePlan {
  readonly name: string;
  readonly ports: readonly string[];
}

/** Who takes frames from the taps: vhost in batches, or a plain read of the tap's file one at a time. */
export interface ReaderPlan {
  readonly kind: 'vhost' | 'read';
  /** Frames taken in one go. */
  readonly batch: number;
  /** vhost looks again before it sleeps. */
  readonly polling: boolean;
  /** How vhost gets at the frames in a tap's ring. */
  readonly ringAccess: RingAccess;
}

/**
 * How vhost takes frames out of a tap's ptr_ring: itself (`ptr-ring`, tun_get_tx_ring, as kernels do), or a batch at a time by
 * calling the tap's recvmsg (`recvmsg`), which can run a program on them: the RFC's change of the data path.
 */
export const RING_ACCESSES = ['recvmsg', 'ptr-ring'] as const;
export type RingAccess = (typeof RING_ACCESSES)[number];

/** What the host grants to judging the programs that guests offload. */
export interface VerificationPlan {
  /** Milliseconds of CPU time of one program. */
  readonly milliseconds: number;
  /** MiB of heap for one program. */
  readonly memoryMiB: number;
  /** Programs judged at the same time, of all guests. */
  readonly atOnce: number;
  /** Of these, programs of one guest. */
  readonly atOncePerGuest: number;
}

/** Of a testbed that says nothing of it. */
export const DEFAULT_VERIFICATION: VerificationPlan = {
  milliseconds: 10_000,
  memoryMiB: 256,
  atOnce: 2,
  atOncePerGuest: 1,
};

export interface GuestPlan {
  readonly name: string;
  /** Undefined on a fabric that has but one kind of guest (`Plugin.guests`). */
  readonly kind: GuestKind | undefined;
  readonly cpus: number;
  readonly nics: readonly GuestNicPlan[];
}

export type Placement = 'guest' | 'host';

/** What can be shown of a nic, and the command that shows it in a Linux guest. */
export const VIEWS = {
  link: 'ip -d link show',
  prog: 'bpftool prog show',
  map: 'bpftool map show',
  dump: 'bpftool map dump',
} as const;
export type ViewName = keyof typeof VIEWS;

export interface GuestNicPlan {
  readonly name: string;
  readonly ifindex: number;
  readonly mac: string;
  /** Dotted IPv4 address, for workloads. */
  readonly ipv4: string;
  /** Name of the tap this nic's device is backed by. */
  readonly tap: string;
  readonly queues: number;
  readonly queueSize: number;
  /** What the device offers: bit n is feature bit n. */
  readonly features: bigint;
  readonly program: string | undefined;
  /** Where the program runs: in the guest's driver, or offloaded to the host. */
  readonly placement: Placement;
  /** The guest's kernel sends programs to the device as they are, without the checks of a well-behaved driver. */
  readonly hostile: boolean;
  /**
   * Helpers that the guest's driver lets an offloaded program call before it sends anything, by name; `default` stands for
   * OFFLOADABLE_HELPERS, `any` for all. Absent: `default`. What the host allows is its policies' business.
   */
  readonly driverHelpers?: readonly string[] | undefined;
  /** What of its offload the guest shows when the traffic is over; absent: nothing. */
  readonly show?: readonly ViewName[] | undefined;
  /** What the guest keeps asking of the device, once all programs are attached and before there is traffic. */
  readonly requests: RequestsPlan | undefined;
}

/** The program that is a nic's in the end: what its guest keeps loading, if it does. */
export function finalProgram({ program, requests }: GuestNicPlan): string | undefined {
  return requests?.kind === 'load' ? requests.name : program;
}

/** When a guest's requests are sent. */
export interface RequestTimes {
  /** When requests are due; undefined: each is sent when the one before is answered. */
  readonly perSecond: number | undefined;
  /** Seconds of requests before those that are counted and timed. */
  readonly warmUp: number;
  /** Seconds of requests that are counted and timed. */
  readonly seconds: number;
}

export interface RequestsPlan extends RequestTimes {
  /** `lookup`: the first element of this map of the nic's program. `load`: this program, again and again. */
  readonly kind: 'lookup' | 'load';
  /** Name of the map in the object, or of the program in the testbed. */
  readonly name: string;
}

export interface ProgramPlan {
  readonly name: string;
  /** The object's file as the testbed names it: under this name the run's objects hold its bytes. */
  readonly object: string;
  /** Name of the function in the object. */
  readonly function: string;
  /** What programs of the object are whose section does not say it. */
  readonly type?: 'xdp' | undefined;
  /** Entries of maps, by map name, where they are another number than the object’s. */
  readonly maxEntries?: Readonly<Record<string, number>> | undefined;
  /** Elements to place in maps before the program is attached, by map name; references to interfaces are resolved. */
  readonly presets: Readonly<Record<string, readonly MapInitialEntry[]>>;
}
