import type { DecodedProgram } from './decoded-program.js';
import type { Machine, RunLoop } from './machine.js';
import { Stop } from './stop.js';
import { interpret } from './interpret.js';
import { Op } from './op.js';

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

const coveredCodeOf = (program: DecodedProgram): number => program.coverageCode;

/**
 * A callback is reached within a block that has not ended: its first insn is made a pause again, in case the callback
 * comes by there as well. Behind the call another block begins.
 */
const runCallback: RunLoop = (machine, program, start, baseDepth) => {
  const { openBlock } = machine;
  if (openBlock !== undefined) pauseAt(openBlock.program, openBlock.slot);
  const stop = runBlocks(machine, program, start, baseDepth);
  machine.openBlock = openBlock;
  return stop;
};

/** Has the block that begins in a slot begin with a pause again. */
function pauseAt(program: DecodedProgram, slot: number): void {
  program.setOp(program.coverageCode, slot, Op.PAUSE);
}

function runBlocks(machine: Machine, entry: DecodedProgram, start: number, baseDepth: number): Stop {
  let program = entry;
  let slot = start;
  /** Slot of the block that control left, in the same program. */
  let from = -1;
  for (;;) {
    const { coverage } = program;
    let stop: Stop;
    if (coverage === undefined) {
      stop = interpret(machine, program, slot, baseDepth);
    } else {
      coverage.enter(slot, from, program);
      program.setOp(program.coverageCode, slot, program.ops[slot]!);
      machine.openBlock = { program, slot };
      stop = interpret(machine, program, slot, baseDepth);
      pauseAt(program, slot);
    }
    if (stop !== Stop.PAUSED) {
      if (stop === Stop.FAULT && machine.program === program) {
        coverage?.cutOff(slot, machine.fault!.insn);
      }
      return stop;
    }
    from = machine.program === program ? slot : -1;
    program = machine.program;
    slot = machine.pausedAt;
  }
}
