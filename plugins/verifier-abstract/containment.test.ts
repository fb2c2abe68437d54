import { describe, expect, it } from 'vitest';
import { CONTAINMENT_CONFIG } from '../../bench/verifier/containment-campaign.js';
import { findOutsideOf } from '../../bench/verifier/containment.js';
import { requestOf } from '../../bench/verifier/judges.js';
import { assemble } from '../../src/bpf/assembler.js';
import {
  generateCase,
  generateObjectCase,
  generatePruningCase,
  type GeneratedCase,
} from '../../src/conformance/program-generator/index.js';
import type { Verification } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';
import { type ConcreteState, StateRecorder } from './state-recorder.js';

/** Programs of each kind to try; a campaign takes minutes: `npm run fuzz:verifier -- --containment`. */
const PROGRAMS = Number(process.env['CONTAINMENT_PROGRAMS'] ?? 60);

/** Holds runs of each case against what was explored; how many were accepted, and how many of them were checked. */
async function contained(cases: Iterable<GeneratedCase>): Promise<{ accepted: number; checked: number }> {
  let accepted = 0;
  let checked = 0;
  for (const generated of cases) {
    const result = await findOutsideOf(generated, CONTAINMENT_CONFIG);
    if (result.kind === 'miss') {
      expect.fail(`seed ${generated.seed}: insn ${result.miss.insn}: ${result.miss.reason}`);
    }
    if (result.kind !== 'contained') continue;
    accepted++;
    checked += result.checked;
  }
  return { accepted, checked };
}

function* seeds(make: (seed: number) => GeneratedCase): Iterable<GeneratedCase> {
  for (let seed = 1; seed <= PROGRAMS; seed++) yield make(seed);
}

describe('runs stay within the states that were explored', () => {
  it('of programs at random, half of them made unsafe', async () => {
    const { accepted, checked } = await contained(
      seeds((seed) => generateCase(seed, { unsafePercent: 50, frames: 2 })),
    );
    expect(accepted).toBeGreaterThan(PROGRAMS / 3);
    expect(checked).toBeGreaterThan(100 * PROGRAMS);
  });

  it('of programs about what programs hold', async () => {
    const { accepted, checked } = await contained(
      seeds((seed) => generateObjectCase(seed, { unsafePercent: 30, frames: 2 })),
    );
    expect(accepted).toBeGreaterThan(PROGRAMS / 3);
    expect(checked).toBeGreaterThan(50 * PROGRAMS);
  });

  it('of programs whose ways meet', async () => {
    const { accepted, checked } = await contained(seeds((seed) => generatePruningCase(seed)));
    expect(accepted).toBeGreaterThan(PROGRAMS / 5);
    expect(checked).toBeGreaterThan(20 * PROGRAMS);
  });
});

describe('shortcuts of the exploration', () => {
  it.each([
    ['pruning', { prune: false }],
    ['widening', { widen: false }],
  ] as const)('%s changes no verdict', async (_, tools) => {
    const counts = { same: 0, accepted: 0, tooLarge: 0 };
    for (const make of [
      generatePruningCase,
      (seed: number) => generateCase(seed, { unsafePercent: 50, statements: 12 }),
      (seed: number) => generateObjectCase(seed, { unsafePercent: 30, statements: 12 }),
    ]) {
      for (const generated of seeds(make)) {
        const request = requestOf(generated.programs[0]!, generated);
        const config = { ...CONTAINMENT_CONFIG, maxProcessedInsns: 10_000 };
        const usual = await new AbstractVerifier(config).verify(request);
        const without = await new AbstractVerifier(config, tools).verify(request);
        if (!without.accepted && without.code === 'too-many-insns') {
          counts.tooLarge++;
          continue;
        }
        const code = (verification: Verification): string =>
          verification.accepted ? 'accepted' : verification.code;
        // Which of two faults is found first depends on the way there.
        expect(usual.accepted, `seed ${generated.seed}: ${code(usual)}, without ${code(without)}`).toBe(
          without.accepted,
        );
        counts.same++;
        if (usual.accepted) counts.accepted++;
      }
    }
    expect(counts.same).toBeGreaterThan(PROGRAMS);
    expect(counts.accepted).toBeGreaterThan(PROGRAMS / 4);
  });
});

