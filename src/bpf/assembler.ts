import { XdpbedError } from '../core/diagnostic.js';
import { helperId } from './helper-ids.js';
import { decodeInsns, type Insn } from './insn.js';
import * as op from './opcodes.js';

export interface AssemblerOptions {
  /** Name of the text in errors. */
  readonly file?: string | undefined;
  /** Handles of the maps that the text names: `r1 = map[flows]`. */
  readonly maps?: ReadonlyMap<string, number> | undefined;
}

/**
 * Assembles what the disassembler prints, one insn a line, and what makes writing by hand bearable:
 *
 * ```
 * ; comments run from ; or // to the end of the line, from # only at its start
 * loop:                              labels: targets of goto, if, call and subprog[…]
 *   r1 = *(u32 *)(r6 +4)
 *   if r1 > 0x10 goto done           or `goto pc+3`, in slots from the next insn
 *   call bpf_map_lookup_elem         or with its number, `call bpf_map_lookup_elem#1`
 *   r2 = 0x123456789ll               ll makes it an lddw
 *   goto loop
 * done:
 *   exit
 * ```
 * Slot numbers and opcodes in front (`12: (95) exit`) are checked, so that a listing of the kernel can be pasted.
 * Throws `asm-invalid` with line and column.
 */
export function assemble(text: string, options: AssemblerOptions = {}): Insn[] {
  return new Assembler(options).run(text);
}

type Field = 'off' | 'imm';

/** A jump whose label was not known yet. */
interface Fixup {
  readonly slot: number;
  readonly field: Field;
  readonly label: string;
  readonly line: number;
  readonly col: number;
}

const ALU_CODES: Readonly<Record<string, number>> = {
  '+': op.BPF_ADD,
  '-': op.BPF_SUB,
  '*': op.BPF_MUL,
  '/': op.BPF_DIV,
  's/': op.BPF_DIV,
  '|': op.BPF_OR,
  '&': op.BPF_AND,
  '<<': op.BPF_LSH,
  '>>': op.BPF_RSH,
  '%': op.BPF_MOD,
  's%': op.BPF_MOD,
  '^': op.BPF_XOR,
  's>>': op.BPF_ARSH,
};

const JUMP_CODES: Readonly<Record<string, number>> = {
  '==': op.BPF_JEQ,
  '>': op.BPF_JGT,
  '>=': op.BPF_JGE,
  '&': op.BPF_JSET,
  '!=': op.BPF_JNE,
  's>': op.BPF_JSGT,
  's>=': op.BPF_JSGE,
  '<': op.BPF_JLT,
  '<=': op.BPF_JLE,
  's<': op.BPF_JSLT,
  's<=': op.BPF_JSLE,
};

const ATOMIC_CODES: Readonly<Record<string, number>> = {
  add: op.BPF_ADD,
  or: op.BPF_OR,
  and: op.BPF_AND,
  xor: op.BPF_XOR,
  '+': op.BPF_ADD,
  '|': op.BPF_OR,
  '&': op.BPF_AND,
  '^': op.BPF_XOR,
};

const SIZES: Readonly<Record<string, number>> = {
  '8': op.BPF_B,
  '16': op.BPF_H,
  '32': op.BPF_W,
  '64': op.BPF_DW,
};

const BPF_LOAD_ACQ = 0x100;
const BPF_STORE_REL = 0x110;
const BPF_JCOND = 0xe0;

const U32_MAX = 0xffffffffn;
const U64_MAX = 0xffffffffffffffffn;

class Assembler {
  readonly #insns: Insn[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];

  constructor(readonly options: AssemblerOptions) {}

