import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { XdpbedError } from '../core/diagnostic.js';
import { assemble } from './assembler.js';
import { disassemble } from './disassembler.js';
import type { Insn } from './insn.js';
import { checkInsn } from './insn-validity.js';
import { ENCODING_FORMS, type EncodingForm, type FieldRange } from './valid-encodings.js';

function field(range: FieldRange): fc.Arbitrary<number> {
  switch (range) {
    case 'written-register':
      return fc.integer({ min: 0, max: 9 });
    case 'read-register':
      return fc.integer({ min: 0, max: 10 });
    case 's16':
      return fc.integer({ min: -0x8000, max: 0x7fff });
    case 's32':
      return fc.oneof(fc.integer(), fc.constantFrom(0, 1, -1, 0x7fffffff, -0x80000000));
    default:
      return fc.constantFrom(...range);
  }
}

function form(of: EncodingForm): fc.Arbitrary<Insn[]> {
  return fc
    .tuple(field(of.dst), field(of.src), field(of.off), field(of.imm), field(of.nextImm ?? [0]))
    .map(([dst, src, off, imm, next]) => {
      const first = { opcode: of.opcode, dst, src, off, imm };
      return of.nextImm === undefined ? [first] : [first, { opcode: 0, dst: 0, src: 0, off: 0, imm: next }];
    });
}

const program = fc
  .array(fc.constantFrom(...ENCODING_FORMS).chain(form), { minLength: 1, maxLength: 40 })
  .map((insns) => insns.flat());

describe('assemble', () => {
  it('reads back what the disassembler prints, for every form of RFC 9669', () => {
    for (const one of ENCODING_FORMS) {
      fc.assert(
        fc.property(form(one), (insns) => {
          expect(checkInsn(insns, 0)).toBeUndefined();
          expect(assemble(disassemble(insns))).toEqual(insns);
        }),
        { numRuns: 30, seed: one.opcode },
      );
    }
  });

  it('reads back whole programs, with and without slot numbers and opcodes', () => {
    fc.assert(
      fc.property(program, fc.boolean(), fc.boolean(), (insns, indices, opcodes) => {
        expect(assemble(disassemble(insns, { indices, opcodes }))).toEqual(insns);
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  it('reads back any bytes, valid or not, as far as text keeps them', () => {
    const slot = fc.record({
      opcode: fc.integer({ min: 0, max: 255 }),
      dst: fc.integer({ min: 0, max: 10 }),
      src: fc.integer({ min: 0, max: 10 }),
      off: fc.integer({ min: -0x8000, max: 0x7fff }),
      imm: fc.integer(),
    });
    fc.assert(
      fc.property(fc.array(slot, { maxLength: 20 }), (insns) => {
        // The syntax has no place for reserved fields; what it keeps, it keeps for good.
        const once = assemble(disassemble(insns));
        expect(once).toHaveLength(insns.length);
        expect(disassemble(assemble(disassemble(once)))).toBe(disassemble(once));
      }),
      { numRuns: 500, seed: 2 },
    );
  });

  it('resolves labels forwards and backwards, in slots', () => {
    const insns = assemble(`
      # a comment
      start: r1 = 0x100000000ll ; two slots
      loop:
        if r1 == 0 goto done   // forwards
        r1 += -1
        call sub
        r2 = subprog[sub]
        goto loop
      done:
        exit
      sub: exit
    `);
    expect(insns.map(({ opcode, off, imm }) => [opcode, off, imm])).toEqual([
      [0x18, 0, 0],
      [0x00, 0, 1],
      [0x15, 5, 0],
      [0x07, 0, -1],
      [0x85, 0, 4],
      [0x18, 0, 3],
      [0x00, 0, 0],
      [0x05, -6, 0],
      [0x95, 0, 0],
      [0x95, 0, 0],
    ]);
    expect(insns[5]!.src).toBe(4);
  });

  it('takes maps by name, helpers with and without number, and kernel logs with register states', () => {
    const maps = new Map([['.rodata.str1.1', 7]]);
    expect(assemble('r1 = map[.rodata.str1.1][0]+4', { maps })).toEqual([
      { opcode: 0x18, dst: 1, src: 2, off: 0, imm: 7 },
      { opcode: 0, dst: 0, src: 0, off: 0, imm: 4 },
    ]);
    expect(assemble('call bpf_ktime_get_ns')).toEqual(
      assemble('0: (85) call bpf_ktime_get_ns#5 ; R0=scalar()'),
    );
    expect(assemble('call 5')).toEqual(assemble('call bpf_ktime_get_ns'));
  });

  it.each<[string, string, number, number]>([
    ['r1 = r2\nr1 ?= 2', 'an assignment is expected', 2, 4],
    ['r11 = 1', 'there is no register r11', 1, 1],
    ['r1 = w2', 'r and w registers are mixed', 1, 6],
    ['r1 = 0xffffffff', '4294967295 does not fit in a signed 32-bit immediate', 1, 6],
    ['w1 = 0x1ffffffff', '8589934591 does not fit in a 32-bit immediate', 1, 6],
    ['r1 = *(u32 *)(r2 +40000)', 'offset 40000 does not fit in 16 bits', 1, 18],
    ['goto nowhere', 'there is no label nowhere', 1, 6],
    ['a: exit\na: exit', 'label a is defined twice', 2, 1],
    ['exit now', 'something follows the insn', 1, 6],
    ['3: exit', 'this is slot 0, not 3', 1, 1],
    ['(b7) exit', 'the text is opcode 0x95, not 0xb7', 1, 1],
    ['r1 = map[flows]', 'there is no map flows', 1, 6],
    ['r1 = be16 r2', 'a byte swap works on one register', 1, 6],
    ['r2 = atomic64_fetch_add((u64 *)(r0 +0), r1)', 'the old value comes back in r1', 1, 1],
    ['r1 = atomic64_fetch_add((u32 *)(r0 +0), r1)', 'the operation is on 64 bits, the address is not', 1, 6],
    ['if r1 > 1 pc+3', 'goto is expected', 1, 11],
    ['goto pc+40000', 'a jump of 40000 slots does not fit', 1, 6],
    ['lock *(u64 *)(r0 +0) -= r1', '+=, |=, &= or ^= is expected', 1, 22],
  ])('%j: %s', (text, message, line, col) => {
    try {
      assemble(text, { file: 'x.s' });
      expect.fail('it assembled');
    } catch (error) {
      expect(error).toBeInstanceOf(XdpbedError);
      expect(error).toMatchObject({ code: 'asm-invalid', message, at: { file: 'x.s', line, col } });
    }
  });
});
