import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_MAP_TYPE, type MapInitialEntry, type MapSpec, type ObjectPart } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { SpaceSnapshot } from '../../bpf/runtime/address-space.js';
import { isResidentMap, type BpfMap, type MapRecord } from '../../bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../bpf/runtime/frame-ring.js';
import { BPF_F_BROADCAST } from '../../bpf/runtime/helpers/redirect-helpers.js';
import { MAX_GIVEN_RANDOM } from '../../bpf/runtime/run-state.js';
import { MAX_FRAGS_FRAME_LENGTH } from '../../bpf/runtime/xdp-frame.js';
import { xdpActionName, type XdpActionName } from '../../bpf/xdp.js';
import type { FrameMetadata, FrameSlots, ProgramFault } from '../contract/executor.js';
import type { Party } from '../contract/party.js';
import { XdpbedError } from '../diagnostic.js';
import {
  loadObjectProgram,
  placeElement,
  requireAccepted,
  type LoadedObjectProgram,
  type ProgramRejection,
} from '../offload/load-program.js';
import { holdsObjects } from '../testbed/map-values.js';
import { dumpMap, type MapDump } from './map-dump.js';

/** Where a packet was redirected to, as far as the program's maps tell. */
export interface PacketRedirect {
  /** Of bpf_redirect, or of the device in the map's entry, if there is one. */
  readonly ifindex?: number;
  /** Of bpf_redirect_map. */
  readonly map?: string;
  readonly key?: number;
  /** CPUMAP: the CPU, which is the key. */
  readonly cpu?: number;
  /** XSKMAP: what was put under the key. */
  readonly socket?: number;
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

/** What a packet comes with besides its bytes, and what the program finds when it runs on it. */
export interface PacketInput extends FrameMetadata {
  /** Number of the CPU. Default 0. */
  readonly cpu?: number | undefined;
  /** Nanoseconds of the clock (bpf_ktime_get_ns). Default 0. */
  readonly now?: bigint | undefined;
  /**
   * What bpf_get_prandom_u32 returns first, 32 bits, or what it returns first, second and so on (MAX_GIVEN_RANDOM numbers at
   * most); what it returns then follows from the last. Default: the series goes on, which is the same one after each `reset`.
   */
  readonly random?: number | readonly number[] | undefined;
}

/** Where a program is loaded: {@link Workbench}, or another party with its runtime. */
export interface ProgramBench {
  readonly party: Party;
  /** Where its maps and programs lie, if they are the in-process engine's. */
  readonly runtime: BpfRuntime;
}

/**
 * A program that is loaded once and given packets one by one, without a testbed around it. `reset` takes it back to where
 * it was after it was loaded: maps, buffers of records, random numbers and CPU.
 *
 * ```ts
 * const bench = await Workbench.open(registry, { executor: 'wasm', verifiers: ['abstract'] });
 * const session = await ProgramSession.open(bench, object, program);
 * if ('code' in session) throw new Error(session.reason); // the verifier's no
 * session.place('blocked', [{ key, value }]);
 * const { verdict, packet } = session.run(frame, { ingressIfindex: 3, now: 1_000n });
 * const records = session.drain('events');
 * await session.reset(); // and on with the next
 * session.close();
 * await bench.close();
 * ```
 */
export class ProgramSession {
  #loaded: LoadedObjectProgram;
  #frames: FrameSlots;
  /** The state to go back to; undefined where something of it lies elsewhere, so that going back is loading again. */
  readonly #start: SpaceSnapshot | undefined;
  readonly #traces: string[];

  private constructor(
    readonly bench: ProgramBench,
    readonly object: ObjectSpec,
    private readonly load: () => Promise<LoadedObjectProgram | ProgramRejection>,
    loaded: LoadedObjectProgram,
    traces: string[],
    readonly clock: { now: bigint },
  ) {
    this.#loaded = loaded;
    this.#traces = traces;
    this.#frames = loaded.loaded.openFrames(1, MAX_FRAGS_FRAME_LENGTH);
    const { space } = bench.runtime;
    const frames = this.#frames;
    const isHere =
      frames instanceof FrameRing &&
      frames.space === space &&
      [...loaded.maps.values()].every((map) => isResidentMap(map) && map.space === space);
    if (isHere) this.#start = space.snapshot();
  }

  /**
   * Verifies and loads; a rejection is a value. Throws what `loadObjectProgram` throws.
   *
   * @param initial elements to place before the verifier looks: those of `.rodata`, which it takes for constants, have
   * to be given here
   * @param also as `LoadObjectOptions.also`
   */
  static async open(
    bench: ProgramBench,
    object: ObjectSpec,
    spec: ProgramSpec,
    initial?: ReadonlyMap<string, readonly MapInitialEntry[]>,
    also?: readonly ObjectPart[],
  ): Promise<ProgramSession | ProgramRejection> {
    const traces: string[] = [];
    const clock = { now: 0n };
    const world = { trace: (text: string) => void traces.push(text), now: () => clock.now };
    const load = (): Promise<LoadedObjectProgram | ProgramRejection> =>
      loadObjectProgram(bench.party, object, spec, { world, initial, also });
    const loaded = await load();
    if (!loaded.accepted) return loaded;
    return new ProgramSession(bench, object, load, loaded, traces, clock);
  }

  /** What is loaded now: another after a `reset` that had to load again. */
  get loaded(): LoadedObjectProgram {
    return this.#loaded;
  }