  run(text: string): Insn[] {
    text.split('\n').forEach((line, index) => {
      this.#line(new LineScanner(line.replace(/\r$/, ''), index + 1, this.options.file));
    });
    for (const fixup of this.#fixups) this.#resolve(fixup);
    return this.#insns;
  }

  #line(scan: LineScanner): void {
    if (scan.done()) return;
    const number = scan.take(/(\d+):/y);
    if (number !== undefined && Number(number[1]) !== this.#insns.length) {
      scan.fail(`this is slot ${this.#insns.length}, not ${number[1]}`, number.index);
    }
    for (;;) {
      const label = scan.take(/([A-Za-z_.$][\w.$]*):/y);
      if (label === undefined) break;
      if (this.#labels.has(label[1]!)) scan.fail(`label ${label[1]} is defined twice`, label.index);
      this.#labels.set(label[1]!, this.#insns.length);
    }
    if (scan.done()) return;
    const opcode = scan.take(/\(([0-9a-f]{2})\)/iy);
    const slot = this.#insns.length;
    this.#statement(scan);
    if (!scan.done()) scan.fail('something follows the insn');
    const got = this.#insns[slot]!.opcode;
    if (opcode !== undefined && parseInt(opcode[1]!, 16) !== got) {
      scan.fail(
        `the text is opcode 0x${got.toString(16).padStart(2, '0')}, not 0x${opcode[1]}`,
        opcode.index,
      );
    }
  }

  #emit(opcode: number, fields: Partial<Omit<Insn, 'opcode'>> = {}): void {
    this.#insns.push({ opcode, dst: 0, src: 0, off: 0, imm: 0, ...fields });
  }

