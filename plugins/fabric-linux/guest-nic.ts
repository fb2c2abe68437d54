import type { LinkStatistics, LocalDriver, NicPlaces } from '../../src/core/contract/fabric.js';
import type { HookPlace } from '../../src/core/contract/hook-place.js';
import type { GuestNicPlan } from '../../src/core/contract/plan.js';
import { emptyVerdictCounts, type VerdictCounts } from '../../src/core/contract/result.js';
import type { ControlChannel, ControlServer } from '../../src/core/contract/transport.js';
import type { RemoteNicDriver } from '../../src/linux/index.js';
import type { FrameEnds } from './frame-ends.js';
import type { HostTap } from './host-tap.js';
import type { LinkCounters } from './link-counters.js';
import type { TakenFrames, TapGuest } from './tap-guest.js';

/** What was seen of frames on a guest's side of a tap. */
export interface GuestTraffic {
  readonly framesToGuest: number;
  readonly framesFromGuest: number;
}

/** One guest nic of this fabric, whatever plays the guest. */
export interface LinuxGuestNic extends NicPlaces {
  readonly plan: GuestNicPlan;
  readonly node: string;
  readonly tap: HostTap;
  /** Takes what is there for the guest, where this process has to; undefined where nothing is. */
  take(): TakenFrames | undefined;
  /** Counts where frames ended in the guest. @param link the counters of the tap */
  count(ends: FrameEnds, link: LinkCounters): Promise<GuestTraffic>;
}

/** What nics have in common: the control channel, and the places on the tap. */
abstract class TapNic {
  readonly control: ControlServer;
  readonly offload: HookPlace;
  readonly nic: string;
  readonly node: string;

  constructor(
    readonly guest: string,
    readonly plan: GuestNicPlan,
    readonly channel: ControlChannel,
    readonly tap: HostTap,
  ) {
    this.nic = plan.name;
    this.node = `${guest}.${plan.name}`;
    this.control = channel.server;
    this.offload = tap.offload;
  }

  onBroken(handler: (reason: string) => void): void {
    this.channel.onBroken(handler);
  }

  /** Of virtqueues for frames nothing is known here: notifications are those of the control channel. */
  protected linkStatistics(traffic: GuestTraffic): LinkStatistics {
    const { kicks, interrupts, suppressedNotifications, violations } = this.channel.statistics;
    return { ...traffic, kicks, interrupts, suppressedNotifications, violations };
  }
}

/** A guest nic that this process plays on its tap. */
export class ReaderNic extends TapNic implements LinuxGuestNic {
  readonly driver: LocalDriver;

  constructor(
    guest: string,
    plan: GuestNicPlan,
    channel: ControlChannel,
    tap: HostTap,
    readonly player: TapGuest,
  ) {
    super(guest, plan, channel, tap);
    this.driver = player;
  }

  take(): TakenFrames | undefined {
    return this.player.take();
  }

  async count(ends: FrameEnds): Promise<GuestTraffic> {
    this.player.addEnds(ends);
    const { framesToGuest, framesFromGuest } = this.player;
    return { framesToGuest, framesFromGuest };
  }

  async statistics(): Promise<LinkStatistics> {
    const { framesToGuest, framesFromGuest } = this.player;
    return this.linkStatistics({ framesToGuest, framesFromGuest });
  }
}

/**
 * A nic of a real guest. What the guest says of its frames is its own word; what came to it and from it, the tap has
 * counted.
 */
export class QemuNic extends TapNic implements LinuxGuestNic {
  constructor(
    guest: string,
    plan: GuestNicPlan,
    channel: ControlChannel,
    tap: HostTap,
    readonly driver: RemoteNicDriver,
    /** Counters of the tap. */
    readonly readLink: () => Promise<LinkCounters>,
    /** How the guest is run: `kvm`, `tcg`. */
    readonly accelerator: string,
  ) {
    super(guest, plan, channel, tap);
  }

  take(): undefined {
    return undefined;
  }

  async count(ends: FrameEnds, link: LinkCounters): Promise<GuestTraffic> {
    const verdicts = (await this.driver.counters()) ?? emptyVerdictCounts();
    const { received } = await this.driver.frames();
    const traffic = this.#traffic(link);
    ends.addDropped(this.node, verdicts);
    ends.add(this.node, 'redirect-failed', verdicts.XDP_REDIRECT);
    // What no program of the guest's has seen went to its stack, as did what one passed.
    ends.add(this.node, 'guest-stack', received - sum(verdicts) + verdicts.XDP_PASS);
    // Or on its way still: whoever wants to know waits until nothing changes any more.
    ends.add(this.node, 'device-filtered', Math.max(0, traffic.framesToGuest - received));
    ends.add(this.node, 'transmit-queue-full', Math.max(0, verdicts.XDP_TX - traffic.framesFromGuest));
    return traffic;
  }

  async statistics(): Promise<LinkStatistics> {
    return this.linkStatistics(this.#traffic(await this.readLink()));
  }

  /**
   * The tap counts as sent what its reader took. What the guest sent it counts where no program in its Rx path drops
   * it, and else the program does.
   */
  #traffic(link: LinkCounters): GuestTraffic {
    const rx = this.tap.rx.verdicts;
    const sentBack = this.tap.offload.verdicts?.XDP_TX ?? 0;
    const framesFromGuest = rx === undefined ? link.received : sum(rx) - sentBack;
    return { framesToGuest: link.transmitted, framesFromGuest };
  }
}

function sum(verdicts: VerdictCounts): number {
  return Object.values(verdicts).reduce((total, count) => total + count, 0);
}
