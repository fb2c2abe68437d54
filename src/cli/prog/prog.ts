import type { Command } from 'commander';
import type { CliContext } from '../cli-context.js';
import { addBenchVerb } from './bench.js';
import { addDisasmVerb } from './disasm.js';
import { addInfoVerb } from './info.js';
import { addRunVerb } from './run.js';
import { addTestVerb } from './test.js';
import { addTraceVerb } from './trace.js';
import { addVerifyVerb } from './verify.js';

/** `xdpbed prog …`: the engine alone, on one object; no root, no kernel, no clang. */
export function addProgVerbs(program: Command, context: CliContext): void {
  const prog = program.command('prog').description('inspect, verify, run and test XDP programs without root');
  for (const add of [
    addInfoVerb,
    addDisasmVerb,
    addVerifyVerb,
    addRunVerb,
    addTraceVerb,
    addTestVerb,
    addBenchVerb,
  ])
    add(prog, context);
}
