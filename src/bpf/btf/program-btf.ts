import { functionStarts } from '../function-starts.js';
import type { Insn } from '../insn.js';
import type { ProgramDebugInfo } from '../program.js';
import { BtfEncoder, littleEndianWords } from './btf-encoder.js';

const BTF_INT_SIGNED = 1;

/** What a loader gives a kernel, or a device, with a program: names of its functions and the lines of its source. */
export interface ProgramBtf {
  /** A `.BTF` section. */
  readonly bytes: Uint8Array;
  /** `struct bpf_func_info` for each function: slot, type id; u32 in little-endian. */
  readonly functions: Uint8Array;
  /** `struct bpf_line_info`: slot, file, text, line << 10 | column; u32 in little-endian. None where a function has no line. */
  readonly lines: Uint8Array;
}

/**
 * Just so much BTF as tells a program's functions and source lines. The object's own BTF is not used, since it would
 * first have to be made to the kernel's taste (section sizes, kinds that an older kernel does not know).
 *
 * Every function is `static int name(void)`: a kernel then verifies each where it is called, with what its caller
 * knows, as it does for a program without BTF.
 */
export function encodeProgramBtf(insns: readonly Insn[], debug: ProgramDebugInfo | undefined): ProgramBtf {
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
  return {
    bytes: btf.bytes(),
    functions: littleEndianWords(functions),
    lines: littleEndianWords(lines),
  };
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
