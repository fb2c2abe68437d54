import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BtfEncoder } from '../../src/bpf/btf/btf-encoder.js';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import { EEXIST, EINVAL } from '../../src/bpf/errno.js';
import { BPF_F_LOCK, BPF_MAP_TYPE, BPF_NOEXIST, type MapAttributes } from '../../src/bpf/map-spec.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { MemoryMapBackend } from './memory-map-backend.js';

const FIXTURE = join(import.meta.dirname, '../../src/bpf/elf/fixtures/special_fields.o');
const { maps } = readObject(readFileSync(FIXTURE), 'special_fields');
/** `struct locked`: bytes 0 to 3 are a lock. */
const { btf } = maps.find((map) => map.name === 'locked')!;
const KEY = Uint8Array.of(1, 0, 0, 0);

/** BTF of `struct value { struct bpf_refcount users; u32 hits; }`. */
function counted(): MapAttributes['btf'] {
  const encoder = new BtfEncoder();
  const number = encoder.type('INT', { name: 'u32', sizeOrType: 4, body: [32] });
  const users = encoder.type('STRUCT', { name: 'bpf_refcount', sizeOrType: 4 });
  const body = [encoder.string('users'), users, 0, encoder.string('hits'), number, 32];
  const valueType = encoder.type('STRUCT', { name: 'value', vlen: 2, sizeOrType: 8, body });
  return { bytes: encoder.bytes(), keyType: number, valueType };
}

function create(attributes: Partial<MapAttributes> & { readonly type: number }): {
  readonly map: ResidentMap;
  readonly runtime: BpfRuntime;
  readonly backend: MemoryMapBackend;
} {
  const runtime = new BpfRuntime({ memoryBytes: 1 << 20, cpus: 2 });
  const backend = new MemoryMapBackend(runtime);
  const map = backend.create(
    { keySize: 4, valueSize: 24, maxEntries: 4, flags: 0, ...attributes },
    { name: 'm' },
  );
  if (typeof map === 'number') throw new Error(`errno ${map}`);
  return { map, runtime, backend };
}

const KINDS = [
  ['HASH', BPF_MAP_TYPE.BPF_MAP_TYPE_HASH],
  ['ARRAY', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY],
] as const;

describe.each(KINDS)('a %s whose values have a spin lock', (_, type) => {
  const ones = new Uint8Array(24).fill(0xff);
  const expected = ones.slice().fill(0, 0, 4);

  it('neither takes nor gives the lock, on either side, for a new element and one that was there', () => {
    const { map, runtime } = create({ type, btf });
    const scratch = runtime.space.allocate(64, { kind: 'stack', label: 's', access: 'read-write' }).start;
    runtime.space.u8.set(KEY, scratch);
    runtime.space.u8.set(ones, scratch + 8);
    for (const update of [
      () => map.update(KEY, ones, 0n),
      () => map.updateElem(scratch, scratch + 8, 0),
      () => map.update(KEY, ones, BigInt(BPF_F_LOCK)),
      () => map.updateElem(scratch, scratch + 8, BPF_F_LOCK),
    ]) {
      for (let times = 0; times < 2; times++) {
        expect(update()).toBe(0);
        const value = map.lookupElem(scratch);
        expect(runtime.space.read(value, 24)).toEqual(expected);
        expect(map.lookup(KEY)).toEqual(expected);
      }
      map.delete(KEY);
    }
  });

  it('hides what memory holds there', () => {
    const { map, runtime } = create({ type, btf });
    map.update(KEY, ones, 0n);
    const scratch = runtime.space.allocate(8, { kind: 'stack', label: 's', access: 'read-write' }).start;
    runtime.space.u8.set(KEY, scratch);
    runtime.space.u8.fill(0xaa, map.lookupElem(scratch), map.lookupElem(scratch) + 4);
    expect(map.lookup(KEY)).toEqual(expected);
    expect(map.lookup(KEY, BigInt(BPF_F_LOCK))).toEqual(expected);
    const batch = map.lookupBatch(null, 8);
    expect(batch).toMatchObject({ next: null });
    const entries = typeof batch === 'number' ? [] : batch.entries;
    expect(entries.find(({ key }) => key[0] === 1)?.value).toEqual(expected);
  });

  it('takes BPF_F_LOCK, which a map without a lock does not', () => {
    const { map } = create({ type, btf });
    map.update(KEY, ones, 0n);
    expect(map.update(KEY, ones, BigInt(BPF_F_LOCK | BPF_NOEXIST))).toBe(-EEXIST);
    expect(map.update(KEY, ones, BigInt(BPF_F_LOCK | 3))).toBe(-EINVAL);
    expect(map.update(KEY, ones, 8n)).toBe(-EINVAL);
    const plain = create({ type }).map;
    plain.update(KEY, ones, 0n);
    expect(plain.update(KEY, ones, BigInt(BPF_F_LOCK))).toBe(-EINVAL);
    expect(plain.lookup(KEY, BigInt(BPF_F_LOCK))).toBe(-EINVAL);
    expect(plain.lookup(KEY)).toEqual(ones);
  });
});

it.each([
  ['PERCPU_HASH', BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH],
  ['LRU_PERCPU_HASH', BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH],
  ['PERCPU_ARRAY', BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY],
])("a %s leaves out the field of every CPU's value", (_, type) => {
  const { map, runtime } = create({ type, valueSize: 8, btf: counted() });
  const scratch = runtime.space.allocate(16, { kind: 'stack', label: 's', access: 'read-write' }).start;
  runtime.space.u8.set(KEY, scratch);
  runtime.space.u8.fill(0xff, scratch + 8, scratch + 16);
  const lane = [0, 0, 0, 0, 255, 255, 255, 255];
  expect(map.update(KEY, new Uint8Array(16).fill(0xff), 0n)).toBe(0);
  expect(runtime.space.read(map.lookupPercpuElem!(scratch, 1), 8)).toEqual(Uint8Array.from(lane));
  runtime.space.u8.fill(0xaa, map.lookupPercpuElem!(scratch, 1), map.lookupPercpuElem!(scratch, 1) + 4);
  expect(map.lookup(KEY)).toEqual(Uint8Array.from([...lane, ...lane]));
  map.delete(KEY);
  expect(map.updateElem(scratch, scratch + 8, 0)).toBe(0);
  expect(runtime.space.read(map.lookupElem(scratch), 8)).toEqual(Uint8Array.from(lane));
});

it('a map of maps holds only what has its lock where the template has it', () => {
  const inner = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 24, maxEntries: 4, flags: 0 };
  const { map, backend } = create({
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
    valueSize: 4,
    inner: { ...inner, btf },
  });
  const withLock = backend.create({ ...inner, btf: { ...btf! } }, { name: 'with' });
  const without = backend.create(inner, { name: 'without' });
  if (typeof withLock === 'number' || typeof without === 'number') throw new Error('not created');
  expect(map.setInnerMap!(KEY, without)).toBe(-EINVAL);
  expect(map.setInnerMap!(KEY, withLock)).toBe(0);
});
