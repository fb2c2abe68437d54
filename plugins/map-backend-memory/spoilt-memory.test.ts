import { describe, expect, it } from 'vitest';
import type { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { mapTypeName, type MapAttributes } from '../../src/bpf/map-spec.js';
import type { Region } from '../../src/bpf/runtime/address-space.js';
import type { MapRecord, ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import {
  createHelpers,
  FUNCTION_POINTER_HIGH,
  helperFaultReason,
} from '../../src/bpf/runtime/helpers/helper-table.js';
import { helperId } from '../../src/bpf/helper-ids.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { plainAttributes } from '../../src/conformance/map-backend/map-samples.js';
import { SeededRandom } from '../../src/conformance/verifier/seeded-random.js';
import { MemoryMapBackend, SUPPORTED_MAP_TYPES } from './memory-map-backend.js';

const ROUNDS = 150;
const CPUS = 2;
/** Enough for chains and tries with some depth, few enough that a spoilt link often leads to an element. */
const MAX_ENTRIES = 12;
/**
 * Reads of words that one operation may take: every bucket and element some tens of times (a look-up compares
 * hash, key and link; nextKey looks up what it found), or every record of a ring. A walk that does not end takes
 * more.
 */
const MAX_READS = 20_000;
/** What the map beside the spoilt one is full of; no operation on the other may show it or change it. */
const BYSTANDER_BYTE = 0xa5;

type MapTypeName = keyof typeof BPF_MAP_TYPE;

/** A runtime whose words are counted as they are read, with a map of a type and some maps beside it. */
class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 20, cpus: CPUS, seed: 7n });
  readonly map: ResidentMap;
  readonly bystander: ResidentMap;
  readonly inner: ResidentMap | undefined;
  readonly stack: Region;
  readonly mapRegions: readonly Region[];
  reads = 0;

  constructor(readonly typeName: MapTypeName) {
    this.#countReads();
    const backend = new MemoryMapBackend(this.runtime, { perfBufferBytes: 4096 });
    const create = (attributes: MapAttributes): ResidentMap =>
      backend.create(attributes, { name: typeName }) as ResidentMap;
    const plain = plainAttributes(typeName);
    this.bystander = create(plainAttributes('BPF_MAP_TYPE_ARRAY', { valueSize: 4096, maxEntries: 1 }));
    this.inner = plain.inner === undefined ? undefined : create(plain.inner);
    this.stack = this.runtime.space.allocate(512, {
      kind: 'stack',
      label: 'the stack',
      access: 'read-write',
    });
    const before = new Set(this.runtime.space.regions);
    const ring = typeName === 'BPF_MAP_TYPE_RINGBUF';
    this.map = create({ ...plain, maxEntries: ring ? 4096 : MAX_ENTRIES });
    this.mapRegions = this.runtime.space.regions.filter((region) => !before.has(region));
    this.bystander.update(new Uint8Array(4), new Uint8Array(4096).fill(BYSTANDER_BYTE), 0n);
  }

  /** Some entries, a few of them deleted again, so that free lists are not empty. */
  fill(random: SeededRandom): void {
    for (let i = 0; i < 10; i++) this.put(this.key(random), random);
    for (let i = 0; i < 4; i++) this.map.delete(this.key(random));
    for (let i = 0; i < 6; i++) this.record(random);
  }

  put(key: Uint8Array, random: SeededRandom): void {
    const { map } = this;
    map.update(key, random.bytes(map.syscallValueSize), 0n);
    // CPUs, events and queues have small numbers.
    map.update(key, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0).subarray(0, map.syscallValueSize), 0n);
    map.setProgram?.(key[0]!, 1 + random.below(3));
    if (this.inner !== undefined) map.setInnerMap?.(key, this.inner);
  }

  record(random: SeededRandom): void {
    const { map } = this;
    const record = map.ringReserve?.(random.below(64)) ?? 0;
    if (record !== 0 && random.chance(90)) map.ringSubmit!(record, 0);
    map.outputRecord?.(0, random.bytes(random.below(64)));
  }

  key(random: SeededRandom): Uint8Array {
    const key = new Uint8Array(this.map.attributes.keySize);
    if (this.typeName === 'BPF_MAP_TYPE_LPM_TRIE') {
      key[0] = random.below(33);
      key[4] = random.below(4) << 6;
      key[5] = random.below(2) << 7;
    } else if (key.length > 0) {
      key[0] = random.below(MAX_ENTRIES + 2);
    }
    return key;
  }

  /** An argument on the stack. */
  at(offset: number, bytes: Uint8Array): number {
    this.runtime.space.write(this.stack.start + offset, bytes);
    return this.stack.start + offset;
  }

  #countReads(): void {
    const { space } = this.runtime;
    const count = (): void => {
      if (++this.reads > MAX_READS) throw new Error(`more than ${MAX_READS} reads`);
    };
    const counted = new Proxy(space.i32, {
      get(target, property) {
        count();
        const value: unknown = Reflect.get(target, property);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
      set: (target, property, value) => Reflect.set(target, property, value),
    });
    Object.assign(space, { i32: counted });
  }
}

