import type { Program } from '../../src/bpf/program.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  closeFd,
  earlyEntry,
  FdbWatch,
  intoReceivePath,
  loadKernelProgram,
  markSecret,
  routeVerdicts,
  sentBackEarly,
  unlessMarked,
  type FrameMark,
  type KernelMapFds,
  type NetworkNamespace,
  VerdictCounters,
} from '../../src/linux/index.js';
import type { VerdictCounts } from '../../src/core/contract/result.js';
import { requireNoFilters } from './bridge-filters.js';
import { EarlyAddresses, type EarlyPortSlot } from './early-addresses.js';
import { requireRewritten } from './handles.js';
import { ElementLanding, HookMap, LinkLanding, type Landing, type MapElement } from './landing.js';

/** Addresses that are kept of those behind a tap, and behind a NIC. The others' frames go through the bridge. */
const BEHIND_TAP = 64;
const BEHIND_NIC = 4096;
/** Entries that are read of a bridge at most, of all bridges of the namespace. */
const MAX_DUMP = 16_384;
/** Milliseconds from one look at what has changed to the next. */
const FOLLOW_MS = 2;
/** Messages that are read in one look. */
const FOLLOW_BUDGET = 256;
/** Milliseconds that a bridge is left alone after changes of it were lost. */
const LOST_MS = 100;

export interface EarlyBridgeOptions {
  readonly name: string;
  readonly ifindex: number;
  readonly nics: readonly { readonly name: string; readonly ifindex: number }[];
  readonly taps: readonly { readonly name: string; readonly ifindex: number }[];
  readonly namespace: NetworkNamespace;
}

/**
 * The host's part of hook `bridge-early`: on each NIC that is a port of the bridge a program that knows what the bridge
 * knows, and calls the guest's program before the frame is an skb. It is there while some guest's program is.
 */
export class EarlyBridge {
  readonly name: string;
  readonly namespace: NetworkNamespace;
  readonly addresses: EarlyAddresses;
  readonly ports = new Map<string, EarlyPort>();
  readonly backSecret = markSecret();
  readonly #programs: HookMap;
  readonly #entries: LinkLanding[] = [];
  readonly #returns: LinkLanding[] = [];
  readonly #owned: { close(): void }[] = [];
  readonly #entry: OwnProgram;
  readonly #return: OwnProgram;
  #users = 0;
  #watch: FdbWatch | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When the bridge is to be asked again for all that it knows, after changes were lost. */
  #askAt: number | undefined;

