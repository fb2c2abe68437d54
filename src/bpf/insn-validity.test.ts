import { describe, expect, it } from 'vitest';
import type { Insn } from './insn.js';
import { checkInsn, conformanceGroup, findInvalidInsn } from './insn-validity.js';
import { ENCODING_FORMS, type EncodingForm, type FieldRange } from './valid-encodings.js';

const insn = (opcode: number, fields: Partial<Insn> = {}): Insn => ({
  opcode,
  dst: 0,
  src: 0,
  off: 0,
  imm: 0,
  ...fields,
});

function inRange(range: FieldRange, value: number): boolean {
  switch (range) {
    case 'written-register':
      return value < 10;
    case 'read-register':
      return value <= 10;
    case 's16':
    case 's32':
      return true;
    default:
      return range.includes(value);
  }
}

function matches(form: EncodingForm, first: Insn, next: Insn): boolean {
  for (const field of ['dst', 'src', 'off', 'imm'] as const) {
    if (!inRange(form[field], first[field])) return false;
  }
  if (form.nextImm === undefined) return true;
  return (
    next.opcode === 0 && next.dst === 0 && next.src === 0 && next.off === 0 && inRange(form.nextImm, next.imm)
  );
}

describe('checkInsn', () => {
  it('accepts exactly the forms of RFC 9669, over all opcodes and the fields that matter', () => {
    const offs = [0, 1, 8, 16, 32, 64, -1];
    const imms = [0, 1, 2, 16, 32, 64, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe0, 0xe1, 0xf0, 0xf1, 0x100, -1];
    const registers = [0, 1, 2, 3, 6, 7, 9, 10, 11, 15];
    const nexts = [insn(0), insn(0, { imm: 5 }), insn(0x95)];
    let valid = 0;
    for (let opcode = 0; opcode < 256; opcode++) {
      const forms = ENCODING_FORMS.filter((form) => form.opcode === opcode);
      for (const dst of registers) {
        for (const src of registers) {
          for (const off of offs) {
            for (const imm of imms) {
              const first = insn(opcode, { dst, src, off, imm });
              for (const next of opcode === 0x18 ? nexts : nexts.slice(0, 1)) {
                const expected = forms.some((form) => matches(form, first, next));
                const reason = checkInsn([first, next], 0);
                if ((reason === undefined) !== expected) {
                  expect.fail(
                    `${JSON.stringify(first)} is ${expected ? 'valid' : 'invalid'}, got: ${reason}`,
                  );
                }
                if (expected) valid++;
              }
            }
          }
        }
      }
    }
    expect(valid).toBeGreaterThan(20_000);
  });

  it.each<[Insn[], string]>([
    [[insn(0x95, { imm: 5 })], 'exit has imm 5, which has to be 0'],
    [[insn(0xb7, { dst: 10 })], 'r10 is read-only'],
    [[insn(0xbf, { dst: 1, src: 11 })], 'register r11 does not exist'],
    [[insn(0xd4, { imm: 24 })], 'byte swap of 24 bits'],
    [[insn(0xbc, { off: 32 })], 'sign extension of 32 bits to 32'],
    [[insn(0x07, { off: 1 })], 'off 1 in an arithmetic insn that has none'],
    [[insn(0xe5)], 'unknown opcode 0xe5'],
    [[insn(0x8d)], 'unknown opcode 0x8d'],
    [[insn(0xd3)], 'atomic operation on less than 4 bytes'],
    [[insn(0xdb, { imm: 0x20 })], 'unknown atomic operation 0x20'],
    [[insn(0xdb, { src: 10, imm: 1 })], 'r10 is read-only'],
    [[insn(0x18)], 'lddw lacks its second slot'],
    [[insn(0x18), insn(0xb7)], 'second slot of lddw has an opcode'],
    [[insn(0x18), insn(0, { dst: 1 })], 'second slot of lddw has dst 1, which has to be 0'],
    [
      [insn(0x18, { src: 1 }), insn(0, { imm: 1 })],
      'second slot of lddw has imm 1, which has to be 0 for src 1',
    ],
    [[insn(0x18, { src: 7 }), insn(0)], 'lddw of unknown kind (src 7)'],
    [[insn(0)], 'second slot of an lddw without a first'],
    [[insn(0x30)], 'legacy packet access, which is deprecated and not for XDP'],
    [[insn(0x85, { src: 3 })], 'call of unknown kind (src 3)'],
  ])('%j: %s', (insns, reason) => {
    expect(checkInsn(insns, 0)).toBe(reason);
    expect(findInvalidInsn(insns)).toEqual({ insn: 0, reason });
  });

  it('takes the second slot of an lddw for valid, and a slot past the end for not', () => {
    const program = [insn(0x18), insn(0, { imm: 7 }), insn(0x95)];
    expect(findInvalidInsn(program)).toBeUndefined();
    expect(checkInsn(program, 1)).toBeUndefined();
    expect(checkInsn(program, 3)).toBe('slot 3 is past the end of the program');
  });
});

describe('conformanceGroup', () => {
  it.each([
    [insn(0x04), 'base32'],
    [insn(0x07), 'base64'],
    [insn(0x24), 'divmul32'],
    [insn(0x3f, { off: 1 }), 'divmul64'],
    [insn(0xd4, { imm: 32 }), 'base32'],
    [insn(0xd4, { imm: 64 }), 'base64'],
    [insn(0xd7, { imm: 16 }), 'base32'],
    [insn(0xd7, { imm: 64 }), 'base64'],
    [insn(0x05), 'base32'],
    [insn(0x06), 'base32'],
    [insn(0x1d), 'base64'],
    [insn(0x1e), 'base32'],
    [insn(0x85), 'base32'],
    [insn(0x95), 'base32'],
    [insn(0x18), 'base64'],
    [insn(0x30), 'packet'],
    [insn(0x61), 'base32'],
    [insn(0x79), 'base64'],
    [insn(0xc3), 'atomic32'],
    [insn(0xdb), 'atomic64'],
  ] as const)('%j is in %s', (form, group) => {
    expect(conformanceGroup(form)).toBe(group);
  });
});
