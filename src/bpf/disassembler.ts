import { printableLine } from '../core/printable.js';
import type { FunctionInfo, LineInfo } from './btf/btf-ext.js';
import { knownHelperName } from './helper-ids.js';
import { encodeInsns, isLddw, lddwImmediate, type Insn } from './insn.js';
import * as op from './opcodes.js';
import type { ProgramReference } from './program.js';

/**
 * Prints insns in the syntax of the kernel verifier's log (kernel/bpf/disasm.c) without its `(7b)` opcode
 * prefix, which `opcodes` turns on. Where the kernel's text is ambiguous or lossy, these forms differ, so that
 * the assembler can read back every valid encoding:
 *
 * | insn                               | kernel            | here                               |
 * |------------------------------------|-------------------|------------------------------------|
 * | `lddw` of a number                 | `r1 = 0x5`        | `r1 = 0x5ll`                       |
 * | `lddw` of a map (src 1, 5)         | an address        | `r1 = map[fd:5]`, `r1 = map[idx:5]`|
 * | `lddw` into a map's value (2, 6)   | an address        | `r1 = map[fd:5][0]+8` (as bpftool) |
 * | `lddw` of a kernel variable (3)    | an address        | `r1 = btf[id:5]`                   |
 * | `lddw` of a local function (4)     | a number          | `r1 = subprog[+5]` (as bpftool)    |
 * | an encoding that nothing defines   | `BUG_2e`          | `.quad 0x…`, the slot as a u64     |
 */
export interface DisassemblyOptions {
  /** Put the opcode byte in front: `(7b) *(u64 *)(r10 -8) = r1`. */
  readonly opcodes?: boolean | undefined;
  /** Name a map by the handle in imm: `r1 = map[flows]` instead of `r1 = map[fd:5]`. */
  readonly mapName?: ((handle: number) => string | undefined) | undefined;
  /** Unlinked programs: the names of the maps come from the references. */
  readonly references?: readonly ProgramReference[] | undefined;
  /** Local calls get the callee's name: `call pc+7#parse`, as bpftool prints it. */
  readonly functions?: readonly FunctionInfo[] | undefined;
}

export interface ListingOptions extends DisassemblyOptions {
  /** Source lines, printed as `; text` above the insns that they made. */
  readonly lines?: readonly LineInfo[] | undefined;
  /** Slot numbers in front of each insn (default). */
  readonly indices?: boolean | undefined;
}

const ALU_OPERATORS: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: '+=',
  [op.BPF_SUB]: '-=',
  [op.BPF_MUL]: '*=',
  [op.BPF_DIV]: '/=',
  [op.BPF_OR]: '|=',
  [op.BPF_AND]: '&=',
  [op.BPF_LSH]: '<<=',
  [op.BPF_RSH]: '>>=',
  [op.BPF_MOD]: '%=',
  [op.BPF_XOR]: '^=',
  [op.BPF_MOV]: '=',
  [op.BPF_ARSH]: 's>>=',
};

const JUMP_OPERATORS: Readonly<Record<number, string>> = {
  [op.BPF_JEQ]: '==',
  [op.BPF_JGT]: '>',
  [op.BPF_JGE]: '>=',
  [op.BPF_JSET]: '&',
  [op.BPF_JNE]: '!=',
  [op.BPF_JSGT]: 's>',
  [op.BPF_JSGE]: 's>=',
  [op.BPF_JLT]: '<',
  [op.BPF_JLE]: '<=',
  [op.BPF_JSLT]: 's<',
  [op.BPF_JSLE]: 's<=',
};

const SIZE_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_B]: '8',
  [op.BPF_H]: '16',
  [op.BPF_W]: '32',
  [op.BPF_DW]: '64',
};

const ATOMIC_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: 'add',
  [op.BPF_OR]: 'or',
  [op.BPF_AND]: 'and',
  [op.BPF_XOR]: 'xor',
};

