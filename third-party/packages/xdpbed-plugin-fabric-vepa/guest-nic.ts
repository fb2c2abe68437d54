import {
  negotiatedFeatures,
  type ControlChannel,
  type ControlClient,
  type ControlServer,
  type GuestNicPlan,
  type LinkStatistics,
  type LocalDriver,
  type NicPlaces,
  type Transport,
} from 'xdpbed';
import { formatMac, parseMac } from 'xdpbed/packet';
import { Hook } from './hook.js';

/** Where a nic's tap is in the plan: this fabric has none, but that is what the host's side goes by. */
export interface HostSide {
  readonly name: string;
  readonly ifindex: number;
  /** Name of the NIC on the same bridge; undefined when there is none. */
  readonly uplink: string | undefined;
}

/** A guest's nic: two hooks one behind the other, a control channel beside them, and no virtqueues for frames. */
export class GuestNic implements NicPlaces {
  readonly mac: string;
  readonly control: ControlServer;
  readonly offload: Hook;
  readonly hook: Hook;
  readonly driver: LocalDriver;
  /** Counted by the fabric, which carries the frames. */
  framesToGuest = 0;
  framesFromGuest = 0;
  #up = false;
  #broken = false;
  #closing: Promise<void> | undefined;

  private constructor(
    readonly guest: string,
    readonly plan: GuestNicPlan,
    readonly host: HostSide,
    readonly channel: ControlChannel,
    client: ControlClient,
  ) {
    this.mac = formatMac(parseMac(plan.mac));
    this.control = channel.server;
    // The guest's program meets its frames as the guest's interface has them, in the host too.
    this.offload = new Hook(plan.ifindex);
    this.hook = new Hook(plan.ifindex);
    this.driver = {
      kind: 'local',
      control: client,
      hook: this.hook,
      up: async () => {
        this.#up = true;
      },
    };
    channel.onBroken(() => {
      this.#broken = true;
    });
  }

  /** Leaves nothing behind when it throws. */
  static async open(
    guest: string,
    plan: GuestNicPlan,
    host: HostSide,
    transport: Transport,
  ): Promise<GuestNic> {
    const label = `${guest}.${plan.name}`;
    const channel = await transport.open({ label, features: negotiatedFeatures(plan) });
    try {
      return new GuestNic(guest, plan, host, channel, await channel.connect());
    } catch (error) {
      await channel.close();
      throw error;
    }
  }

  get nic(): string {
    return this.plan.name;
  }

  get isUp(): boolean {
    return this.#up;
  }

  get isBroken(): boolean {
    return this.#broken;
  }

  onBroken(handler: (reason: string) => void): void {
    // All that a guest can break here is the channel.
    this.channel.onBroken(handler);
  }

  async statistics(): Promise<LinkStatistics> {
    const { kicks, interrupts, suppressedNotifications, violations } = this.channel.statistics;
    const { framesToGuest, framesFromGuest } = this;
    return { framesToGuest, framesFromGuest, kicks, interrupts, suppressedNotifications, violations };
  }

  /** Once, however often it is called. */
  close(): Promise<void> {
    this.offload.close();
    this.hook.close();
    this.#closing ??= this.channel.close();
    return this.#closing;
  }
}