  get frames(): FrameSlots {
    return this.#frames;
  }

  /** Lines of bpf_trace_printk since the last `reset`. */
  get traces(): readonly string[] {
    return this.#traces;
  }

  /** As `traces`, which are forgotten then: for who runs more packets than there is memory for what they print. */
  takeTraces(): string[] {
    return this.#traces.splice(0);
  }

  /** The maps that the program uses, by name. */
  get maps(): ReadonlyMap<string, BpfMap> {
    return this.#loaded.maps;
  }

  /**
   * Throws `packet-invalid` for a frame that is too long, `usage` for a CPU that there is not and too many random numbers,
   * `executor-unsupported` for any where the executor has its own.
   */
  run(packet: Uint8Array, input: PacketInput = {}): PacketOutcome {
    this.#prepare(input);
    const frames = this.#frames;
    frames.load(0, packet, input);
    const { verdict, fault } = this.#loaded.loaded.run(frames, 0);
    const action = xdpActionName(verdict);
    return {
      verdict: action,
      returned: verdict,
      packet: frames.packet(0),
      metadata: frames.metadata(0),
      redirect: action === 'XDP_REDIRECT' ? this.#redirect() : undefined,
      fault,
    };
  }

  /**
   * Sets elements of a map that the program uses; a value of a per-CPU map that is given once stands for every CPU. Maps and
   * programs that are named have to be loaded with the program. Throws `map-invalid` for an element that cannot be set;
   * nothing is done for a map that the program does not use.
   */
  place(name: string, entries: readonly MapInitialEntry[]): void {
    if (!this.maps.has(name)) return;
    for (const entry of entries) placeElement(this.#loaded, name, entry);
  }

  /** Records that the program sent through a ring buffer or an array of perf events since the last call, oldest first. */
  drain(name: string): readonly MapRecord[] {
    return this.maps.get(name)?.drainRecords?.() ?? [];
  }

  /** Back to where the program was after it was loaded. Throws `program-rejected` where loading again fails. */
  async reset(): Promise<void> {
    this.#traces.length = 0;
    this.clock.now = 0n;
    const { runtime } = this.bench;
    if (this.#start !== undefined) {
      runtime.space.restore(this.#start);
      runtime.reservations.clear();
      runtime.takeOwedInsns();
      return;
    }
    this.close();
    this.#loaded = requireAccepted(await this.load());
    this.#frames = this.#loaded.loaded.openFrames(1, MAX_FRAGS_FRAME_LENGTH);
  }

  /** Content of every map that the program uses. */
  dumpMaps(): MapDump[] {
    return [...this.maps].flatMap(([name, map]) => {
      const spec = this.object.maps.find((candidate) => candidate.name === name);
      return spec === undefined ? [] : [dumpMap(spec, map, (value) => this.targetOf(spec, value))];
    });
  }

  /**
   * The name of the program or map that an element of a PROG_ARRAY or a map of maps leads to; undefined for other maps, and
   * where numbers are the kernel's.
   */
  targetOf(spec: MapSpec, value: Uint8Array): string | undefined {
    if (!holdsObjects(spec) || this.#start === undefined) return undefined;
    const number = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    const { maps, programs } = this.#loaded;
    const numbers: (readonly [string, number])[] =
      spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY
        ? [...programs].map(([name, { id }]) => [name, id])
        : [...maps].flatMap(([name, map]) => (isResidentMap(map) ? [[name, map.address] as const] : []));
    return numbers.find(([, own]) => own === number)?.[0];
  }

  close(): void {
    this.#loaded.close();
    this.#frames.close();
  }

  #prepare({ cpu = 0, now = 0n, random }: PacketInput): void {
    const { party, runtime } = this.bench;
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= party.cpus) {
      throw new XdpbedError('usage', `there is no CPU ${cpu}: there are 0 to ${party.cpus - 1}`);
    }
    this.clock.now = now;
    runtime.state.cpu = cpu;
    party.executor.runOn?.(cpu);
    const numbers = random === undefined ? [] : [random].flat();
    if (random !== undefined && this.#start === undefined) {
      throw new XdpbedError(
        'executor-unsupported',
        `executor ${party.executor.name} has random numbers of its own`,
      );
    }
    if (numbers.length > MAX_GIVEN_RANDOM) {
      throw new XdpbedError('usage', `random: ${numbers.length} numbers, ${MAX_GIVEN_RANDOM} at most`);
    }
    // Those that the packet before left are no concern of this one.
    runtime.state.giveRandom(numbers);
  }

  #redirect(): PacketRedirect | undefined {
    const redirect = this.#frames.redirect(0);
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
    case BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP: {
      const socket = isResidentMap(map) ? map.socketAt?.(index) : undefined;
      return socket === undefined ? place : { ...place, socket };
    }
    default:
      return place;
  }
}

/** `ifindex 4`, `tx_port[1] (ifindex 4)`, `cpus[2] (CPU 2)`, `every device of tx_port`. */
export function describeRedirect({ ifindex, map, key, cpu, socket, broadcast }: PacketRedirect): string {
  if (map === undefined) return `ifindex ${ifindex}`;
  if (broadcast === true) return `every device of ${map}`;
  const targets = { ifindex, CPU: cpu, socket };
  const [target] = Object.entries(targets).flatMap(([what, number]) =>
    number === undefined ? [] : ` (${what} ${number})`,
  );
  return `${map}[${key}]${target ?? ''}`;
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