/** Extensions of the kernel that RFC 9669 does not have; printed, but not valid for xdpbed (see checkInsn). */
const BPF_LOAD_ACQ = 0x100;
const BPF_STORE_REL = 0x110;
const BPF_JCOND = 0xe0;
const BPF_ADDR_SPACE_CAST = 1;

/**
 * The text of the insn at slot `index`; empty for the second slot of an `lddw` (reached by asking for it by
 * number: the caller's view of slots is a plain array).
 */
export function formatInsn(insns: readonly Insn[], index: number, options: DisassemblyOptions = {}): string {
  const insn = insns[index];
  if (insn === undefined) return '';
  if (insn.opcode === 0 && startsLddw(insns, index - 1)) return '';
  const text = formatBody(insns, index, insn, options) ?? formatRaw(insn);
  return options.opcodes === true ? `(${hex(insn.opcode).padStart(2, '0')}) ${text}` : text;
}

/** Whether the slot at `index` is the first of an `lddw` that has a syntax; otherwise both print as raw slots. */
function startsLddw(insns: readonly Insn[], index: number): boolean {
  const insn = insns[index];
  return isLddw(insn) && insn!.src <= op.BPF_PSEUDO_MAP_IDX_VALUE && insns[index + 1]?.opcode === 0;
}

/**
 * A listing, one insn a line, with slot numbers, functions as labels and source lines as comments; the
 * assembler reads it back.
 *
 * ```
 * xdp_prog:
 * ; if (data + 14 > data_end)
 *    0: (61) r2 = *(u32 *)(r1 +4)
 * ```
 */
export function disassemble(insns: readonly Insn[], options: ListingOptions = {}): string {
  const out = [...listing(insns, options)];
  return out.join('\n') + (out.length > 0 ? '\n' : '');
}

/** The lines of `disassemble` one by one, without line feeds: for who prints a long listing as it comes about. */
export function* listing(insns: readonly Insn[], options: ListingOptions = {}): Generator<string> {
  const functions = new Map(options.functions?.map((info) => [info.insn, info.name]));
  const lines = new Map(options.lines?.map((info) => [info.insn, info]));
  const width = Math.max(4, String(Math.max(0, insns.length - 1)).length);
  for (let index = 0; index < insns.length; index++) {
    const label = functions.get(index);
    if (label !== undefined) yield printableLine(`${label}:`);
    const line = lines.get(index);
    if (line !== undefined)
      yield printableLine(`; ${line.text === '' ? '' : `${line.text} `}@ ${line.file}:${line.line}`);
    const text = printableLine(formatInsn(insns, index, options));
    if (text === '') continue;
    yield options.indices === false ? `  ${text}` : `${String(index).padStart(width)}: ${text}`;
  }
}

function formatBody(
  insns: readonly Insn[],
  index: number,
  insn: Insn,
  options: DisassemblyOptions,
): string | undefined {
  switch (insn.opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
      return formatArithmetic(insn, 'w');
    case op.BPF_ALU64:
      return formatArithmetic(insn, 'r');
    case op.BPF_JMP:
      return formatJump(insn, index, 'r', options);
    case op.BPF_JMP32:
      return formatJump(insn, index, 'w', options);
    case op.BPF_LD:
      return formatLoadImmediate(insns, index, insn, options);
    case op.BPF_LDX:
      return formatLoad(insn);
    default:
      return formatStore(insn);
  }
}

