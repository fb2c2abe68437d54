import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { callHelper } from './helper-calls.js';
import { callFunction } from './local-calls.js';
import type { Simulation } from './simulation.js';

/** CALL of a helper or of a local function; calls of kernel functions were rejected before. */
export function stepCall(sim: Simulation, insn: Insn): boolean {
  switch (insn.src) {
    case op.BPF_PSEUDO_CALL:
      callFunction(sim, insn);
      return true;
    default:
      callHelper(sim, insn);
      return true;
  }
}
