import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { DecodedProgram } from './decoded-program.js';
import { INSN } from './machine-layout.js';
import { goOnWithinLimit, leaveLoop } from './leave-loop.js';
import { Machine } from './machine.js';
import { instantiateRunLoop } from './run-loop.js';
import { Stop } from './stop.js';

export function createMachine(runtime: BpfRuntime): Machine {
  return new Machine(runtime, { runLoop: interpret, instantiate: instantiateRunLoop, leave: leaveLoop });
}

/** Runs decoded insns from a slot of `entry` on until the frame at `baseDepth` returns, a fault, or a PAUSE. */
export function interpret(machine: Machine, entry: DecodedProgram, slot: number, baseDepth: number): Stop {
  const { baseDepth: outer } = machine;
  machine.baseDepth = baseDepth;
  machine.program = entry;
  machine.resetRanges();
  machine.startSlice();
  machine.runFrom(machine.codeOf(entry) + INSN.size * slot);
  while (machine.stop === Stop.SLICED) {
    const pc = nextSlice(machine);
    if (pc !== 0) machine.runFrom(pc);
  }
  machine.baseDepth = outer;
  return machine.stop;
}

/** Behind a slice: the address in the code to go on at, or 0 after a fault because the limit is used up. */
export function nextSlice(machine: Machine): number {
  const { program, resumeAt } = machine;
  machine.startSlice();
  return goOnWithinLimit(machine, program, program.slotOf(resumeAt), resumeAt);
}
