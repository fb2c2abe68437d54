import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { childEnvironment, compiledModule } from '../../core/child-process-module.js';
import { EXIT, XdpbedError, type ExitCode } from '../../core/diagnostic.js';
import { errorOfMessage } from '../../core/failure-message.js';
import type { ResolvedTestbed } from '../../core/testbed/resolve-testbed.js';
import type { RunSpec } from '../../core/contract/run-spec.js';
import type { CliContext } from '../cli-context.js';
import { toResolveOptions, type TestbedOptions } from '../testbed-options.js';
import { checkFormat, formatState } from './format-state.js';
import type { FromHolder, HeldState, HoldMessage } from './holder-messages.js';

interface UpOptions extends TestbedOptions {
  readonly format: string;
}

/**
 * `xdpbed up`: brings one run of a testbed up and returns once it is ready; a process of its own holds it until
 * `xdpbed down`.
 */
export async function up(context: CliContext, file: string, options: UpOptions): Promise<ExitCode> {
  checkFormat(options.format);
  const interruption = context.interruption();
  // It starts while the testbed is read, and what reads it is imported.
  const holder = new Holder();
  try {
    const [{ openTestbed }, { encodeRunSpec }] = await Promise.all([
      import('../open-testbed.js'),
      import('../../core/run/run-spec-codec.js'),
    ]);
    const testbed = await openTestbed(context, file, toResolveOptions(options));
    const { name, folder, objects } = testbed;
    const spec = encodeRunSpec(onlyRun(testbed));
    const state = await holder.hold({ testbed: name, folder, spec, objects }, interruption);
    context.terminal.out(formatState(state, options.format));
    return EXIT.OK;
  } finally {
    holder.letGo();
  }
}

function onlyRun({ name, runs }: ResolvedTestbed): RunSpec {
  if (runs.length !== 1) {
    const axes = Object.keys(runs[0]!.plan.axes)
      .map((axis) => ({ axis, variants: [...new Set(runs.map(({ plan }) => plan.axes[axis]!))] }))
      .filter(({ variants }) => variants.length > 1);
    const narrowed = axes.map(({ axis, variants }) => `--only ${axis}=${variants[0]}`).join(' ');
    const choices = axes.map(({ axis, variants }) => `${axis}: ${variants.join(', ')}`).join('; ');
    throw new XdpbedError(
      'usage',
      `testbed ${name} has ${runs.length} runs, and one at a time is brought up`,
      {
        hint: `${narrowed}   (${choices})`,
      },
    );
  }
  return runs[0]!;
}

/** The process that holds the run, as long as it is this one's child. */
class Holder {
  readonly #child: ChildProcess;
  readonly #ended: Promise<[number | null, NodeJS.Signals | null]>;
  /** What it printed before it had a log. */
  #printed = '';
  #isUp = false;

  constructor() {
    const main = compiledModule(new URL('./holder.js', import.meta.url).href);
    this.#child = fork(fileURLToPath(main), {
      // A session of its own: what ends the terminal, or everything in it, does not end the run.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
      execArgv: [],
      env: childEnvironment(),
    });
    for (const output of [this.#child.stdout!, this.#child.stderr!]) {
      output.setEncoding('utf8').on('data', (text: string) => (this.#printed += text));
    }
    this.#ended = once(this.#child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    this.#ended.catch(() => undefined);
  }

  /** Rejects with what it failed with; nothing of the run is there then. */
  async hold(message: HoldMessage, interruption: AbortSignal): Promise<HeldState> {
    const answer = new Promise<FromHolder>((resolve) => this.#child.once('message', resolve));
    const onAbort = (): void => void this.#child.kill('SIGTERM');
    interruption.addEventListener('abort', onAbort, { once: true });
    if (interruption.aborted) onAbort();
    // What is wrong with the channel is told by its end.
    this.#child.send(message, () => undefined);
    const first = await Promise.race([answer, this.#ended.then(([code, signal]) => ended(code, signal))]);
    interruption.removeEventListener('abort', onAbort);
    if (first instanceof Error) throw this.#withPrinted(first);
    if (first.kind === 'up') {
      this.#isUp = true;
      return first.state;
    }
    await this.#ended;
    const errors = first.failures.map(errorOfMessage);
    if (errors.length === 1) throw errors[0]!;
    throw new AggregateError(errors, errors.map(({ message: text }) => text).join('; '));
  }

  /** One that is up goes on by itself; any other has nothing to do any more. */
  letGo(): void {
    if (!this.#isUp) this.#child.kill('SIGKILL');
    for (const output of [this.#child.stdout!, this.#child.stderr!]) output.destroy();
    this.#child.unref();
    if (this.#child.connected) this.#child.disconnect();
  }

  #withPrinted(error: Error): Error {
    const text = this.#printed.trim();
    if (text !== '') error.message += `:\n${text}`;
    return error;
  }
}

function ended(code: number | null, signal: NodeJS.Signals | null): Error {
  return new XdpbedError(
    'internal-error',
    `the process that was to hold the run ended with ${signal ?? `exit code ${code}`}`,
    { hint: 'xdpbed prune removes what it has left' },
  );
}