  constructor(options: EarlyBridgeOptions) {
    this.name = options.name;
    const { namespace, taps, nics } = options;
    this.namespace = namespace;
    try {
      const slots: EarlyPortSlot[] = [
        ...taps.map(({ ifindex }, slot) => ({ ifindex, slot, limit: BEHIND_TAP })),
        ...nics.map(({ ifindex }, index) => ({ ifindex, slot: taps.length + index, limit: BEHIND_NIC })),
      ];
      this.addresses = this.#own(new EarlyAddresses(options.ifindex, slots));
      this.#programs = this.#own(HookMap.programs('early', Math.max(1, slots.length)));
      this.#entry = this.#own(
        new OwnProgram(
          earlyEntry({ addresses: 1, programs: 2 }),
          new Map([
            [1, this.addresses.map.fd],
            [2, this.#programs.fd],
          ]),
        ),
      );
      this.#return = this.#own(new OwnProgram(intoReceivePath(this.backSecret), new Map()));
      for (const { name, ifindex } of nics) {
        this.#entries.push(new LinkLanding(`host.${name}`, namespace, { hook: 'xdp', ifindex }));
        this.#returns.push(new LinkLanding(`host.${name}`, namespace, { hook: 'tcx-ingress', ifindex }));
      }
      for (const [slot, tap] of taps.entries()) {
        this.ports.set(tap.name, this.#own(new EarlyPort(this, tap, this.#programs.programAt(slot))));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Throws `host-unsupported` with the reason where frames that go past the bridge would get past what it filters. */
  ready(): Promise<void> {
    return requireNoFilters(this.name, this.namespace);
  }

  /** One more program of a guest is there to be met. */
  enter(): void {
    if (this.#users === 0) this.#begin();
    this.#users++;
  }

  leave(): void {
    if (this.#users === 0 || --this.#users > 0) return;
    this.#end();
  }

  /** Takes over what has changed in the bridge. It happens by itself every few milliseconds, too. */
  follow(): void {
    const watch = this.#watch;
    if (watch === undefined) return;
    for (let read = 0; read < FOLLOW_BUDGET; read++) {
      const changes = watch.next();
      if (changes === 'none') {
        if (this.#askAt !== undefined && performance.now() >= this.#askAt) this.#ask(watch);
        return;
      }
      if (changes === 'lost') {
        // What was lost may be that an address is there no more. Without an entry frames go through the bridge.
        this.addresses.clear();
        this.#askAt = performance.now() + LOST_MS;
      } else if (this.#askAt === undefined) changes.forEach((change) => this.addresses.apply(change));
    }
  }

  close(): void {
    this.#end();
    for (const link of this.#returns) link.take();
    for (const owned of this.#owned.splice(0).reverse()) owned.close();
  }

  #own<T extends { close(): void }>(resource: T): T {
    this.#owned.push(resource);
    return resource;
  }

  #begin(): void {
    try {
      const watch = FdbWatch.open(this.namespace);
      this.#watch = watch;
      this.#ask(watch);
      this.#timer = setInterval(() => this.#followOrGiveUp(), FOLLOW_MS);
      this.#timer.unref();
      for (const link of this.#returns) link.put(this.#return.fd);
      for (const link of this.#entries) link.put(this.#entry.fd);
    } catch (error) {
      this.#end();
      for (const link of this.#returns) link.take();
      throw error;
    }
  }

  /** What takes marked frames into a tap's receive path stays to the last, for those that are on their way. */
  #end(): void {
    for (const link of this.#entries) link.take();
    clearInterval(this.#timer);
    this.#watch?.close();
    this.#watch = undefined;
    this.#users = 0;
    this.#askAt = undefined;
    this.addresses?.clear();
  }

  /** Whoever has read all changes up to now may ask: what comes later is newer than the answer, or is in it. */
  #ask(watch: FdbWatch): void {
    this.#askAt = undefined;
    for (const entry of watch.dump(MAX_DUMP)) this.addresses.apply(entry);
  }

  #followOrGiveUp(): void {
    try {
      this.follow();
    } catch {
      // Nobody can be told in a timer. Without addresses all frames go through the bridge, and meet the program there.
      this.addresses.clear();
      clearInterval(this.#timer);
      this.#watch?.close();
      this.#watch = undefined;
    }
  }
}

/** What hook `bridge-early` has for one tap of the bridge. */
export class EarlyPort {
  /** In front of frames that the tap's program has passed on the NIC. */
  readonly passed: FrameMark;
  /** The host's program that goes on with what the guest's sends back. */
  readonly sentBack: OwnProgram;
  /** Where the guest's program lands on the NIC, and where on the tap's egress. */
  readonly onNic: Landing;
  readonly onEgress: Landing;
  readonly #sentBackCounters = new VerdictCounters();
  readonly #passedCounters = new VerdictCounters();
  readonly #owned: { close(): void }[] = [this.#sentBackCounters, this.#passedCounters];

  constructor(
    readonly bridge: EarlyBridge,
    tap: { readonly name: string; readonly ifindex: number },
    slot: MapElement,
  ) {
    const { ifindex, name } = tap;
    const node = `host.${name}`;
    try {
      this.passed = { secret: markSecret(), ifindex };
      const routed = requireRewritten(
        { name: 'sent_back_early' },
        routeVerdicts(
          sentBackEarly({ addresses: 1 }),
          { XDP_PASS: { action: 'mark', mark: { secret: bridge.backSecret, ifindex } } },
          { counters: 2 },
        ),
      );
      this.sentBack = this.#own(
        new OwnProgram(
          routed.program,
          new Map([
            [1, bridge.addresses.map.fd],
            [2, this.#sentBackCounters.fd],
          ]),
        ),
      );
      const programs = this.#own(HookMap.programs('egress', 1));
      const unmarked = this.#own(
        new OwnProgram(
          unlessMarked(this.passed, { programs: 1, counters: 2 }),
          new Map([
            [1, programs.fd],
            [2, this.#passedCounters.fd],
          ]),
        ),
      );
      this.onNic = inUse(new ElementLanding(node, () => [slot]), bridge);
      const link = new LinkLanding(node, bridge.namespace, { hook: 'tcx-egress', ifindex });
      const element = new ElementLanding(node, () => [programs.programAt(0)]);
      this.onEgress = {
        put: (programFd) => {
          element.put(programFd);
          try {
            link.put(unmarked.fd);
          } catch (error) {
            element.take();
            throw error;
          }
        },
        replace: (programFd) => element.replace(programFd),
        take: () => {
          link.take();
          element.take();
        },
      };
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Frames that were sent back on the NIC: out of it again (XDP_TX), or into the tap's receive path (XDP_PASS). */
  get sentBackVerdicts(): VerdictCounts {
    return this.#sentBackCounters.read();
  }

  /** Frames that left by the tap and had met the program on the NIC. */
  get passedEarly(): number {
    return this.#passedCounters.read().XDP_PASS;
  }

  close(): void {
    for (const owned of this.#owned.splice(0).reverse()) owned.close();
  }

  #own<T extends { close(): void }>(resource: T): T {
    this.#owned.push(resource);
    return resource;
  }
}

/** A landing that the bridge's programs on its NICs are there for. */
function inUse(landing: Landing, bridge: EarlyBridge): Landing {
  let there = false;
  return {
    put: (programFd) => {
      landing.put(programFd);
      try {
        bridge.enter();
        there = true;
      } catch (error) {
        landing.take();
        throw error;
      }
    },
    replace: (programFd) => landing.replace(programFd),
    take: () => {
      if (there) bridge.leave();
      there = false;
      landing.take();
    },
  };
}

/** A program of the host's own. */
class OwnProgram {
  readonly fd: number;
  #open = true;

  constructor(program: Program, maps: KernelMapFds) {
    const verdict = loadKernelProgram(program, maps);
    if (!verdict.accepted) {
      throw new XdpbedError(
        'host-unsupported',
        `program ${program.name} of hook bridge-early is refused: ${verdict.log.trim()}`,
      );
    }
    this.fd = verdict.programFd;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
  }
}
