import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { errnoName } from '../../src/bpf/errno.js';
import type { HookPoint, HostNicPlan } from '../../src/core/contract/plan.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  countVerdicts,
  mapInfo,
  mapLookup,
  mapNextKey,
  redirectByTailCall,
  type KernelLoadedProgram,
  type KernelMapFds,
  type NetworkNamespace,
  type VerdictCounters,
} from '../../src/linux/index.js';
import { added, requireRewritten } from './handles.js';
import { KernelPlace, type Variant, type Way } from './kernel-place.js';
import { HookMap, LinkLanding, type MapElement } from './landing.js';

/** Hooks that a frame comes to from the NIC's program, by a tail call in place of its redirect. */
const FROM_NIC: ReadonlySet<HookPoint> = new Set(['tail-call', 'devmap', 'cpumap', 'veth-shim']);

const DEVICE_MAPS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH,
]);
/** Of more, the comparisons would cost as much as what they save. */
const MAX_LIKELY_KEYS = 4;

/**
 * A NIC of the host, with the place of its native XDP program. Where the program redirects a frame into a device map,
 * the programs that guests offload can step in: under the key of their tap.
 */
export class HostNic {
  readonly place: KernelPlace;
  readonly node: string;
  #slots: { readonly programs: HookMap; readonly deviceMap: number } | undefined;
  /** Why no offloaded program can step in. */
  #refusal = 'the NIC has no program that redirects to the tap';

  constructor(
    readonly plan: HostNicPlan,
    readonly hook: HookPoint,
    namespace: NetworkNamespace,
  ) {
    this.node = `host.${plan.name}`;
    const way: Way = {
      variant: (program, counters) => this.#variant(program, counters),
      landing: new LinkLanding(this.node, namespace, { hook: 'xdp', ifindex: plan.ifindex }),
    };
    this.place = new KernelPlace(this.node, [way]);
  }

  /** Where a program goes that is to be met in place of a redirect to the tap. Throws where there is no such place. */
  slots(tap: string, ifindex: number): MapElement[] {
    const slots = this.#slots;
    const keys = slots === undefined ? [] : keysOf(slots.deviceMap, ifindex);
    if (slots === undefined || keys.length === 0) {
      const reason = slots === undefined ? this.#refusal : `its map has no entry for ${tap}`;
      throw new XdpbedError('host-unsupported', `hook ${this.hook} of ${tap} needs ${this.node}: ${reason}`);
    }
    return keys.map((key) => slots.programs.programAt(key));
  }

  close(): void {
    this.place.close();
    this.#slots?.programs.close();
  }

  #variant(loaded: KernelLoadedProgram, counters: VerdictCounters): Variant {
    const { program, mapFds, facts } = loaded;
    const { fds, handle } = added(mapFds, { counters: counters.fd });
    // There is no map of programs yet.
    const { programs } = added(fds, { programs: 0 }).handle;
    const redirecting = FROM_NIC.has(this.hook)
      ? redirectByTailCall(program, {
          programs,
          maps: new Map([...fds].map(([number, fd]) => [number, { type: typeOf(fd) }])),
          likelyKeys: deviceKeys(mapFds),
          counters: handle.counters,
          facts,
        })
      : undefined;
    if (redirecting?.ok !== true) {
      if (redirecting !== undefined) this.#refusal = redirecting.reason;
      const counting = countVerdicts(program, { counters: handle.counters, facts });
      return { program: requireRewritten(loaded, counting).program, maps: fds };
    }
    const deviceMap = fds.get(redirecting.deviceMap)!;
    this.#slots?.programs.close();
    this.#slots = { programs: HookMap.programs('in_front', entriesOf(deviceMap)), deviceMap };
    return {
      program: redirecting.program,
      maps: new Map([...fds, [programs, this.#slots.programs.fd]]),
    };
  }
}

/** The first keys of the device maps among these. */
function deviceKeys(mapFds: KernelMapFds): number[] {
  const devices = [...mapFds.values()].filter((fd) => DEVICE_MAPS.has(typeOf(fd)));
  return devices.flatMap((fd) => keysOf(fd)).slice(0, MAX_LIKELY_KEYS);
}

/** Keys of a device map whose entry is this device, or any. */
function keysOf(fd: number, ifindex?: number): number[] {
  const found: number[] = [];
  let key = mapNextKey(fd, null, 4);
  for (let step = 0; typeof key !== 'number' && step < entriesOf(fd); step++) {
    const value = mapLookup(fd, key, valueSizeOf(fd));
    const device = typeof value === 'number' ? 0 : firstWord(value);
    if (device !== 0 && (ifindex === undefined || device === ifindex)) found.push(firstWord(key));
    key = mapNextKey(fd, key, 4);
  }
  return found;
}

function infoOf(fd: number): Exclude<ReturnType<typeof mapInfo>, number> {
  const info = mapInfo(fd);
  if (typeof info === 'number')
    throw new XdpbedError('plugin-failed', `a map tells nothing of itself: ${errnoName(info)}`);
  return info;
}

const typeOf = (fd: number): number => infoOf(fd).type;
const entriesOf = (fd: number): number => infoOf(fd).maxEntries;
const valueSizeOf = (fd: number): number => infoOf(fd).valueSize;

function firstWord(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
}
