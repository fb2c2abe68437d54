import { assemble } from '../../src/bpf/assembler.js';
import type { XdpAttachType } from '../../src/bpf/program.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { HookPoint, TapPlan } from '../../src/core/contract/plan.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { parseMac } from '../../src/packet/mac-address.js';
import {
  clearLeftovers,
  closeFd,
  constantContext,
  CpuCounters,
  loadKernelProgram,
  possibleCpus,
  RedirectDrops,
  routeVerdicts,
  xdpToTcx,
  ZEROS_MAP,
  type KernelLoadedProgram,
  type NetworkNamespace,
  type TapDevice,
  type VerdictRoutes,
  type VerdictCounters,
} from '../../src/linux/index.js';
import { requireBounded } from './bounded-programs.js';
import { added, requireFacts, requireRewritten } from './handles.js';
import type { EarlyPort } from './early-bridge.js';
import type { HostNic } from './host-nic.js';
import { KernelPlace, type Variant, type Way } from './kernel-place.js';
import { ElementLanding, HookMap, LinkLanding, pair, type Landing, type MapElement } from './landing.js';

/** Frames that wait for another CPU at most. */
const CPUMAP_QUEUE = 2048;
/** Slots of the map of what becomes of frames that are sent back. */
const SENT_BACK = 0;
const NEVER = 1;
/** Of hook `bridge-early`: what goes on with them behind the program of the Rx path, or without one. */
const ON = 2;

export interface HostTapOptions {
  readonly plan: TapPlan;
  /** Its place among the plan's taps. */
  readonly index: number;
  readonly device: TapDevice;
  readonly hook: HookPoint;
  /** Number of the guest's nic in the guest: what its program sees as ingress interface. */
  readonly guestIfindex: number;
  /** Of the guest's nic: 02:00:… */
  readonly guestMac: string;
  /** Of the guest's nic, for messages. */
  readonly guestNode: string;
  readonly nics: readonly HostNic[];
  readonly namespace: NetworkNamespace;
  /** The pair in front of the tap, with hook `veth-shim`. */
  readonly shim: { readonly outer: number; readonly inner: number } | undefined;
  /** Of the bridge that the tap is a port of, with hook `bridge-early`. */
  readonly early: EarlyPort | undefined;
}

/**
 * A tap with its two places: the Rx path, which meets frames that the guest sends and those that an offloaded program
 * sends back, and what stands in front of the guest, where its offloaded program runs.
 */
export class HostTap {
  readonly node: string;
  readonly rx: KernelPlace;
  readonly offload: KernelPlace;
  /** The tap, as target of redirects. */
  readonly #devices: HookMap;
  /** The Rx path's program for frames that are sent back in another context than the tap's: native XDP. */
  readonly #sentBack: HookMap;
  /** What is read of the headroom in front of a packet. */
  readonly #zeros: HookMap;
  #drops: RedirectDrops | undefined;
  #cpuDrops: RedirectDrops | undefined;
  #longDrops: RedirectDrops | undefined;
  /** Frames that have met too many programs on the egress of taps. */
  #caught: CpuCounters | undefined;
  /** What an offloaded program had dropped when counting began. */
  #droppedBefore = 0;
  /** The way to another CPU, with hook `cpumap`. */
  #cpus: HookMap | undefined;
  readonly #owned: { close(): void }[] = [];