function formatArithmetic(insn: Insn, prefix: 'r' | 'w'): string | undefined {
  const code = insn.opcode & op.BPF_OP_MASK;
  const register = (n: number): string => `${prefix}${n}`;
  const fromRegister = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  if (code === op.BPF_END) {
    if (insn.imm !== 16 && insn.imm !== 32 && insn.imm !== 64) return undefined;
    // Byte swaps always name the whole register, whatever their class.
    if (prefix === 'r') return fromRegister ? undefined : `r${insn.dst} = bswap${insn.imm} r${insn.dst}`;
    return `r${insn.dst} = ${fromRegister ? 'be' : 'le'}${insn.imm} r${insn.dst}`;
  }
  if (code === op.BPF_NEG) return `${register(insn.dst)} = -${register(insn.dst)}`;
  let operator = ALU_OPERATORS[code];
  if (operator === undefined) return undefined;
  const signed = (code === op.BPF_DIV || code === op.BPF_MOD) && insn.off === 1;
  if (signed) operator = `s${operator}`;
  if (!fromRegister) return `${register(insn.dst)} ${operator} ${insn.imm}`;
  if (code === op.BPF_MOV && prefix === 'r' && insn.off === BPF_ADDR_SPACE_CAST) {
    return `r${insn.dst} = addr_space_cast(r${insn.src}, ${insn.imm >>> 16}, ${insn.imm & 0xffff})`;
  }
  const extend =
    code === op.BPF_MOV && (insn.off === 8 || insn.off === 16 || insn.off === 32) ? `(s${insn.off})` : '';
  return `${register(insn.dst)} ${operator} ${extend}${register(insn.src)}`;
}

function formatJump(
  insn: Insn,
  index: number,
  prefix: 'r' | 'w',
  options: DisassemblyOptions,
): string | undefined {
  const code = insn.opcode & op.BPF_OP_MASK;
  const fromRegister = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  const operator = JUMP_OPERATORS[code];
  if (operator !== undefined) {
    const operand = fromRegister ? `${prefix}${insn.src}` : `0x${hex(insn.imm >>> 0)}`;
    return `if ${prefix}${insn.dst} ${operator} ${operand} goto pc${signed(insn.off)}`;
  }
  if (fromRegister) return undefined;
  if (prefix === 'w') return code === op.BPF_JA ? `gotol pc${signed(insn.imm)}` : undefined;
  switch (code) {
    case op.BPF_JA:
      return `goto pc${signed(insn.off)}`;
    case op.BPF_EXIT:
      return 'exit';
    case BPF_JCOND:
      return insn.src === 0 ? `may_goto pc${signed(insn.off)}` : undefined;
    case op.BPF_CALL:
      return formatCall(insn, index, options);
    default:
      return undefined;
  }
}

function formatCall(insn: Insn, index: number, options: DisassemblyOptions): string | undefined {
  switch (insn.src) {
    case op.BPF_CALL_HELPER:
      return `call ${knownHelperName(insn.imm) ?? 'unknown'}#${insn.imm}`;
    case op.BPF_PSEUDO_CALL: {
      const callee = options.functions?.find((info) => info.insn === index + 1 + insn.imm);
      return `call pc${signed(insn.imm)}${callee === undefined ? '' : `#${callee.name}`}`;
    }
    case op.BPF_PSEUDO_KFUNC_CALL:
      return `call kernel-function#${insn.imm}`;
    default:
      return undefined;
  }
}

