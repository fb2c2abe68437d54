import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import type { Insn } from '../../bpf/insn.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import type { Verification, Verifier, VerifierMap } from '../../core/contract/verifier.js';
import { CONFORMANCE_MAP, CONFORMANCE_MAP_HANDLE, randomProgram, VALID_PROGRAMS } from './random-programs.js';
import { SeededRandom } from './seeded-random.js';

export interface VerifierConformanceOptions {
  /** Random programs to judge; default 2000. */
  readonly randomPrograms?: number | undefined;
}

const MAPS: ReadonlyMap<number, VerifierMap> = new Map([[CONFORMANCE_MAP_HANDLE, CONFORMANCE_MAP]]);

/** Programs that no verifier may let pass, as slots: the assembler would not make most of them. */
const INVALID: Readonly<Record<string, readonly Insn[]>> = {
  'no insns': [],
  'an unknown opcode': [slot(0xfe), slot(0x95)],
  'a register that does not exist': [slot(0xb7, 12, 0, 0, 1), slot(0xb7), slot(0x95)],
  'a write to r10': [slot(0xb7, 10, 0, 0, 1), slot(0xb7), slot(0x95)],
  'no exit': [slot(0xb7, 0, 0, 0, 2)],
  'a jump past the end': [slot(0xb7), slot(0x05, 0, 0, 5), slot(0x95)],
  'a jump before the start': [slot(0xb7), slot(0x15, 0, 0, -3), slot(0x95)],
  'a jump into an lddw': [slot(0xb7), slot(0x15, 0, 0, 1), slot(0x18, 1), slot(0), slot(0x95)],
  'an lddw cut off': [slot(0xb7), slot(0x18, 1)],
  'a helper that does not exist': [slot(0x85, 0, 0, 0, 99_999), slot(0xb7), slot(0x95)],
  'helper 0': [slot(0x85), slot(0xb7), slot(0x95)],
  'a map handle that names no map': [slot(0x18, 1, 1, 0, 424_242), slot(0), slot(0xb7), slot(0x95)],
  'a store above the stack': [slot(0x7a, 10, 0, 0, 1), slot(0xb7), slot(0x95)],
  'a store below the stack': [slot(0x7a, 10, 0, -520, 1), slot(0xb7), slot(0x95)],
  'a local call out of the program': [slot(0x85, 0, 1, 0, 50), slot(0xb7), slot(0x95)],
  'a function that calls itself': [slot(0x85, 0, 1, 0, -1), slot(0xb7), slot(0x95)],
  'a division by the constant 0': [slot(0xb7), slot(0x37, 0, 0, 0, 0), slot(0x95)],
  'a loop that never ends': [slot(0xb7), slot(0x05, 0, 0, -2), slot(0x95)],
};

/**
 * What every verifier must do, as tests: let pass what is plainly valid, reject what is plainly not with
 * everything that a person needs, answer the same twice, and have an answer to whatever bytes a guest sends.
 */
export function verifierConformance(
  name: string,
  make: () => Verifier,
  options: VerifierConformanceOptions = {},
): void {
  describe(`verifier ${name} conforms`, () => {
    const judge = (insns: readonly Insn[], gplCompatible = true): Promise<Verification> =>
      make().verify({ program: program(insns, gplCompatible), maps: MAPS });

    for (const [what, text] of Object.entries(VALID_PROGRAMS)) {
      it(`accepts ${what}`, async () => {
        const insns = assemble(text, { maps: new Map([[CONFORMANCE_MAP.name, CONFORMANCE_MAP_HANDLE]]) });
        const verification = await judge(insns);
        expect(verification.accepted, JSON.stringify(verification)).toBe(true);
        expect(verification.verifier).toBe(make().name);
      });
    }

    for (const [what, insns] of Object.entries(INVALID)) {
      it(`rejects ${what}`, async () => {
        const verification = await judge(insns);
        expect(verification.accepted).toBe(false);
        if (verification.accepted) return;
        expect(verification.code).toMatch(/^[a-z][a-z0-9-]*$/);
        expect(verification.reason).not.toBe('');
        expect(verification.reason, 'a sentence without a capital and a full stop').not.toMatch(
          /^[A-Z][a-z]|\.$/,
        );
        if (verification.insn !== undefined) {
          expect(verification.insn).toBeGreaterThanOrEqual(0);
          expect(verification.insn).toBeLessThan(insns.length);
        }
      });
    }

    it('keeps GPL-only helpers from programs without such a license', async () => {
      // bpf_trace_printk("", 1): r1 points to a byte on the stack.
      const insns = assemble(`
        r1 = 0
        *(u64 *)(r10 -8) = r1
        r1 = r10
        r1 += -8
        r2 = 8
        call bpf_trace_printk
        r0 = 2
        exit`);
      expect((await judge(insns, true)).accepted).toBe(true);
      expect((await judge(insns, false)).accepted).toBe(false);
    });

    it('does not change the program that it judges', async () => {
      const insns = Object.freeze(assemble('r0 = 2\nexit').map((insn) => Object.freeze(insn)));
      expect((await judge(insns)).accepted).toBe(true);
    });

    it('has an answer to random insns, always the same, and never throws', async () => {
      const random = new SeededRandom(0x5eed);
      for (let count = 0; count < (options.randomPrograms ?? 2000); count++) {
        const insns = randomProgram(random);
        const first = await judge(insns);
        const second = await judge(insns);
        expect(outcome(second)).toEqual(outcome(first));
      }
    });
  });
}

function outcome(verification: Verification): unknown {
  return verification.accepted
    ? { accepted: true }
    : { accepted: false, code: verification.code, insn: verification.insn, reason: verification.reason };
}

function program(insns: readonly Insn[], gplCompatible: boolean): Program {
  return { name: 'conformance', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible, insns };
}

function slot(opcode: number, dst = 0, src = 0, off = 0, imm = 0): Insn {
  return { opcode, dst, src, off, imm };
}
