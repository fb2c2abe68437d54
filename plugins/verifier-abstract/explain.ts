import { formatInsn } from '../../src/bpf/disassembler.js';
import type { Budget } from './budget.js';
import { findLine } from './complexity-report.js';
import { type ControlFlow, isConditional, jumpTarget } from './control-flow.js';
import type { Origin } from './origin.js';
import type { PointerTypes } from './pointer-types.js';
import { type Finding, RejectSignal } from './reject-signal.js';
import { REJECTION_HELP } from './rejection-codes.js';
import { type Driver, Simulation, type SimulationOptions } from './simulation.js';
import { step } from './step.js';
import { formatValue } from './value-format.js';
import { Kind, type Value } from './value.js';
import type { Choice, VerifierState } from './verifier-state.js';
import type { Program } from '../../src/bpf/program.js';
import type {
  PathStep,
  Rejection,
  VerifierMap,
  VerifierStatistics,
} from '../../src/core/contract/verifier.js';

/** Most steps that a path is told in; people read from the end. */
const MAX_STEPS = 14;
/** Last choices of the path that are told even if no value depends on them. */
const RECENT_CHOICES = 3;

/** What is told of how the program came to the offending insn. */
export interface Trace {
  readonly registers: readonly string[];
  readonly path: readonly PathStep[];
}

/** Follows the choices that a path made, oldest first. */
class Replay implements Driver {
  #next = 0;
  /** Set when the last insn was a fork. */
  forked: boolean | undefined;

  constructor(readonly choices: readonly boolean[]) {}

