import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { MapInitialEntry } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import {
  REDIRECT_IFINDEX,
  REDIRECT_MAP,
  FrameRing,
  type FrameMetadata,
} from '../../bpf/runtime/xdp-frame.js';
import { xdpActionName, type XdpActionName } from '../../bpf/xdp.js';
import type { ProgramFault } from '../contract/executor.js';
import type { Party } from '../contract/fabric.js';
import {
  loadObjectProgram,
  type LoadedObjectProgram,
  type ProgramRejection,
} from '../offload/load-program.js';
import { dumpMap, type MapDump } from './map-input.js';

/** What one packet came to. */
export interface PacketOutcome {
  readonly verdict: XdpActionName;
  /** R0's lower 32 bits. */
  readonly returned: number;
  readonly packet: Uint8Array;
  /** Metadata in front of the packet (bpf_xdp_adjust_meta). */
  readonly metadata: Uint8Array;
  /** With XDP_REDIRECT: where to. */
  readonly redirect?:
    { readonly ifindex: number } | { readonly map: string; readonly key: number } | undefined;
  readonly fault?: ProgramFault | undefined;
}

/** A program that is loaded in a party and is given packets one by one: the engine without a testbed. */
export class ProgramSession {
  readonly frames: FrameRing;

  private constructor(
    readonly party: Party,
    readonly object: ObjectSpec,
    readonly loaded: LoadedObjectProgram,
    readonly traces: string[],
  ) {
    this.frames = new FrameRing(party.runtime.space, 1);
  }

  /** Verifies and loads; a rejection is a value. */
  static async open(
    party: Party,
    object: ObjectSpec,
    spec: ProgramSpec,
    initial?: ReadonlyMap<string, readonly MapInitialEntry[]>,
  ): Promise<ProgramSession | ProgramRejection> {
    const traces: string[] = [];
    const host = { trace: (text: string) => void traces.push(text) };
    const loaded = await loadObjectProgram(party, object, spec, { host, initial });
    return loaded.accepted ? new ProgramSession(party, object, loaded, traces) : loaded;
  }

  run(packet: Uint8Array, metadata: FrameMetadata = {}, now = 0n): PacketOutcome {
    this.frames.load(0, packet, metadata);
    this.party.runtime.state.now = now;
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

  #redirect(): PacketOutcome['redirect'] {
    const { kind, target, mapAddress } = this.frames.redirect(0);
    if (kind === REDIRECT_IFINDEX) return { ifindex: target };
    if (kind !== REDIRECT_MAP) return undefined;
    return { map: this.party.runtime.maps.get(mapAddress)?.name ?? '?', key: target };
  }
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
