import * as op from '../../bpf/opcodes.js';
import { ENCODING_FORMS, type EncodingForm } from '../../bpf/valid-encodings.js';
import type { FunctionGenerator, Statement } from './function-generator.js';
import { SCALAR } from './machine-state.js';

const ARITHMETIC: readonly EncodingForm[] = ENCODING_FORMS.filter(({ opcode }) => {
  const insnClass = opcode & op.BPF_CLASS_MASK;
  return insnClass === op.BPF_ALU || insnClass === op.BPF_ALU64;
});

export const ARITHMETIC_STATEMENTS: readonly Statement[] = [
  { weight: 24, generate: severalInsns },
  { weight: 4, generate: (f) => f.constant(f.target()) },
  { weight: 3, generate: repeatOnOne },
  { weight: 2, generate: copyPointer },
  { weight: 2, applies: (f) => f.hasContext, generate: packetLength },
];

function severalInsns(f: FunctionGenerator): void {
  for (let i = 1 + f.random.below(5); i > 0; i--) arithmetic(f);
}

/** One insn of classes ALU and ALU64, of any form. */
function arithmetic(f: FunctionGenerator): void {
  const { random } = f;
  const { opcode, off, src, imm } = random.pick(ARITHMETIC);
  const code = opcode & op.BPF_OP_MASK;
  const fromRegister = src === 'read-register';
  const operand = fromRegister ? f.scalar() : 0;
  const dst = code === op.BPF_MOV ? f.target() : f.scalarTarget(...(random.chance(90) ? [operand] : []));
  // Making a number for the destination may have overwritten the operand with one: still a number.
  const offset = off === 's16' || typeof off === 'string' ? 0 : random.pick(off);
  f.code.emit(
    opcode,
    dst,
    operand,
    offset,
    typeof imm === 'string' ? immediateFor(f, opcode) : random.pick(imm),
  );
  f.set(dst, SCALAR);
}

/** What a verifier takes: no division by a constant 0, no shift by the width or more. */
function immediateFor(f: FunctionGenerator, opcode: number): number {
  const { random } = f;
  const is64 = (opcode & op.BPF_CLASS_MASK) === op.BPF_ALU64;
  switch (opcode & op.BPF_OP_MASK) {
    case op.BPF_DIV:
    case op.BPF_MOD:
      return f.word() || 1;
    case op.BPF_LSH:
    case op.BPF_RSH:
    case op.BPF_ARSH:
      return random.below(is64 ? 64 : 32);
    default:
      return f.word();
  }
}

/** A chain on one register, as hashes and checksums have. */
function repeatOnOne(f: FunctionGenerator): void {
  const dst = f.scalarTarget();
  for (let i = 2 + f.random.below(4); i > 0; i--) {
    const insnClass = f.random.chance(50) ? op.BPF_ALU : op.BPF_ALU64;
    const code = f.random.pick([op.BPF_ADD, op.BPF_XOR, op.BPF_MUL, op.BPF_RSH, op.BPF_LSH, op.BPF_ARSH]);
    const opcode = insnClass | code;
    f.code.emit(opcode, dst, 0, 0, immediateFor(f, opcode));
  }
}

/** `r3 = r6`, and sometimes on by a few bytes. */
function copyPointer(f: FunctionGenerator): void {
  const pointers = f.find((value) => value.kind !== 'scalar');
  const src = pointers.length === 0 || f.random.chance(30) ? op.FRAME_POINTER : f.random.pick(pointers);
  const dst = f.target(src);
  f.move(dst, src);
  const value = f.value(dst)!;
  switch (value.kind) {
    case 'stack':
      f.add(dst, -8 * (1 + f.random.below(f.state.cells.length)));
      break;
    case 'packet':
      if (value.range > 0) f.add(dst, f.random.below(value.range) - value.offset);
      break;
    case 'map-value':
      if (value.id === undefined && f.random.chance(60)) {
        f.add(dst, f.random.below(f.mapOf(value.map).attributes.valueSize) - value.offset);
      }
      break;
    default:
  }
}

/** `data_end - data`. */
function packetLength(f: FunctionGenerator): void {
  const context = f.context();
  const data = f.target(context);
  f.load(op.BPF_W, data, context, 0);
  const end = f.target(data);
  f.load(op.BPF_W, end, context, 4);
  f.code.emit(op.BPF_ALU64 | op.BPF_SUB | op.BPF_X, end, data);
  f.set(data, undefined);
  f.set(end, SCALAR);
}