function formatLoadImmediate(
  insns: readonly Insn[],
  index: number,
  insn: Insn,
  options: DisassemblyOptions,
): string | undefined {
  const size = insn.opcode & op.BPF_SIZE_MASK;
  switch (insn.opcode & op.BPF_MODE_MASK) {
    case op.BPF_ABS:
      return size === op.BPF_DW ? undefined : `r0 = *(u${SIZE_NAMES[size]} *)skb[${insn.imm}]`;
    case op.BPF_IND:
      return size === op.BPF_DW ? undefined : `r0 = *(u${SIZE_NAMES[size]} *)skb[r${insn.src} + ${insn.imm}]`;
    case op.BPF_IMM:
      break;
    default:
      return undefined;
  }
  const next = insns[index + 1];
  if (next === undefined || !startsLddw(insns, index)) return undefined;
  const target = (text: string): string => `r${insn.dst} = ${text}`;
  const reference = options.references?.find((candidate) => candidate.insn === index);
  if (reference !== undefined) {
    return target(`map[${reference.mapName}]${reference.value ? `[0]+${reference.offset}` : ''}`);
  }
  const name = (): string => options.mapName?.(insn.imm) ?? `fd:${insn.imm}`;
  const offset = next.imm >>> 0;
  switch (insn.src) {
    case 0:
      return target(`0x${lddwImmediate(insns, index).toString(16)}ll`);
    case op.BPF_PSEUDO_MAP_FD:
      return target(`map[${name()}]`);
    case op.BPF_PSEUDO_MAP_VALUE:
      return target(`map[${name()}][0]+${offset}`);
    case op.BPF_PSEUDO_BTF_ID:
      return target(`btf[id:${insn.imm}]`);
    case op.BPF_PSEUDO_FUNC:
      return target(`subprog[${signed(insn.imm)}]`);
    case op.BPF_PSEUDO_MAP_IDX:
      return target(`map[idx:${insn.imm}]`);
    case op.BPF_PSEUDO_MAP_IDX_VALUE:
      return target(`map[idx:${insn.imm}][0]+${offset}`);
    default:
      return undefined;
  }
}

function formatLoad(insn: Insn): string | undefined {
  const size = insn.opcode & op.BPF_SIZE_MASK;
  const mode = insn.opcode & op.BPF_MODE_MASK;
  if (mode === op.BPF_MEMSX && size !== op.BPF_DW) {
    return `r${insn.dst} = *(s${SIZE_NAMES[size]} *)(r${insn.src} ${signed(insn.off)})`;
  }
  if (mode !== op.BPF_MEM) return undefined;
  return `r${insn.dst} = *(u${SIZE_NAMES[size]} *)(r${insn.src} ${signed(insn.off)})`;
}

function formatStore(insn: Insn): string | undefined {
  const size = insn.opcode & op.BPF_SIZE_MASK;
  const mode = insn.opcode & op.BPF_MODE_MASK;
  const fromRegister = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_STX;
  const place = (base: number): string => `(u${SIZE_NAMES[size]} *)(r${base} ${signed(insn.off)})`;
  if (mode === op.BPF_MEM) {
    return `*${place(insn.dst)} = ${fromRegister ? `r${insn.src}` : String(insn.imm)}`;
  }
  if (mode !== op.BPF_ATOMIC || !fromRegister) return undefined;
  if (insn.imm === BPF_LOAD_ACQ) return `r${insn.dst} = load_acquire(${place(insn.src)})`;
  if (insn.imm === BPF_STORE_REL) return `store_release(${place(insn.dst)}, r${insn.src})`;
  if (size !== op.BPF_W && size !== op.BPF_DW) return undefined;
  const atomic = size === op.BPF_DW ? 'atomic64' : 'atomic';
  if (insn.imm === op.BPF_XCHG) return `r${insn.src} = ${atomic}_xchg(${place(insn.dst)}, r${insn.src})`;
  if (insn.imm === op.BPF_CMPXCHG) return `r0 = ${atomic}_cmpxchg(${place(insn.dst)}, r0, r${insn.src})`;
  const code = insn.imm & ~op.BPF_FETCH;
  const name = ATOMIC_NAMES[code];
  if (name === undefined) return undefined;
  return (insn.imm & op.BPF_FETCH) === 0
    ? `lock *${place(insn.dst)} ${ALU_OPERATORS[code]} r${insn.src}`
    : `r${insn.src} = ${atomic}_fetch_${name}(${place(insn.dst)}, r${insn.src})`;
}

/** A slot that no syntax covers: its eight bytes as a little-endian u64, as GNU as would emit it. */
function formatRaw(insn: Insn): string {
  const bytes = encodeInsns([insn]);
  const value = new DataView(bytes.buffer).getBigUint64(0, true);
  return `.quad 0x${value.toString(16).padStart(16, '0')}`;
}

function signed(value: number): string {
  return value < 0 ? String(value) : `+${value}`;
}

function hex(value: number): string {
  return value.toString(16);
}
