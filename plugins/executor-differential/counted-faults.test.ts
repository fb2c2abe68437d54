import { describe, expect, it } from 'vitest';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { Party, type Makers } from './testing-party.js';

/**
 * What programs did is told exactly of runs that end with a verdict, tail calls included, whatever faulted before; and of one that
 * faults no more than it did, nor less by more than its programs are long (`ProgramWork`).
 */

const backend: Makers['backend'] = (runtime) => new MemoryMapBackend(runtime);
const INTERPRETER: Makers = { executor: (runtime) => new InterpreterExecutor(runtime), backend };
const COMPILED: Readonly<Record<string, Makers>> = {
  'the checked build': { executor: (runtime) => new WasmExecutor(runtime, { checked: true }), backend },
  'programs in the place of tail calls': {
    executor: (runtime) => new WasmExecutor(runtime, { checked: false, linkAfter: 1 }),
    backend,
  },
};
const HELPERS = [BPF_FUNC.map_lookup_elem, BPF_FUNC.ktime_get_ns, BPF_FUNC.tail_call];
const LIMIT = { countWork: true, insnLimit: 5000 };

const KEY = '*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\n';
const LOOKUP = `${KEY}r1 = map[numbers]\ncall bpf_map_lookup_elem\n`;
const JUMP = 'r1 = r6\nr2 = map[jumps]\nr3 = *(u32 *)(r6 +16)\ncall bpf_tail_call\n';
/** Some work, then the program under the number of the slot. */
const ENTRY = `r6 = r1\n${LOOKUP}r7 = 3\nagain: r7 += -1\ncall bpf_ktime_get_ns\nif r7 != 0 goto again\n${JUMP}r0 = 77\nexit`;
/** By index: one that ends, one that faults behind a loop and a function, one without an end, and one that leads to the first. */
const TARGETS = [
  `r6 = r1\n${LOOKUP}${LOOKUP}r0 = 11\nexit`,
  `r6 = r1\n${LOOKUP}r7 = 5\nagain: r7 += -1\nif r7 != 0 goto again\ncall f\nr0 = 12\nexit\nf: call bpf_ktime_get_ns\nr2 = 0x7fffff00 ll\nr0 = *(u64 *)(r2 +0)\nexit`,
  'r7 = 1\nagain: r7 += 1\ncall bpf_ktime_get_ns\nif r7 != 0 goto again\nr0 = 13\nexit',
  `r6 = r1\nr3 = 0\nr2 = map[jumps]\ncall bpf_tail_call\nr0 = 78\nexit`,
];
/** Slots of all programs that a run passes through. */
const LONGEST_RUN = 60;

interface Counts {
  readonly verdict: number;
  readonly isFault: boolean;
  readonly insns: number;
  readonly bytes: number;
  readonly calls: readonly number[];
}

async function opened(makers: Makers): Promise<(slot: number) => Counts> {
  const party = new Party(makers);
  party.map('numbers');
  const jumps = party.map('jumps', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 });
  const entry: LoadedProgram = await party.load(ENTRY, LIMIT);
  for (const [index, text] of TARGETS.entries())
    expect(jumps.setProgram!(index, (await party.load(text, LIMIT)).id)).toBe(0);
  const work = entry.work!;
  const read = () => ({
    insns: work.insns,
    bytes: work.bytes,
    calls: HELPERS.map((helper) => work.calls(helper)),
  });
  return (slot) => {
    const before = read();
    const { verdict, fault } = entry.run(party.ring, slot);
    const after = read();
    return {
      verdict,
      isFault: fault !== undefined,
      insns: after.insns - before.insns,
      bytes: after.bytes - before.bytes,
      calls: after.calls.map((count, index) => count - before.calls[index]!),
    };
  };
}

describe.each(Object.entries(COMPILED))('work that is counted with %s', (_, makers) => {
  it('is that of the interpreter, of runs with a verdict between others that fault', async () => {
    const [want, run] = [await opened(INTERPRETER), await opened(makers)];
    for (const slot of [0, 1, 0, 3, 2, 0, 3, 1, 2, 3, 0]) {
      const [expected, counts] = [want(slot), run(slot)];
      expect(expected.isFault).toBe(slot === 1 || slot === 2);
      if (!expected.isFault) {
        expect(counts).toEqual(expected);
        continue;
      }
      expect([counts.verdict, counts.isFault]).toEqual([0, true]);
      // A loop that used up its insns may have been counted in other stretches than the interpreter's.
      const more = slot === 2 ? LONGEST_RUN : 0;
      expect(counts.insns).toBeLessThanOrEqual(expected.insns + more);
      expect(counts.insns).toBeGreaterThanOrEqual(expected.insns - LONGEST_RUN);
      expect(counts.bytes).toBeLessThanOrEqual(expected.bytes);
      counts.calls.forEach((count, index) => {
        expect(count).toBeLessThanOrEqual(expected.calls[index]! + more);
        expect(count).toBeGreaterThanOrEqual(expected.calls[index]! - LONGEST_RUN);
      });
    }
  });
});

describe('what the interpreter counts', () => {
  it('is each insn, call and byte of a run through two programs', async () => {
    const run = await opened(INTERPRETER);
    // R6, a look-up of 5, R7, three rounds of 3, a jump of 4; then R6, two look-ups, R0 and exit.
    const insns = 1 + 5 + 1 + 3 * 3 + 4 + (1 + 2 * 5 + 2);
    expect(run(0)).toEqual({ verdict: 11, isFault: false, insns, bytes: 3 * 4, calls: [3, 3, 1] });
  });
});
