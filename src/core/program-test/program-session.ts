import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { MapInitialEntry } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
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

  #redirect(): PacketOutcome['redirect'] {
    const redirect = this.frames.redirect(0);
    switch (redirect.kind) {
      case 'ifindex':
        return { ifindex: redirect.ifindex };
      case 'map':
        return { map: redirect.map?.name ?? '?', key: redirect.index };
      case 'none':
        return undefined;
    }
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
