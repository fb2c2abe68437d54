import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import { Party, type Makers } from '../executor-differential/testing-party.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { WasmExecutor } from './wasm-executor.js';

/** Parties of one process: their programs have the same ids and their maps the same addresses, and nothing else in common. */

const BUILDS: Readonly<Record<string, Makers>> = Object.fromEntries(
  [
    ['checked', { checked: true }],
    ['unchecked', { checked: false }],
    ['linked', { checked: false, linkAfter: 1 }],
  ].map(([name, options]) => [
    name as string,
    {
      executor: (runtime) => new WasmExecutor(runtime, options as object),
      backend: (runtime) => new MemoryMapBackend(runtime),
    } satisfies Makers,
  ]),
);

interface Rig {
  readonly party: Party;
  readonly entry: LoadedProgram;
  readonly targets: readonly LoadedProgram[];
  /** The first number of the map. */
  readonly counted: () => number;
}

/** An entry that counts and leads to a target by the number of the slot; target `n` returns `base + n`. */
async function rig(makers: Makers, base: number): Promise<Rig> {
  const party = new Party(makers);
  const count = party.map('count', { maxEntries: 1 });
  const jumps = party.map('jumps', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 });
  const entry = await party.load(
    `r4 = *(u32 *)(r1 +16)\nr2 = map[count][0]+0\nr3 = *(u64 *)(r2 +0)\nr3 += 1\n*(u64 *)(r2 +0) = r3\nr2 = map[jumps]\nr3 = r4\ncall bpf_tail_call\nr0 = 77\nexit`,
    { name: `entry ${base}`, programId: 1000 },
  );
  const targets: LoadedProgram[] = [];
  for (const n of [0, 1, 2]) {
    const text = n < 2 ? `r0 = ${base + n}\nexit` : 'r2 = 0x7fffff00 ll\nr0 = *(u64 *)(r2 +0)\nexit';
    targets.push(await party.load(text, { name: `target ${base}`, programId: 1001 + n }));
    expect(jumps.setProgram!(n, 1001 + n)).toBe(0);
  }
  const counted = (): number => (count.lookup(new Uint8Array(4)) as Uint8Array)[0]!;
  return { party, entry, targets, counted };
}

describe.each(Object.entries(BUILDS))('two parties, both %s', (_, makers) => {
  it('run their own programs on their own maps, by turns', async () => {
    const rigs = [await rig(makers, 10), await rig(makers, 20)];
    for (let round = 1; round <= 3; round++) {
      rigs.forEach(({ party, entry, counted }, index) => {
        const base = 10 * (index + 1);
        expect(party.batch(entry)).toEqual([base, base + 1, 0, 77, 1]);
        expect(counted()).toBe(4 * round);
        expect(entry.lastFault!.reason).toMatch(new RegExp(` in target ${base}$|^0x7fffff00 `));
      });
    }
  });

  it('lose what is closed, each for itself', async () => {
    const [first, second] = [await rig(makers, 10), await rig(makers, 20)];
    for (const { party, entry } of [first, second]) party.batch(entry);
    first.targets[0]!.close();
    expect(first.party.batch(first.entry)).toEqual([77, 11, 0, 77, 1]);
    expect(second.party.batch(second.entry)).toEqual([20, 21, 0, 77, 1]);
    for (const program of [first.entry, ...first.targets]) program.close();
    expect(second.party.batch(second.entry)).toEqual([20, 21, 0, 77, 1]);
    const again = await first.party.load('r0 = 5\nexit', { programId: 1000 });
    expect(first.party.batch(again)).toEqual([5, 5, 5, 5, 0]);
    expect(second.party.batch(second.entry)).toEqual([20, 21, 0, 77, 1]);
  });

  it("take no frames of each other's", async () => {
    const [first, second] = [await rig(makers, 10), await rig(makers, 20)];
    expect(() => first.entry.run(second.party.ring, 0)).toThrow(/another address space/);
    expect(() => first.entry.runBatch(second.party.ring, 0, 4)).toThrow(/another address space/);
    expect(second.counted()).toBe(0);
  });
});

it('checked and unchecked programs of two parties do not meet', async () => {
  const [first, second] = [await rig(BUILDS['checked']!, 10), await rig(BUILDS['linked']!, 20)];
  for (let round = 0; round < 3; round++) {
    expect(first.party.batch(first.entry)).toEqual([10, 11, 0, 77, 1]);
    expect(second.party.batch(second.entry)).toEqual([20, 21, 0, 77, 1]);
  }
});
