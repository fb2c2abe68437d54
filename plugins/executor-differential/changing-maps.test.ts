import { describe, expect, it } from 'vitest';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { Party, type Makers } from './testing-party.js';

/**
 * Maps that come, are exchanged and go between runs and within them, under programs that hold pointers to them and their
 * values: the checked build, which remembers where objects lie, has to stop where the interpreter does, which asks each time.
 */

const backend: Makers['backend'] = (runtime) => new MemoryMapBackend(runtime);
const INTERPRETER: Makers = { executor: (runtime) => new InterpreterExecutor(runtime), backend };
const CHECKED: Makers = { executor: (runtime) => new WasmExecutor(runtime, { checked: true }), backend };

const INNER = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 16, maxEntries: 2, flags: 0 };
const OUTER = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4, maxEntries: 2, inner: INNER };
const FIRST = new Uint8Array(4);
const value = (first: number, size = 16): Uint8Array => new Uint8Array(size).fill(first);

/** R2 = address of a key of zeroes. */
const KEY = '*(u64 *)(r10 -8) = 0\nr2 = r10\nr2 += -8\n';
const LOOKUP = 'call bpf_map_lookup_elem\n';
/** R6 = the inner map under key 0, R0 = its first value; a NULL of either is accessed. */
const FIND = `${KEY}r1 = map[outer]\n${LOOKUP}r6 = r0\nr1 = r6\n${KEY}${LOOKUP}`;
const HAPPENS = 'call bpf_get_prandom_u32\n';

/** What happens in a run, where it calls for a random number; later runs may have something else happen. */
interface Scene {
  readonly party: Party;
  readonly outer: ResidentMap;
  /** Makes a map that the outer one may hold. */
  readonly inner: (first: number) => ResidentMap;
  happens: (() => void) | undefined;
  readonly load: (text: string) => Promise<LoadedProgram>;
}

function open(makers: Makers): Scene {
  const party = new Party(makers);
  const outer = party.map('outer', OUTER);
  let made = 0;
  const scene: Scene = {
    party,
    outer,
    happens: undefined,
    inner(first) {
      const map = party.map(`inner ${made++}`, INNER);
      expect(map.update(FIRST, value(first), 0n)).toBe(0);
      return map;
    },
    load: (text) =>
      party.load(text, {
        helperOverrides: new Map([
          [
            BPF_FUNC.get_prandom_u32,
            () => {
              scene.happens?.();
              scene.happens = undefined;
            },
          ],
        ]),
      }),
  };
  return scene;
}

/** A map whose values of 64 bytes a program looks up and writes, and others in its memory: smaller ones, one not to be written. */
async function otherInItsPlace(scene: Scene, key: string): Promise<unknown> {
  const { party, load } = scene;
  const seen: unknown[] = [];
  for (const attributes of [
    { valueSize: 8, maxEntries: 1 },
    { valueSize: 64, maxEntries: 1, flags: BPF_F_RDONLY_PROG },
    { valueSize: 4, maxEntries: 16 },
  ]) {
    const map = party.map('found', { valueSize: 64, maxEntries: 1 });
    const program = await load(
      `${key}r1 = map[found]\n${LOOKUP}r7 = r0\n*(u64 *)(r7 +0) = 1\n*(u64 *)(r7 +56) = 1\n${HAPPENS}r0 = *(u32 *)(r7 +0)\n*(u32 *)(r7 +4) = 1\nr0 = *(u64 *)(r7 +0)\n*(u64 *)(r7 +56) = 1\nr0 = 2\nexit`,
    );
    seen.push(party.runs(program, 0));
    const { address } = map;
    let other: ResidentMap | undefined;
    scene.happens = () => {
      map.close();
      other = party.map('other', attributes);
    };
    // While the value is at hand, then from a lookup that finds the other map.
    seen.push(party.runs(program, 0), party.runs(program, 0), other!.lookup(FIRST));
    expect(other!.address).toBe(address);
    program.close();
    other!.close();
  }
  return seen;
}

