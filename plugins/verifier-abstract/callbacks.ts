import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { HelperPrototype } from '../../src/bpf/helper-prototypes.js';
import type { CallbackFrame } from './frame.js';
import { workOfRound, workOfWalk } from './helper-work.js';
import { leaveCall, rejectDeepCall } from './local-calls.js';
import type { Origin } from './origin.js';
import type { Simulation } from './simulation.js';
import { holdsLock, rejectEndWithLock } from './spin-locks.js';
import { describeKind } from './value-format.js';
import { Kind, type KnownMap, PAST_ELEMENT, pointer, UNKNOWN_NUMBER, type Value } from './value.js';

/** bpf_loop runs at most this often (kernel BPF_MAX_LOOPS). */
const MAX_LOOPS = 1 << 23;

/**
 * A helper that calls back is simulated as the kernel does: at its call insn the path forks into one that goes on
 * behind the call and one that runs the function once and comes back to the call insn. Pruning ends this when
 * another round changes nothing.
 */
export function callBack(sim: Simulation, prototype: HelperPrototype, map: KnownMap | undefined): void {
  const { state } = sim;
  const next = sim.pc + 1;
  const caller = state.top;
  const isLoop = prototype.id === BPF_FUNC.loop;
  const count = caller.regs[1]!;
  const limit = isLoop ? mostLoops(count) : mostElements(map!);
  if (isLoop) sim.precise(1);
  // Once for the call, whether there is an element or not.
  if (!isLoop && caller.rounds === undefined) state.cost += workOfWalk(map!.spec, limit.counted);
  const rounds = caller.rounds ?? { invocation: sim.newId(), count: 0, charged: 0 };
  if (rounds.count >= limit.certain) {
    finishCallbacks(sim);
    sim.pc = next;
    return;
  }
  rejectDeepCall(sim);
  const functionPointer = caller.regs[2]!;
  const second = state.fork();
  // First: no further round.
  finishCallbacks(sim);
  // Second: one more.
  sim.state = second;
  const callsite = sim.pc;
  second.setRounds({ ...rounds, count: rounds.count + 1 });
  const outer = second.top;
  const frame = second.pushFrame(functionPointer.size, callsite, {
    helper: prototype.id,
    map,
    limit: limit.counted,
    // What the helper does for an element itself counts with its round.
    enteredAt: isLoop ? second.cost : second.cost - workOfRound(map!.spec),
    element: isLoop ? 0 : sim.newId(),
  });
  const context = outer.regs[3]!;
  const contextOrigin = outer.origins[3];
  const provide = (register: number, value: Value, origin?: Origin): void => {
    frame.regs[register] = value;
    frame.origins[register] = origin ?? sim.madeHere();
  };
  if (isLoop) {
    provide(1, UNKNOWN_NUMBER);
    provide(2, context, contextOrigin);
  } else {
    provide(1, pointer(Kind.Map, { map }));
    const { element } = frame.callback!;
    provide(2, pointer(Kind.MapKey, { map, ref: element }));
    const id = holdsLock(map!) ? element : 0;
    provide(3, pointer(Kind.MapValue, { map, ref: element, id }));
    provide(4, context, contextOrigin);
  }
  sim.state = state;
  if (sim.driver.fork(next, second, functionPointer.size)) {
    sim.state = second;
    sim.pc = functionPointer.size;
  } else sim.pc = next;
}

/** How often a helper calls back at most. */
interface RoundLimit {
  /** Rounds beyond this are not explored: there are none. Infinity when it takes more than the arguments to know. */
  readonly certain: number;
  /** What the worst case counts with. */
  readonly counted: number;
}

/** bpf_loop is given the number, and refuses more than MAX_LOOPS. */
function mostLoops(count: Value): RoundLimit {
  const bound = count.kind === Kind.Scalar ? count.scalar.umax : BigInt(MAX_LOOPS);
  const limit = bound < BigInt(MAX_LOOPS) ? Number(bound) : MAX_LOOPS;
  return { certain: limit, counted: limit };
}

/**
 * bpf_for_each_map_elem visits all of an array's elements. The elements of other maps come and go, while it runs as
 * well (Simulation.changesIteratedMap), so that only the worst case of callbacks that leave the map alone counts with
 * the map's size; and what a map of maps holds may be of another size than the map it was created with.
 */
function mostElements({ spec, handle }: KnownMap): RoundLimit {
  const isArray =
    spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY || spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY;
  if (handle < 0) return { certain: Infinity, counted: Infinity };
  return { certain: isArray ? spec.maxEntries : Infinity, counted: spec.maxEntries };
}

function finishCallbacks(sim: Simulation): void {
  sim.state.setRounds(undefined);
  leaveCall(sim, UNKNOWN_NUMBER, sim.madeHere());
}

/** What rounds beyond the first cost, each as much as this; either may be Infinity. */
export function costOfFurtherRounds(cost: number, limit: number): number {
  return limit <= 1 ? 0 : cost * (limit - 1);
}

export function exitCallback(
  sim: Simulation,
  callback: CallbackFrame,
  result: Value,
  origin: Origin | undefined,
): void {
  const ok = result.kind === Kind.Scalar && result.scalar.umax <= 1n;
  if (!ok) {
    sim.reject(
      'callback-invalid',
      `the callback returns ${describeKind(result)}, but has to return 0 (go on) or 1 (stop)`,
      {
        registers: [0],
        suggestion: 'return 0 or 1 from the callback',
      },
    );
  }
  sim.preciseNumber(origin);
  // The helper, which is called again and again, may not be called under a lock.
  rejectEndWithLock(sim, 'the callback ends');
  // The key is a copy that the next round overwrites, and a map backend need not keep the value where it was.
  if (callback.element !== 0) {
    sim.updateAll((candidate) => (candidate.ref === callback.element ? PAST_ELEMENT : undefined), undefined);
  }
  const { state } = sim;
  const { callsite } = state.top;
  state.popFrame();
  // The longest run repeats the longest round as often as the helper may call back.
  const round = state.cost - callback.enteredAt;
  const rounds = state.top.rounds!;
  if (round > rounds.charged) {
    // `limit` is Infinity where nothing bounds the rounds, and then so is the cost.
    state.cost += costOfFurtherRounds(round - rounds.charged, callback.limit);
    state.setRounds({ ...rounds, charged: round });
  }
  // Back to the call insn, which decides whether there is another round; it is not executed again.
  state.cost--;
  sim.pc = callsite;
}
