import {
  EventLoopTurns,
  inject,
  injectable,
  RUN_SIGNAL,
  TRANSPORT,
  VIRTUAL_CLOCK,
  XdpbedError,
  type Deployment,
  type Fabric,
  type HostNicPlan,
  type HostPlace,
  type RunPlan,
  type SteeredClock,
  type Transport,
  type WorkloadFrame,
} from 'xdpbed';
import { MAX_FRAME_LENGTH } from 'xdpbed/bpf';
import { formatMac, isGroupMac } from 'xdpbed/packet';
import { FrameLedger } from './frame-ledger.js';
import { GuestNic } from './guest-nic.js';
import { Hook } from './hook.js';

/**
 * Fabric `vepa`: guests behind the host's NICs as behind a virtual Ethernet port aggregator (IEEE 802.1Qbg; macvtap's
 * mode `vepa`). What comes in on the wire goes to the nic that has the address, each nic and the host's stack for a
 * group, the host's stack for any other; what a guest sends goes out on the wire, also what is for its neighbour. A
 * bridge of the plan says which NIC a guest's nic is behind; behind none it is reached by XDP_REDIRECT only, and what
 * it sends comes to the host's stack.
 *
 * Every frame is carried to its end at the time at which it was sent: there are no queues, and so none that overflow.
 * Every frame is on receive queue 0. Not to be had: programs in a tap's Rx path, bridges in bridges.
 */
@injectable()
export class VepaFabric implements Fabric {
  readonly name = 'vepa';

  constructor(
    @inject(VIRTUAL_CLOCK) readonly clock: SteeredClock,
    @inject(TRANSPORT) readonly transport: Transport,
    @inject(RUN_SIGNAL) readonly signal: AbortSignal,
  ) {}

  /** Throws `host-unsupported` for a plan with something in it that this fabric does not have. */
  async deploy(plan: RunPlan): Promise<Deployment> {
    const { nics, taps, bridges } = plan.host;
    if (nics.length === 0) throw unsupported('a host without a NIC');
    const withRxProgram = taps.find((tap) => tap.rxProgram !== undefined);
    if (withRxProgram !== undefined) throw unsupported(`a program in the Rx path of ${withRxProgram.name}`);
    const inner = bridges.find(({ name }) => bridges.some(({ ports }) => ports.includes(name)));
    if (inner !== undefined) throw unsupported(`${inner.name}, a bridge in a bridge`);

    const guestNics: GuestNic[] = [];
    const deployment = new VepaDeployment(nics, guestNics, this.clock, new EventLoopTurns(this.signal));
    try {
      for (const guest of plan.guests) {
        for (const nic of guest.nics) {
          const tap = taps.find(({ name }) => name === nic.tap)!;
          const bridge = bridges.find(({ ports }) => ports.includes(tap.name));
          const uplink = nics.find(({ name }) => bridge?.ports.includes(name))?.name;
          const host = { name: tap.name, ifindex: tap.ifindex, uplink };
          guestNics.push(await GuestNic.open(guest.name, nic, host, this.transport));
        }
      }
      return deployment;
    } catch (error) {
      await deployment.down().catch((failure: unknown) => {
        throw new AggregateError([error, failure], 'deploying failed, and what was there did not come down');
      });
      throw error;
    }
  }
}

function unsupported(what: string): XdpbedError {
  return new XdpbedError('host-unsupported', `fabric vepa does not have ${what}`);
}

/** Where a frame goes from a hook. */
interface Onward {
  /** Where it is said to end when it ends here. */
  readonly place: string;
  pass(bytes: Uint8Array): void;
  transmit(bytes: Uint8Array): void;
  /** False when nobody has that ifindex. */
  redirect(bytes: Uint8Array, target: number | undefined): boolean;
}

/** Frames between two turns of the event loop at least: asking for the time costs, too. */
const BURST = 64;

class VepaDeployment implements Deployment {
  readonly hostPlaces: readonly (HostPlace & { readonly place: Hook })[];
  readonly #ledger = new FrameLedger();

  constructor(
    readonly hostNics: readonly HostNicPlan[],
    readonly nics: readonly GuestNic[],
    readonly clock: SteeredClock,
    readonly turns: EventLoopTurns,
  ) {
    this.hostPlaces = hostNics.map(({ name, ifindex }) => ({
      site: 'host-nic',
      interface: name,
      place: new Hook(ifindex),
    }));
  }

