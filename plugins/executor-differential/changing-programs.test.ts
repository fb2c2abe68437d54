import { describe, expect, it } from 'vitest';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { Party, type Makers } from './testing-party.js';

/**
 * Arrays of programs that change while programs make tail calls by them: whoever compiled what an array held before has to
 * do as the interpreter does, which looks at each call.
 */

const backend: Makers['backend'] = (runtime) => new MemoryMapBackend(runtime);
const REFERENCE: Makers = { executor: (runtime) => new InterpreterExecutor(runtime), backend };
const COMPILED: Readonly<Record<string, Makers>> = {
  'the checked build': {
    executor: (runtime) => new WasmExecutor(runtime, { checked: true }),
    backend,
  },
  'programs in the place of tail calls': {
    executor: (runtime) => new WasmExecutor(runtime, { checked: false, linkAfter: 1 }),
    backend,
  },
};

const JUMPS = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 };
const jump = (index: string): string => `r2 = map[jumps]\nr3 = ${index}\ncall bpf_tail_call\n`;
/** Jumps by the slot's number. */
const BY_SLOT = `r4 = *(u32 *)(r1 +16)\n${jump('r4')}r0 = 77\nexit`;
const returns = (verdict: number): string => `r0 = ${verdict}\nexit`;
/** Counts in the first number of `count`, then jumps. */
const counting = (index: string): string =>
  `r2 = map[count][0]+0\nr3 = *(u64 *)(r2 +0)\nr3 += 1\n*(u64 *)(r2 +0) = r3\n${jump(index)}r0 = 2\nexit`;
const BAD_READ = 'r2 = 0x7fffff00 ll\nr0 = *(u64 *)(r2 +0)\nexit';

/** What is seen of a scenario: the same by all executors. */
type Scenario = (party: Party) => Promise<unknown>;