/** Overwrites words of regions: with noise, small numbers, and addresses of what lies there. */
function spoil(runtime: BpfRuntime, regions: readonly Region[], random: SeededRandom): void {
  const { view } = runtime.space;
  const address = (): number => {
    const region = random.pick(regions);
    return region.start + random.below(Math.max(region.size, 1)) * (random.chance(80) ? 1 : 4);
  };
  for (const region of regions) {
    const words = region.size >>> 2;
    if (words === 0) continue;
    const all = random.chance(15);
    for (let n = all ? words : 1 + random.below(8); n > 0; n--) {
      const word = all ? n - 1 : random.below(Math.min(words, random.chance(70) ? 16 : words));
      const kind = random.below(7);
      let value = random.u32();
      if (kind === 0) value = 0;
      else if (kind === 1) value = 0xffff_ffff;
      else if (kind === 2) value = random.below(40);
      else if (kind === 3) value = address();
      else if (kind === 4) value = address() & ~7;
      // A link that was there once: what makes rings of chains.
      else if (kind === 5) value = view.getUint32(region.start + 4 * random.below(words), true);
      view.setUint32(region.start + 4 * word, value, true);
    }
  }
}

/** Every operation of bpf(2), and what it may return. Throws when a result is not one. */
function systemCalls(bench: Bench, random: SeededRandom): void {
  const { map } = bench;
  const { keySize, maxEntries } = map.attributes;
  const isValue = (value: Uint8Array | number): void => {
    if (typeof value === 'number') expect(value).toBeLessThan(0);
    else expect(value.length).toBe(map.syscallValueSize);
  };
  const isKey = (key: Uint8Array | number): void => {
    if (typeof key === 'number') expect(key).toBeLessThan(0);
    else expect(key.length).toBe(keySize);
  };
  const operations: (() => void)[] = [
    () => isValue(map.lookup(bench.key(random))),
    () => expect(map.update(bench.key(random), random.bytes(map.syscallValueSize), 0n)).toBeLessThan(1),
    () => bench.put(bench.key(random), random),
    () => expect(map.delete(bench.key(random))).toBeLessThan(1),
    () => isValue(map.lookupAndDelete(bench.key(random))),
    () => isKey(map.nextKey(random.chance(30) ? null : bench.key(random))),
    () => {
      const cursor = random.pick([null, Uint8Array.of(random.below(20), 0, 0, 0), random.bytes(4)]);
      const batch = map.lookupBatch(cursor, random.pick([1, 5, maxEntries, 0xffff_ffff]));
      if (typeof batch === 'number') expect(batch).toBeLessThan(0);
      else expect(batch.entries.length).toBeLessThanOrEqual(maxEntries);
    },
    () => {
      const room = { bytes: random.below(5000), records: 1 + random.below(9), recordBytes: 12 };
      const next = map.nextRecordBytes?.() ?? 0;
      expect(next).toBeLessThanOrEqual(4096);
      if (random.chance(20)) map.skipRecord?.();
      const records: MapRecord[] = map.drainRecords?.(random.chance(50) ? room : undefined) ?? [];
      const bytes = records.reduce((sum, { data }) => sum + data.length, 0);
      expect(bytes).toBeLessThanOrEqual(4096 * CPUS);
      for (const { cpu } of records) expect(cpu).toBeLessThan(CPUS);
    },
  ];
  for (let i = 0; i < 24; i++) {
    bench.reads = 0;
    random.pick(operations)();
  }
  // A walk over the keys, as whoever dumps a map does it.
  let keys = 0;
  for (let key = keySize === 0 ? -1 : map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) {
    bench.reads = 0;
    isKey(key);
    expect(++keys).toBeLessThanOrEqual(maxEntries);
  }
}

