import { appendFileSync, closeSync, openSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { messageOf } from '../../core/diagnostic.js';
import { failureMessage } from '../../core/failure-message.js';
import { PluginRegistry } from '../../core/plugin/plugin-registry.js';
import { holdRun, type HeldRun } from '../../core/run/execute-run.js';
import { decodeRunSpec } from '../../core/run/run-spec-codec.js';
import type { RunPlan } from '../../core/contract/plan.js';
import { libc } from '../../linux/libc.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import {
  LOG_FILE,
  STATE_SOCKET,
  type FromHolder,
  type HeldState,
  type HoldMessage,
} from './holder-messages.js';

function post(message: FromHolder): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send!(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });
}

/**
 * Holds a run up until the signal fires, and ends the process.
 *
 * @param onUp called once the run is up, and this process on its own
 */
export async function hold(message: HoldMessage, signal: AbortSignal, onUp: () => void): Promise<never> {
  // It may be here for long: no folder of anybody's is kept in use.
  process.chdir('/');
  const spec = decodeRunSpec(message.spec);
  const { objects, folder, testbed } = message;
  let isUp = false;
  let log = '';
  let server: Server | undefined;
  const environment = {
    registry: new PluginRegistry(BUILT_IN_PLUGINS),
    folder,
    object: (hash: string) => objects.get(hash)!,
    signal,
  };
  const { failures } = await holdRun(spec, environment, async (run) => {
    const own = run.presence.announce(testbed);
    log = join(own, LOG_FILE);
    writeOutputTo(log);
    const state = stateOf(run, spec.plan, testbed, log);
    server = await serveState(join(own, STATE_SOCKET), state, log);
    await post({ kind: 'up', state: await state() });
    isUp = true;
    onUp();
    process.disconnect();
  });
  server?.close();
  if (isUp) {
    for (const { stage, error } of failures) tell(log, `${stage}: ${messageOf(error)}`);
  } else {
    const errors = failures.length === 0 ? [new Error('it ended')] : failures.map(({ error }) => error);
    await post({ kind: 'failed', failures: errors.map(failureMessage) }).catch(() => undefined);
  }
  // Idle judges and the like need not be waited for.
  process.exit(failures.length === 0 ? 0 : 1);
}

function stateOf(run: HeldRun, plan: RunPlan, testbed: string, log: string): () => Promise<HeldState> {
  const { name, namespaces } = run.presence;
  const since = new Date().toISOString();
  const { case: hostCase, hook } = plan.host;
  return async () => ({
    name,
    testbed,
    run: plan.id,
    case: hostCase,
    hook,
    pid: process.pid,
    since,
    log,
    namespaces,
    programs: await run.programs(),
    offloads: await run.offloads(),
  });
}

/** Undefined where no socket can be had, for a path that is too long, say: then nobody can ask for counters. */
async function serveState(
  path: string,
  state: () => Promise<HeldState>,
  log: string,
): Promise<Server | undefined> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    state().then(
      (now) => socket.end(JSON.stringify(now)),
      (error: unknown) => {
        tell(log, `state: ${messageOf(error)}`);
        socket.destroy();
      },
    );
  });
  return new Promise((resolve) => {
    server.once('error', (error) => {
      tell(log, `no socket: ${messageOf(error)}`);
      resolve(undefined);
    });
    server.listen(path, () => resolve(server));
  });
}

/** What this process prints from now on, Node's last words included; the terminal of who started it may be gone. */
function writeOutputTo(log: string): void {
  const file = openSync(log, 'a', 0o600);
  for (const output of [1, 2]) libc().dup2(file, output);
  closeSync(file);
}

function tell(log: string, text: string): void {
  try {
    appendFileSync(log, `${new Date().toISOString()} ${text}\n`);
  } catch {
    // It went with the run's folder.
  }
}
