import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { disassemble } from '../../bpf/disassembler.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { CliContext } from '../cli-context.js';
import { openObject, openProgram, type ProgramOptions } from './prog-object.js';

/** `xdpbed prog disasm`: the insns in the syntax of the kernel's verifier log, with source lines from BTF. */
export async function disassembleProgram(
  context: CliContext,
  path: string,
  options: ProgramOptions & { source: boolean; opcodes?: boolean },
): Promise<ExitCode> {
  const one = options.program !== undefined || options.section !== undefined;
  const programs = one
    ? [(await openProgram(path, options)).spec]
    : (await openObject(path, options)).programs;
  context.terminal.out(programs.map((program) => listing(program, options)).join('\n'));
  return EXIT.OK;
}

function listing(program: ProgramSpec, options: { source: boolean; opcodes?: boolean }): string {
  const text = disassemble(program.insns, {
    opcodes: options.opcodes,
    references: program.references,
    functions: program.debug?.functions,
    lines: options.source ? program.debug?.lines : undefined,
  });
  return `${program.name} (section ${program.section}, ${program.insns.length} insns):\n${text.trimEnd()}\n`;
}
