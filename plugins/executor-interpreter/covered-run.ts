import type { DecodedProgram } from './decoded-program.js';
import { Stop, type Machine, type RunLoop } from './machine.js';
import { interpret } from './run-loop.js';

/**
 * `interpret`, counting the blocks of programs that are loaded with coverage. It runs the same loop on a copy of the code
 * that pauses at the start of each block, and puts the insn there back while the block runs; programs that are loaded
 * without pay nothing for it.
 */
export function interpretCovered(
  machine: Machine,
  entry: DecodedProgram,
  start: number,
  baseDepth: number,
): Stop {
  const { runLoop } = machine;
  machine.pausing = coveredCodeOf;
  machine.runLoop = runCallback;
  try {
    return runBlocks(machine, entry, start, baseDepth);
  } finally {
    machine.pausing = undefined;
    machine.runLoop = runLoop;
  }
}

const coveredCodeOf = (program: DecodedProgram): Int32Array => program.coverage?.code ?? program.code;

/**
 * A callback is reached within a block that has not ended: its first insn is made a pause again, in case the callback
 * comes by there as well. Behind the call another block begins.
 */
const runCallback: RunLoop = (machine, program, start, baseDepth) => {
  const { openBlock } = machine;
  if (openBlock !== undefined) openBlock.code[openBlock.pc] = openBlock.pause;
  const stop = runBlocks(machine, program, start, baseDepth);
  machine.openBlock = openBlock;
  return stop;
};

function runBlocks(machine: Machine, entry: DecodedProgram, start: number, baseDepth: number): Stop {
  let program = entry;
  let pc = start;
  /** Slot of the block that control left, in the same program. */
  let from = -1;
  for (;;) {
    const { coverage } = program;
    let stop: Stop;
    if (coverage === undefined) {
      stop = interpret(machine, program, pc, baseDepth);
    } else {
      const { code } = coverage;
      coverage.enter(pc >> 1, from, program.registers);
      const block = { code, pc, pause: code[pc]! };
      code[pc] = program.code[pc]!;
      machine.openBlock = block;
      stop = interpret(machine, program, pc, baseDepth);
      code[pc] = block.pause;
    }
    if (stop !== Stop.PAUSED) {
      if (stop === Stop.FAULT && machine.program === program) {
        coverage?.cutOff(pc >> 1, machine.fault!.insn);
      }
      return stop;
    }
    from = machine.program === program ? pc >> 1 : -1;
    program = machine.program;
    pc = machine.pausedAt;
  }
}
