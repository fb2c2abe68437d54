import type { LinkStatistics, LocalDriver, NicPlaces } from '../../src/core/contract/fabric.js';
import type { HookPlace } from '../../src/core/contract/hook-place.js';
import type { ControlChannel, ControlClient, ControlServer } from '../../src/core/contract/transport.js';
import type { NetLink } from '../../src/virtio/index.js';
import type { Frame } from './frame-accounting.js';
import type { GuestNic } from './guest-nic.js';
import type { VirtualCpu } from './virtual-cpu.js';

/** A guest nic as the core sees it: its driver is in this process. */
export class ModelNic implements NicPlaces {
  readonly control: ControlServer;
  /** What the core's driver works with. */
  readonly driver: LocalDriver;

  constructor(
    readonly guest: string,
    readonly nic: string,
    readonly link: NetLink<Frame>,
    readonly channel: ControlChannel,
    client: ControlClient,
    readonly offload: HookPlace,
    readonly guestNic: GuestNic,
    /** The guest's virtual CPUs; the NAPI poll of a queue is on that of its number. */
    readonly cpus: readonly VirtualCpu[],
  ) {
    this.control = channel.server;
    this.driver = {
      kind: 'local',
      control: client,
      hook: guestNic.hook,
      ring: channel.ring,
      up: async () => guestNic.open(),
      reset: async () => {
        link.reset();
        channel.reset();
        guestNic.open();
      },
    };
  }

  onBroken(handler: (reason: string) => void): void {
    // Breaks with the channel, and the channel with it.
    this.link.status.onBroken(handler);
  }

  async statistics(): Promise<LinkStatistics> {
    const { link, channel } = this;
    const { framesToGuest, framesFromGuest, kicks, interrupts, suppressedNotifications } = link.statistics;
    const control = channel.statistics;
    return {
      framesToGuest,
      framesFromGuest,
      kicks: kicks + control.kicks,
      interrupts: interrupts + control.interrupts,
      suppressedNotifications: suppressedNotifications + control.suppressedNotifications,
      violations: link.status.violations + control.violations,
    };
  }
}
