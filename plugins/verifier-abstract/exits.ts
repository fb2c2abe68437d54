import { exitCallback } from './callbacks.js';
import { markReturned } from './checkpoint.js';
import { leaveCall } from './local-calls.js';
import type { Origin } from './origin.js';
import { rejectHeldReferences } from './references.js';
import type { Simulation } from './simulation.js';
import { rejectEndWithLock } from './spin-locks.js';
import { describeKind } from './value-format.js';
import { Kind, type Value } from './value.js';

/** EXIT: of the program, of a function, or of a callback. */
export function stepExit(sim: Simulation): boolean {
  const { state } = sim;
  if (state.depth === 0) {
    exitProgram(sim);
    return false;
  }
  const frame = state.top;
  const result = frame.regs[0]!;
  const resultOrigin = frame.origins[0];
  leaveFunction(sim, result, resultOrigin);
  return true;
}

/** The running function, which has a caller or is called back, ends with `result` in R0. */
export function leaveFunction(sim: Simulation, result: Value, origin: Origin | undefined): void {
  const { state } = sim;
  const frame = state.top;
  if (frame.callback !== undefined) {
    exitCallback(sim, frame.callback, result, origin);
    return;
  }
  if (result.kind === Kind.Stack && result.size === state.depth) {
    sim.reject('return-value', 'the function returns a pointer to its own stack, which is gone then', {
      registers: [0],
      suggestion: 'let the caller pass the memory in',
    });
  }
  state.popFrame();
  const { callsite } = frame;
  leaveCall(sim, result, origin);
  sim.pc = callsite + 1;
}

function exitProgram(sim: Simulation): void {
  const result = sim.peek(0);
  if (result.kind === Kind.NotInit) {
    sim.reject('uninitialised-register', 'the program ends, but R0, its verdict, was not set on this path', {
      registers: [0],
      suggestion: 'set R0 to a verdict (XDP_PASS is 2, XDP_DROP is 1) before every exit',
    });
  }
  if (result.isPointer) {
    const leaks = !sim.options.allowPointerLeaks;
    sim.reject(
      leaks ? 'pointer-leak' : 'return-value',
      `the program returns ${describeKind(result)} instead of a verdict`,
      {
        registers: [0],
        suggestion: 'set R0 to a verdict (XDP_PASS is 2, XDP_DROP is 1) before exit',
      },
    );
  }
  rejectEndWithLock(sim, 'the program ends');
  rejectHeldReferences(sim, 'the program ends');
  sim.facts.returns(result.scalar);
  markReturned(sim.origin(0), sim.state.latest);
}
