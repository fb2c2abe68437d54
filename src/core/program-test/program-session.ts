import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_MAP_TYPE, type MapInitialEntry } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import { BPF_F_BROADCAST } from '../../bpf/runtime/helpers/redirect-helpers.js';
import { MAX_FRAGS_FRAME_LENGTH } from '../../bpf/runtime/xdp-frame.js';
import { xdpActionName, type XdpActionName } from '../../bpf/xdp.js';
import type { FrameMetadata, FrameSlots, ProgramFault } from '../contract/executor.js';
import type { Party } from '../contract/party.js';
import {
  loadObjectProgram,
  type LoadedObjectProgram,
  type ProgramRejection,
} from '../offload/load-program.js';
import { dumpMap, type MapDump } from './map-input.js';

/** Where a packet was redirected to, as far as the program's maps tell. */
export interface PacketRedirect {
  /** Of bpf_redirect, or of the device in the map's entry, if there is one. */
  readonly ifindex?: number;
  /** Of bpf_redirect_map. */
  readonly map?: string;
  readonly key?: number;
  /** CPUMAP: the CPU, which is the key. */
  readonly cpu?: number;
  /** To every device of the map instead of one. */
  readonly broadcast?: true;
}

/** What one packet came to. */
export interface PacketOutcome {
  readonly verdict: XdpActionName;
  /** R0's lower 32 bits. */
  readonly returned: number;
  readonly packet: Uint8Array;
  /** Metadata in front of the packet (bpf_xdp_adjust_meta). */
  readonly metadata: Uint8Array;
  /** With XDP_REDIRECT: where to. */
  readonly redirect?: PacketRedirect | undefined;
  readonly fault?: ProgramFault | undefined;
}

/** A program that is loaded in a party and is given packets one by one: the engine without a testbed. */
export class ProgramSession {
  readonly frames: FrameSlots;

  private constructor(
    readonly object: ObjectSpec,
    readonly loaded: LoadedObjectProgram,
    readonly traces: string[],
    readonly clock: { now: bigint },
  ) {
    this.frames = loaded.loaded.openFrames(1, MAX_FRAGS_FRAME_LENGTH);
  }

  /** Verifies and loads; a rejection is a value. */
  static async open(
    party: Party,
    object: ObjectSpec,
    spec: ProgramSpec,
    initial?: ReadonlyMap<string, readonly MapInitialEntry[]>,
  ): Promise<ProgramSession | ProgramRejection> {
    const traces: string[] = [];
    const clock = { now: 0n };
    const world = { trace: (text: string) => void traces.push(text), now: () => clock.now };
    const loaded = await loadObjectProgram(party, object, spec, { world, initial });
    return loaded.accepted ? new ProgramSession(object, loaded, traces, clock) : loaded;
  }

  run(packet: Uint8Array, metadata: FrameMetadata = {}, now = 0n): PacketOutcome {
    this.frames.load(0, packet, metadata);
    this.clock.now = now;
    const { verdict, fault } = this.loaded.loaded.run(this.frames, 0);
    const action = xdpActionName(verdict);
    return {
      verdict: action,
      returned: verdict,
      packet: this.frames.packet(0),
      metadata: this.frames.metadata(0),
      redirect: action === 'XDP_REDIRECT' ? this.#redirect() : undefined,
      fault,
    };
  }

  /** Content of every map that the program uses. */
  dumpMaps(): MapDump[] {
    return [...this.loaded.maps].flatMap(([name, map]) => {
      const spec = this.object.maps.find((candidate) => candidate.name === name);
      return spec === undefined ? [] : [dumpMap(spec, map)];
    });
  }

  close(): void {
    this.loaded.close();
    this.frames.close();
  }

  #redirect(): PacketRedirect | undefined {
    const redirect = this.frames.redirect(0);
    switch (redirect.kind) {
      case 'ifindex':
        return { ifindex: redirect.ifindex };
      case 'map':
        return redirectThrough(redirect.map, redirect.index, redirect.flags);
      case 'none':
        return undefined;
    }
  }
}

function redirectThrough(map: BpfMap | undefined, index: number, flags: number): PacketRedirect {
  const place = { map: map?.name ?? '?', key: index };
  switch (map?.attributes.type) {
    case BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH: {
      if ((flags & BPF_F_BROADCAST) !== 0) return { map: place.map, broadcast: true };
      const key = new Uint8Array(map.attributes.keySize);
      new DataView(key.buffer).setUint32(0, index, true);
      const entry = map.lookup(key);
      if (typeof entry === 'number') return place;
      return { ...place, ifindex: new DataView(entry.buffer, entry.byteOffset).getUint32(0, true) };
    }
    case BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP:
      return { ...place, cpu: index };
    default:
      return place;
  }
}

/** `ifindex 4`, `tx_port[1] (ifindex 4)`, `cpus[2] (CPU 2)`, `every device of tx_port`. */
export function describeRedirect({ ifindex, map, key, cpu, broadcast }: PacketRedirect): string {
  if (map === undefined) return `ifindex ${ifindex}`;
  if (broadcast === true) return `every device of ${map}`;
  const target = ifindex !== undefined ? ` (ifindex ${ifindex})` : cpu !== undefined ? ` (CPU ${cpu})` : '';
  return `${map}[${key}]${target}`;
}

/** Byte ranges in which two packets differ, as `offset..end` (end exclusive); the longer one's tail counts. */
export function changedRanges(
  before: Uint8Array,
  after: Uint8Array,
): { readonly start: number; readonly end: number }[] {
  const ranges: { start: number; end: number }[] = [];
  const length = Math.max(before.length, after.length);
  for (let i = 0; i < length; i++) {
    if (before[i] === after[i]) continue;
    const last = ranges.at(-1);
    if (last?.end === i) last.end++;
    else ranges.push({ start: i, end: i + 1 });
  }
  return ranges;
}
