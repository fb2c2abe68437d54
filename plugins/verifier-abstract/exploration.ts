import { type Budget, BYTES_OF } from './budget.js';
import { costOfFurtherRounds } from './callbacks.js';
import { Checkpoint } from './checkpoint.js';
import { callsBack, type ControlFlow, isJump } from './control-flow.js';
import { DemandPool, Demands } from './demands.js';
import type { Frame } from './frame.js';
import { Origin, OriginKind } from './origin.js';
import { Comparison, covers, markEverything } from './pruning.js';
import { RejectSignal } from './reject-signal.js';
import type { Driver, Simulation } from './simulation.js';
import type { StateLog } from './state-log.js';
import { step } from './step.js';
import { Kind, UNKNOWN_NUMBER } from './value.js';
import type { Choice, PassedState, VerifierState } from './verifier-state.js';

/** Insns, or ends of paths, between looks at the clock: comparing states can make one of them take a millisecond. */
const INSNS_PER_LOOK = 32;

/** Sees every state that is explored, before the insn at `pc`; may keep a fork of it. */
export interface StateObserver {
  before(pc: number, state: VerifierState): void;
}

/** For tools that check the exploration itself; verdicts do not depend on them while limits are not reached. */
export interface ExplorationTools {
  readonly observer?: StateObserver;
  /** False: no path ends early at a state that was there before. */
  readonly prune?: boolean;
  /** False: numbers that change from round to round of a callback are kept. */
  readonly widen?: boolean;
}

/**
 * How many comparisons with a stored state may fail for each that does not, and at first. The kernel's 3 was too few where
 * programs have many branches that are alike: of what 20 programs of clang's took, 8 saved a sixth.
 */
const PATIENCE = 8;
/** Rounds of a callback are compared with those before them, which are many. */
const PATIENCE_AT_CALLBACKS = 64;

/** A state that paths passed through, kept so that later paths can end where they repeat it. */
class Stored extends Checkpoint implements PassedState {
  /** Paths from here that have not ended. */
  branches = 1;
  misses = 0;
  hits = 0;
  /** Cost of the longest run through here, from the start of the program. */
  longest = 0;
  /** At the call of a helper that calls back: cost of the longest run from here on without a further round. */
  costWithoutRound = 0;

  /** What the paths from here depended on, once all of them have ended. */
  demands: Demands | undefined;

  constructor(
    readonly pc: number,
    readonly state: VerifierState,
    readonly liveRegisters: readonly number[],
    before: Checkpoint | undefined,
    public parent: Stored | undefined,
    public bytes: number,
  ) {
    super(state.steps, before);
  }

  override get isStored(): boolean {
    return true;
  }

  /** All paths from here have ended. */
  settle(pool: DemandPool): Demands {
    this.demands = new Demands(this, this, pool);
    this.end();
    return this.demands;
  }

  override close(): void {
    super.close();
    this.state.frames = this.state.frames.map((frame) => frame.bare());
  }
}

interface Pending {
  readonly pc: number;
  readonly state: VerifierState;
  readonly parent: Stored | undefined;
  /** Whether it starts with a round of a callback; its parent is then the state at the call. */
  readonly isRound: boolean;
}

/**
 * Runs every path of the program, depth first, and ends those that come to a state that was there before. It is the
 * kernel's algorithm in the large: states are stored at points where paths meet, a state is complete once all paths
 * from it have ended, and only complete states may end others, helpers that call back excepted.
 */
export class Exploration implements Driver {
  readonly visits: Uint32Array;
  readonly storedAt: Uint32Array;
  peakStates = 0;
  totalStates = 0;
  longestRun = 0;
  prunedPaths = 0;
  /** How the path that is running came to be, for whoever explains a rejection. */
  get choices(): Choice | undefined {
    return this.#simulation.state.choices;
  }

  #simulation!: Simulation;
  readonly #stored: (Stored[] | undefined)[] = [];
  readonly #pending: Pending[] = [];
  readonly #demandPool = new DemandPool();
  #parent: Stored | undefined;
  #states = 0;
  #jumps = 0;
  #jumpsAtLastState = 0;
  #insnsAtLastState = 0;
  #finished = false;

