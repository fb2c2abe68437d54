import { decodeInsns } from '../../bpf/insn.js';
import type { Plugin } from '../contract/plugin.js';
import { VERIFIER, type Verifier } from '../contract/verifier.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import { LifecycleManager } from '../plugin/lifecycle.js';
import { Scope } from '../plugin/scope.js';
import { PluginInstances } from '../run/plugin-instances.js';
import { VerifierPanel } from '../run/verifier-panel.js';
import type { FailureMessage, FromJudge, JudgeRecipe, ToJudge } from './judge-messages.js';

/* The main module of the process behind a JudgeProcess. */

const underWay = new Map<number, AbortController>();
let verifier: Verifier | undefined;

function post(message: FromJudge): void {
  // Nobody is left to hear of it when the other end is gone; 'disconnect' follows.
  process.send?.(message, undefined, undefined, () => undefined);
}

function failureOf(error: unknown): FailureMessage {
  const known = error instanceof XdpbedError ? error : undefined;
  return { code: known?.code, message: messageOf(error), hint: known?.hint };
}

async function makeVerifier({ rule, verifiers }: JudgeRecipe): Promise<Verifier> {
  const instances = new PluginInstances(new Scope("a judge's process"), new LifecycleManager());
  const members: Verifier[] = [];
  for (const { module, config } of verifiers) {
    const { default: plugin } = (await import(module)) as { default: Plugin };
    members.push(await instances.instantiate({ plugin, config }, VERIFIER));
  }
  return members.length === 1 ? members[0]! : new VerifierPanel(members, rule);
}

async function prepare(recipe: JudgeRecipe): Promise<void> {
  try {
    verifier = await makeVerifier(recipe);
    post({ kind: 'ready', name: verifier.name });
  } catch (error) {
    post({ kind: 'unusable', failure: failureOf(error) });
  }
}

async function verify(message: ToJudge & { kind: 'verify' }): Promise<void> {
  const { id, maps, log, limits } = message;
  const abort = new AbortController();
  underWay.set(id, abort);
  try {
    const program = { ...message.program, insns: decodeInsns(message.program.insns) };
    const verification = await verifier!.verify({ program, maps, log, limits, signal: abort.signal });
    post({ kind: 'verified', id, verification });
  } catch (error) {
    post({ kind: 'failed', id, failure: failureOf(error) });
  } finally {
    underWay.delete(id);
  }
}

process.on('message', (message: ToJudge) => {
  switch (message.kind) {
    case 'recipe':
      void prepare(message.recipe);
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
// Ctrl-C in a terminal reaches every process there; who started this one ends it in its own time.
process.on('SIGINT', () => undefined);
