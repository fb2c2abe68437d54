import { isLddw, type Insn } from '../bpf/insn.js';
import { BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, OP_CALL } from '../bpf/opcodes.js';
import type { ProgramDebugInfo } from '../bpf/program.js';
import { btfLoad, type ProgramBtfRecords } from './bpf-syscall.js';

const BTF_MAGIC = 0xeb9f;
const BTF_HEADER_SIZE = 24;
const BTF_KIND_INT = 1;
const BTF_KIND_FUNC = 12;
const BTF_KIND_FUNC_PROTO = 13;
const BTF_INT_SIGNED = 1;

/**
 * Loads just so much BTF as makes the kernel know a program's functions and source lines: it wants a name for each
 * function before it takes callbacks, and prints the lines in its log. The object's own BTF is not used, since it
 * would first have to be made to the kernel's taste (section sizes, kinds that an older kernel does not know).
 *
 * Every function is `static int name(void)`: the kernel then verifies each where it is called, with what its caller
 * knows, as it does for a program without BTF.
 *
 * ```
 * header   +0 magic u16 · +2 version u8 · +3 flags u8 · +4 hdr_len u32 · +8 type_off, type_len u32
 *          +16 str_off, str_len u32
 * type     +0 name_off u32 · +4 info u32 (kind << 24 | vlen) · +8 size or type u32; INT: +12 encoding << 24 | bits
 * ```
 * Returns undefined when the kernel has no use for it; the program loads without it all the same.
 */
export function loadProgramBtf(
  insns: readonly Insn[],
  debug: ProgramDebugInfo | undefined,
): ProgramBtfRecords | undefined {
  const starts = functionStarts(insns);
  const names = new Map(debug?.functions.map(({ insn, name }) => [insn, name]));
  const strings = new StringTable();
  const types: number[] = [];
  types.push(strings.offset('int'), BTF_KIND_INT << 24, 4, (BTF_INT_SIGNED << 24) | 32);
  types.push(0, BTF_KIND_FUNC_PROTO << 24, 1);
  const functions: number[] = [];
  starts.forEach((start, index) => {
    const name = (names.get(start) ?? `fn_${start}`).replaceAll(/[^A-Za-z0-9_]/g, '_');
    types.push(strings.offset(name), BTF_KIND_FUNC << 24, 2);
    functions.push(start, index + 3);
  });
  const lines = lineRecords(insns, starts, debug, strings);

  const typeBytes = words(types);
  const stringBytes = strings.bytes();
  const btf = new Uint8Array(BTF_HEADER_SIZE + typeBytes.length + stringBytes.length);
  const header = new DataView(btf.buffer);
  header.setUint16(0, BTF_MAGIC, true);
  header.setUint8(2, 1);
  header.setUint32(4, BTF_HEADER_SIZE, true);
  header.setUint32(12, typeBytes.length, true);
  header.setUint32(16, typeBytes.length, true);
  header.setUint32(20, stringBytes.length, true);
  btf.set(typeBytes, BTF_HEADER_SIZE);
  btf.set(stringBytes, BTF_HEADER_SIZE + typeBytes.length);
  const btfFd = btfLoad(btf);
  if (btfFd < 0) return undefined;
  return { btfFd, functions: words(functions), lines: words(lines) };
}

/** Slots where the main program and each function that is called or taken the address of begin, in order. */
export function functionStarts(insns: readonly Insn[]): number[] {
  const starts = new Set([0]);
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    const isLocalCall = insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_CALL;
    const isFunctionAddress = isLddw(insn) && insn.src === BPF_PSEUDO_FUNC;
    if (isLocalCall || isFunctionAddress) starts.add(slot + insn.imm + 1);
    if (isLddw(insn)) slot++;
  }
  return [...starts].filter((start) => start >= 0 && start < insns.length).sort((a, b) => a - b);
}

/** None at all unless every function's first insn has a line: the kernel refuses a program over that. */
function lineRecords(
  insns: readonly Insn[],
  starts: readonly number[],
  debug: ProgramDebugInfo | undefined,
  strings: StringTable,
): number[] {
  // A line cannot begin in the second slot of an lddw.
  const lines = (debug?.lines ?? []).filter(({ insn }) => insn < insns.length && insns[insn]!.opcode !== 0);
  const withLine = new Set(lines.map(({ insn }) => insn));
  if (!starts.every((start) => withLine.has(start))) return [];
  return lines.flatMap(({ insn, file, text, line, column }) => [
    insn,
    strings.offset(file),
    strings.offset(text),
    (line << 10) | column,
  ]);
}

class StringTable {
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #encoded: Uint8Array[] = [new Uint8Array(1)];
  #size = 1;

  offset(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(`${text.replaceAll('\0', ' ')}\0`);
    this.#offsets.set(text, this.#size);
    this.#encoded.push(bytes);
    this.#size += bytes.length;
    return this.#size - bytes.length;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#encoded);
  }
}

function words(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => view.setUint32(index * 4, value, true));
  return bytes;
}
