import { beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import type { Region } from '../../src/bpf/runtime/address-space.js';
import { isResidentMap, type ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { XDP_ABORTED } from '../../src/bpf/xdp.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import type { InterpretedProgram } from './interpreted-program.js';
import { InterpreterExecutor } from './interpreter-executor.js';

/** What no verifier has seen: programs that try to get at what is not theirs. */

let runtime: BpfRuntime;
let executor: InterpreterExecutor;
let backend: MemoryMapBackend;
let byHandle: Map<number, ResidentMap>;

beforeEach(() => {
  runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  executor = new InterpreterExecutor(runtime);
  backend = new MemoryMapBackend(runtime);
  byHandle = new Map();
});

function load(text: string, insnLimit?: number): InterpretedProgram {
  const handles = new Map([...byHandle].map(([handle, map]) => [map.name, handle]));
  return executor.loadNow(
    {
      name: 'attack',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: assemble(text, { maps: handles }),
    },
    { maps: byHandle, world: { trace() {} }, insnLimit },
  );
}

function addMap(name: string, attributes: Partial<MapAttributes> = {}): ResidentMap {
  const map = backend.create(
    {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 4,
      flags: 0,
      ...attributes,
    },
    { name },
  );
  if (typeof map === 'number' || !isResidentMap(map)) throw new Error(`no map: ${String(map)}`);
  byHandle.set(byHandle.size + 1, map);
  return map;
}

/** What the interpreter keeps in the address space. */
function ownRegions(): Region[] {
  const own = runtime.space.regions.filter(({ label }) => label.includes('executor interpreter'));
  expect(own.length).toBeGreaterThanOrEqual(2);
  return own;
}

/** First and last bytes, and some between. */
function addressesIn({ start, size }: Region, count = 16): number[] {
  return Array.from({ length: count }, (_, i) => start + Math.floor(((size - 8) * i) / (count - 1)));
}

const SIZES = [8, 16, 32, 64];
const READS = SIZES.map((bits) => `r0 = *(u${bits} *)(r1 +0)\nexit`);
const WRITES = [
  ...SIZES.map((bits) => `*(u${bits} *)(r1 +0) = r2\nr0 = 0\nexit`),
  ...SIZES.map((bits) => `*(u${bits} *)(r1 +0) = 7\nr0 = 0\nexit`),
  ...[32, 64].map((bits) => `lock *(u${bits} *)(r1 +0) += r2\nr0 = 0\nexit`),
  'r3 = atomic64_fetch_add((u64 *)(r1 +0), r3)\nexit',
  'r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)\nexit',
];

describe('code, registers and state of the interpreter', () => {
  it.each([...READS, ...WRITES])('cannot be reached: %s', (text) => {
    const loaded = load(text);
    for (const region of ownRegions()) {
      for (const address of addressesIn(region)) {
        const outcome = loaded.call(BigInt(address - (address % 8)), 0xffff_ffff_ffff_ffffn);
        expect(outcome).toEqual({
          fault: { insn: 0, reason: `${region.label} is not accessible to a program` },
        });
      }
    }
    // It still is what it was.
    expect(load('r0 = 5\nexit').call(0n, 0n)).toEqual({ r0: 5n });
  });

  it.each([
    ['a lookup', 'call bpf_map_lookup_elem', 'r2'],
    ['an update', 'r3 = r10\nr3 += -16\nr4 = 0\ncall bpf_map_update_elem', 'r2'],
    ['the value of an update', 'r3 = r6\nr2 = r10\nr2 += -8\nr4 = 0\ncall bpf_map_update_elem', 'r3'],
  ])('cannot be reached by the key of %s, also when the map is known', (_, call, argument) => {
    for (const type of [BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE.BPF_MAP_TYPE_HASH]) {
      const map = addMap(`m${type}`, { type });
      map.update(new Uint8Array(4), new Uint8Array(8), 0n);
      const loaded = load(
        `r6 = r1\n*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0\nr2 = r6\nr1 = map[m${type}]\n${call}\nr0 = 1\nexit`,
      );
      const known = load(
        `*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0\nr2 = r10\nr2 += -8\nr6 = r10\nr6 += -16\nr1 = map[m${type}]\n${call}\nr0 = 1\nexit`,
      );
      for (const region of ownRegions()) {
        for (const address of addressesIn(region)) {
          for (let round = 0; round < 2; round++) expect(known.call(0n, 0n)).toEqual({ r0: 1n });
          const reason = expect.stringContaining(
            `argument ${argument}: ${region.label} is not accessible`,
          ) as string;
          expect(loaded.call(BigInt(address), 0n)).toMatchObject({ fault: { reason } });
        }
      }
    }
  });
});

describe('addresses', () => {
  it.each([
    ['one before what was read', -1n, 1],
    ['one behind what was read', 8n, 1],
    ['the last byte and one more', 7n, 2],
    ['the same with an upper half', 0x1_0000_0000n, 1],
    ['the same with the highest bit', 1n << 63n, 1],
  ])('are compared in full: %s', (_, offset, size) => {
    const map = addMap('values', { maxEntries: 1 });
    const at = BigInt(map.directValueAddress(0));
    for (const access of [`r0 = *(u${8 * size} *)(r2 +0)`, `*(u${8 * size} *)(r2 +0) = 1`]) {
      const loaded = load(`r0 = *(u64 *)(r1 +0)\n*(u64 *)(r1 +0) = 0\n${access}\nr0 = 1\nexit`);
      expect(loaded.call(at, at)).toEqual({ r0: 1n });
      expect(loaded.call(at, at + offset)).toMatchObject({ fault: { insn: 2 } });
    }
  });

  it('do not wrap around with the offset', () => {
    const map = addMap('values', { maxEntries: 1 });
    const at = map.directValueAddress(0);
    // r2 + 32767 is the address modulo 2^64, and r2 + 4 modulo 2^32.
    for (const [r2, offset] of [
      [BigInt.asUintN(64, BigInt(at) - 32767n - 2n ** 64n) + 2n ** 32n, 32767],
      [BigInt(at) - 4n + 2n ** 32n, 4],
      [2n ** 64n - 4n, 8],
    ] as const) {
      const loaded = load(`r0 = *(u64 *)(r1 +0)\nr0 = *(u8 *)(r2 +${offset})\nexit`);
      expect(loaded.call(BigInt(at), r2)).toMatchObject({ fault: { insn: 1 } });
    }
  });

  it('that may be read may not be written for that', () => {
    const map = addMap('constants', { maxEntries: 1, flags: BPF_F_RDONLY_PROG });
    const loaded = load('r0 = *(u64 *)(r1 +0)\n*(u64 *)(r1 +0) = 1\nexit');
    expect(loaded.call(BigInt(map.directValueAddress(0)), 0n)).toMatchObject({ fault: { insn: 1 } });
    const found = load(
      '*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[constants]\ncall bpf_map_lookup_elem\nr1 = *(u64 *)(r0 +0)\n*(u64 *)(r0 +0) = 1\nexit',
    );
    for (let round = 0; round < 3; round++) expect(found.call(0n, 0n)).toMatchObject({ fault: { insn: 7 } });
  });

  it('of a local function’s frame are none once it has returned', () => {
    const loaded = load(
      'call sub\nr1 = *(u64 *)(r0 +0)\nexit\nsub: *(u64 *)(r10 -8) = 5\nr0 = r10\nr0 += -8\nr1 = *(u64 *)(r0 +0)\nexit',
    );
    expect(loaded.call(0n, 0n)).toEqual({
      fault: { insn: 1, reason: expect.stringMatching(/stack frame at 0x[0-9a-f]+ is not in use/) as string },
    });
  });

  it('of the frame before in a batch are none in the next', () => {
    const map = addMap('kept', { maxEntries: 1 });
    const loaded = load(
      `r6 = *(u32 *)(r1 +0)
       r1 = value[kept]
       r2 = *(u64 *)(r1 +0)
       *(u64 *)(r1 +0) = r6
       r0 = 2
       if r2 == 0 goto +1
       r0 = *(u8 *)(r2 +0)
       exit`.replace('value[kept]', `0x${map.directValueAddress(0).toString(16)}ll`),
    );
    const frames = new FrameRing(runtime.space, 3);
    for (let slot = 0; slot < 3; slot++) frames.load(slot, new Uint8Array(60).fill(1));
    expect(loaded.runBatch(frames, 0, 3)).toBe(2);
    expect([0, 1, 2].map((slot) => frames.verdict(slot))).toEqual([2, XDP_ABORTED, XDP_ABORTED]);
    expect(loaded.lastFault?.insn).toBe(7);
  });
});

describe('maps that the machine knows', () => {
  const LOOKUP = `
    *(u64 *)(r10 -8) = 0
    r6 = r2
    r2 = r10
    r2 += -8
    call bpf_map_lookup_elem
    if r0 == 0 goto +1
    r0 = *(u8 *)(r0 +7)
    exit`;

  it.each([
    ['NULL', 0n],
    ['another number', 0x20000n],
  ])('are not %s', (_, r1) => {
    const loaded = load(LOOKUP);
    expect(loaded.call(r1, 0n)).toEqual({
      fault: { insn: 4, reason: `r1 = 0x${r1.toString(16)} is not a map` },
    });
  });

  it('are not what has their lower half', () => {
    const map = addMap('known');
    const loaded = load(LOOKUP);
    for (let round = 0; round < 2; round++) expect(loaded.call(BigInt(map.address), 0n)).toEqual({ r0: 0n });
    expect(loaded.call(BigInt(map.address) + 2n ** 32n, 0n)).toMatchObject({ fault: { insn: 4 } });
  });

  it('are forgotten when they are removed, and others come to lie there', () => {
    const loaded = load(LOOKUP);
    const first = addMap('first', { valueSize: 8 });
    const { address } = first;
    for (let round = 0; round < 2; round++) expect(loaded.call(BigInt(address), 0n)).toEqual({ r0: 0n });
    first.close();
    expect(loaded.call(BigInt(address), 0n)).toMatchObject({ fault: { insn: 4 } });
    const second = addMap('second', { valueSize: 4 });
    expect(second.address).toBe(address);
    expect(loaded.call(BigInt(address), 0n)).toMatchObject({ fault: { insn: 6 } });
  });
});

describe('how long a run may be', () => {
  it('is looked at for each frame of a batch', () => {
    const loaded = load('r1 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r1 +0)\nif r0 == 1 goto -1\nexit', 1000);
    const frames = new FrameRing(runtime.space, 4);
    for (let slot = 0; slot < 4; slot++) frames.load(slot, new Uint8Array(60).fill(slot % 2));
    expect(loaded.runBatch(frames, 0, 4)).toBe(2);
    expect([0, 1, 2, 3].map((slot) => frames.verdict(slot))).toEqual([0, XDP_ABORTED, 0, XDP_ABORTED]);
    expect(loaded.lastFault?.reason).toBe('the limit of 1000 insns is used up');
    expect(loaded.executedInsns).toBe(1001);
  });

  it('goes on behind a slice of the loop', () => {
    const rounds = 200_000;
    const loaded = load(`r0 = 0\nagain: r0 += 1\nif r0 != ${rounds} goto again\nexit`);
    expect(loaded.call(0n, 0n)).toEqual({ r0: BigInt(rounds) });
    expect(loaded.executedInsns).toBe(2 * rounds + 2);
    const frames = new FrameRing(runtime.space, 2);
    for (let slot = 0; slot < 2; slot++) frames.load(slot, new Uint8Array(60));
    expect(loaded.runBatch(frames, 0, 2)).toBe(0);
    expect(frames.verdict(1)).toBe(rounds);
    expect(loaded.executedInsns).toBe(2 * rounds + 2);
  });
});