  fork(_firstPc: number, _second: VerifierState, _secondPc: number): boolean {
    this.forked = this.choices[this.#next++] ?? false;
    return this.forked;
  }

  get exhausted(): boolean {
    return this.#next > this.choices.length;
  }
}

interface Observation {
  readonly insn: number;
  readonly text: string;
}

/** Longest path that is run again for its story. */
const MAX_STEPS_AGAIN = 300_000;

/** What a trace needs in order to run the path again. */
interface Case {
  readonly program: Program;
  readonly flow: ControlFlow;
  readonly maps: ReadonlyMap<number, VerifierMap>;
  readonly options: SimulationOptions;
  readonly pointerTypes: PointerTypes;
  readonly choices: readonly boolean[];
  readonly steps: number;
  readonly code: string;
  readonly budget: Budget;
}

/** Steps between looks at the clock. */
const STEPS_PER_LOOK = 256;

/**
 * Runs the one path that led to the rejection again, as long as there is time for it, twice: first to find the steps that the offending registers'
 * values came from, and the latest choices; then to see what each of these steps did.
 */
export function trace(
  { program, flow, options, pointerTypes, state }: Simulation,
  maps: ReadonlyMap<number, VerifierMap>,
  finding: Finding,
  budget: Budget,
): Trace {
  const { steps } = state;
  if (steps > MAX_STEPS_AGAIN) return NO_TRACE;
  const { code } = finding;
  const choices = inOrder(state.choices);
  const again: Case = { program, flow, maps, options, pointerTypes, choices, steps, code, budget };
  const recent: number[] = [];
  const end = runAgain(again, (simulation, _pc, _before, _depth, wasChoice) => {
    if (!wasChoice) return;
    recent.push(simulation.state.steps);
    if (recent.length > RECENT_CHOICES) recent.shift();
  });
  if (end === undefined) return NO_TRACE;
  const registers = finding.registers ?? [];
  const relevant = new Set(recent);
  for (const step of stepsBehind(registers.map((register) => end.origin(register)))) relevant.add(step);
  const observed = new Map<number, Observation>();
  runAgain(again, (simulation, pc, before, depth) => {
    const step = simulation.state.steps;
    if (relevant.has(step)) observed.set(step, { insn: pc, text: tell(simulation, pc, before, depth) });
  });
  return {
    registers: registers.map((register) => `R${register}=${formatValue(end.peek(register))}`),
    path: selectSteps(
      program,
      observed,
      [...relevant].sort((a, b) => a - b),
    ),
  };
}

type Watch = (
  simulation: Simulation,
  pc: number,
  before: readonly Value[],
  depth: number,
  wasChoice: boolean,
) => void;

/** The simulation as it stands at the rejection; undefined when the path does not end there this time. */
function runAgain(again: Case, watch: Watch): Simulation | undefined {
  const replay = new Replay(again.choices);
  const { program, flow, maps, options, pointerTypes } = again;
  const simulation = new Simulation(program, flow, maps, options, replay, pointerTypes);
  try {
    while (simulation.state.steps < again.steps) {
      if (simulation.state.steps % STEPS_PER_LOOK === 0 && again.budget.timeIsUp) return undefined;
      const { pc } = simulation;
      const frame = simulation.state.top;
      // Insns write a frame in place; what they may change is kept.
      const before = frame.regs.slice();
      const { depth } = simulation.state;
      replay.forked = undefined;
      if (!step(simulation)) return undefined;
      watch(simulation, pc, before, depth, replay.forked !== undefined);
    }
    // A limit was exceeded between two insns.
    return simulation;
  } catch (error) {
    // It ends where it ended before; anything else (a widened number, say) leaves the trace out.
    return error instanceof RejectSignal && error.finding.code === again.code ? simulation : undefined;
  }
}

const NO_TRACE: Trace = { registers: [], path: [] };

function inOrder(choices: Choice | undefined): boolean[] {
  const list: boolean[] = [];
  for (let choice = choices; choice !== undefined; choice = choice.previous) list.push(choice.second);
  return list.reverse();
}

/** Steps at which the values came to be, newest first and never all of a long history. */
function stepsBehind(origins: readonly (Origin | undefined)[]): Set<number> {
  const seen = new Set<Origin>();
  const steps = new Set<number>();
  let work = origins.filter((origin) => origin !== undefined);
  while (work.length > 0 && steps.size < 200) {
    const next: Origin[] = [];
    for (const origin of work) {
      if (seen.has(origin)) continue;
      seen.add(origin);
      if (origin.step > 0) steps.add(origin.step);
      if (origin.a !== undefined) next.push(origin.a);
      if (origin.b !== undefined) next.push(origin.b);
    }
    work = next;
  }
  return steps;
}

/** The insn, and what it did: registers that changed, or the way a branch went. */
function tell(simulation: Simulation, pc: number, before: readonly Value[], depth: number): string {
  const insn = simulation.insns[pc]!;
  const text = formatInsn(simulation.insns, pc);
  if (isConditional(insn)) {
    const taken = simulation.pc === jumpTarget(insn, pc);
    const known = simulation.state.depth === depth ? changed(simulation, before) : [];
    const effect = known.length > 0 ? `: ${known.join(', ')}` : '';
    return `${text}: ${taken ? `taken, to insn ${simulation.pc}` : 'not taken'}${effect}`;
  }
  if (simulation.state.depth !== depth) return text;
  const known = changed(simulation, before);
  return known.length === 0 ? text : `${text}: ${known.join(', ')}`;
}

function changed(simulation: Simulation, before: readonly Value[]): string[] {
  const parts: string[] = [];
  simulation.state.top.regs.forEach((value, register) => {
    if (value !== before[register] && value.kind !== Kind.NotInit)
      parts.push(`R${register}=${formatValue(value)}`);
  });
  return parts;
}

function selectSteps(
  program: Program,
  observed: ReadonlyMap<number, Observation>,
  steps: readonly number[],
): PathStep[] {
  const chosen = steps.map((step) => observed.get(step)).filter((observation) => observation !== undefined);
  // Rounds of a loop: the last one tells what the others did.
  const lastOf = new Map<number, number>();
  const rounds = new Map<number, number>();
  chosen.forEach((observation, index) => {
    lastOf.set(observation.insn, index);
    rounds.set(observation.insn, (rounds.get(observation.insn) ?? 0) + 1);
  });
  const once = chosen.filter((observation, index) => lastOf.get(observation.insn) === index);
  const kept = once.slice(-MAX_STEPS);
  return kept.map((observation) => {
    const count = rounds.get(observation.insn)!;
    const line = findLine(program, observation.insn);
    return {
      insn: observation.insn,
      text: count === 1 ? observation.text : `${observation.text} (the last of ${count} times)`,
      ...(line === undefined ? {} : { line }),
    };
  });
}

/** Puts together what a person gets to read. */
export function makeRejection(
  verifier: string,
  program: Program,
  finding: Finding,
  traced: Trace,
  statistics: VerifierStatistics,
  log: string | undefined,
): Rejection {
  const { insn } = finding;
  const line = insn === undefined ? undefined : findLine(program, insn);
  return {
    accepted: false,
    verifier,
    code: finding.code,
    reason: finding.reason,
    ...(insn === undefined
      ? {}
      : { insn, disassembly: formatInsn(program.insns, insn, { functions: program.debug?.functions }) }),
    ...(line === undefined ? {} : { line }),
    ...(traced.registers.length === 0 ? {} : { registers: traced.registers }),
    ...(traced.path.length === 0 ? {} : { path: traced.path }),
    suggestion: finding.suggestion ?? REJECTION_HELP[finding.code],
    statistics,
    ...(log === undefined ? {} : { log }),
  };
}
