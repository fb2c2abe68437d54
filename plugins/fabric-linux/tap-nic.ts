import type { LinkStatistics, NicPlaces } from '../../src/core/contract/fabric.js';
import type { HookPlace } from '../../src/core/contract/hook-place.js';
import type { ControlChannel, ControlServer } from '../../src/core/contract/transport.js';
import type { HostTap } from './host-tap.js';
import type { TapGuest } from './tap-guest.js';

/** A guest nic that this process plays on its tap. */
export class TapNic implements NicPlaces {
  readonly control: ControlServer;
  readonly offload: HookPlace;

  constructor(
    readonly guest: string,
    readonly nic: string,
    readonly channel: ControlChannel,
    readonly tap: HostTap,
    readonly driver: TapGuest,
  ) {
    this.control = channel.server;
    this.offload = tap.offload;
  }

  onBroken(handler: (reason: string) => void): void {
    this.channel.onBroken(handler);
  }

  /** Of virtqueues for frames there are none here: notifications are those of the control channel. */
  async statistics(): Promise<LinkStatistics> {
    const { framesToGuest, framesFromGuest } = this.driver;
    const { kicks, interrupts, suppressedNotifications, violations } = this.channel.statistics;
    return { framesToGuest, framesFromGuest, kicks, interrupts, suppressedNotifications, violations };
  }
}
