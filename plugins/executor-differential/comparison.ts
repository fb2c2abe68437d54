import type { HelperWorld } from '../../src/bpf/runtime/helper-world.js';
import { insnLimitOf, isInsnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import type { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type {
  ExecutionEnvironment,
  Executor,
  LoadedProgram,
  ProgramFault,
} from '../../src/core/contract/executor.js';
import { helperName } from '../../src/bpf/helper-ids.js';
import { messageOf } from '../../src/core/diagnostic.js';
import { describeAddress } from './describe-memory.js';
import { observableSpans, type MemoryImage } from './memory-image.js';

/** A program in one of the executors, with what it has to say. */
export interface Member {
  readonly executor: Executor;
  readonly program: LoadedProgram;
  /** What the program printed since it was last asked. */
  readonly traces: string[];
}

/**
 * How far beyond the first one's insn limit that of the others lies, as a factor and in insns: executors may count a
 * run differently by some times the length of its programs.
 */
const LIMIT_FACTOR = 2;
const LIMIT_MARGIN = 2 ** 20;

/**
 * The environment of one member: what its program prints is held back. The first, which counts as right, decides
 * whether a run exceeds its insn limit; the others are stopped only where they go on far longer.
 */
export function environmentFor(
  environment: ExecutionEnvironment,
  traces: string[],
  isFirst: boolean,
): ExecutionEnvironment {
  const world: HelperWorld = {
    trace: (text) => void traces.push(text),
    get network() {
      return environment.world.network;
    },
  };
  const limit = insnLimitOf(environment.insnLimit);
  return { ...environment, world, insnLimit: isFirst ? limit : LIMIT_FACTOR * limit + LIMIT_MARGIN };
}

/** How one executor ran. */
export interface Result<Outcome> {
  /** Undefined when the executor broke down: it threw what no program can make it throw. */
  readonly outcome: Outcome | undefined;
  readonly fault: ProgramFault | undefined;
  /** The outcome in words; equal for equal outcomes. */
  readonly text: string;
  readonly traces: readonly string[];
  /** What the run did, where that is counted. */
  readonly work: Work | undefined;
}

/** Work by what was done: `insns`, `bytes`, and the names of helpers. */
type Work = ReadonlyMap<string, number>;

/** How to run a program, and what came of it. */
export interface Action<Outcome> {
  /** The frame, unless the program is called with values. */
  readonly frame?: { readonly ring: FrameRing; readonly slot: number } | undefined;
  /** What a difference's description starts with. */
  readonly prefix?: string | undefined;
  run(program: LoadedProgram): Outcome;
  fault(outcome: Outcome): ProgramFault | undefined;
  text(outcome: Outcome): string;
}

export interface Difference {
  /** Index of the executor that differs from the first. */
  readonly member: number;
  readonly text: string;
}

export interface Comparison<Outcome> {
  readonly results: readonly Result<Outcome>[];
  readonly difference: Difference | undefined;
}

/**
 * Runs each member from the state the memory is in, which it leaves in `before`, until one differs from the
 * first. Memory is left as the first member made it, as far as that can be observed.
 */
export function compare<Outcome>(
  members: readonly Member[],
  action: Action<Outcome>,
  before: MemoryImage,
  after: MemoryImage,
): Comparison<Outcome> {
  const spans = observableSpans(before.space);
  before.capture(spans);
  const results = [perform(members[0]!, action)];
  after.capture(spans);
  for (let member = 1; member < members.length; member++) {
    before.restore();
    const result = perform(members[member]!, action);
    results.push(result);
    const text = differenceBetween(members, results, member, after);
    if (text !== undefined) {
      after.restore();
      return { results, difference: { member, text: (action.prefix ?? '') + text } };
    }
  }
  if (results[0]!.fault !== undefined) after.restore();
  return { results, difference: undefined };
}

export function perform<Outcome>(member: Member, action: Action<Outcome>): Result<Outcome> {
  const { program } = member;
  member.traces.length = 0;
  const before = workOf(program);
  try {
    const outcome = action.run(program);
    const fault = action.fault(outcome);
    const text = fault === undefined ? action.text(outcome) : `fault at insn ${fault.insn}: ${fault.reason}`;
    return { outcome, fault, text, traces: [...member.traces], work: workSince(before, workOf(program)) };
  } catch (error) {
    const text = `broke down: ${messageOf(error)}`;
    return { outcome: undefined, fault: undefined, text, traces: [], work: undefined };
  }
}

function workOf({ work }: LoadedProgram): Work | undefined {
  if (work === undefined) return undefined;
  const calls = work.helpers.map((id) => [`calls of ${helperName(id)}`, work.calls(id)] as const);
  return new Map([['insns', work.insns], ['bytes that helpers went through', work.bytes], ...calls]);
}

function workSince(before: Work | undefined, after: Work | undefined): Work | undefined {
  if (after === undefined) return undefined;
  return new Map([...after].map(([what, count]) => [what, count - (before?.get(what) ?? 0)]));
}

/** In what the work of a run differs from that of the first, which did not end in a fault. */
function workDifference(right: Work | undefined, wrong: Work | undefined): string | undefined {
  if (right === undefined || wrong === undefined) return undefined;
  for (const what of new Set([...right.keys(), ...wrong.keys()])) {
    const [expected, found] = [right.get(what) ?? 0, wrong.get(what) ?? 0];
    if (expected !== found) return `${expected} ${what} counted against ${found}`;
  }
  return undefined;
}

/**
 * In what a result differs from the first. Two faults are the same wherever and why ever they happened: compiled
 * code need not know, and what was done before is then of no account. So is how far another came where the first
 * used up its insns.
 */
function differenceBetween<Outcome>(
  members: readonly Member[],
  results: readonly Result<Outcome>[],
  index: number,
  after: MemoryImage,
): string | undefined {
  const [right, wrong] = [results[0]!, results[index]!];
  if (right.outcome === undefined) return `${members[0]!.executor.name} ${right.text}`;
  if (right.fault !== undefined) {
    if (wrong.fault !== undefined || isInsnLimitReason(right.fault.reason)) return undefined;
  }
  if (right.text !== wrong.text) return `${right.text} against ${wrong.text}`;
  const traces = right.traces.findIndex((text, line) => text !== wrong.traces[line]);
  if (traces >= 0)
    return `line ${traces + 1} of the trace is '${right.traces[traces]}' against '${wrong.traces[traces]}'`;
  if (wrong.traces.length > right.traces.length)
    return `one more line in the trace: '${wrong.traces[right.traces.length]}'`;
  const byte = after.firstDifference();
  // Where the work is not the same, a batch may have had faults in it: it is then done again frame by frame.
  if (byte === undefined) return workDifference(right.work, wrong.work);
  const { space } = after;
  return `${describeAddress(space, byte.address)} ${wordsAt(after, byte.address)}`;
}

/** The aligned word around an address in both memories. */
function wordsAt(after: MemoryImage, address: number): string {
  const start = address & ~3;
  let [right, wrong] = [0, 0];
  for (let i = 3; i >= 0; i--) {
    const live = after.space.u8[start + i]!;
    right = right * 256 + (after.byteAt(start + i) ?? live);
    wrong = wrong * 256 + live;
  }
  const text = (word: number): string => `0x${word.toString(16).padStart(8, '0')}`;
  return `(in the word ${text(right)} against ${text(wrong)})`;
}