  constructor(
    readonly flow: ControlFlow,
    readonly budget: Budget,
    readonly log: StateLog | undefined,
    readonly tools: ExplorationTools = {},
  ) {
    const slots = flow.prunePoints.length;
    this.visits = new Uint32Array(slots);
    this.storedAt = new Uint32Array(slots);
  }

  attach(simulation: Simulation): void {
    this.#simulation = simulation;
  }

  fork(_firstPc: number, second: VerifierState, secondPc: number): boolean {
    const { state } = this.#simulation;
    second.choices = { second: true, previous: state.choices };
    state.choices = { second: false, previous: state.choices };
    if (this.#parent !== undefined) this.#parent.branches++;
    const isRound = second.depth > state.depth;
    this.#pending.push({ pc: secondPc, state: second, parent: this.#parent, isRound });
    this.budget.storedBytes += bytesOfBranch(second);
    this.budget.checkPending(this.#simulation.pc, this.#pending.length);
    return false;
  }

  /** Explores for about that many milliseconds; false when there is nothing left. Throws RejectSignal. */
  run(milliseconds: number): boolean {
    const simulation = this.#simulation;
    const { budget, flow, log, visits } = this;
    const end = budget.milliseconds + milliseconds;
    for (let i = 1; ; i++) {
      if (this.#finished) return false;
      if (i % INSNS_PER_LOOK === 0) {
        if (budget.check(simulation.pc, simulation.state) >= end) return true;
      }
      const { pc } = simulation;
      if (flow.prunePoints[pc] !== 0 && this.#arrive(pc)) {
        log?.pruned(pc);
        this.prunedPaths++;
        this.#nextPath();
        continue;
      }
      budget.countInsn(pc);
      visits[pc]!++;
      simulation.facts.visit(pc);
      log?.before(simulation);
      this.tools.observer?.before(pc, simulation.state);
      const insn = simulation.insns[pc]!;
      if (isJump(insn)) this.#jumps++;
      const goesOn = step(simulation);
      log?.after(simulation, pc);
      if (goesOn) continue;
      this.#endPath(simulation.state.cost);
      this.#nextPath();
    }
  }

  #nextPath(): void {
    const next = this.#pending.pop();
    if (next === undefined) {
      this.#finished = true;
      return;
    }
    this.budget.storedBytes -= bytesOfBranch(next.state);
    this.#simulation.state = next.state;
    this.#simulation.pc = next.pc;
    this.#parent = next.parent;
    // The round comes after all that there is to explore without it.
    if (next.isRound) next.parent!.costWithoutRound = costFrom(next.parent!);
    this.log?.resume(this.#simulation);
  }

  #endPath(cost: number): void {
    let stored = this.#parent;
    if (stored === undefined) {
      this.longestRun = Math.max(this.longestRun, cost);
      return;
    }
    stored.longest = Math.max(stored.longest, cost);
    while (stored !== undefined) {
      stored.branches--;
      if (stored.branches > 0) return;
      const parent: Stored | undefined = stored.parent;
      this.#complete(stored);
      stored = parent;
    }
  }

  /** All paths from the state have ended. */
  #complete(stored: Stored): void {
    const { parent, longest } = stored;
    if (parent === undefined) this.longestRun = Math.max(this.longestRun, longest);
    else parent.longest = Math.max(parent.longest, longest);
    stored.parent = undefined;
    if (!stored.isOpen) {
      stored.end();
      return;
    }
    const demands = stored.settle(this.#demandPool);
    this.budget.storedBytes += demands.bytes - stored.bytes;
    stored.bytes = demands.bytes;
  }

  /** At a prune point: whether the path may end here. Stores the state otherwise, if it is worth it. */
  #arrive(pc: number): boolean {
    const { state } = this.#simulation;
    const calls = callsBack(this.#helperAt(pc));
    const newInsns = this.budget.processedInsns - this.#insnsAtLastState;
    const newJumps = this.#jumps - this.#jumpsAtLastState;
    let store = calls || (newJumps >= 2 && newInsns >= 8);
    if (calls && this.tools.widen !== false) this.#widen(pc);
    const list = this.#stored[pc];
    if (list !== undefined && this.tools.prune !== false) {
      const failed: Stored[] = [];
      for (const stored of list) {
        const { demands } = stored;
        if (demands === undefined) {
          if (calls && this.#isEarlierRound(stored) && covers(stored, state, Comparison.Within)) {
            markEverything(state);
            this.#endPath(state.cost + costOfRounds(stored.state, state) + stored.costWithoutRound);
            return true;
          }
          if (!calls && covers(stored, state, Comparison.Same)) this.#rejectLoop(pc);
          // Inside a loop, states are stored less often: each is compared with all later rounds.
          if (!calls && newJumps < 20 && newInsns < 100) store = false;
        } else if (demands.areMet(state)) {
          stored.hits++;
          demands.inherit(state, (scalar) => this.#simulation.facts.returns(scalar));
          this.#endPath(state.cost + costOfRounds(stored.state, state) + costFrom(stored));
          return true;
        }
        failed.push(stored);
      }
      this.#chargeMisses(list, failed, store, calls);
    }
    if (store) this.#store(pc, state);
    return false;
  }

  /**
   * What keeps failing is not worth the comparison. A failure counts only where the path goes on because no state covered
   * it, and, as in the kernel, where one more state would be stored; but a state inside a loop keeps others from being
   * stored, and has to go in time.
   */
  #chargeMisses(list: Stored[], failed: readonly Stored[], store: boolean, calls: boolean): void {
    const patience = calls ? PATIENCE_AT_CALLBACKS : PATIENCE;
    for (const stored of failed) {
      if (store || stored.demands === undefined) stored.misses++;
      if (stored.misses <= stored.hits * patience + patience) continue;
      list.splice(list.indexOf(stored), 1);
      this.#forget(stored);
    }
  }

  #helperAt(pc: number): number {
    const insn = this.#simulation.insns[pc]!;
    return insn.opcode === 0x85 && insn.src === 0 ? insn.imm : 0;
  }

  #isEarlierRound(stored: Stored): boolean {
    const before = stored.state.top.rounds;
    const now = this.#simulation.state.top.rounds;
    return before !== undefined && now !== undefined && before.invocation === now.invocation;
  }

