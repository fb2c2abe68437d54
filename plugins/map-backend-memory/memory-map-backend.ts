import { EINVAL, ENOMEM } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import { BPF_RUNTIME, type MapBackend, type MapCreateOptions } from '../../src/core/contract/map-backend.js';
import { ARRAY_KIND, ArrayMap } from './array-map.js';
import { HASH_KIND, HashMap } from './hash-map.js';
import { HASH_OF_MAPS_KIND, HashOfMaps } from './hash-of-maps.js';
import { LPM_TRIE_KIND, LpmTrie } from './lpm-trie.js';
import { allocatePlan, headerRegion, planCost, type MapKind, type PlannedRegion } from './map-plan.js';
import type { MapPlacement, MemoryMap } from './memory-map.js';
import { PERF_EVENT_ARRAY_KIND, PerfEventArray } from './perf-event-array.js';
import { QUEUE_STACK_KIND, QueueStack } from './queue-stack.js';
import { CPUMAP_KIND, CpuMap } from './cpu-map.js';
import { DEVMAP_KIND, DevMap } from './dev-map.js';
import { DEVMAP_HASH_KIND, DevMapHash } from './dev-map-hash.js';
import { XSKMAP_KIND, XskMap } from './xsk-map.js';
import { RINGBUF_KIND, RingBuffer } from './ring-buffer.js';
import { ArrayOfMaps } from './array-of-maps.js';
import { ProgramArray } from './program-array.js';
import { SLOT_KIND } from './slot-map.js';

interface MapType {
  readonly kind: MapKind;
  readonly build: new (placement: MapPlacement) => MemoryMap;
}

const T = BPF_MAP_TYPE;
const TYPES: ReadonlyMap<number, MapType> = new Map<number, MapType>([
  [T.BPF_MAP_TYPE_ARRAY, { kind: ARRAY_KIND, build: ArrayMap }],
  [T.BPF_MAP_TYPE_PERCPU_ARRAY, { kind: ARRAY_KIND, build: ArrayMap }],
  [T.BPF_MAP_TYPE_HASH, { kind: HASH_KIND, build: HashMap }],
  [T.BPF_MAP_TYPE_PERCPU_HASH, { kind: HASH_KIND, build: HashMap }],
  [T.BPF_MAP_TYPE_LRU_HASH, { kind: HASH_KIND, build: HashMap }],
  [T.BPF_MAP_TYPE_LRU_PERCPU_HASH, { kind: HASH_KIND, build: HashMap }],
  [T.BPF_MAP_TYPE_LPM_TRIE, { kind: LPM_TRIE_KIND, build: LpmTrie }],
  [T.BPF_MAP_TYPE_PROG_ARRAY, { kind: SLOT_KIND, build: ProgramArray }],
  [T.BPF_MAP_TYPE_ARRAY_OF_MAPS, { kind: SLOT_KIND, build: ArrayOfMaps }],
  [T.BPF_MAP_TYPE_HASH_OF_MAPS, { kind: HASH_OF_MAPS_KIND, build: HashOfMaps }],
  [T.BPF_MAP_TYPE_DEVMAP, { kind: DEVMAP_KIND, build: DevMap }],
  [T.BPF_MAP_TYPE_DEVMAP_HASH, { kind: DEVMAP_HASH_KIND, build: DevMapHash }],
  [T.BPF_MAP_TYPE_CPUMAP, { kind: CPUMAP_KIND, build: CpuMap }],
  [T.BPF_MAP_TYPE_XSKMAP, { kind: XSKMAP_KIND, build: XskMap }],
  [T.BPF_MAP_TYPE_PERF_EVENT_ARRAY, { kind: PERF_EVENT_ARRAY_KIND, build: PerfEventArray }],
  [T.BPF_MAP_TYPE_RINGBUF, { kind: RINGBUF_KIND, build: RingBuffer }],
  [T.BPF_MAP_TYPE_QUEUE, { kind: QUEUE_STACK_KIND, build: QueueStack }],
  [T.BPF_MAP_TYPE_STACK, { kind: QUEUE_STACK_KIND, build: QueueStack }],
]);

/** The map types this backend serves, by their kernel number. */
export const SUPPORTED_MAP_TYPES: readonly number[] = [...TYPES.keys()];

export interface MemoryMapConfig {
  /** Bytes of each CPU's buffer of a PERF_EVENT_ARRAY: a multiple of 8. */
  readonly perfBufferBytes: number;
}

export const MEMORY_MAP_CONFIG = token<MemoryMapConfig>('map-backend-memory.config');
/** 16 pages, what most consumers of perf buffers ask for. */
export const DEFAULT_MEMORY_MAP_CONFIG: MemoryMapConfig = { perfBufferBytes: 65_536 };

/**
 * Maps in the address space of the scope's BpfRuntime, with the kernel's errno behaviour (Linux 6.18).
 */
@injectable()
export class MemoryMapBackend implements MapBackend {
  readonly name = 'memory';
  readonly #runtime: BpfRuntime;
  readonly #config: MemoryMapConfig;

  constructor(
    @inject(BPF_RUNTIME) runtime: BpfRuntime,
    @inject(MEMORY_MAP_CONFIG) config: MemoryMapConfig = DEFAULT_MEMORY_MAP_CONFIG,
  ) {
    this.#runtime = runtime;
    this.#config = config;
  }

  /** A map, or -EINVAL, -E2BIG, -ENOTSUPP as the kernel says, or -ENOMEM when the address space has no room. */
  create(attributes: MapAttributes, options: MapCreateOptions): ResidentMap | number {
    const type = TYPES.get(attributes.type);
    if (type === undefined) return -EINVAL;
    const inner = options.innerTemplate?.attributes ?? attributes.inner;
    const complete = { ...attributes, inner };
    const refusal = type.kind.check(complete);
    if (refusal !== 0) return refusal;
    const regions = allocatePlan(this.#runtime.space, this.#plan(type.kind, complete, options.name));
    if (regions === undefined) return -ENOMEM;
    return new type.build({ runtime: this.#runtime, name: options.name, attributes: complete, regions });
  }

  /**
   * Bytes of the address space that a map of these attributes takes, everything included. For attributes that
   * `create` refuses it is what they ask for, which may exceed any memory; 0 for a type that is not served.
   */
  memoryCost(attributes: MapAttributes): number {
    const type = TYPES.get(attributes.type);
    return type === undefined ? 0 : planCost(this.#plan(type.kind, attributes, ''));
  }

  memory(): { total: number; used: number } {
    const { byteLength, bytesInUse } = this.#runtime.space;
    return { total: byteLength, used: bytesInUse };
  }

  tidy(mostBytes: number): boolean {
    return this.#runtime.space.tidy(mostBytes);
  }

  #plan(kind: MapKind, attributes: MapAttributes, name: string): PlannedRegion[] {
    const label = name === '' ? 'a map' : `map ${name}`;
    const environment = {
      label,
      cpus: this.#runtime.cpus,
      perfBufferBytes: this.#config.perfBufferBytes,
    };
    return [headerRegion(label), ...kind.regions(attributes, environment)];
  }
}
