import type { Program } from '../../src/bpf/program.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { ExecutionEnvironment, Executor } from '../../src/core/contract/executor.js';
import { compare, environmentFor, perform, type Action, type Member } from './comparison.js';
import type { DisagreementParts } from './executor-disagreement.js';
import { MemoryImage } from './memory-image.js';
import { shrinkProgram } from './shrink-program.js';

/** Insns that a candidate may execute: a jump that is gone can make a loop endless. */
const INSN_LIMIT = 1_000_000;
/** Milliseconds that shrinking may take; then the smallest program so far has to do. */
const TIME_MS = 10_000;

/** An executor that loads without waiting. */
type PromptExecutor = Executor & Required<Pick<Executor, 'loadNow'>>;

export interface Search<Outcome> {
  /** The one that counts as right, then the one that differs from it. */
  readonly executors: readonly [Executor, Executor];
  readonly runtime: BpfRuntime;
  readonly environment: ExecutionEnvironment;
  readonly action: Action<Outcome>;
  /** What the run started from. */
  readonly before: MemoryImage;
  readonly parts: DisagreementParts;
}

/**
 * Looks for a smaller program on which the two executors disagree. Gives up at once where one of them cannot load
 * without waiting. Memory is left as it was found. A candidate that tail-calls itself finds the original program.
 */
export function shrinkDisagreement<Outcome>(search: Search<Outcome>): DisagreementParts {
  const { executors, before, parts } = search;
  if (!executors.every(isPrompt)) return parts;
  const now = new MemoryImage(before.space).capture(before.spans);
  const end = performance.now() + TIME_MS;
  let best = parts;
  const steps = shrinkProgram(parts.program.insns);
  let step = steps.next();
  while (step.done !== true && performance.now() < end) {
    const candidate = { ...parts.program, insns: step.value };
    const found = disagreeOn(search, executors, candidate);
    if (found !== undefined) best = { ...best, ...found, program: candidate };
    step = steps.next(found !== undefined);
  }
  now.restore();
  return best;
}

function isPrompt(executor: Executor): executor is PromptExecutor {
  return executor.loadNow !== undefined;
}

/** Whether the executors disagree on another program, which the one that is right runs to its end. */
function disagreeOn<Outcome>(
  { runtime, environment, action, before, parts }: Search<Outcome>,
  executors: readonly PromptExecutor[],
  program: Program,
): Pick<DisagreementParts, 'difference' | 'opinions'> | undefined {
  const members: Member[] = [];
  const load = (executor: PromptExecutor, insnLimit: number | undefined, isFirst: boolean): Member => {
    const traces: string[] = [];
    // What a verifier learnt of the original does not hold for the candidate.
    const own = { ...environment, facts: undefined, programId: runtime.allocateProgramId(), insnLimit };
    const member = {
      executor,
      traces,
      program: executor.loadNow(program, environmentFor(own, traces, isFirst)),
    };
    members.push(member);
    return member;
  };
  try {
    const trial = load(executors[0]!, INSN_LIMIT, true);
    before.restore();
    const { outcome, fault } = perform(trial, action);
    if (outcome === undefined || fault !== undefined) return undefined;
    const pair = executors.map((executor, index) => load(executor, environment.insnLimit, index === 0));
    before.restore();
    const { difference, results } = compare(
      pair,
      action,
      new MemoryImage(runtime.space),
      new MemoryImage(runtime.space),
    );
    if (difference === undefined) return undefined;
    const [right, wrong] = parts.opinions;
    return {
      difference: difference.text,
      opinions: [
        { ...right, outcome: results[0]!.text },
        { ...wrong, outcome: results[1]!.text },
      ],
    };
  } catch {
    // A candidate that an executor refuses is not one.
    return undefined;
  } finally {
    for (const member of members) member.program.close();
  }
}