/** What programs do, by the map's own methods: an address must be one of a value in the map. */
function programOperations(bench: Bench, random: SeededRandom): void {
  const { map } = bench;
  const { valueSize } = map.attributes;
  const size = Math.max(valueSize, 8);
  const isInMap = (address: number, bytes: number): void => {
    const holds = ({ start, size: length }: Region): boolean =>
      address >= start && address + bytes <= start + length;
    if (address !== 0) expect(bench.mapRegions.some(holds)).toBe(true);
  };
  const key = (): number => bench.at(0, bench.key(random));
  const value = (): number => bench.at(64, random.bytes(size));
  const isOuter = bench.inner !== undefined;
  const operations: (() => void)[] = [
    () => {
      // What a map-in-map finds is an address of a map, which helpers check.
      const found = map.lookupElem(key());
      if (!isOuter) isInMap(found, valueSize);
    },
    () => expect(map.updateElem(key(), value(), random.below(3))).toBeLessThan(1),
    () => expect(map.deleteElem(key())).toBeLessThan(1),
    () => isInMap(map.lookupPercpuElem?.(key(), random.below(CPUS)) ?? 0, valueSize),
    () => isInMap(map.lookupIndex?.(random.below(MAX_ENTRIES + 1)) ?? 0, valueSize),
    () => void map.pushElem?.(value(), random.pick([0, 2])),
    () => void map.popElem?.(value()),
    () => void map.peekElem?.(value()),
    () => {
      const length = random.below(5000);
      const record = map.ringReserve?.(length) ?? 0;
      isInMap(record, length);
      if (record === 0) return;
      if (random.chance(50)) map.ringSubmit!(record, 0);
      else map.ringDiscard!(record, 0);
    },
    () => void map.ringSubmit?.(random.chance(50) ? bench.mapRegions[1]!.start + 8 : random.u32(), 0),
    () => void map.ringQuery?.(random.below(5)),
    () => void map.outputRecord?.(random.below(3), random.bytes(random.below(5000))),
    () => void map.programAt?.(random.below(MAX_ENTRIES + 1)),
  ];
  for (let i = 0; i < 24; i++) {
    bench.reads = 0;
    random.pick(operations)();
  }
}

const HELPERS = [
  'bpf_map_lookup_elem',
  'bpf_map_update_elem',
  'bpf_map_delete_elem',
  'bpf_map_push_elem',
  'bpf_map_pop_elem',
  'bpf_map_peek_elem',
  'bpf_map_lookup_percpu_elem',
  'bpf_for_each_map_elem',
  'bpf_redirect_map',
  'bpf_ringbuf_output',
  'bpf_ringbuf_reserve',
  'bpf_ringbuf_query',
  'bpf_perf_event_output',
  'bpf_xdp_adjust_head',
  'bpf_xdp_adjust_tail',
  'bpf_xdp_adjust_meta',
  'bpf_xdp_load_bytes',
  'bpf_xdp_store_bytes',
  'bpf_xdp_get_buff_len',
  'bpf_csum_diff',
  'bpf_strncmp',
  'bpf_check_mtu',
  'bpf_dynptr_from_mem',
  'bpf_dynptr_read',
  'bpf_ringbuf_reserve_dynptr',
  'bpf_ringbuf_submit_dynptr',
];

