import { setImmediate } from 'node:timers/promises';
import { runConformanceProgram } from '../conformance/executor/bpf-conformance.js';
import { EXIT, type ExitCode } from '../core/diagnostic.js';
import type { CliContext } from './cli-context.js';
import { Workbench } from '../core/program-test/workbench.js';
import { interrupted, unlessInterrupted } from '../core/clock/interrupted.js';

/**
 * `xdpbed conformance`: the plugin protocol of the public bpf_conformance suite. The program comes as one line of
 * hex on stdin, R0 goes to stdout in hex; an error goes to stderr with a non-zero exit code.
 */
export async function conformance(
  context: CliContext,
  memory: string | undefined,
  options: { executor: string; elf?: boolean },
): Promise<ExitCode> {
  const { terminal } = context;
  if (options.elf === true) {
    terminal.err('programs in ELF format are not part of this protocol\n');
    return EXIT.BAD_INPUT;
  }
  const signal = context.interruption();
  const text = await unlessInterrupted(signal, 'the program was awaited', terminal.input());
  const bench = await Workbench.open(context.registry, {
    executor: options.executor,
    verifiers: ['structural'],
    runtime: { memoryBytes: 4 * 1024 * 1024 },
  });
  try {
    const result = await runConformanceProgram(bench.party.executor, bench.runtime, text, memory);
    await setImmediate();
    if (signal.aborted) throw interrupted('the program was run');
    if ('error' in result) {
      terminal.err(`${result.error}\n`);
      return EXIT.CHECK_FAILED;
    }
    terminal.out(`${BigInt.asUintN(64, result.r0).toString(16)}\n`);
    return EXIT.OK;
  } finally {
    await bench.close();
  }
}
