import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Plugin } from '../contract/plugin.js';
import { VERIFIER, type Verifier } from '../contract/verifier.js';
import { failureMessage } from '../failure-message.js';
import { LifecycleManager } from '../plugin/lifecycle.js';
import { rememberPluginCode } from '../plugin/plugin-code.js';
import { Scope } from '../plugin/scope.js';
import { PluginInstances } from '../run/plugin-instances.js';
import { VerifierPanel } from '../run/verifier-panel.js';
import type { FromJudge, JudgeRecipe, ToJudge } from './judge-messages.js';
import type { JudgeWatchData } from './judge-watch.js';
import { unpackProgram } from './program-message.js';

/* The main module of the process behind a JudgeProcess, whose pid is its one argument. */

/** Bytes that a judge may have taken without being asked to give them back. */
const BYTES_TO_GIVE_BACK = 32 * 1024 * 1024;

const underWay = new Map<number, AbortController>();
/** Shared with the thread that watches: the number of the one that began last; less than 0 while a verifier is made, 0 when nothing is under way. */
const latest = new Int32Array(new SharedArrayBuffer(4));
// A verifier that does not give way keeps this thread from hearing of anything.
const watch = new Worker(new URL('./judge-watch.js', import.meta.url), {
  workerData: { underWay: latest.buffer, parent: Number(process.argv[2]) } satisfies JudgeWatchData,
  stdin: false,
  resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 2 },
});
watch.unref();
/** By the ids of their recipes. */
const verifiers = new Map<number, Verifier>();
/** One after the other, so that what each takes can be told. */
let preparing: Promise<void> = Promise.resolve();
let rssWhenReady = 0;

function post(message: FromJudge): void {
  // Nobody is left to hear of it when the other end is gone; 'disconnect' follows.
  process.send?.(message, undefined, undefined, () => undefined);
}

async function makeVerifier(recipe: JudgeRecipe): Promise<Verifier> {
  const instances = new PluginInstances(new Scope("a judge's process"), new LifecycleManager());
  const members: Verifier[] = [];
  for (const { module, config } of recipe.verifiers) {
    rememberPluginCode(module);
    const { default: plugin } = (await import(module)) as { default: Plugin };
    members.push(await instances.instantiate({ plugin, config }, VERIFIER));
  }
  return members.length === 1 ? members[0]! : new VerifierPanel(members, recipe.rule);
}

async function prepare({ recipeId, recipe }: ToJudge & { kind: 'recipe' }): Promise<void> {
  try {
    const isFirst = verifiers.size === 0;
    const rss = process.memoryUsage.rss();
    // The thread that watches sees to it that this is not kept waiting for ever, if it has to stand back already.
    Atomics.store(latest, 0, -1 - recipeId);
    const verifier = await makeVerifier(recipe);
    verifiers.set(recipeId, verifier);
    if (isFirst) {
      // Not before: starting is the host's own work.
      watch.postMessage('started');
      await once(watch, 'message');
      rssWhenReady = process.memoryUsage.rss();
    } else {
      rssWhenReady += Math.max(0, process.memoryUsage.rss() - rss);
    }
    post({ kind: 'ready', recipeId, name: verifier.name });
  } catch (error) {
    post({ kind: 'unusable', failure: failureMessage(error) });
  } finally {
    Atomics.store(latest, 0, 0);
  }
}

/** Milliseconds of CPU time that this process has used. */
function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function verify(message: ToJudge & { kind: 'verify' }): Promise<void> {
  const { id, recipeId, maps, log } = message;
  const limits = { ...message.limits, clock: cpuMilliseconds };
  const abort = new AbortController();
  underWay.set(id, abort);
  Atomics.store(latest, 0, id);
  try {
    const program = unpackProgram(message.program);
    const verification = await verifiers
      .get(recipeId)!
      .verify({ program, maps, log, limits, signal: abort.signal });
    post({ kind: 'verified', id, verification });
  } catch (error) {
    post({ kind: 'failed', id, failure: failureMessage(error) });
  } finally {
    underWay.delete(id);
    if (underWay.size === 0) Atomics.store(latest, 0, 0);
  }
  // V8 gives memory back late; the next program must not pay for this one's.
  if (process.memoryUsage.rss() > rssWhenReady + BYTES_TO_GIVE_BACK) globalThis.gc?.();
}

process.on('message', (message: ToJudge) => {
  switch (message.kind) {
    case 'recipe':
      preparing = preparing.then(() => prepare(message));
      return;
    case 'verify':
      void verify(message);
      return;
    case 'cancel':
      underWay.get(message.id)?.abort();
      return;
  }
});
// Who started it is gone, whatever became of it.
process.on('disconnect', () => process.exit());
if (!process.connected) process.exit();
// Ctrl-C in a terminal reaches every process there; who started this one ends it in its own time.
process.on('SIGINT', () => undefined);