const opened = (party: Party): ((index: number, program: LoadedProgram | undefined) => void) => {
  const jumps = party.map('jumps', JUMPS);
  party.map('count', { maxEntries: 1 });
  return (index, program) => {
    if (program === undefined) jumps.delete(Uint8Array.of(index, 0, 0, 0));
    else expect(jumps.setProgram!(index, program.id)).toBe(0);
  };
};

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'entries are set, exchanged and cleared': async (party) => {
    const set = opened(party);
    const caller = await party.load(BY_SLOT);
    const seen: unknown[] = [party.batch(caller)];
    const targets = await Promise.all([11, 12, 13].map((verdict) => party.load(returns(verdict))));
    for (const order of [[0, 1, 2], [2, 0, 1], [1], [], [0, 0, 0], [2, 2]]) {
      for (let index = 0; index < 4; index++) set(index, targets[order[index] ?? 3]);
      seen.push(party.batch(caller), party.batch(caller));
    }
    return seen;
  },

  'targets are closed, and others come in their place': async (party) => {
    const set = opened(party);
    const caller = await party.load(BY_SLOT);
    const seen: unknown[] = [];
    for (let round = 0; round < 5; round++) {
      const targets = await Promise.all([0, 1, 2].map((n) => party.load(returns(10 * round + n))));
      targets.forEach((target, index) => set(index, target));
      seen.push(party.batch(caller), party.batch(caller));
      targets[round % 3]!.close();
      seen.push(party.batch(caller), party.batch(caller));
      for (const target of targets) target.close();
      seen.push(party.batch(caller));
    }
    return seen;
  },

  'a target faults between two that do not': async (party) => {
    const set = opened(party);
    const caller = await party.load(BY_SLOT);
    for (const [index, text] of [returns(11), BAD_READ, returns(13)].entries())
      set(index, await party.load(text, { name: `target ${index}` }));
    const seen: unknown[] = [];
    for (let round = 0; round < 3; round++) seen.push(party.batch(caller), party.runs(caller, 0, 1, 2, 3));
    return seen;
  },

  'a target uses up the insns of its run, and of no other': async (party) => {
    const set = opened(party);
    const limit = { insnLimit: 1000 };
    const caller = await party.load(BY_SLOT, limit);
    const loop = (rounds: number): string =>
      `r4 = ${rounds}\nagain: r4 += -1\nif r4 != 0 goto again\nr0 = 5\nexit`;
    for (const [index, rounds] of [300, 0, 400].entries()) set(index, await party.load(loop(rounds), limit));
    const seen: unknown[] = [];
    for (let round = 0; round < 3; round++) seen.push(party.batch(caller), party.runs(caller, 0, 1, 2, 3));
    return seen;
  },

  'a program leads to itself, and then no more': async (party) => {
    const set = opened(party);
    const count = party.map('count', { maxEntries: 1 });
    const caller = await party.load(counting('0'));
    const seen: unknown[] = [];
    const look = (): unknown => seen.push([party.batch(caller), count.lookup(new Uint8Array(4))]);
    look();
    set(0, caller);
    for (let round = 0; round < 3; round++) look();
    set(0, await party.load(returns(9)));
    for (let round = 0; round < 3; round++) look();
    set(0, caller);
    for (let round = 0; round < 3; round++) look();
    return seen;
  },

  'the limit of 33 falls into a ring of three, from wherever one comes': async (party) => {
    const set = opened(party);
    const count = party.map('count', { maxEntries: 1 });
    const ring = await Promise.all([1, 2, 0].map((next) => party.load(counting(String(next)))));
    ring.forEach((program, index) => set(index, program));
    const seen: unknown[] = [];
    for (let round = 0; round < 4; round++)
      for (const program of ring) seen.push(party.runs(program, 0), count.lookup(new Uint8Array(4)));
    return seen;
  },

  'an entry changes during the run, in front of the call': async (party) => {
    const set = opened(party);
    const targets = await Promise.all([11, 12].map((verdict) => party.load(returns(verdict))));
    let runs = 0;
    const helperOverrides = new Map([
      [BPF_FUNC.get_prandom_u32, () => set(0, [...targets, undefined][runs++ % 3])],
    ]);
    const caller = await party.load(`r6 = r1\ncall bpf_get_prandom_u32\nr1 = r6\n${jump('0')}r0 = 77\nexit`, {
      helperOverrides,
    });
    return [0, 1, 2, 3].map(() => party.batch(caller));
  },

  'a target sends its caller elsewhere next time': async (party) => {
    const set = opened(party);
    const targets: LoadedProgram[] = [];
    let runs = 0;
    const helperOverrides = new Map([[BPF_FUNC.get_prandom_u32, () => set(0, targets[++runs % 3])]]);
    for (const verdict of [11, 12, 13])
      targets.push(await party.load(`call bpf_get_prandom_u32\n${returns(verdict)}`, { helperOverrides }));
    const caller = await party.load(`${jump('0')}r0 = 77\nexit`);
    set(0, targets[0]);
    return [0, 1, 2, 3].map(() => party.batch(caller));
  },

  'a target is closed during the run, in front of the call': async (party) => {
    const set = opened(party);
    let target: LoadedProgram | undefined;
    const helperOverrides = new Map([[BPF_FUNC.get_prandom_u32, () => target?.close()]]);
    const caller = await party.load(`r6 = r1\ncall bpf_get_prandom_u32\nr1 = r6\n${jump('0')}r0 = 77\nexit`, {
      helperOverrides,
    });
    const seen: unknown[] = [];
    for (let round = 0; round < 3; round++) {
      const next = await party.load(returns(11 + round));
      set(0, next);
      target = undefined;
      seen.push(party.batch(caller), party.batch(caller));
      target = next;
      seen.push(party.batch(caller), party.batch(caller));
    }
    return seen;
  },
};

describe.each(Object.entries(COMPILED))('with %s', (_, makers) => {
  it.each(Object.entries(SCENARIOS))('%s', async (__, scenario) => {
    const expected = await scenario(new Party(REFERENCE));
    expect(await scenario(new Party(makers))).toEqual(expected);
  });
});

describe('what the interpreter makes of it', () => {
  it('is that a program that leads to itself runs 34 times for a frame', async () => {
    const party = new Party(REFERENCE);
    const set = opened(party);
    const count = party.map('count', { maxEntries: 1 });
    const caller = await party.load(counting('0'));
    set(0, caller);
    expect(party.runs(caller, 0)).toEqual(['2']);
    expect((count.lookup(new Uint8Array(4)) as Uint8Array)[0]).toBe(34);
  });

  it('is that what is gone from an array, or closed, is not led to', async () => {
    const party = new Party(REFERENCE);
    const set = opened(party);
    const caller = await party.load(BY_SLOT);
    const [first, second] = [await party.load(returns(11)), await party.load(returns(12))];
    set(0, first);
    set(1, second);
    expect(party.batch(caller)).toEqual([11, 12, 77, 77, 0]);
    set(0, undefined);
    second.close();
    expect(party.batch(caller)).toEqual([77, 77, 77, 77, 0]);
  });
});