const SCENARIOS: Readonly<Record<string, (scene: Scene) => Promise<unknown>>> = {
  'an inner map is exchanged between runs': async ({ party, outer, inner, load }) => {
    const program = await load(`${FIND}r0 = *(u8 *)(r0 +15)\nexit`);
    const seen = [party.runs(program, 0)];
    const maps = [inner(1), inner(2)];
    for (const index of [0, 1, 0]) {
      outer.setInnerMap!(FIRST, maps[index]!);
      seen.push(party.runs(program, 0, 1));
    }
    outer.delete(FIRST);
    return [...seen, party.runs(program, 0)];
  },

  'an inner map is closed between runs, with another in its memory or none': async (scene) => {
    const { party, outer, inner, load } = scene;
    // The outer map lets go of it, and a map of which the program keeps the address does not come back.
    const program = await load(`${FIND}r0 = *(u8 *)(r0 +15)\nexit`);
    const seen: unknown[] = [];
    for (let round = 1; round <= 3; round++) {
      const map = inner(round);
      outer.setInnerMap!(FIRST, map);
      seen.push(party.runs(program, 0));
      outer.delete(FIRST);
      map.close();
      seen.push(party.runs(program, 0));
    }
    return seen;
  },

  'an inner map is exchanged while its value is at hand': async (scene) => {
    const { party, outer, inner, load } = scene;
    const program = await load(
      `${FIND}r7 = r0\nr0 = *(u8 *)(r7 +0)\n${HAPPENS}r8 = *(u8 *)(r7 +0)\n${FIND}r0 = *(u8 *)(r0 +0)\nr0 <<= 8\nr0 |= r8\nexit`,
    );
    const maps = [inner(1), inner(2)];
    outer.setInnerMap!(FIRST, maps[0]!);
    scene.happens = () => outer.setInnerMap!(FIRST, maps[1]!);
    return [party.runs(program, 0), party.runs(program, 0)];
  },

  'an inner map goes while it is at hand itself': async (scene) => {
    const { party, outer, inner, load } = scene;
    const program = await load(`${FIND}${HAPPENS}r1 = r6\n${KEY}${LOOKUP}r0 = *(u8 *)(r0 +0)\nexit`);
    const map = inner(1);
    outer.setInnerMap!(FIRST, map);
    const seen = [party.runs(program, 0)];
    scene.happens = () => {
      outer.delete(FIRST);
      map.close();
    };
    return [...seen, party.runs(program, 0), party.runs(program, 0)];
  },

  'an inner map goes while its value is at hand': async (scene) => {
    const { party, outer, inner, load } = scene;
    const program = await load(
      `${FIND}r7 = r0\n*(u64 *)(r7 +8) = 5\n${HAPPENS}r0 = *(u8 *)(r7 +8)\n*(u64 *)(r7 +8) = 6\nr0 = 2\nexit`,
    );
    const map = inner(1);
    outer.setInnerMap!(FIRST, map);
    const seen = [party.runs(program, 0)];
    scene.happens = () => {
      outer.delete(FIRST);
      map.close();
    };
    return [...seen, party.runs(program, 0)];
  },

  ...Object.fromEntries(
    [
      ['its key is at a known place', KEY],
      ['its key is where a number says', `r3 = *(u32 *)(r1 +16)\n${KEY}r2 += r3\n`],
    ].map(([where, key]) => [
      `a map goes whose value is at hand, and another lies there; ${where}`,
      (scene: Scene) => otherInItsPlace(scene, key!),
    ]),
  ),

  'an array of programs goes, and another map lies in its memory': async (scene) => {
    const { party, load } = scene;
    const jumps = party.map('jumps', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 });
    const target = await load('r0 = 11\nexit');
    expect(jumps.setProgram!(0, target.id)).toBe(0);
    const program = await load(
      `r6 = r1\n${HAPPENS}r1 = r6\nr2 = map[jumps]\nr3 = 0\ncall bpf_tail_call\nr0 = 77\nexit`,
    );
    const seen = [party.runs(program, 0)];
    scene.happens = () => {
      jumps.close();
      const other = party.map('other', { valueSize: 4 });
      other.update(FIRST, Uint8Array.of(target.id, 0, 0, 0), 0n);
    };
    return [...seen, party.runs(program, 0), party.runs(program, 0)];
  },

  'a map goes whose value a program names': async (scene) => {
    const { party, load } = scene;
    const map = party.map('named', { valueSize: 16, maxEntries: 1 });
    const program = await load(
      `r7 = map[named][0]+8\n*(u64 *)(r7 +0) = 1\n${HAPPENS}r7 = map[named][0]+0\nr0 = *(u64 *)(r7 +0)\nr0 = 2\nexit`,
    );
    const seen = [party.runs(program, 0)];
    scene.happens = () => map.close();
    return [...seen, party.runs(program, 0), party.runs(program, 0)];
  },
};

describe('the checked build', () => {
  it.each(Object.entries(SCENARIOS))('stops where the interpreter does when %s', async (_, scenario) => {
    expect(await scenario(open(CHECKED))).toEqual(await scenario(open(INTERPRETER)));
  });
});

describe('a tail call by what is no array of programs', () => {
  it.each([
    ['NULL', 'r2 = 0'],
    ['the context', 'r2 = r1'],
    ['the stack', 'r2 = r10'],
    ['another map', 'r2 = map[numbers]'],
    ['a place in an array', 'r2 = map[jumps]\nr2 += 4'],
    ['an array, but for its upper half', 'r2 = map[jumps]\nr3 = 0x100000000 ll\nr2 += r3'],
  ])('ends the run: %s', async (_, r2) => {
    for (const makers of [INTERPRETER, CHECKED]) {
      const party = new Party(makers);
      party.map('numbers');
      const jumps = party.map('jumps', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 });
      const target = await party.load('r0 = 11\nexit');
      jumps.setProgram!(0, target.id);
      const program = await party.load(`${r2}\nr3 = 0\ncall bpf_tail_call\nr0 = 77\nexit`);
      expect(program.run(party.ring, 0)).toMatchObject({
        verdict: 0,
        fault: { reason: expect.stringMatching(/^r2 = 0x[0-9a-f]+ is not a PROG_ARRAY$/) as string },
      });
    }
  });
});

describe('the interpreter', () => {
  it('stops at the first access behind the end of a map', async () => {
    const seen = (await SCENARIOS['an inner map goes while its value is at hand']!(
      open(INTERPRETER),
    )) as string[][];
    expect(seen[0]).toEqual(['2']);
    expect(seen[1]![0]).toMatch(/^0, fault at \d+$/);
  });
});
