import type { ProgramSpec } from '../../bpf/program.js';
import type { CoverageSink } from '../../core/contract/insn-coverage.js';
import { XdpbedError } from '../../core/diagnostic.js';
import { failureMessage, type FailureMessage } from '../../core/failure-message.js';
import type { PluginRegistry } from '../../core/plugin/plugin-registry.js';
import { loadCases } from '../../core/program-test/load-cases.js';
import { parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import { runCases, type CaseResult } from '../../core/program-test/run-cases.js';
import type { TestFile } from '../../core/program-test/test-case.js';
import { Workbench } from '../../core/program-test/workbench.js';
import type { FileReport } from './test-report.js';

/** How the cases of a file are run: plain data, which a thread can be given. */
export interface FileTests {
  readonly object?: string | undefined;
  readonly type?: 'xdp' | undefined;
  /** Sizes of maps as the command line has them. */
  readonly map?: readonly string[] | undefined;
  readonly executor: string;
  readonly mapBackend?: string | undefined;
  /** Comma-separated. */
  readonly verifier: string;
  readonly filter?: string | undefined;
  readonly update?: boolean | undefined;
  readonly bail?: boolean | undefined;
}

/** What came of one file: plain data, too. */
export interface FileOutcome {
  /** As far as it got before an interruption; absent when the file cannot be used. */
  readonly report?: FileReport | undefined;
  readonly failure?: FailureMessage | undefined;
  /** Files that it consists of. */
  readonly reads: readonly string[];
}

/**
 * Reads a file of cases and runs them.
 * @param coverageOf has it counted which insns of an object run
 */
export async function testOneFile(
  registry: PluginRegistry,
  file: string,
  tests: FileTests,
  signal: AbortSignal,
  coverageOf?: (objectFile: string, programs: readonly ProgramSpec[]) => CoverageSink,
): Promise<FileOutcome> {
  const { object, type, filter } = tests;
  let loaded: TestFile;
  try {
    loaded = await loadCases(file, { object, type, sizes: parseMapSizes(tests.map ?? []), signal });
  } catch (error) {
    // What was being read has no part in what is told; nothing has been run.
    if (signal.aborted) return { reads: [file] };
    if (!(error instanceof XdpbedError)) throw error;
    return { failure: failureMessage(error), reads: [file] };
  }
  const open = (cpus: number): Promise<Workbench> =>
    Workbench.open(registry, {
      executor: tests.executor,
      coverage: coverageOf?.(loaded.objectFile, loaded.cases[0]!.object.programs),
      mapBackend: tests.mapBackend,
      verifiers: tests.verifier.split(','),
      runtime: { cpus },
    });
  const results: CaseResult[] = [];
  const running = runCases(loaded, {
    open,
    filter: filter === undefined ? undefined : (name) => name.includes(filter),
    update: tests.update,
    bail: tests.bail,
    signal,
  });
  for await (const result of running) results.push(result);
  return { report: { file, object: loaded.objectFile, results }, reads: [file, ...loaded.reads] };
}
