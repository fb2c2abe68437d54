import { encodeProgramBtf } from '../bpf/btf/program-btf.js';
import type { Insn } from '../bpf/insn.js';
import type { ProgramDebugInfo } from '../bpf/program.js';
import { btfLoad, type ProgramBtfRecords } from './bpf-syscall.js';

/**
 * Loads just so much BTF as makes the kernel know a program's functions and source lines: it wants a name for each
 * function before it takes callbacks, and prints the lines in its log.
 *
 * Returns undefined when the kernel has no use for it; the program loads without it all the same.
 */
export function loadProgramBtf(
  insns: readonly Insn[],
  debug: ProgramDebugInfo | undefined,
): ProgramBtfRecords | undefined {
  const { bytes, functions, lines } = encodeProgramBtf(insns, debug);
  const btfFd = btfLoad(bytes);
  return btfFd < 0 ? undefined : { btfFd, functions, lines };
}
