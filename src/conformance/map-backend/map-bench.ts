import { describe } from 'vitest';
import { BPF_MAP_TYPE, type MapAttributes, type MapTypeName } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { MapBackend } from '../../core/contract/map-backend.js';
import { CONFORMANCE_MAP_TYPES, plainAttributes } from './map-samples.js';

/** A backend to be judged, made anew for each test. */
export interface MapBackendUnderTest {
  readonly backend: MapBackend;
  /** Number of values in a per-CPU element. */
  readonly cpus: number;
  dispose?(): void;
}

export interface MapConformanceOptions {
  /** Map types the backend serves, by kernel number; default: all of BPF_MAP_TYPE that XDP programs use. */
  readonly types?: ReadonlySet<number>;
}

/** What the cases of one suite are made with: a new backend for each test, whose maps are closed after it. */
export class MapBench {
  readonly types: ReadonlySet<number>;
  #subject!: MapBackendUnderTest;
  #maps: BpfMap[] = [];

  constructor(
    readonly makeBackend: () => MapBackendUnderTest,
    options: MapConformanceOptions,
  ) {
    this.types = options.types ?? CONFORMANCE_MAP_TYPES;
  }

  setUp(): void {
    this.#subject = this.makeBackend();
    this.#maps = [];
  }

  tearDown(): void {
    for (const map of this.#maps) map.close();
    this.#subject.dispose?.();
  }

  get cpus(): number {
    return this.#subject.cpus;
  }

  /** A map, or -errno. */
  readonly create = (attributes: MapAttributes): BpfMap | number => {
    const innerTemplate = this.#templateOf(attributes);
    const made = this.#subject.backend.create(attributes, { name: 'm', innerTemplate });
    if (typeof made !== 'number') this.#maps.push(made);
    return made;
  };

  readonly createPlain = (typeName: MapTypeName, changes: Partial<MapAttributes> = {}): BpfMap => {
    const map = this.create(plainAttributes(typeName, changes));
    if (typeof map === 'number') throw new Error(`${typeName} was refused with ${map}`);
    return map;
  };

  /** 0 when a map of these attributes can be created, else -errno. */
  readonly creation = (attributes: MapAttributes): number => {
    const map = this.create(attributes);
    return typeof map === 'number' ? map : 0;
  };

  readonly value = (map: BpfMap, fill: number): Uint8Array => new Uint8Array(map.syscallValueSize).fill(fill);

  /** A `describe` for each of the types that the backend serves. */
  readonly describeTypes = (names: readonly MapTypeName[], body: (typeName: MapTypeName) => void): void => {
    for (const typeName of names) {
      describe.runIf(this.types.has(BPF_MAP_TYPE[typeName]))(typeName, () => body(typeName));
    }
  };

  /** The template of a map-in-map, as a loader would create it. */
  #templateOf(attributes: MapAttributes): BpfMap | undefined {
    const { inner } = attributes;
    if (inner === undefined) return undefined;
    const innerTemplate = this.#templateOf(inner);
    const made = this.#subject.backend.create(inner, { name: 'template', innerTemplate });
    if (typeof made === 'number') return undefined;
    this.#maps.push(made);
    return made;
  }
}