describe('a run that leaves them is found', () => {
  const CONTEXT = 0x2_0000n;
  const FRAME_POINTER = 0x3_0000n;
  const DATA = 0x4_0000n;
  const RECORD = 0x5_0000n;

  /** The last insn's states of a program, and a run there with these registers and slots. */
  async function outside(
    text: string,
    registers: Readonly<Record<number, bigint>>,
    stack: Readonly<Record<number, bigint>> = {},
    at?: number,
    records: readonly bigint[] = [],
  ): Promise<string | undefined> {
    const insns = assemble(text, { maps: new Map([['ring', 1]]) });
    const ring = { name: 'ring', type: 27, keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 };
    const recorder = new StateRecorder();
    const program = { name: 'p', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns } as const;
    const verifier = new AbstractVerifier(DEFAULT_CONFIG, { observer: recorder });
    const result = await verifier.verify({ program, maps: new Map([[1, ring]]) });
    if (!result.accepted) expect.fail(result.reason);
    recorder.finish(insns);
    const values = Array.from({ length: 11 }, (_, register) => registers[register] ?? 0n);
    values[10] = FRAME_POINTER;
    const run: ConcreteState = {
      pc: at ?? insns.length - 1,
      frames: [{ start: 0, callsite: -1, registers: values }],
      context: CONTEXT,
      data: DATA,
      dataEnd: DATA + 64n,
      dataMeta: DATA,
      read(address, size) {
        const offset = Number(address - FRAME_POINTER);
        const word = stack[Math.floor(offset / 8) * 8] ?? 0n;
        return BigInt.asUintN(8 * size, word >> BigInt(8 * (((offset % 8) + 8) % 8)));
      },
      records,
      mapAddress: () => undefined,
      objectAt: (address) => (address === RECORD ? 'a ring buffer record' : undefined),
    };
    return recorder.findOutside(run)?.reason;
  }

  const INDEX = `r6 = r1\nr3 = *(u32 *)(r6 +12)\nr3 &= 7\nr4 = r10\nr4 += -8\n*(u64 *)(r10 -8) = 0\nr4 += r3\nr0 = *(u8 *)(r4 +0)\nr0 = 2\nexit`;

  it('in a number that decides an access', async () => {
    // At `r4 += r3`.
    expect(await outside(INDEX, { 3: 7n, 4: FRAME_POINTER - 8n, 6: CONTEXT }, {}, 6)).toBeUndefined();
    expect(await outside(INDEX, { 3: 8n, 4: FRAME_POINTER - 8n, 6: CONTEXT }, {}, 6)).toMatch(/^R3 = 0x8/);
  });

  it('in a pointer', async () => {
    expect(await outside(INDEX, { 3: 7n, 4: FRAME_POINTER - 7n }, {}, 6)).toMatch(/^R4 =/);
  });

  it('in a slot that is read', async () => {
    const text = `*(u64 *)(r10 -8) = r1\nr0 = 0\nr2 = *(u64 *)(r10 -8)\nr0 = *(u32 *)(r2 +12)\nexit`;
    expect(await outside(text, {}, { [-8]: CONTEXT }, 1)).toBeUndefined();
    expect(await outside(text, {}, { [-8]: CONTEXT + 1n }, 1)).toMatch(/^fp-8 =/);
  });

  it('in bytes of the packet that are said to be there, and in pointers of one id', async () => {
    const text = `r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 14\nr0 = 2\nif r4 > r3 goto out\nr0 = *(u8 *)(r2 +13)\nout: exit`;
    expect(await outside(text, { 2: DATA }, {}, 6)).toBeUndefined();
    expect(await outside(text, { 2: DATA + 60n }, {}, 6)).toMatch(/^R2 =/);
  });

  it('in a record that is held without a reference to it, or not held although there is one', async () => {
    const text = `*(u64 *)(r10 -8) = 0\nr1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\nif r0 == 0 goto out\nr1 = r0\nr2 = 0\ncall bpf_ringbuf_submit\nout: r0 = 2\nexit`;
    // At `r1 = r0`, where it is held, and at the end, where it is not.
    expect(await outside(text, { 0: RECORD }, {}, 7, [RECORD])).toBeUndefined();
    expect(await outside(text, { 0: RECORD }, {}, 7, [])).toMatch(
      /^reference \d+ is 0x50000, which is not held/,
    );
    expect(await outside(text, { 0: RECORD }, {}, 7, [RECORD, RECORD + 64n])).toMatch(/^2 records are held/);
    expect(await outside(text, {}, {}, 10, [])).toBeUndefined();
    expect(await outside(text, {}, {}, 10, [RECORD])).toMatch(/^1 records are held/);
  });

  it('at an insn that no path came to', async () => {
    expect(await outside(`r0 = 2\nif r0 == 2 goto out\nr0 = 1\nout: exit`, {}, {}, 2)).toBe(
      'no state was explored here',
    );
  });
});