/** Calls helpers as compiled code does, unchecked, in a spoilt runtime; the callbacks of walks change the map. */
function helperCalls(bench: Bench, frames: FrameRing, random: SeededRandom, checked: boolean): void {
  const { runtime, map } = bench;
  const { state } = runtime;
  let visits = 0;
  const helpers = createHelpers(
    runtime,
    { trace() {} },
    {
      ...(checked ? {} : { check: false }),
      invoke: () => {
        expect(++visits).toBeLessThanOrEqual(map.attributes.maxEntries);
        bench.reads = 0;
        const key = bench.at(0, bench.key(random));
        map.deleteElem(key);
        map.updateElem(key, bench.at(64, random.bytes(8)), 0);
        if (random.chance(10)) spoil(runtime, bench.mapRegions, random);
        state.setResult(0);
      },
    },
  );
  const small = (): number => random.pick([0, 1, 4, 14, 60, 2000]);
  const pointer = (): number => (random.chance(85) ? bench.stack.start + random.below(256) : random.u32());
  const size = (): number => (random.chance(80) ? small() : random.u32());
  for (let i = 0; i < 24; i++) {
    const name = random.pick(HELPERS);
    const ofFrame = name.includes('xdp') || name.includes('perf') || name.includes('mtu');
    const first = (): number => (ofFrame ? state.context : random.chance(90) ? map.address : random.u32());
    const of = (n: number): number => {
      if (name.startsWith('bpf_for_each') && n === 3) return 0;
      if (name.includes('perf') && n === 2) return map.address;
      return random.chance(50) ? pointer() : size();
    };
    state.setArg(1, name.includes('csum') || name.includes('strn') ? pointer() : first(), 0);
    for (let n = 2; n <= 5; n++) state.setArg(n, of(n), 0);
    if (name.startsWith('bpf_for_each')) {
      state.setArg(2, 0, FUNCTION_POINTER_HIGH);
      state.setArg(4, 0, 0);
    }
    visits = 0;
    bench.reads = 0;
    try {
      helpers.call(helperId(name)!);
    } catch (error) {
      // Throws on what is no fault of the program's.
      expect(helperFaultReason(error)).toBeTypeOf('string');
    }
    bench.reads = 0;
    expect(frames.packet(0).length).toBeLessThan(18 * 4096);
    expect(frames.metadata(0).length).toBeLessThan(4096);
    expect(['none', 'ifindex', 'map']).toContain(frames.redirect(0).kind);
  }
}

const typeNames = SUPPORTED_MAP_TYPES.map((type) => mapTypeName(type) as MapTypeName);

describe.each(typeNames)('a spoilt %s', (typeName) => {
  it('serves bpf(2) and programs in bounded time and leaves all other memory alone', () => {
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const random = new SeededRandom(seed);
      const bench = new Bench(typeName);
      bench.fill(random);
      const { space, state } = bench.runtime;
      const cpu = space.regions.find((region) => region === state.region)!;
      for (let spell = 0; spell < 3; spell++) {
        spoil(bench.runtime, [...bench.mapRegions], random);
        if (random.chance(30)) spoil(bench.runtime, [cpu], random);
        systemCalls(bench, random);
        programOperations(bench, random);
        if (spell === 2) {
          expect(bench.map.freeze()).toBe(0);
          systemCalls(bench, random);
        }
      }
      const bytes = bench.bystander.lookup(new Uint8Array(4)) as Uint8Array;
      expect(bytes.every((byte) => byte === BYSTANDER_BYTE)).toBe(true);
      bench.reads = 0;
      bench.map.close();
      bench.inner?.close();
      bench.bystander.close();
      expect(bench.runtime.maps.size).toBe(0);
      // All that is left is the run state and the stack.
      expect(space.regions.map(({ kind }) => kind).sort()).toEqual(['run-state', 'stack']);
    }
  }, 120_000);

  it('is no danger to helpers, nor to another runtime, when all of its runtime is spoilt', () => {
    const other = new Bench(typeName);
    other.fill(new SeededRandom(1));
    const otherBefore = Buffer.from(other.runtime.space.u8);
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const random = new SeededRandom(0x1000 + seed);
      const bench = new Bench(typeName);
      // One in three frames lies in several buffers.
      const length = seed % 3 === 0 ? 3521 + random.below(8000) : 60;
      const frames = new FrameRing(bench.runtime.space, 1, bench.runtime.maps, length);
      bench.fill(random);
      frames.load(0, random.bytes(length));
      bench.runtime.state.context = frames.address(0);
      helperCalls(bench, frames, random, seed % 2 === 0);
      spoil(bench.runtime, bench.runtime.space.regions, random);
      helperCalls(bench, frames, random, seed % 2 === 0);
      systemCalls(bench, random);
      bench.reads = 0;
      bench.map.close();
      expect(bench.runtime.maps.has(bench.map.address)).toBe(false);
    }
    expect(otherBefore.equals(other.runtime.space.u8)).toBe(true);
  }, 120_000);
});
