import { beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { hashKey, hashKeyWords, hashMultipliers } from '../../src/bpf/runtime/map-layout.js';
import { XDP_PASS } from '../../src/bpf/xdp.js';
import type { Executor, RunOutcome } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { WasmExecutor } from '../executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';

const EXECUTORS: Readonly<Record<string, (runtime: BpfRuntime) => Executor>> = {
  interpreter: (runtime) => new InterpreterExecutor(runtime),
  wasm: (runtime) => new WasmExecutor(runtime, { checked: false }),
  'wasm, checked': (runtime) => new WasmExecutor(runtime, { checked: true }),
};

const T = BPF_MAP_TYPE;
const LONG = 4096;
const LIMIT = 100_000;
const ROUNDS = 200;

/** Keys of two words or more that have one hash under a known seed: the second word undoes what the first did. */
function colliding(count: number, keySize: number, seed: number): Uint8Array[] {
  const { second } = hashMultipliers(seed);
  // Its inverse modulo 2^32, by Newton: each step doubles the bits that are right, of which there are three.
  let inverse = second;
  for (let i = 0; i < 4; i++) inverse = Math.imul(inverse, 2 - Math.imul(second, inverse));
  return Array.from({ length: count }, (_, i) => {
    const words = new Int32Array(keySize / 4);
    words[0] = i;
    const hash = hashKeyWords(words, 0, 1, seed);
    // g = w * second; g ^= g >>> 15, undone, so that h ^ g is 0.
    words[1] = Math.imul(hash ^ (hash >>> 15) ^ (hash >>> 30), inverse);
    return new Uint8Array(words.buffer);
  });
}

/** Keys that have different hashes and the same bucket. */
function inOneBucket(count: number, bucketCount: number, seed: number): Uint8Array[] {
  const keys: Uint8Array[] = [];
  for (let i = 0; keys.length < count; i++) {
    const key = new Uint8Array(Uint32Array.of(i).buffer);
    if ((hashKey(key, 0, 4, seed) & (bucketCount - 1)) === 0) keys.push(key);
  }
  return keys;
}

const distinct = (count: number, keySize: number): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => {
    const words = new Int32Array(keySize / 4);
    words[0] = i;
    return new Uint8Array(words.buffer);
  });

/** Goes `rounds` times through `body`, in which R6 is the address of the key, in a map's value. */
const repeated = (rounds: number, body: string): string => `
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[keys]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r6 = r0
  r7 = ${rounds}
again:
  ${body}
  r7 += -1
  if r7 != 0 goto again
out:
  r0 = 2
  exit`;

/** The key in the stack, where compiled code keeps it in locals; 0 from its ninth byte on. */
const ON_STACK = `
  r1 = *(u64 *)(r6 +0)
  *(u64 *)(r10 -128) = r1
  ${Array.from({ length: 15 }, (_, i) => `*(u64 *)(r10 -${120 - 8 * i}) = 0`).join('\n  ')}
  r2 = r10
  r2 += -128`;

const OPERATIONS: Readonly<Record<string, string>> = {
  lookup: 'r1 = map[h]\n r2 = r6\n call bpf_map_lookup_elem',
  'lookup of a key in the stack': `${ON_STACK}\n r1 = map[h]\n call bpf_map_lookup_elem`,
  'lookup in a map that is known when it runs': `
    r1 = map[h]
    if r7 != 77 goto same
    r1 = map[other]
    same: r2 = r6
    call bpf_map_lookup_elem`,
  update: 'r1 = map[h]\n r2 = r6\n r3 = r6\n r4 = 0\n call bpf_map_update_elem',
  delete: `
    r1 = map[h]
    r2 = r6
    call bpf_map_delete_elem`,
};