  constructor(readonly options: HostTapOptions) {
    const { plan, namespace } = options;
    this.node = `host.${plan.name}`;
    this.#devices = this.#own(HookMap.devices('to_tap', 1, namespace));
    this.#devices.set(0, pair(plan.ifindex, -1));
    this.#sentBack = this.#own(HookMap.programs('sent_back', 3));
    this.#zeros = this.#own(new HookMap({ name: 'zeros', ...ZEROS_MAP }));
    this.rx = new KernelPlace(this.node, [
      {
        variant: (program, counters) => this.#receiving(program, counters),
        landing: new LinkLanding(this.node, namespace, { hook: 'xdp', ifindex: plan.ifindex }),
      },
      {
        variant: (program, counters) => this.#receivingBack(program, counters),
        landing: new ElementLanding(this.node, () => [this.#sentBackElement()]),
      },
    ]);
    if (options.early !== undefined) {
      for (const slot of [SENT_BACK, ON]) this.#sentBack.programAt(slot).set(options.early.sentBack.fd);
    }
    this.offload = new KernelPlace(
      options.guestNode,
      options.hook === 'bridge-early' ? this.#waysOfBridge() : [this.#way()],
      requireBounded,
    );
  }

  /** From now on frames that get lost on their way to the tap are counted. */
  countDrops(): void {
    const { plan, namespace } = this.options;
    if (this.#drops !== undefined) return;
    this.#drops = this.#own(RedirectDrops.ofDevice(plan.ifindex, namespace));
    const { XDP_DROP = 0, XDP_ABORTED = 0 } = this.offload.verdicts ?? {};
    this.#droppedBefore = XDP_DROP + XDP_ABORTED;
    if (this.#cpus !== undefined) this.#cpuDrops = this.#own(RedirectDrops.ofCpuMap(this.#cpus.fd));
  }

  /** Redirected frames that the tap had no room for, since they are counted. */
  get ringFull(): number {
    const drops = this.#drops?.count ?? 0;
    // On the device map's entry the kernel does not tell the program's drops from the device's.
    if (this.options.hook !== 'devmap' || drops === 0) return drops;
    const { XDP_DROP = 0, XDP_ABORTED = 0 } = this.offload.verdicts ?? {};
    return drops - (XDP_DROP + XDP_ABORTED - this.#droppedBefore);
  }

  /** Frames that another CPU's queue had no room for, since they are counted. */
  get cpuQueueFull(): number {
    return this.#cpuDrops?.count ?? 0;
  }

  /** Frames that programs made longer than the tap takes by a redirect. */
  get tooLong(): number {
    return this.#longDrops?.count ?? 0;
  }

  /** Frames that ended here because they went round between guests' programs. */
  get caughtInLoop(): number {
    return this.#caught?.read()[0] ?? 0;
  }

  /** Hook `bridge-early` of the tap; undefined with another one. */
  get early(): EarlyPort | undefined {
    return this.options.early;
  }

  /**
   * What an offloaded program sends back from an skb enters the tap as one, which native XDP does not see: where the Rx
   * path has a program of the host's, a guest must not get past it so.
   */
  get dropsSentBackSkbs(): boolean {
    return this.options.plan.rxProgram !== undefined;
  }

  close(): void {
    this.offload.close();
    this.rx.close();
    for (const owned of this.#owned.splice(0).reverse()) owned.close();
  }

  #own<T extends { close(): void }>(resource: T): T {
    this.#owned.push(resource);
    return resource;
  }

  /** Native XDP of the tap itself. */
  #receiving({ program, mapFds, facts, name }: KernelLoadedProgram, counters: VerdictCounters): Variant {
    const { fds, handle } = added(mapFds, { counters: counters.fd });
    const routed = requireRewritten(
      { name },
      routeVerdicts(program, {}, { counters: handle.counters, facts }),
    );
    return { program: routed.program, maps: fds };
  }

  /**
   * The same program where an offloaded one calls it: what it sends back goes to the guest, and what it passes into the
   * host's stack from where the frame is.
   */
  #receivingBack(loaded: KernelLoadedProgram, counters: VerdictCounters): Variant {
    const { fds, handle } = added(loaded.mapFds, {
      counters: counters.fd,
      devices: this.#devices.fd,
      sentBack: this.#sentBack.fd,
    });
    const context = constantContext(
      loaded.program,
      { ingress_ifindex: this.options.plan.ifindex },
      requireFacts(loaded),
    );
    const routed = requireRewritten(
      loaded,
      routeVerdicts(
        context.program,
        {
          XDP_TX: { action: 'redirect-map', map: handle.devices, key: 0, flags: 0 },
          ...(this.early === undefined
            ? {}
            : {
                XDP_PASS: {
                  action: 'tail-call',
                  programs: handle.sentBack,
                  index: ON,
                  ifEmpty: 'XDP_DROP',
                },
              }),
        },
        { counters: handle.counters, facts: context.facts },
      ),
    );
    return { program: this.#as(routed.program, this.#attachType), maps: fds };
  }

  /** Without a program of the Rx path, what is sent back early goes on as with one that passes all. */
  #sentBackElement(): MapElement {
    const element = this.#sentBack.programAt(SENT_BACK);
    const { early } = this;
    return early === undefined ? element : { ...element, clear: () => element.set(early.sentBack.fd) };
  }

  /** What programs of the frame's path there are loaded for. */
  get #attachType(): XdpAttachType {
    return this.options.hook === 'cpumap' ? 'BPF_XDP_CPUMAP' : 'BPF_XDP';
  }

  #as(program: Program, attachType: XdpAttachType): Program {
    // What hook bridge-early calls from the NIC must be as its own program there, which is for frames of one buffer.
    return this.options.hook === 'bridge-early'
      ? { ...program, attachType, frags: undefined }
      : { ...program, attachType };
  }

  /** How frames for the guest come to its program. */
  #way(): Way {
    const { hook, plan, namespace, nics } = this.options;
    const inFront = new ElementLanding(this.node, () =>
      nics
        .filter((nic) => nic.plan.program !== undefined)
        .flatMap((nic) => nic.slots(plan.name, plan.ifindex)),
    );
    switch (hook) {
      case 'tail-call':
        return { variant: (program, counters) => this.#onTheWay(program, counters), landing: inFront };
      case 'devmap': {
        const entry = this.#devicesWithProgram();
        return {
          variant: (program, counters) => this.#onDeviceMap(program, counters),
          landing: this.#behindTrampoline(inFront, entry, 0, entry.programOn(0, plan.ifindex)),
        };
      }
      case 'cpumap': {
        const cpu = possibleCpus() - 1 - (this.options.index % possibleCpus());
        const cpus = this.#own(HookMap.cpus('other_cpu', possibleCpus()));
        this.#cpus = cpus;
        return {
          variant: (program, counters) => this.#onTheWay(program, counters),
          landing: this.#behindTrampoline(inFront, cpus, cpu, cpus.programOn(cpu, CPUMAP_QUEUE)),
        };
      }
      case 'veth-shim': {
        const { outer, inner } = this.options.shim!;
        const shims = this.#own(HookMap.devices('to_shim', 1, namespace));
        shims.set(0, pair(outer, -1));
        const link = new LinkLanding(this.node, namespace, { hook: 'xdp', ifindex: inner });
        return {
          variant: (program, counters) => this.#onTheWay(program, counters),
          landing: this.#behindTrampoline(inFront, shims, 0, link),
        };
      }
      case 'tcx-egress':
        return {
          variant: (program, counters) => this.#onEgress(program, counters),
          landing: new LinkLanding(this.node, namespace, { hook: 'tcx-egress', ifindex: plan.ifindex }),
        };
      default:
        throw new XdpbedError('host-unsupported', `fabric linux has no hook ${hook}`);
    }
  }

  #devicesWithProgram(): HookMap {
    return this.#own(HookMap.devices('tap_program', 1, this.options.namespace));
  }