  #rejectLoop(pc: number): never {
    throw new RejectSignal({
      code: 'infinite-loop',
      insn: pc,
      reason: `the path comes back to insn ${pc} with nothing changed, so it would go round for ever`,
      suggestion: 'let something that the loop condition tests change in every round, towards a bound',
    });
  }

  #store(pc: number, state: VerifierState): void {
    this.#jumpsAtLastState = this.#jumps;
    this.#insnsAtLastState = this.budget.processedInsns;
    const { liveRegisters } = this.flow;
    const top = state.depth;
    const live = state.frames.map((_, index) => {
      if (index === top) return liveRegisters[pc]!;
      const { callsite, callback } = state.frames[index + 1]!;
      // Behind a local call R0 is new and R1 to R5 are gone; a helper that calls back reads its arguments again.
      const after = liveRegisters[callsite + 1]! & 0x3c0;
      return callback === undefined ? after : after | liveRegisters[callsite]!;
    });
    const copy = state.fork();
    // What is kept is not to keep the path that led here.
    copy.choices = undefined;
    copy.proved = undefined;
    copy.latest = undefined;
    let slots = 0;
    for (const frame of copy.frames) slots += frame.stack.slots.length;
    const bytes =
      BYTES_OF.state +
      copy.frames.length * BYTES_OF.frame +
      slots * BYTES_OF.slot +
      copy.references.length * BYTES_OF.reference;
    const stored = new Stored(pc, copy, live, state.latest, this.#parent, bytes);
    state.latest = stored;
    (this.#stored[pc] ??= []).push(stored);
    this.#parent = stored;
    this.totalStates++;
    this.#states++;
    if (this.#states > this.peakStates) this.peakStates = this.#states;
    this.storedAt[pc]!++;
    this.budget.storedBytes += bytes;
  }

  /** Paths from the state may still be running; they keep the place, but not what it held. */
  #forget(stored: Stored): void {
    stored.close();
    this.#states--;
    this.budget.storedBytes -= stored.bytes;
  }

  /**
   * A callback that counts would be simulated once for every count. Numbers that changed since the round before,
   * and whose exact range has decided nothing so far, are let go: that only adds possibilities. What is returned in the
   * end is let go only after some rounds, as it mostly is one of a few verdicts.
   */
  #widen(pc: number): void {
    const { state } = this.#simulation;
    const { rounds } = state.top;
    if (rounds === undefined) return;
    let previous = this.#parent;
    const isRound = (stored: Stored): boolean =>
      stored.isOpen && stored.pc === pc && stored.state.depth === state.depth;
    while (previous !== undefined && !isRound(previous)) previous = previous.parent;
    if (previous === undefined) return;
    const at = previous;
    const keepsReturned = rounds.count <= ROUNDS_OF_VERDICTS;
    const isKept = (was: Origin | undefined): boolean =>
      at.isPrecise(was) || (keepsReturned && at.isReturned(was));
    for (let index = 0; index < state.frames.length; index++)
      this.#widenFrame(index, at.state.frames[index]!, isKept);
  }

  /** `isKept`: whether a number, by what it was the round before, is not let go. */
  #widenFrame(index: number, previous: Frame, isKept: (was: Origin | undefined) => boolean): void {
    const { state, pc } = this.#simulation;
    const frame = state.frames[index]!;
    for (let register = 0; register < 10; register++) {
      const old = previous.regs[register]!;
      const now = frame.regs[register]!;
      if (old.kind !== Kind.Scalar || now.kind !== Kind.Scalar || now.scalar.equals(old.scalar)) continue;
      if (isKept(previous.origins[register])) continue;
      const writable = state.writable(index);
      writable.regs[register] = UNKNOWN_NUMBER;
      writable.origins[register] = new Origin(
        pc,
        state.steps,
        writable.origins[register],
        undefined,
        OriginKind.Value,
      );
    }
    const { slots } = frame.stack;
    for (let i = 0; i < slots.length; i++) {
      const old = previous.stack.slots[i]?.value;
      const now = slots[i]!.value;
      if (old?.kind !== Kind.Scalar || now?.kind !== Kind.Scalar || slots[i]!.spillSize !== 8) continue;
      if (now.scalar.equals(old.scalar) || isKept(previous.stack.origins[i])) continue;
      const stack = state.writableStack(index);
      const origin = new Origin(pc, state.steps, stack.origins[i], undefined, OriginKind.Slot);
      stack.set(i, slots[i]!.withValue(UNKNOWN_NUMBER), origin);
    }
  }
}