describe.each(Object.entries(EXECUTORS))('long hash chains in %s', (_, makeExecutor) => {
  let runtime: BpfRuntime;
  let backend: MemoryMapBackend;
  let ring: FrameRing;
  let maps: Map<string, ResidentMap>;

  beforeEach(() => {
    runtime = new BpfRuntime({ memoryBytes: 16 << 20, cpus: 1, seed: 5n });
    backend = new MemoryMapBackend(runtime);
    ring = new FrameRing(runtime.space, 1);
    ring.load(0, new Uint8Array(64));
    maps = new Map();
  });

  function create(name: string, attributes: Partial<MapAttributes>): ResidentMap {
    const map = backend.create(
      { type: T.BPF_MAP_TYPE_HASH, keySize: 8, valueSize: 8, maxEntries: LONG, flags: 0, ...attributes },
      { name },
    ) as ResidentMap;
    maps.set(name, map);
    return map;
  }

  /** `h` with these keys, and `keys` with the one that programs ask for. */
  function fill(map: ResidentMap, keys: readonly Uint8Array[], wanted: Uint8Array): void {
    const value = new Uint8Array(map.syscallValueSize).fill(1);
    expect(keys.every((key) => map.update(key, value, 0n) === 0)).toBe(true);
    create('keys', {
      type: T.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: wanted.length,
      maxEntries: 1,
    }).update(new Uint8Array(4), wanted, 0n);
    // The control plane does as much work as it likes.
    expect(runtime.owedInsns).toBe(0);
  }

  async function run(text: string, insnLimit = LIMIT): Promise<RunOutcome> {
    const names = [...maps.keys()];
    const loaded = await makeExecutor(runtime).load(
      {
        name: 'test',
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        insns: assemble(text, { maps: new Map(names.map((name, index) => [name, index + 1])) }),
      },
      {
        maps: new Map(names.map((name, index) => [index + 1, maps.get(name)!])),
        world: { trace() {} },
        insnLimit,
      },
    );
    const outcome = loaded.run(ring, 0);
    loaded.close();
    return outcome;
  }

  const USED_UP = `the limit of ${LIMIT} insns is used up`;

  describe.each(Object.entries(OPERATIONS))('%s', (operation, body) => {
    // 8 bytes are looked up by compiled code, 128 by the helper.
    it.each([8, 128])('is charged for keys of %d bytes that collide', async (keySize) => {
      const map = create('h', { keySize });
      create('other', { keySize });
      const { seed } = map.layout as { seed: number };
      const keys = colliding(LONG, keySize, seed);
      // The first to be inserted is the last in its chain. What is deleted is not there, so that it stays as long.
      const wanted = keys[0]!;
      fill(map, operation === 'delete' ? keys.slice(1) : keys, wanted);
      expect((await run(repeated(ROUNDS, body))).fault?.reason).toBe(USED_UP);
    });

    it('is not charged for keys that do not', async () => {
      const map = create('h', {});
      create('other', {});
      const keys = distinct(LONG, 8);
      fill(map, keys, keys[0]!);
      expect(await run(repeated(ROUNDS, body))).toEqual({ verdict: XDP_PASS });
    });
  });

  it('are charged for in rounds of 32 elements beyond the first 32', async () => {
    const map = create('h', {});
    const keys = colliding(1100, 8, (map.layout as { seed: number }).seed);
    fill(map, keys.slice(0, 1024), keys[0]!);
    const text = repeated(1, OPERATIONS['lookup']!);
    // 992 for the chain, and not 32 for the insns.
    expect(await run(text, 1024)).toEqual({ verdict: XDP_PASS });
    for (const key of keys.slice(1024)) map.update(key, new Uint8Array(8), 0n);
    expect((await run(text, 1024)).fault?.reason).toBe('the limit of 1024 insns is used up');
    // The next run has all of its limit.
    expect(await run(text, 1200)).toEqual({ verdict: XDP_PASS });
  });

  it('are charged for whether or not the key is found, and found it is', async () => {
    const map = create('h', {});
    const keys = colliding(101, 8, (map.layout as { seed: number }).seed);
    fill(map, keys.slice(0, 100), keys[0]!);
    const found = repeated(1, `${OPERATIONS['lookup']!}\n if r0 == 0 goto out\n r0 = 77\n exit`);
    for (let n = 0; n < 101; n++) {
      maps.get('keys')!.update(new Uint8Array(4), keys[n]!, 0n);
      expect(await run(found)).toEqual({ verdict: n < 100 ? 77 : XDP_PASS });
    }
  });

  it('are charged for in a map of devices', async () => {
    const map = create('h', { type: T.BPF_MAP_TYPE_DEVMAP_HASH, keySize: 4, valueSize: 4 });
    const { seed, bucketCount } = map.layout as { seed: number; bucketCount: number };
    const keys = inOneBucket(500, bucketCount, seed);
    fill(map, keys, keys[0]!);
    const redirect = 'r1 = map[h]\n r2 = *(u32 *)(r6 +0)\n r3 = 0\n call bpf_redirect_map';
    expect((await run(repeated(500, redirect))).fault?.reason).toBe(USED_UP);
    maps.get('keys')!.update(new Uint8Array(4), keys[499]!, 0n);
    expect(await run(repeated(500, redirect))).toEqual({ verdict: XDP_PASS });
  });

  it('are charged for where an LRU map evicts from them', async () => {
    const map = create('h', { type: T.BPF_MAP_TYPE_LRU_HASH });
    const keys = colliding(LONG, 8, (map.layout as { seed: number }).seed);
    fill(map, keys, new Uint8Array(8));
    // Each round inserts a key that is in no long chain, and evicts the oldest of the long one.
    const body = `
      r1 = r7
      r1 <<= 32
      *(u64 *)(r10 -16) = r1
      r1 = map[h]
      r2 = r10
      r2 += -16
      r3 = r6
      r4 = 0
      call bpf_map_update_elem`;
    expect((await run(repeated(ROUNDS, body))).fault?.reason).toBe(USED_UP);
  });

  it('are charged for where a walk stops at their first element', async () => {
    const map = create('h', {});
    fill(map, colliding(LONG, 8, (map.layout as { seed: number }).seed), new Uint8Array(8));
    const body = `
      r1 = map[h]
      r2 = subprog[stop]
      r3 = 0
      r4 = 0
      call bpf_for_each_map_elem`;
    const text = `${repeated(50, body)}\nstop:\n r0 = 1\n exit`;
    expect((await run(text)).fault?.reason).toBe(USED_UP);
  });

  it('are charged for keys that are compared in full, beyond the first', async () => {
    const map = create('h', { keySize: 4096, maxEntries: 16 });
    const { seed } = map.layout as { seed: number };
    // They differ in their first words; that they may as well differ in their last is what the charge is for.
    const keys = colliding(16, 4096, seed);
    fill(map, keys, keys[15]!);
    const text = repeated(1, OPERATIONS['update']!);
    // 512 for the key and 0 for the value; the last one inserted is the first to be compared.
    expect(await run(text, 1000)).toEqual({ verdict: XDP_PASS });
    maps.get('keys')!.update(new Uint8Array(4), keys[0]!, 0n);
    expect((await run(text, 1000 + 14 * 512)).fault?.reason).toBe(
      `the limit of ${1000 + 14 * 512} insns is used up`,
    );
    expect(await run(text, 1000 + 15 * 512)).toEqual({ verdict: XDP_PASS });
  });

  it('are not found in honest maps with as many elements as buckets', () => {
    const map = create('h', { keySize: 4, maxEntries: 1 << 16 });
    const keys = distinct(1 << 16, 4);
    expect(keys.every((key) => map.update(key, new Uint8Array(8), 0n) === 0)).toBe(true);
    const at = runtime.space.allocate(8, { kind: 'map', label: 'a key', access: 'none' }).start;
    let found = 0;
    for (const key of keys) {
      runtime.space.u8.set(key, at);
      if (map.lookupElem(at) !== 0 && map.updateElem(at, at, 0) === 0) found++;
    }
    expect(found).toBe(keys.length);
    expect(runtime.owedInsns).toBe(0);
  });
});
