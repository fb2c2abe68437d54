import type { ExitCode, XdpbedError } from '../core/diagnostic.js';
import type { StreamEvent } from '../core/contract/event.js';
import { REPORTER, type Reporter } from '../core/contract/reporter.js';
import type { ResultDocument, RunFailure } from '../core/contract/result.js';
import { LifecycleManager, PHASE_TIMEOUT_MS } from '../core/plugin/lifecycle.js';
import { Scope } from '../core/plugin/scope.js';
import { pluginFailure } from '../core/plugin/plugin-failure.js';
import { pluginName, PluginInstances } from '../core/run/plugin-instances.js';
import { elementWords } from '../core/run/element-words.js';
import { exitCodeOf } from '../core/run/run-failures.js';
import { runTestbed } from '../core/run/run-testbed.js';
import { choosePlugin, type PluginChoice } from '../core/testbed/choose-plugin.js';
import type { ResolvedTestbed } from '../core/testbed/resolve-testbed.js';
import { VERSION } from '../version.js';
import { AuditFile } from './audit-file.js';
import type { CliContext } from './cli-context.js';
import { Progress } from './progress.js';
import { RunProgressLine } from './run-progress.js';
import { reportError } from './terminal.js';
import { openTestbed } from './open-testbed.js';
import { toResolveOptions, type TestbedOptions } from './testbed-options.js';

interface RunOptions extends TestbedOptions {
  readonly format?: string;
  readonly bail?: boolean;
  /** Path of the file for rulings and audit records. */
  readonly audit?: string;
}

/** `xdpbed run`: brings a testbed up, drives its traffic, checks it and reports. */
export async function run(context: CliContext, file: string, options: RunOptions): Promise<ExitCode> {
  const testbed = await openTestbed(context, file, toResolveOptions(options));
  const choice: PluginChoice =
    options.format === undefined
      ? testbed.reporter
      : await choosePlugin(context.registry, 'reporter', options.format, process.cwd());
  const lifecycle = new LifecycleManager(PHASE_TIMEOUT_MS, context.interruption());
  const instances = new PluginInstances(new Scope('reporter'), lifecycle);
  const audit = options.audit === undefined ? undefined : new AuditFile(options.audit);
  try {
    const reporter = await instances.instantiate(choice, REPORTER);
    const told = { reporter, name: pluginName(choice), audit };
    const { result, text } = await runAndReport(testbed, told, context, options);
    context.terminal.raw.out(text);
    return exitCodeOf(result);
  } finally {
    try {
      audit?.close();
    } finally {
      await lifecycle.stop();
    }
  }
}

/** Who is told of a run. */
interface Audience {
  readonly reporter: Reporter;
  /** The reporter's, as messages call it. */
  readonly name: string;
  readonly audit: AuditFile | undefined;
}

async function runAndReport(
  testbed: ResolvedTestbed,
  { reporter, name, audit }: Audience,
  { terminal, interruption }: CliContext,
  { bail }: RunOptions,
): Promise<{ result: ResultDocument; text: string }> {
  const progress = new Progress(terminal);
  const runProgress = new RunProgressLine(progress);
  // Who throws here must not look like a failure of whatever was under way: it is told of at the end.
  const failures: XdpbedError[] = [];
  const onEvent = (event: StreamEvent): void => {
    if (event.event === 'run-interrupted') progress.say(`interrupted in run ${event.run}`);
    if (event.event === 'run-started')
      runProgress.begin(`run ${event.index + 1} of ${event.of}: ${event.run}`);
    if (failures.length > 0) return;
    try {
      audit?.onEvent(event);
      const line = reporter.onEvent?.(event);
      if (line === undefined) return;
      progress.clear();
      terminal.raw.out(`${line}\n`);
    } catch (error) {
      failures.push(pluginFailure(name, 'onEvent', error));
    }
  };
  let result: ResultDocument;
  try {
    // Told at once, with all that is known of an error: the result comes late, or never after an interruption.
    const onFailure = ({ run, stage }: RunFailure, error: unknown): void => {
      progress.clear();
      terminal.err(`run ${run} ${stage === 'run' ? 'failed' : 'was not taken down'}:\n`);
      reportError(error, terminal);
    };
    result = await runTestbed(testbed, {
      version: VERSION,
      signal: interruption(),
      bail,
      onEvent,
      onFailure,
      onProgress: terminal.interactive ? (report) => runProgress.show(report) : undefined,
    });
  } finally {
    progress.clear();
  }
  if (failures.length > 0) throw failures[0]!;
  try {
    return { result, text: reporter.render(result, { color: terminal.color, words: elementWords(testbed) }) };
  } catch (error) {
    throw pluginFailure(name, 'render', error);
  }
}