/** Rounds of a callback in which what is returned later is known exactly: more than there are verdicts. */
const ROUNDS_OF_VERDICTS = 8;

/**
 * What a path that ends at `old` costs beyond what went on from there, because its rounds of callbacks took longer
 * until here: what was counted with the rounds of `old`, as often as the helper may call back, has to be more by the
 * difference. From the innermost callback outwards, each adds to the round of the next.
 */
function costOfRounds(old: VerifierState, current: VerifierState): number {
  let more = 0;
  for (let index = current.frames.length - 1; index > 0; index--) {
    const { callback } = current.frames[index]!;
    if (callback === undefined) continue;
    const roundOfOld = old.cost - old.frames[index]!.callback!.enteredAt;
    const longer = current.cost - callback.enteredAt + more - roundOfOld;
    if (longer > 0) more += costOfFurtherRounds(longer, callback.limit);
  }
  return more;
}

function bytesOfBranch({ top, references }: VerifierState): number {
  const { branch, branchSlot, reference } = BYTES_OF;
  return branch + top.stack.slots.length * branchSlot + references.length * reference;
}

/** Cost of the longest run from the state on. Where a run before it had no bound, nor has one from it. */
function costFrom(stored: Stored): number {
  return stored.state.cost === Infinity ? Infinity : Math.max(0, stored.longest - stored.state.cost);
}
