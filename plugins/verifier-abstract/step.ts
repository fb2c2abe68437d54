import { lddwImmediate, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { stepArithmetic } from './alu.js';
import { stepJump } from './branches.js';
import { stepCall } from './calls.js';
import { stepExit } from './exits.js';
import { stepAtomic, stepLoad, stepStore } from './memory-access.js';
import type { Simulation } from './simulation.js';
import { constantValue, Kind, pointer } from './value.js';

/** Runs the insn at `pc`: what it does to the state, and whether it may. False when the path has ended. Throws RejectSignal. */
export function step(sim: Simulation): boolean {
  const insn = sim.insns[sim.pc]!;
  sim.state.steps++;
  sim.state.cost++;
  switch (insn.opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
    case op.BPF_ALU64:
      stepArithmetic(sim, insn);
      sim.pc++;
      return true;
    case op.BPF_LDX:
      stepLoad(sim, insn);
      sim.pc++;
      return true;
    case op.BPF_ST:
      stepStore(sim, insn);
      sim.pc++;
      return true;
    case op.BPF_STX:
      if ((insn.opcode & op.BPF_MODE_MASK) === op.BPF_ATOMIC) stepAtomic(sim, insn);
      else stepStore(sim, insn);
      sim.pc++;
      return true;
    case op.BPF_LD:
      loadImmediate(sim, insn);
      sim.pc += 2;
      return true;
    default: {
      const code = insn.opcode & op.BPF_OP_MASK;
      if (insn.opcode === op.OP_CALL) return stepCall(sim, insn);
      if (insn.opcode === op.OP_EXIT) return stepExit(sim);
      stepJump(sim, insn, code);
      return true;
    }
  }
}

/** `lddw`: a number, a map, the value of a map of one element, or a function. That they exist has been looked at. */
function loadImmediate(sim: Simulation, insn: Insn): void {
  switch (insn.src) {
    case op.BPF_PSEUDO_MAP_FD:
      sim.set(insn.dst, pointer(Kind.Map, { map: sim.mapNamed(insn.imm) }));
      return;
    case op.BPF_PSEUDO_MAP_VALUE: {
      const off = sim.insns[sim.pc + 1]!.imm >>> 0;
      sim.set(insn.dst, pointer(Kind.MapValue, { map: sim.mapNamed(insn.imm), off }));
      return;
    }
    case op.BPF_PSEUDO_FUNC:
      sim.set(insn.dst, pointer(Kind.Function, { size: sim.pc + 1 + insn.imm }));
      return;
    default:
      sim.set(insn.dst, constantValue(lddwImmediate(sim.insns, sim.pc)));
  }
}
