import { BtfEncoder, littleEndianWords } from '../bpf/btf/btf-encoder.js';
import { functionStarts } from '../bpf/function-starts.js';
import type { Insn } from '../bpf/insn.js';
import type { ProgramDebugInfo } from '../bpf/program.js';
import { btfLoad, type ProgramBtfRecords } from './bpf-syscall.js';

const BTF_INT_SIGNED = 1;

/**
 * Loads just so much BTF as makes the kernel know a program's functions and source lines: it wants a name for each
 * function before it takes callbacks, and prints the lines in its log. The object's own BTF is not used, since it
 * would first have to be made to the kernel's taste (section sizes, kinds that an older kernel does not know).
 *
 * Every function is `static int name(void)`: the kernel then verifies each where it is called, with what its caller
 * knows, as it does for a program without BTF.
 *
 * Returns undefined when the kernel has no use for it; the program loads without it all the same.
 */
export function loadProgramBtf(
  insns: readonly Insn[],
  debug: ProgramDebugInfo | undefined,
): ProgramBtfRecords | undefined {
  const starts = functionStarts(insns);
  const names = new Map(debug?.functions.map(({ insn, name }) => [insn, name]));
  const btf = new BtfEncoder();
  btf.type('INT', { name: 'int', sizeOrType: 4, body: [(BTF_INT_SIGNED << 24) | 32] });
  const prototype = btf.type('FUNC_PROTO', { sizeOrType: 1 });
  const functions: number[] = [];
  for (const start of starts) {
    const name = (names.get(start) ?? `fn_${start}`).replaceAll(/[^A-Za-z0-9_]/g, '_');
    functions.push(start, btf.type('FUNC', { name, sizeOrType: prototype }));
  }
  const lines = lineRecords(insns, starts, debug, btf);
  const btfFd = btfLoad(btf.bytes());
  if (btfFd < 0) return undefined;
  return { btfFd, functions: littleEndianWords(functions), lines: littleEndianWords(lines) };
}

/** None at all unless every function's first insn has a line: the kernel refuses a program over that. */
function lineRecords(
  insns: readonly Insn[],
  starts: readonly number[],
  debug: ProgramDebugInfo | undefined,
  btf: BtfEncoder,
): number[] {
  // A line cannot begin in the second slot of an lddw.
  const lines = (debug?.lines ?? []).filter(({ insn }) => insn < insns.length && insns[insn]!.opcode !== 0);
  const withLine = new Set(lines.map(({ insn }) => insn));
  if (!starts.every((start) => withLine.has(start))) return [];
  return lines.flatMap(({ insn, file, text, line, column }) => [
    insn,
    btf.string(file),
    btf.string(text),
    (line << 10) | column,
  ]);
}