  #statement(scan: LineScanner): void {
    if (scan.word('exit')) return this.#emit(op.OP_EXIT);
    if (scan.word('.quad')) return this.#quad(scan);
    if (scan.word('goto')) return this.#jump(scan, op.BPF_JMP | op.BPF_JA, {}, 'off');
    if (scan.word('gotol')) return this.#jump(scan, op.BPF_JMP32 | op.BPF_JA, {}, 'imm');
    if (scan.word('may_goto')) return this.#jump(scan, op.BPF_JMP | BPF_JCOND, {}, 'off');
    if (scan.word('if')) return this.#conditional(scan);
    if (scan.word('call')) return this.#call(scan);
    if (scan.word('lock')) return this.#lock(scan);
    if (scan.word('store_release')) {
      scan.expect(/\(/y, '(');
      const place = this.#place(scan);
      scan.expect(/,/y, ',');
      const src = this.#register(scan, 'r').number;
      scan.expect(/\)/y, ')');
      return this.#emit(op.BPF_STX | op.BPF_ATOMIC | place.size, {
        dst: place.base,
        off: place.off,
        src,
        imm: BPF_STORE_REL,
      });
    }
    if (scan.take(/\*/y) !== undefined) return this.#store(scan);
    return this.#assignment(scan);
  }

  #quad(scan: LineScanner): void {
    const at = scan.at;
    const value = scan.number();
    if (value < 0n || value > U64_MAX) scan.fail('.quad takes 64 bits', at);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#insns.push(...decodeInsns(bytes));
  }

  #store(scan: LineScanner): void {
    const place = this.#place(scan);
    scan.expect(/=/y, '=');
    const register = this.#maybeRegister(scan);
    if (register !== undefined) {
      if (register.prefix !== 'r') scan.fail('a store names the whole register, e.g. r1', register.at);
      this.#emit(op.BPF_STX | op.BPF_MEM | place.size, {
        dst: place.base,
        off: place.off,
        src: register.number,
      });
      return;
    }
    // Smaller stores cut the immediate off, so its sign does not matter.
    const imm = scan.immediate(place.size === op.BPF_DW);
    this.#emit(op.BPF_ST | op.BPF_MEM | place.size, { dst: place.base, off: place.off, imm });
  }

  #lock(scan: LineScanner): void {
    scan.expect(/\*/y, '*');
    const place = this.#place(scan);
    const operator = scan.expect(/([+|&^])=/y, '+=, |=, &= or ^=');
    const src = this.#register(scan, 'r').number;
    const imm = ATOMIC_CODES[operator[1]!]!;
    this.#emit(op.BPF_STX | op.BPF_ATOMIC | place.size, { dst: place.base, off: place.off, src, imm });
  }

  #conditional(scan: LineScanner): void {
    const left = this.#register(scan);
    const operator = scan.expect(/s>=|s<=|s>|s<|==|!=|>=|<=|>|<|&/y, 'a comparison');
    const jumpClass = left.prefix === 'w' ? op.BPF_JMP32 : op.BPF_JMP;
    const code = JUMP_CODES[operator[0]]!;
    const right = this.#maybeRegister(scan);
    const operand = right === undefined ? { imm: scan.immediate(false) } : { src: right.number };
    if (right !== undefined && right.prefix !== left.prefix)
      scan.fail('r and w registers are mixed', right.at);
    if (!scan.word('goto')) scan.fail('goto is expected');
    const source = right === undefined ? op.BPF_K : op.BPF_X;
    this.#jump(scan, jumpClass | code | source, { dst: left.number, ...operand }, 'off');
  }

  #jump(scan: LineScanner, opcode: number, fields: Partial<Omit<Insn, 'opcode'>>, field: Field): void {
    const slot = this.#insns.length;
    const distance = this.#target(scan, slot, field);
    this.#emit(opcode, { ...fields, [field]: distance });
  }

  /** `pc+3`, `+3` or a label, which is looked up at the end. */
  #target(scan: LineScanner, slot: number, field: Field): number {
    const relative = scan.take(/(?:pc\s*)?([+-])\s*(\d+)/y);
    if (relative !== undefined) {
      const distance = Number(`${relative[1]}${relative[2]}`);
      if (!fits(distance, field)) scan.fail(`a jump of ${distance} slots does not fit`, relative.index);
      return distance + 0;
    }
    const label = scan.expect(/[A-Za-z_.$][\w.$]*/y, 'a jump target (pc+N or a label)');
    this.#fixups.push({ slot, field, label: label[0], line: scan.line, col: label.index + 1 });
    return 0;
  }

  #resolve({ slot, field, label, line, col }: Fixup): void {
    const target = this.#labels.get(label);
    if (target === undefined) throw invalid(`there is no label ${label}`, this.options.file, line, col);
    const distance = target - slot - 1;
    if (!fits(distance, field)) {
      throw invalid(
        `label ${label} is ${distance} slots away, which does not fit`,
        this.options.file,
        line,
        col,
      );
    }
    this.#insns[slot] = { ...this.#insns[slot]!, [field]: distance };
  }

  #call(scan: LineScanner): void {
    const slot = this.#insns.length;
    const kernel = scan.take(/kernel-function#(-?\d+)/y);
    if (kernel !== undefined) {
      return this.#emit(op.OP_CALL, {
        src: op.BPF_PSEUDO_KFUNC_CALL,
        imm: scan.inRange(BigInt(kernel[1]!), true, kernel.index),
      });
    }
    const local = scan.take(/pc\s*([+-])\s*(\d+)(?:#\S+)?/y);
    if (local !== undefined) {
      return this.#emit(op.OP_CALL, {
        src: op.BPF_PSEUDO_CALL,
        imm: scan.inRange(BigInt(`${local[1]}${local[2]}`), true, local.index),
      });
    }
    const numbered = scan.take(/(?:[A-Za-z_]\w*)?#(-?\d+)|(\d+)\b/y);
    if (numbered !== undefined) {
      return this.#emit(op.OP_CALL, {
        imm: scan.inRange(BigInt(numbered[1] ?? numbered[2]!), true, numbered.index),
      });
    }
    const name = scan.expect(/[A-Za-z_.$][\w.$]*/y, 'a helper, pc+N or a label');
    const helper = helperId(name[0]);
    if (helper !== undefined) return this.#emit(op.OP_CALL, { imm: helper });
    this.#fixups.push({ slot, field: 'imm', label: name[0], line: scan.line, col: name.index + 1 });
    this.#emit(op.OP_CALL, { src: op.BPF_PSEUDO_CALL });
  }

  #assignment(scan: LineScanner): void {
    const target = this.#register(scan);
    const dst = target.number;
    const aluClass = target.prefix === 'w' ? op.BPF_ALU : op.BPF_ALU64;
    const compound = scan.take(/(s\/|s%|s>>|<<|>>|[-+*/|&%^])=/y);
    if (compound !== undefined) {
      const code = ALU_CODES[compound[1]!]!;
      const off = compound[1] === 's/' || compound[1] === 's%' ? 1 : 0;
      return this.#operand(scan, target, aluClass | code, off);
    }
    scan.expect(/=/y, 'an assignment');

    const negated = scan.take(/-\s*([rw])(\d+)\b/y);
    if (negated !== undefined) {
      if (negated[1] !== target.prefix || Number(negated[2]) !== dst) {
        scan.fail('only a register itself can be negated, as in r1 = -r1', negated.index);
      }
      return this.#emit(aluClass | op.BPF_NEG, { dst });
    }
    const extended = scan.take(/\(s(8|16|32)\)/y);
    if (extended !== undefined) {
      return this.#operand(scan, target, aluClass | op.BPF_MOV, Number(extended[1]));
    }
    if (target.prefix === 'r' && this.#wholeRegister(scan, target)) return;
    this.#operand(scan, target, aluClass | op.BPF_MOV, 0);
  }

  #operand(scan: LineScanner, target: Register, opcode: number, off: number): void {
    const source = this.#maybeRegister(scan);
    if (source === undefined) {
      const at = scan.at;
      if (off > 1) scan.fail('sign extension needs a register', at);
      return this.#emit(opcode | op.BPF_K, {
        dst: target.number,
        off,
        // A 64-bit operation extends the sign, so that 0xffffffff would not be what it seems to be.
        imm: scan.immediate(target.prefix === 'r'),
      });
    }
    if (source.prefix !== target.prefix) scan.fail('r and w registers are mixed', source.at);
    this.#emit(opcode | op.BPF_X, { dst: target.number, src: source.number, off });
  }

  /** The forms that only a 64-bit register can be given. */
  #wholeRegister(scan: LineScanner, target: Register): boolean {
    const dst = target.number;
    const swap = scan.take(/(be|le|bswap)(\d+)\s+r(\d+)\b/y);
    if (swap !== undefined) {
      if (Number(swap[3]) !== dst) scan.fail('a byte swap works on one register', swap.index);
      const opcode =
        swap[1] === 'bswap'
          ? op.BPF_ALU64 | op.BPF_END
          : op.BPF_ALU | op.BPF_END | (swap[1] === 'be' ? op.BPF_TO_BE : op.BPF_TO_LE);
      this.#emit(opcode, { dst, imm: scan.inRange(BigInt(swap[2]!), true, swap.index) });
      return true;
    }
    return (
      this.#loadInto(scan, target) ||
      this.#atomicInto(scan, target) ||
      this.#reference(scan, dst) ||
      this.#wideImmediate(scan, dst)
    );
  }

  #loadInto(scan: LineScanner, target: Register): boolean {
    const legacy = scan.take(/\*\s*\(\s*u(8|16|32)\s*\*\s*\)\s*skb\s*\[/y);
    if (legacy !== undefined) {
      if (target.number !== 0) scan.fail('legacy packet access loads r0', target.at);
      const index = scan.take(/r(\d+)\s*\+/y);
      const mode = index === undefined ? op.BPF_ABS : op.BPF_IND;
      const imm = scan.immediate(true);
      scan.expect(/\]/y, ']');
      const src = index === undefined ? 0 : registerNumber(scan, index[1]!, index.index);
      this.#emit(op.BPF_LD | mode | SIZES[legacy[1]!]!, { src, imm });
      return true;
    }
    if (scan.take(/\*/y) === undefined) return false;
    const place = this.#place(scan, true);
    const mode = place.signed ? op.BPF_MEMSX : op.BPF_MEM;
    if (place.signed && place.size === op.BPF_DW) scan.fail('there is no sign-extending load of 64 bits');
    this.#emit(op.BPF_LDX | mode | place.size, { dst: target.number, src: place.base, off: place.off });
    return true;
  }

  #atomicInto(scan: LineScanner, target: Register): boolean {
    const cast = scan.take(/addr_space_cast\s*\(\s*r(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)/y);
    if (cast !== undefined) {
      const imm = (Number(cast[2]) << 16) | (Number(cast[3]) & 0xffff);
      const src = registerNumber(scan, cast[1]!, cast.index);
      this.#emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, { dst: target.number, src, off: 1, imm });
      return true;
    }
    if (scan.word('load_acquire')) {
      scan.expect(/\(/y, '(');
      const place = this.#place(scan);
      scan.expect(/\)/y, ')');
      this.#emit(op.BPF_STX | op.BPF_ATOMIC | place.size, {
        dst: target.number,
        src: place.base,
        off: place.off,
        imm: BPF_LOAD_ACQ,
      });
      return true;
    }
    const call = scan.take(/atomic(64)?_(?:fetch_(add|or|and|xor)|(xchg|cmpxchg))\s*\(/y);
    if (call === undefined) return false;
    const place = this.#place(scan);
    if (place.size !== (call[1] === undefined ? op.BPF_W : op.BPF_DW)) {
      scan.fail(`the operation is on ${call[1] ?? '32'} bits, the address is not`, call.index);
    }
    scan.expect(/,/y, ',');
    if (call[3] === 'cmpxchg') {
      scan.expect(/r0\b/y, 'r0');
      scan.expect(/,/y, ',');
    }
    const source = this.#register(scan, 'r');
    scan.expect(/\)/y, ')');
    const result = call[3] === 'cmpxchg' ? 0 : source.number;
    if (target.number !== result) scan.fail(`the old value comes back in r${result}`, target.at);
    const imm =
      call[3] === 'cmpxchg'
        ? op.BPF_CMPXCHG
        : call[3] === 'xchg'
          ? op.BPF_XCHG
          : ATOMIC_CODES[call[2]!]! | op.BPF_FETCH;
    this.#emit(op.BPF_STX | op.BPF_ATOMIC | place.size, {
      dst: place.base,
      off: place.off,
      src: source.number,
      imm,
    });
    return true;
  }

  /** Maps, kernel variables and functions, each an lddw. */
  #reference(scan: LineScanner, dst: number): boolean {
    const map = scan.take(/map\[([^\]\s]+)\](\[0\]\s*\+\s*(\d+))?/y);
    if (map !== undefined) {
      const name = map[1]!;
      const numbered = /^(fd|idx):(-?\d+)$/.exec(name);
      const handle = numbered === null ? this.options.maps?.get(name) : Number(numbered[2]);
      if (handle === undefined) scan.fail(`there is no map ${name}`, map.index);
      const value = map[2] !== undefined;
      const source =
        numbered?.[1] === 'idx'
          ? value
            ? op.BPF_PSEUDO_MAP_IDX_VALUE
            : op.BPF_PSEUDO_MAP_IDX
          : value
            ? op.BPF_PSEUDO_MAP_VALUE
            : op.BPF_PSEUDO_MAP_FD;
      const offset = scan.inRange(BigInt(map[3] ?? '0'), false, map.index);
      this.#wide(dst, source, scan.inRange(BigInt(handle), true, map.index), offset);
      return true;
    }
    const variable = scan.take(/btf\[id:(-?\d+)\]/y);
    if (variable !== undefined) {
      this.#wide(dst, op.BPF_PSEUDO_BTF_ID, scan.inRange(BigInt(variable[1]!), true, variable.index), 0);
      return true;
    }
    if (scan.take(/subprog\[/y) === undefined) return false;
    const distance = this.#target(scan, this.#insns.length, 'imm');
    scan.expect(/\]/y, ']');
    this.#wide(dst, op.BPF_PSEUDO_FUNC, distance, 0);
    return true;
  }

  #wideImmediate(scan: LineScanner, dst: number): boolean {
    const number = scan.take(/(-?)(0x[0-9a-f]+|\d+)\s*ll\b/iy);
    if (number === undefined) return false;
    const magnitude = BigInt(number[2]!);
    const value = number[1] === '-' ? -magnitude : magnitude;
    if (value > U64_MAX || value < -(1n << 63n))
      scan.fail('the number needs more than 64 bits', number.index);
    const bits = BigInt.asUintN(64, value);
    this.#wide(dst, 0, Number(BigInt.asIntN(32, bits)), Number(BigInt.asIntN(32, bits >> 32n)));
    return true;
  }

  #wide(dst: number, src: number, imm: number, next: number): void {
    this.#emit(op.OP_LDDW, { dst, src, imm });
    this.#emit(0, { imm: next });
  }

  /** `(u32 *)(r1 +4)`, the star before it already read. */
  #place(scan: LineScanner, mayBeSigned = false): Place {
    const type = scan.expect(/\(\s*([us])(8|16|32|64)\s*\*\s*\)/y, '(u8 *), (u16 *), (u32 *) or (u64 *)');
    if (type[1] === 's' && !mayBeSigned) scan.fail('only loads can be signed', type.index);
    scan.expect(/\(/y, '(');
    const base = this.#register(scan, 'r');
    const offset = scan.take(/([+-])\s*(0x[0-9a-f]+|\d+)/iy);
    const magnitude = offset === undefined ? 0 : Number(offset[2]);
    const off = offset?.[1] === '-' ? 0 - magnitude : magnitude;
    if (off < -0x8000 || off > 0x7fff) scan.fail(`offset ${off} does not fit in 16 bits`, offset?.index);
    scan.expect(/\)/y, ')');
    return { size: SIZES[type[2]!]!, signed: type[1] === 's', base: base.number, off };
  }

  #register(scan: LineScanner, prefix?: 'r' | 'w'): Register {
    const register = this.#maybeRegister(scan) ?? scan.fail('a register is expected');
    if (prefix !== undefined && register.prefix !== prefix) {
      scan.fail(`the whole register is expected: ${prefix}${register.number}`, register.at);
    }
    return register;
  }

  #maybeRegister(scan: LineScanner): Register | undefined {
    const match = scan.take(/([rw])(\d+)\b/y);
    if (match === undefined) return undefined;
    const prefix = match[1] === 'w' ? 'w' : 'r';
    return { prefix, number: registerNumber(scan, match[2]!, match.index), at: match.index };
  }
}