  /** On the way to the tap, in the context of the NIC, of another CPU or of the pair in front of the tap. */
  #onTheWay(loaded: KernelLoadedProgram, counters: VerdictCounters): Variant {
    // What a program passes, or has sent back to the guest, is redirected when it may have grown.
    this.#longDrops ??= this.#own(RedirectDrops.tooLongFor(this.#devices.fd));
    const { fds, handle } = added(loaded.mapFds, {
      counters: counters.fd,
      zeros: this.#zeros.fd,
      devices: this.#devices.fd,
      sentBack: this.#sentBack.fd,
    });
    const routes: VerdictRoutes = {
      XDP_PASS: { action: 'redirect-map', map: handle.devices, key: 0, flags: 0 },
      XDP_TX: { action: 'tail-call', programs: handle.sentBack, index: SENT_BACK, ifEmpty: 'XDP_PASS' },
      // What a guest calls an interface means another one here, or one of somebody else: such a frame is dropped.
      XDP_REDIRECT: { action: 'tail-call', programs: handle.sentBack, index: NEVER, ifEmpty: 'XDP_DROP' },
    };
    return { program: this.#as(this.#guests(loaded, handle, routes), this.#attachType), maps: fds };
  }

  /** On the NIC, before there is an skb, and on the tap's egress for what did not meet it there. */
  #waysOfBridge(): Way[] {
    const { early, plan } = this.options;
    if (early === undefined) {
      const nowhere = (): never => {
        throw new XdpbedError('host-unsupported', `hook bridge-early: ${plan.name} is no port of a bridge`);
      };
      return [{ variant: nowhere, landing: { put: nowhere, replace: nowhere, take: () => undefined } }];
    }
    return [
      {
        variant: (program, counters) => this.#early(program, counters, early),
        landing: early.onNic,
        ready: () => early.bridge.ready(),
      },
      { variant: (program, counters) => this.#onEgress(program, counters), landing: early.onEgress },
    ];
  }

  /** On the NIC that the frame came by: what passes is marked, and does not meet the program again on the tap's egress. */
  #early(loaded: KernelLoadedProgram, counters: VerdictCounters, early: EarlyPort): Variant {
    const { fds, handle } = added(loaded.mapFds, {
      counters: counters.fd,
      zeros: this.#zeros.fd,
      sentBack: this.#sentBack.fd,
    });
    const routes: VerdictRoutes = {
      XDP_PASS: { action: 'mark', mark: early.passed },
      XDP_TX: { action: 'tail-call', programs: handle.sentBack, index: SENT_BACK, ifEmpty: 'XDP_DROP' },
      XDP_REDIRECT: { action: 'return', as: 'XDP_DROP' },
    };
    return { program: this.#as(this.#guests(loaded, handle, routes), 'BPF_XDP'), maps: fds };
  }

