import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import type { Program } from '../../src/bpf/program.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

/** Programs to try; more with VERDICT_PROGRAMS in the environment. */
const PROGRAMS = Number(process.env['VERDICT_PROGRAMS'] ?? 150);

/** Numbers from a seed, the same everywhere. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0;
  }

  below(limit: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }

  one<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/**
 * A program that carries verdicts through registers, the stack and a callback's context, and returns one of them: few
 * insns, but many ways, most of which meet. R6 and R7 hold numbers in the main program, fp-8 and fp-16 (fp-24 on 32 bits)
 * too; R9 is the context.
 */
class VerdictProgram {
  #label = 0;
  readonly #dice: Dice;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
  }

  text(): string {
    const dice = this.#dice;
    const parts = ['r9 = r1', `r6 = ${dice.below(5)}`, `r7 = ${dice.below(5)}`];
    parts.push(`*(u64 *)(r10 -8) = ${dice.below(5)}`, `*(u64 *)(r10 -16) = ${dice.below(5)}`);
    parts.push(`*(u32 *)(r10 -24) = ${dice.below(5)}`, '*(u32 *)(r10 -20) = 0');
    for (let i = dice.below(4); i >= 0; i--) parts.push(this.#main());
    parts.push(
      `r1 = ${1 + dice.below(4)}\nr2 = subprog[callback]\nr3 = r10\nr3 += -24\nr4 = 0\ncall bpf_loop`,
    );
    for (let i = dice.below(4); i > 0; i--) parts.push(this.#main());
    parts.push(
      dice.one([
        'r0 = r6',
        'r0 = r7',
        'r0 = *(u64 *)(r10 -8)',
        'r0 = *(u64 *)(r10 -16)',
        'r0 = *(u32 *)(r10 -24)',
        'r0 = *(u32 *)(r10 -8)',
        'r0 = r6\nr0 += 1',
        'r0 = *(u64 *)(r10 -8)\nr0 &= 3',
      ]),
      'exit',
      'callback:',
    );
    for (let i = dice.below(4); i >= 0; i--) parts.push(this.#callback());
    parts.push(dice.one(['r0 = 0', 'r0 = 1', 'r0 = 0\nif r1 != 1 goto last\nr0 = 1\nlast:']), 'exit');
    return parts.join('\n');
  }

  #choice(): string {
    return `r0 = *(u32 *)(r9 +${this.#dice.one([12, 16])})\nif r0 == ${this.#dice.below(3)} goto`;
  }

  #around(condition: string, body: string): string {
    const label = `l${this.#label++}`;
    return `${condition} ${label}\n${body}\n${label}:`;
  }

  #main(): string {
    const dice = this.#dice;
    const register = dice.one(['r6', 'r7']);
    const slot = dice.one(['*(u64 *)(r10 -8)', '*(u64 *)(r10 -16)', '*(u32 *)(r10 -24)']);
    const body = dice.one([
      `${register} = ${dice.below(5)}`,
      `${slot} = ${dice.below(5)}`,
      `${slot} = ${register}`,
      `${register} = ${slot}`,
      'r6 = r7',
      this.#around(`if ${register} == ${dice.below(4)} goto`, `${slot} = ${dice.below(5)}`),
      this.#around(`if ${register} > ${dice.below(4)} goto`, `r7 = ${dice.below(5)}`),
    ]);
    return dice.below(2) === 0 ? body : this.#around(this.#choice(), body);
  }

  /** R2 is the lowest of the three slots, R1 the round. */
  #callback(): string {
    const dice = this.#dice;
    const slot = dice.one(['*(u64 *)(r2 +16)', '*(u64 *)(r2 +8)', '*(u32 *)(r2 +0)']);
    const other = dice.one(['*(u64 *)(r2 +16)', '*(u64 *)(r2 +8)']);
    const body = dice.one([
      `${slot} = ${dice.below(5)}`,
      `r3 = ${other}\n${slot} = r3`,
      this.#around(`r3 = ${slot}\nif r3 == ${dice.below(4)} goto`, `${other} = ${dice.below(5)}`),
      `r3 = ${slot}\nr3 += 1\nr3 &= 3\n${slot} = r3`,
    ]);
    return dice.below(2) === 0 ? body : this.#around(`if r1 == ${dice.below(3)} goto`, body);
  }
}

async function verdictsOf(text: string, exhaustive: boolean): Promise<readonly string[] | undefined> {
  const program: Program = {
    name: 'verdicts',
    type: 6,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(text),
  };
  const tools = exhaustive ? { prune: false, widen: false } : {};
  const config = { ...DEFAULT_CONFIG, maxProcessedInsns: exhaustive ? 100_000 : 1_000_000 };
  const result = await new AbstractVerifier(config, tools).verify({ program, maps: new Map() });
  if (result.accepted) return result.properties!.verdicts;
  if (result.code === 'too-many-insns' || result.code === 'too-many-branches') return undefined;
  throw new Error(`${result.code} at insn ${result.insn}: ${result.reason}\n${text}`);
}

describe('the verdicts that an acceptance tells of', () => {
  it('are all that any way can return, and in most programs no other', async () => {
    let compared = 0;
    let exact = 0;
    for (let seed = 1; seed <= PROGRAMS; seed++) {
      const text = new VerdictProgram(seed).text();
      const every = await verdictsOf(text, true);
      if (every === undefined) continue;
      const told = await verdictsOf(text, false);
      expect(told, `seed ${seed}\n${text}`).toEqual(expect.arrayContaining([...every]));
      compared++;
      if (told!.length === every.length) exact++;
    }
    expect(compared).toBeGreaterThan(PROGRAMS / 2);
    expect(exact / compared).toBeGreaterThan(0.9);
    if (process.env['VERDICT_PROGRAMS'] !== undefined)
      process.stderr.write(`${exact} of ${compared} exact\n`);
  });
});

describe('a number that is cut', () => {
  const cut = (making: string, returning: string): string => `
    r2 = *(u32 *)(r1 +16)
    r7 = 1
    *(u64 *)(r10 -8) = 1
    if r2 == 0 goto two
    r3 = 0
    r3 = 0
    r3 = 0
    r3 = 0
    r3 = 0
    goto join
  two:
    ${making}
    goto join
  join:
    r3 = 0
    r4 = 0
    ${returning}
    exit`;

  it.each([
    ['load of one byte', '*(u64 *)(r10 -8) = 258', 'r0 = *(u8 *)(r10 -8)'],
    ['load of two bytes', '*(u64 *)(r10 -8) = 65538', 'r0 = *(u16 *)(r10 -8)'],
    ['store of one byte', 'r7 = 258', '*(u8 *)(r10 -8) = r7\nr0 = *(u8 *)(r10 -8)'],
    ['move with the sign of 8 bits', 'r7 = 258', 'r0 = (s8)r7'],
    ['move with the sign of 16 bits', 'r7 = 65538', 'w0 = (s16)w7'],
  ])('is what is returned, also where nothing was cut before: %s', async (_, making, returning) => {
    const program: Program = {
      name: 'cut',
      type: 6,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: assemble(cut(making, returning)),
    };
    const verification = await new AbstractVerifier(DEFAULT_CONFIG).verify({ program, maps: new Map() });
    // 258 and 65538 end in 2.
    expect(verification.accepted && verification.properties?.verdicts).toEqual(['XDP_DROP', 'XDP_PASS']);
  });
});
