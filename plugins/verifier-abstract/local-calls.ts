import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { NO_CONSTANTS } from './fact-collector.js';
import type { Origin } from './origin.js';
import type { Simulation } from './simulation.js';
import { NOT_INIT, type Value } from './value.js';

export function callFunction(sim: Simulation, insn: Insn): void {
  const { state } = sim;
  rejectDeepCall(sim);
  const caller = state.top;
  const start = sim.pc + 1 + insn.imm;
  sim.facts.call(sim.pc, -1, undefined, NO_CONSTANTS);
  const frame = state.pushFrame(start, sim.pc);
  for (let register = 1; register <= 5; register++) {
    frame.regs[register] = caller.regs[register]!;
    frame.origins[register] = caller.origins[register];
  }
  sim.pc = start;
}

export function rejectDeepCall(sim: Simulation): void {
  if (sim.state.frames.length < op.MAX_CALL_FRAMES) return;
  sim.reject(
    'call-depth',
    `this call would be the ${op.MAX_CALL_FRAMES + 1}th frame; ${op.MAX_CALL_FRAMES} is the limit`,
    {
      suggestion: 'flatten the calls, or inline functions (__always_inline); recursion is not possible',
    },
  );
}

/** After any call: R0 holds the result, R1 … R5 nothing. */
export function leaveCall(sim: Simulation, result: Value, origin: Origin | undefined): void {
  const frame = sim.state.writable();
  for (let register = 1; register <= 5; register++) {
    frame.regs[register] = NOT_INIT;
    frame.origins[register] = undefined;
  }
  frame.regs[0] = result;
  frame.origins[0] = origin;
}