  /** On the device map's entry: the frame goes on to the tap, or is dropped. */
  #onDeviceMap(loaded: KernelLoadedProgram, counters: VerdictCounters): Variant {
    const verdicts = loaded.properties?.verdicts ?? ['XDP_TX', 'XDP_REDIRECT'];
    const lost = verdicts.filter((verdict) => verdict === 'XDP_TX' || verdict === 'XDP_REDIRECT');
    if (lost.length > 0) {
      throw new XdpbedError(
        'executor-unsupported',
        `program ${loaded.name} may return ${lost.join(' and ')}, which a device map's entry drops: hook devmap is for programs that drop or pass`,
      );
    }
    const { fds, handle } = added(loaded.mapFds, { counters: counters.fd, zeros: this.#zeros.fd });
    return { program: this.#as(this.#guests(loaded, handle, {}), 'BPF_XDP_DEVMAP'), maps: fds };
  }

  /** The guest's program but for what the host does with its verdicts, and what it must not see of the host. */
  #guests(loaded: KernelLoadedProgram, handle: GuestHandles, routes: VerdictRoutes): Program {
    const cleared = requireRewritten(
      loaded,
      clearLeftovers(loaded.program, { zeros: handle.zeros, facts: requireFacts(loaded) }),
    );
    const context = constantContext(
      cleared.program,
      { ingress_ifindex: this.options.guestIfindex },
      cleared.facts!,
    );
    const routed = requireRewritten(
      loaded,
      routeVerdicts(context.program, routes, { counters: handle.counters, facts: context.facts }),
    );
    if (routed.mayLeaveUncounted) {
      throw new XdpbedError(
        'executor-unsupported',
        `program ${loaded.name} makes tail calls: what they return can neither be counted nor sent on`,
      );
    }
    return routed.program;
  }

  /** On the skb as it leaves by the tap. */
  #onEgress(loaded: KernelLoadedProgram, counters: VerdictCounters): Variant {
    const { plan, hook } = this.options;
    if (this.dropsSentBackSkbs && hook === 'tcx-egress') {
      const verdicts = loaded.properties?.verdicts ?? ['XDP_TX'];
      if (verdicts.includes('XDP_TX')) {
        throw new XdpbedError(
          'executor-unsupported',
          `program ${loaded.name} may return XDP_TX, and what it sends back from an skb would get past ${plan.rxProgram}, the program of the Rx path of ${plan.name}`,
        );
      }
    }
    const caught = (this.#caught ??= this.#own(new CpuCounters('hop_limit', 1)));
    const { fds, handle } = added(loaded.mapFds, { counters: counters.fd, caught: caught.fd });
    const translated = requireRewritten(
      loaded,
      xdpToTcx(loaded.program, {
        counters: handle.counters,
        hops: { caught: handle.caught, address: parseMac(this.options.guestMac) },
        facts: requireFacts(loaded),
        context: { ingress_ifindex: this.options.guestIfindex },
        tx: this.dropsSentBackSkbs ? 'drop' : { ifindex: plan.ifindex, into: 'ingress' },
      }),
    );
    return { program: translated.program, maps: fds };
  }

  /**
   * Where frames meet the program on a map's entry or on another device: the NIC's program calls one that redirects
   * there.
   */
  #behindTrampoline(
    inFront: Landing,
    map: HookMap,
    key: number,
    place: Landing | { set(fd: number): void; clear(): void },
  ): Landing {
    const there: Landing = 'put' in place ? place : new ElementLanding(this.node, () => [place]);
    const trampoline = this.#own(new Trampoline(map, key));
    return {
      put: (programFd) => {
        there.put(programFd);
        try {
          inFront.put(trampoline.fd);
        } catch (error) {
          there.take();
          throw error;
        }
      },
      replace: (programFd) => there.replace(programFd),
      take: () => {
        inFront.take();
        there.take();
      },
    };
  }
}

/** The hook's own maps that every guest's program is given. */
interface GuestHandles {
  readonly counters: number;
  readonly zeros: number;
}

/** A program that only redirects, to one element of a map. */
class Trampoline {
  readonly fd: number;
  #open = true;

  constructor(map: HookMap, key: number) {
    const program: Program = {
      name: 'trampoline',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: assemble(`r1 = map[to]\nr2 = ${key}\nr3 = 0\ncall bpf_redirect_map\nexit`, {
        maps: new Map([['to', 1]]),
      }),
    };
    const verdict = loadKernelProgram(program, new Map([[1, map.fd]]));
    if (!verdict.accepted)
      throw new XdpbedError('host-unsupported', `a redirecting program is refused: ${verdict.log}`);
    this.fd = verdict.programFd;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
  }
}