  async traffic(frames: Iterable<WorkloadFrame>) {
    const { interface: entry, place: hook } = this.hostPlaces[0]!;
    const onward = this.#fromWire(entry);
    for (const { bytes, at } of frames) {
      this.clock.runUntil(at);
      this.#ledger.sent++;
      this.#meet(hook, bytes, onward);
      const turn = this.#ledger.sent % BURST === 0 ? this.turns.next() : undefined;
      if (turn !== undefined) await turn;
    }
    this.clock.runUntilIdle();
    return this.#ledger.report();
  }

  async down(): Promise<void> {
    for (const { place } of this.hostPlaces) place.close();
    const closings = await Promise.allSettled(this.nics.map((nic) => nic.close()));
    const failures = closings.flatMap((closing) => (closing.status === 'rejected' ? [closing.reason] : []));
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('; '));
  }

  #meet(hook: Hook, bytes: Uint8Array, onward: Onward): void {
    // From the wire, or grown by a program on the way.
    if (bytes.length > MAX_FRAME_LENGTH) return this.#ledger.end(onward.place, 'frame-too-long');
    const { action, bytes: left, target } = hook.run(bytes);
    switch (action) {
      case 'XDP_PASS':
        return onward.pass(left);
      case 'XDP_TX':
        return onward.transmit(left);
      case 'XDP_REDIRECT':
        if (!onward.redirect(left, target)) this.#ledger.end(onward.place, 'redirect-failed');
        return;
      case 'XDP_DROP':
        return this.#ledger.end(onward.place, 'xdp-drop');
      case 'XDP_ABORTED':
        return this.#ledger.end(onward.place, 'xdp-aborted');
    }
  }

  #fromWire(entry: string): Onward {
    const place = `host.${entry}`;
    return {
      place,
      pass: (bytes) => this.#distribute(entry, bytes),
      transmit: () => this.#ledger.end(place, 'transmitted'),
      redirect: (bytes, target) => {
        const nic = this.nics.find(({ host }) => host.ifindex === target);
        const out = this.hostNics.find(({ ifindex }) => ifindex === target);
        if (nic !== undefined) this.#toNic(nic, bytes);
        else if (out !== undefined) this.#ledger.end(`host.${out.name}`, 'transmitted');
        else return false;
        return true;
      },
    };
  }

  /** By destination address, as macvlan_handle_frame does (drivers/net/macvlan.c). */
  #distribute(entry: string, bytes: Uint8Array): void {
    const behind = this.nics.filter(({ host }) => host.uplink === entry);
    if (isGroupMac(bytes)) {
      for (const nic of behind) {
        this.#ledger.copied++;
        this.#toNic(nic, bytes);
      }
      return this.#ledger.end(`host.${entry}`, 'host-stack');
    }
    const destination = formatMac(bytes.subarray(0, 6));
    const nic = behind.find(({ mac }) => mac === destination);
    if (nic === undefined) this.#ledger.end(`host.${entry}`, 'host-stack');
    else this.#toNic(nic, bytes);
  }

  #toNic(nic: GuestNic, bytes: Uint8Array): void {
    this.#meet(nic.offload, bytes, {
      place: `host.${nic.host.name}`,
      pass: (passed) => this.#toGuest(nic, passed),
      transmit: () => this.#fromNic(nic),
      // The guest's program speaks of the guest's interfaces, which mean nothing in the host.
      redirect: () => false,
    });
  }

  #toGuest(nic: GuestNic, bytes: Uint8Array): void {
    if (nic.isBroken) return this.#ledger.end(`host.${nic.host.name}`, 'link-broken');
    if (!nic.isUp) return this.#ledger.end(`host.${nic.host.name}`, 'no-receive-buffer');
    const place = `${nic.guest}.${nic.nic}`;
    nic.framesToGuest++;
    this.#meet(nic.hook, bytes, {
      place,
      pass: () => this.#ledger.end(place, 'guest-stack'),
      transmit: () => this.#send(nic),
      redirect: (_, target) => {
        const sibling = this.nics.find(({ guest, plan }) => guest === nic.guest && plan.ifindex === target);
        if (sibling !== undefined) this.#send(sibling);
        return sibling !== undefined;
      },
    });
  }

  /** The guest's driver sends a frame. */
  #send(nic: GuestNic): void {
    if (nic.isBroken) return this.#ledger.end(`host.${nic.host.name}`, 'link-broken');
    nic.framesFromGuest++;
    this.#fromNic(nic);
  }

  #fromNic({ host }: GuestNic): void {
    if (host.uplink === undefined) this.#ledger.end(`host.${host.name}`, 'host-stack');
    else this.#ledger.end(`host.${host.uplink}`, 'transmitted');
  }
}
