import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { isResidentMap, type ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { isInsnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import type {
  ExecutionEnvironment,
  Executor,
  LoadedProgram,
  RunOutcome,
} from '../../src/core/contract/executor.js';
import type { MapBackend } from '../../src/core/contract/map-backend.js';

/** What makes a party: its executor, and a backend whose maps lie in its runtime. */
export interface Makers {
  readonly executor: (runtime: BpfRuntime) => Executor;
  readonly backend: (runtime: BpfRuntime) => MapBackend;
}

/** A runtime with programs and maps that come, change and go between runs and within them. */
export class Party {
  readonly runtime = new BpfRuntime({ memoryBytes: 4 << 20, cpus: 2 });
  readonly ring: FrameRing;
  readonly #executor: Executor;
  readonly #backend: MapBackend;
  readonly #handles = new Map<string, number>();
  readonly #maps = new Map<number, ResidentMap>();

  /** @param longest bytes of the longest frame, if it may have frags */
  constructor({ executor, backend }: Makers, longest?: number) {
    this.#executor = executor(this.runtime);
    this.#backend = backend(this.runtime);
    this.ring = new FrameRing(this.runtime.space, 4, this.runtime.maps, longest);
    for (let slot = 0; slot < 4; slot++) this.ring.load(slot, new Uint8Array(60), { rxQueueIndex: slot });
  }

  /** A map, which programs that are loaded from now on may name. By default an ARRAY of 4 numbers of 8 bytes. */
  map(name: string, attributes: Partial<MapAttributes> = {}): ResidentMap {
    const all = {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 4,
      flags: 0,
      ...attributes,
    };
    const map = this.#backend.create(all, { name });
    if (typeof map === 'number' || !isResidentMap(map)) throw new Error(`no map ${name}`);
    const handle = this.#maps.size + 1;
    this.#handles.set(name, handle);
    this.#maps.set(handle, map);
    return map;
  }

  async load(
    text: string,
    {
      name = 'program',
      frags = false,
      ...environment
    }: Omit<Partial<ExecutionEnvironment>, 'maps'> & LoadOptions = {},
  ): Promise<LoadedProgram> {
    const program = {
      name,
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP' as const,
      gplCompatible: true,
      frags,
      insns: assemble(text, { maps: this.#handles }),
    };
    const world = { trace() {} };
    return this.#executor.load(program, { maps: new Map(this.#maps), world, ...environment });
  }

  /** One run on each of some slots, as outcomes that executors have in common. */
  runs(program: LoadedProgram, ...slots: readonly number[]): string[] {
    return slots.map((slot) => outcomeText(program.run(this.ring, slot)));
  }

  /** One batch over all slots: the verdicts, and how many frames were aborted. */
  batch(program: LoadedProgram): number[] {
    const aborted = program.runBatch(this.ring, 0, 4);
    return [...[0, 1, 2, 3].map((slot) => this.ring.verdict(slot)), aborted];
  }
}

interface LoadOptions {
  readonly name?: string | undefined;
  readonly frags?: boolean | undefined;
}

/** Where the insns of a run are used up is a matter of how they are counted. */
export function outcomeText({ verdict, fault }: RunOutcome): string {
  if (fault === undefined) return `${verdict}`;
  return isInsnLimitReason(fault.reason) ? `${verdict}, insns used up` : `${verdict}, fault at ${fault.insn}`;
}
