import { describe, expect, it } from 'vitest';
import { MAX_FRAME_LENGTH } from '../../src/bpf/runtime/xdp-frame.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import { randomStream } from '../../src/core/run/random.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { outcomeText, Party, type Makers } from './testing-party.js';

/**
 * Frames in several buffers, of programs that no verifier has seen: helpers reach into the frags or are refused, the tail
 * moves over the end of a buffer, and what programs access directly is the linear part as it is then.
 */

const backend: Makers['backend'] = (runtime) => new MemoryMapBackend(runtime);
const INTERPRETER: Makers = { executor: (runtime) => new InterpreterExecutor(runtime), backend };
const CHECKED: Makers = { executor: (runtime) => new WasmExecutor(runtime, { checked: true }), backend };

const LONGEST = 12_000;
const PROGRAMS = 150;
/** Where buffers end, of a frame of 9000 bytes: what lies in the linear part, in the first page of frags, in the second one. */
const EDGES = [0, MAX_FRAME_LENGTH, MAX_FRAME_LENGTH + 4096, 9000, 65_536];

class Dice {
  readonly #next: () => number;
  constructor(seed: number) {
    this.#next = randomStream(BigInt(seed), 'long frames');
  }

  below(limit: number): number {
    return this.#next() % limit;
  }

  one<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** R6: the context, R8: what helpers returned, added up with what was read. */
function programText(seed: number): string {
  const dice = new Dice(seed);
  const near = (): number => dice.one(EDGES) + dice.below(40) - 20;
  const lines = ['r6 = r1', 'r8 = 0'];
  for (let at = -128; at < 0; at += 8) lines.push(`*(u64 *)(r10 ${at}) = ${dice.below(1 << 30)}`);
  const returned = 'r8 *= 31\nr8 += r0';
  const copy = (helper: string): string =>
    `r1 = r6\nr2 = ${near()}\nr3 = r10\nr3 += -128\nr4 = ${1 + dice.below(127)}\ncall ${helper}\n${returned}`;
  const access = (): string => {
    const size = dice.one(['u8', 'u16', 'u32', 'u64']);
    const [base, off] = dice.one([
      [0, dice.below(64)],
      [4, -1 - dice.below(20)],
      [0, 3460 + dice.below(80)],
    ]);
    const place = `*(${size} *)(r7 ${off < 0 ? off : `+${off}`})`;
    return `r7 = *(u32 *)(r6 +${base})\n${dice.below(2) === 0 ? `${place} = r8` : `r0 = ${place}\n${returned}`}`;
  };
  for (let i = 0; i < 8; i++) {
    lines.push(
      dice.one([
        () => copy('bpf_xdp_load_bytes'),
        () => copy('bpf_xdp_store_bytes'),
        () => `r1 = r6\nr2 = ${dice.below(9000) - 6000}\ncall bpf_xdp_adjust_tail\n${returned}`,
        () => `r1 = r6\nr2 = ${dice.below(80) - 40}\ncall bpf_xdp_adjust_tail\n${returned}`,
        () => `r1 = r6\nr2 = ${dice.below(64) - 32}\ncall bpf_xdp_adjust_head\n${returned}`,
        () => `r1 = r6\ncall bpf_xdp_get_buff_len\n${returned}`,
        access,
        access,
      ])(),
    );
  }
  return `${lines.join('\n')}\nr0 = r8\nexit`;
}

function frameOf(seed: number): Uint8Array {
  const length = [60, 3000, 3521, 9000, LONGEST][seed % 5]!;
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) + seed) & 0xff);
}

interface Seen {
  readonly outcome: string;
  /** In hexadecimal, which compares fast. */
  readonly packet: string;
}

function run(party: Party, program: LoadedProgram, slot: number, frame: Uint8Array): Seen {
  party.ring.load(slot, frame);
  const outcome = program.run(party.ring, slot);
  return {
    outcome: outcomeText(outcome),
    packet: Buffer.from(party.ring.packet(slot)).toString('hex'),
  };
}

describe('a program on a frame in several buffers', () => {
  it('does in the checked build as in the interpreter', async () => {
    const [expected, checked] = [new Party(INTERPRETER, LONGEST), new Party(CHECKED, LONGEST)];
    const counts = { faults: 0, changed: 0, shorter: 0, longer: 0 };
    for (let seed = 1; seed <= PROGRAMS; seed++) {
      const text = programText(seed);
      const [reference, program] = [
        await expected.load(text, { frags: true }),
        await checked.load(text, { frags: true }),
      ];
      const frame = frameOf(seed);
      const want = run(expected, reference, seed % 4, frame);
      expect(run(checked, program, seed % 4, frame), `seed ${seed}\n${text}`).toEqual(want);
      if (want.outcome.includes('fault')) counts.faults++;
      const before = Buffer.from(frame).toString('hex');
      if (want.packet.length < before.length) counts.shorter++;
      if (want.packet.length > before.length) counts.longer++;
      if (!want.packet.startsWith(before) && !before.startsWith(want.packet)) counts.changed++;
      reference.close();
      program.close();
    }
    for (const [what, count] of Object.entries(counts)) expect(count, what).toBeGreaterThan(PROGRAMS / 20);
    expect(counts.faults).toBeLessThan(PROGRAMS / 2);
  });
});

describe('the linear part', () => {
  /** Reads two bytes at an offset, once the tail was moved. */
  const readAt = (moved: number, off: number): string =>
    `r6 = r1\nr2 = ${moved}\ncall bpf_xdp_adjust_tail\nr7 = *(u32 *)(r6 +0)\nr0 = *(u16 *)(r7 +${off})\nr0 = 2\nexit`;

  it.each([
    ['is all that is accessed directly, whatever follows', 9000, 0],
    ['ends where the tail is, once the frags are gone', 9000, -8000],
    ['ends where the tail is in it', 3000, -100],
    ['does not grow with the frags', 9000, 2000],
  ])('%s', async (_, length, moved) => {
    for (const makers of [INTERPRETER, CHECKED]) {
      const party = new Party(makers, LONGEST);
      party.ring.load(0, new Uint8Array(length));
      const linear = Math.min(length + moved, MAX_FRAME_LENGTH);
      const outcome = async (off: number): Promise<string> => {
        party.ring.load(0, new Uint8Array(length));
        const program = await party.load(readAt(moved, off), { frags: true });
        return outcomeText(program.run(party.ring, 0));
      };
      expect(await outcome(linear - 2)).toBe('2');
      expect(await outcome(linear - 1)).toBe('0, fault at 4');
    }
  });
});