interface Register {
  readonly prefix: 'r' | 'w';
  readonly number: number;
  readonly at: number;
}

interface Place {
  readonly size: number;
  readonly signed: boolean;
  readonly base: number;
  readonly off: number;
}

/** One line and a position in it; blanks are skipped before every match. */
class LineScanner {
  #at = 0;
  readonly #text: string;

  constructor(
    text: string,
    readonly line: number,
    readonly file: string | undefined,
  ) {
    this.#text = text.replace(/^\s*#.*$/, '').replace(/(?:;|\/\/).*$/, '');
  }

  get at(): number {
    return this.#at;
  }

  done(): boolean {
    this.#skipBlanks();
    return this.#at >= this.#text.length;
  }

  take(pattern: RegExp): RegExpExecArray | undefined {
    this.#skipBlanks();
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match;
  }

  expect(pattern: RegExp, what: string): RegExpExecArray {
    return this.take(pattern) ?? this.fail(`${what} is expected`);
  }

  /** Takes a keyword, but not the beginning of a longer name. */
  word(word: string): boolean {
    this.#skipBlanks();
    if (!this.#text.startsWith(word, this.#at)) return false;
    if (/[\w.$]/.test(this.#text[this.#at + word.length] ?? '')) return false;
    this.#at += word.length;
    return true;
  }

  number(): bigint {
    const match = this.expect(/(-?)(0x[0-9a-f]+|\d+)\b/iy, 'a number');
    const magnitude = BigInt(match[2]!);
    return match[1] === '-' ? -magnitude : magnitude;
  }

  /** A 32-bit immediate as the signed number that the insn carries. */
  immediate(signedOnly: boolean): number {
    this.#skipBlanks();
    const at = this.#at;
    return this.inRange(this.number(), signedOnly, at);
  }

  inRange(value: bigint, signedOnly: boolean, at: number): number {
    if (value < -0x80000000n || value > (signedOnly ? 0x7fffffffn : U32_MAX)) {
      this.fail(`${value} does not fit in a${signedOnly ? ' signed' : ''} 32-bit immediate`, at);
    }
    return Number(BigInt.asIntN(32, value));
  }

  fail(message: string, at = this.#at): never {
    throw invalid(message, this.file, this.line, at + 1);
  }

  #skipBlanks(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }
}

function registerNumber(scan: LineScanner, digits: string, at: number): number {
  const number = Number(digits);
  if (number > op.FRAME_POINTER) scan.fail(`there is no register r${digits}`, at);
  return number;
}

function fits(distance: number, field: Field): boolean {
  return field === 'off'
    ? distance >= -0x8000 && distance <= 0x7fff
    : distance >= -0x80000000 && distance <= 0x7fffffff;
}

function invalid(message: string, file: string | undefined, line: number, col: number): XdpbedError {
  return new XdpbedError('asm-invalid', message, { at: { file: file ?? '<asm>', line, col } });
}
