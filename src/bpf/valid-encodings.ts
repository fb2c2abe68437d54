import * as op from './opcodes.js';

/** The values one field of an insn may have: a list, or a range by name. */
export type FieldRange =
  | readonly number[]
  /** A register that is written: R0 … R9. */
  | 'written-register'
  /** A register that is read: R0 … R10. */
  | 'read-register'
  | 's16'
  | 's32';

/** One form of insn: all combinations of its fields' values are valid. */
export interface EncodingForm {
  readonly opcode: number;
  readonly dst: FieldRange;
  readonly src: FieldRange;
  readonly off: FieldRange;
  readonly imm: FieldRange;
  /** imm of the second slot, for `lddw`. */
  readonly nextImm?: FieldRange;
}

const ZERO: readonly number[] = [0];
const SIZES = [op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW] as const;

/**
 * The instruction set of RFC 9669 as data, without group `packet`: what checkInsn accepts is exactly this.
 * Generators of programs and tests draw from it.
 */
export const ENCODING_FORMS: readonly EncodingForm[] = [
  ...arithmeticForms(),
  ...jumpForms(),
  ...loadForms(),
  ...storeForms(),
];

function arithmeticForms(): EncodingForm[] {
  const forms: EncodingForm[] = [];
  for (const insnClass of [op.BPF_ALU, op.BPF_ALU64]) {
    for (let code = op.BPF_ADD; code <= op.BPF_END; code += 0x10) {
      const base = { dst: 'written-register', src: ZERO, off: ZERO, imm: ZERO } as const;
      if (code === op.BPF_NEG) {
        forms.push({ ...base, opcode: insnClass | code });
        continue;
      }
      if (code === op.BPF_END) {
        const orders = insnClass === op.BPF_ALU ? [op.BPF_TO_LE, op.BPF_TO_BE] : [0];
        for (const order of orders)
          forms.push({ ...base, opcode: insnClass | code | order, imm: [16, 32, 64] });
        continue;
      }
      const isDivision = code === op.BPF_DIV || code === op.BPF_MOD;
      const offImmediate = isDivision ? [0, 1] : ZERO;
      const extensions = insnClass === op.BPF_ALU64 ? [0, 8, 16, 32] : [0, 8, 16];
      const offRegister = code === op.BPF_MOV ? extensions : offImmediate;
      forms.push({ ...base, opcode: insnClass | code | op.BPF_K, off: offImmediate, imm: 's32' });
      forms.push({ ...base, opcode: insnClass | code | op.BPF_X, off: offRegister, src: 'read-register' });
    }
  }
  return forms;
}

function jumpForms(): EncodingForm[] {
  const base = { dst: ZERO, src: ZERO, off: ZERO, imm: ZERO } as const;
  const forms: EncodingForm[] = [
    { ...base, opcode: op.BPF_JMP | op.BPF_JA, off: 's16' },
    { ...base, opcode: op.BPF_JMP32 | op.BPF_JA, imm: 's32' },
    { ...base, opcode: op.OP_CALL, src: [0, 1, 2], imm: 's32' },
    { ...base, opcode: op.OP_EXIT },
  ];
  for (const insnClass of [op.BPF_JMP, op.BPF_JMP32]) {
    for (let code = op.BPF_JEQ; code <= op.BPF_JSLE; code += 0x10) {
      if (code === op.BPF_CALL || code === op.BPF_EXIT) continue;
      const compare = { ...base, dst: 'read-register', off: 's16' } as const;
      forms.push({ ...compare, opcode: insnClass | code | op.BPF_K, imm: 's32' });
      forms.push({ ...compare, opcode: insnClass | code | op.BPF_X, src: 'read-register' });
    }
  }
  return forms;
}

function loadForms(): EncodingForm[] {
  const wide = { opcode: op.OP_LDDW, dst: 'written-register', off: ZERO, imm: 's32' } as const;
  const load = { dst: 'written-register', src: 'read-register', off: 's16', imm: ZERO } as const;
  return [
    { ...wide, src: [0, op.BPF_PSEUDO_MAP_VALUE, op.BPF_PSEUDO_MAP_IDX_VALUE], nextImm: 's32' },
    {
      ...wide,
      src: [op.BPF_PSEUDO_MAP_FD, op.BPF_PSEUDO_BTF_ID, op.BPF_PSEUDO_FUNC, op.BPF_PSEUDO_MAP_IDX],
      nextImm: ZERO,
    },
    ...SIZES.map((size) => ({ ...load, opcode: op.BPF_LDX | op.BPF_MEM | size })),
    ...SIZES.filter((size) => size !== op.BPF_DW).map((size) => ({
      ...load,
      opcode: op.BPF_LDX | op.BPF_MEMSX | size,
    })),
  ];
}

function storeForms(): EncodingForm[] {
  const place = { dst: 'read-register', off: 's16' } as const;
  const simple = [op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR];
  return [
    ...SIZES.map((size) => ({
      ...place,
      opcode: op.BPF_ST | op.BPF_MEM | size,
      src: ZERO,
      imm: 's32' as const,
    })),
    ...SIZES.map((size) => ({
      ...place,
      opcode: op.BPF_STX | op.BPF_MEM | size,
      src: 'read-register' as const,
      imm: ZERO,
    })),
    ...[op.BPF_W, op.BPF_DW].flatMap((size): EncodingForm[] => {
      const atomic = { ...place, opcode: op.BPF_STX | op.BPF_ATOMIC | size };
      return [
        { ...atomic, src: 'read-register', imm: [...simple, op.BPF_CMPXCHG] },
        // What was in memory comes back in src.
        {
          ...atomic,
          src: 'written-register',
          imm: [...simple.map((code) => code | op.BPF_FETCH), op.BPF_XCHG],
        },
      ];
    }),
  ];
}
