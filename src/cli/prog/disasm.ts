import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { listing } from '../../bpf/disassembler.js';
import type { ProgramSpec } from '../../bpf/program.js';
import { EventLoopTurns } from '../../core/clock/event-loop-turns.js';
import { printable } from '../../core/printable.js';
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
  // Printed as it comes about, so that an interruption leaves what there was.
  const turns = new EventLoopTurns();
  let text = '';
  for (const [index, program] of programs.entries()) {
    if (index > 0) text += '\n';
    text += `${printable(`${program.name} (section ${program.section}, ${program.insns.length} insns):`)}\n`;
    for (const line of listingOf(program, options)) {
      text += `${line}\n`;
      const turn = turns.next();
      if (turn === undefined) continue;
      context.terminal.out(text);
      text = '';
      await turn;
    }
  }
  context.terminal.out(text);
  return EXIT.OK;
}

function listingOf(program: ProgramSpec, options: { source: boolean; opcodes?: boolean }): Generator<string> {
  return listing(program.insns, {
    opcodes: options.opcodes,
    references: program.references,
    functions: program.debug?.functions,
    lines: options.source ? program.debug?.lines : undefined,
  });
}
