import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { MAX_BPF_STACK, MAX_TAIL_CALL_CNT } from '../../src/bpf/opcodes.js';
import { HelperFault, helperFaultReason, TAIL_CALL } from '../../src/bpf/runtime/helpers/helper-table.js';
import { BYTES_PER_INSN, BYTES_WITHIN_CALL, insnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import { FP, type DecodedProgram } from './decoded-program.js';
import { HANDLERS, type Handler, type MemoryAccess } from './handlers.js';
import { INSN } from './machine-layout.js';
import type { Machine } from './machine.js';
import { Op, OP_NAMES } from './op.js';
import { Stop } from './stop.js';
import { valueAccess } from './map-cache.js';

/**
 * What JavaScript does for an op, for the insn in `slot`, whose address in the code is `pc`. As `LeaveFunction`; the insn is
 * counted already.
 */
type Leave = (machine: Machine, program: DecodedProgram, slot: number, pc: number) => number;

/** `LeaveFunction` of a run loop: does what the loop leaves to JavaScript, and sees whether the run may go on. */
export function leaveLoop(machine: Machine, pc: number): number {
  const { program } = machine;
  const slot = program.slotOf(pc);
  // In code that pauses the op says so; where insns run at once it is not that of the insn.
  const op = machine.i32[pc >> 2] === Op.PAUSE ? Op.PAUSE : program.ops[slot]!;
  return LEAVES[op]!(machine, program, slot, pc);
}

/** The run ends in a fault for `machine.reason`, at the insn in `slot`. Stops the loop. */
export function failAt(machine: Machine, program: DecodedProgram, slot: number): number {
  recordFault(machine, program, slot);
  machine.stop = Stop.FAULT;
  return 0;
}

/** The same where more was executed than the limit allows; else goes on at `pc`, in `slot` of the program. */
export function goOnWithinLimit(machine: Machine, program: DecodedProgram, slot: number, pc: number): number {
  if (machine.executed <= machine.limit) return pc;
  machine.reason = insnLimitReason(machine.limit);
  return failAt(machine, program, slot);
}

function recordFault(machine: Machine, program: DecodedProgram, slot: number): void {
  machine.fault ??= { insn: slot, reason: machine.reason };
  machine.runtime.discardReservations();
  machine.program = program;
}

/** Has an access tried again that the program may make, to an object that is now at hand. */
function judge({ size, write, atomic }: MemoryAccess): Leave {
  return (machine, program, slot, pc) => {
    const [dst, src] = program.operandsOf(slot);
    const offset = program.program.insns[slot]!.off;
    if (mayAccess(machine, program.registers, write ? dst : src, offset, size, write, atomic)) {
      machine.allow(write, machine.rangeStart, machine.rangeEnd);
      machine.executed--;
      return pc;
    }
    return failAt(machine, program, slot);
  };
}

const callAnyHelper: Leave = (machine, program, slot, pc) => {
  if (!callHelper(machine, program, program.program.insns[slot]!.imm, slot)) {
    machine.stop = Stop.FAULT;
    return 0;
  }
  // The helper may have moved the packet, or given an object's memory back.
  machine.renewPacket();
  machine.forgetObjects();
  return pc + INSN.size;
};

const CALLS: Readonly<Partial<Record<string, Leave>>> = {
  INVALID(machine, program, slot) {
    machine.executed--;
    machine.reason = 'control reached a slot that holds no insn';
    return failAt(machine, program, slot);
  },

  PAUSE(machine, _program, slot) {
    machine.executed--;
    machine.pausedAt = slot;
    machine.stop = Stop.PAUSED;
    return 0;
  },

  CALL_HELPER: callAnyHelper,

  CALL_UPDATE(machine, program, slot, pc) {
    const map = machine.runtime.maps.get(program.registers[2]!);
    const next = callAnyHelper(machine, program, slot, pc);
    if (map !== undefined && next !== 0) machine.maps.add(map);
    return next;
  },

  CALL_LOOKUP(machine, program, slot, pc) {
    if (!lookupElem(machine, program.registers)) return failAt(machine, program, slot);
    return pc + INSN.size;
  },

  CALL_LOCAL(machine, program, slot, pc) {
    if (!machine.pushFrame(program, pc + INSN.size)) return failAt(machine, program, slot);
    machine.forgetObjects();
    const { imm } = program.program.insns[slot]!;
    return goOnWithinLimit(machine, program, slot + 1 + imm, pc + INSN.size * (1 + imm));
  },

  TAIL_CALL(machine, program, slot, pc) {
    const target = tailCall(machine, program, slot);
    if (target !== undefined) {
      machine.program = target;
      machine.resetRanges();
      return goOnWithinLimit(machine, target, 0, machine.codeOf(target));
    }
    if (machine.fault === undefined) return pc + INSN.size;
    machine.stop = Stop.FAULT;
    return 0;
  },

  /** Of a frame above the base depth: back to its caller. */
  EXIT(machine, program) {
    const caller = machine.popFrame();
    machine.forgetObjects();
    const { returnTo } = machine;
    if (caller === program) return returnTo;
    // This program came here by a tail call in a local function; its result is the function's.
    caller.registers[0] = program.registers[0]!;
    caller.registers[1] = program.registers[1]!;
    machine.program = caller;
    return goOnWithinLimit(machine, caller, caller.slotOf(returnTo), returnTo);
  },
};

/** By op. Others never leave the loop. */
const LEAVES: readonly (Leave | undefined)[] = OP_NAMES.map((name) => {
  const { access }: Handler = HANDLERS[name];
  return access === undefined ? CALLS[name] : judge(access);
});

/**
 * Judges an access of `size` bytes at register `base` plus `offset` that missed the ranges at hand. True when a
 * program may make it; the object's bounds are then in the machine's range. False leaves `reason`.
 *
 * @param base index of the register's lower half
 */
function mayAccess(
  machine: Machine,
  regs: Int32Array,
  base: number,
  offset: number,
  size: number,
  write: boolean,
  aligned = false,
): boolean {
  const verb = write ? 'write' : 'read';
  // The sum as a 64-bit register would hold it, and no further than doubles are exact: pointers are small.
  const address = regs[base + 1]! * 0x1_0000_0000 + (regs[base]! >>> 0) + offset;
  if (address < 0 || address > 0xffffffff) {
    machine.reason = `${verb} of ${size} bytes at ${hex(regs[base]!, regs[base + 1]!)}${signed(offset)}, which is no address`;
    return false;
  }
  if (aligned && address % size !== 0) {
    machine.reason = `atomic operation on ${size} bytes at 0x${address.toString(16)}, which is not a multiple of ${size}`;
    return false;
  }
  const fault = machine.accessFault(address, size, write);
  if (fault === undefined) return true;
  machine.reason = fault;
  return false;
}

/** Calls a helper. False after a fault, which is then recorded. */
function callHelper(machine: Machine, program: DecodedProgram, id: number, slot: number): boolean {
  const { i32, runtime } = machine;
  const { registers } = program;
  const state = runtime.state.address >> 2;
  for (let i = 2; i < 12; i++) i32[state + i] = registers[i]!;
  machine.work?.addCall(id);
  try {
    program.helpers[id]!();
  } catch (error) {
    // A fault within a callback has been recorded where it happened.
    if (machine.fault === undefined) {
      machine.reason = helperFaultReason(error);
      recordFault(machine, program, slot);
    }
    return false;
  }
  registers[0] = i32[state]!;
  registers[1] = i32[state + 1]!;
  return true;
}

/**
 * bpf_map_lookup_elem, the helper that programs call most: without a detour by the run state; what was found may then be
 * accessed without being judged. False after a fault, with its `reason`.
 */
function lookupElem(machine: Machine, regs: Int32Array): boolean {
  machine.work?.addCall(BPF_FUNC.map_lookup_elem);
  const map = machine.runtime.maps.get(regs[2]!);
  if (map === undefined || regs[3] !== 0) {
    machine.reason = `r1 = ${hex(regs[2]!, regs[3]!)} is not a map`;
    return false;
  }
  const { keySize } = map.attributes;
  const key = regs[4]!;
  // Nearly always in the current stack frame, then in the packet.
  const frameEnd = regs[FP]!;
  const inFrame = regs[5] === 0 && key >= frameEnd - MAX_BPF_STACK && key <= frameEnd - keySize;
  if (!inFrame && !mayAccess(machine, regs, 4, 0, keySize, false)) {
    machine.reason = `argument r2: ${machine.reason}`;
    return false;
  }
  machine.onAccess?.(key, keySize, false);
  machine.work?.addBytes(keySize);
  if (keySize > BYTES_WITHIN_CALL && !paid(machine, Math.ceil(keySize / BYTES_PER_INSN))) return false;
  const found = map.lookupElem(key);
  const { runtime } = machine;
  if (runtime.owedInsns !== 0 && !paid(machine, runtime.takeOwedInsns())) return false;
  regs[0] = found;
  regs[1] = 0;
  const { readable, writable } = valueAccess(map);
  machine.allow(false, found, found === 0 ? 0 : found + readable);
  machine.allow(true, found, found === 0 ? 0 : found + writable);
  machine.maps.add(map);
  return true;
}

/** Charges for work of `lookupElem`. False when that uses up what the run has left, with its `reason`. */
function paid(machine: Machine, insns: number): boolean {
  try {
    machine.charge(insns);
    return true;
  } catch (error) {
    machine.reason = helperFaultReason(error);
    return false;
  }
}

/** Runs a callback for a helper: arguments and result are in the run state. */
export function invokeCallback(machine: Machine, slot: number): void {
  const { i32, runtime, program } = machine;
  const { registers } = program;
  // A callback without a jump backwards would not be stopped otherwise.
  machine.charge(0);
  if (slot >= program.ops.length) throw new HelperFault(`there is no function at insn ${slot}`);
  if (!machine.pushFrame(program, 0)) throw new HelperFault(machine.reason);
  const state = runtime.state.address >> 2;
  for (let i = 2; i < 12; i++) registers[i] = i32[state + i]!;
  const stop = machine.runLoop(machine, program, slot, machine.depth);
  if (stop !== Stop.EXIT) throw new HelperFault('the callback ended in a fault');
  // A tail call in the callback's frame may have left another program behind.
  const low = machine.program.registers[0]!;
  const high = machine.program.registers[1]!;
  machine.popFrame();
  machine.program = program;
  i32[state] = low;
  i32[state + 1] = high;
}

/**
 * bpf_tail_call(ctx, prog_array, index): the program to go on with, or undefined to fall through (no program
 * under the index, or the limit of 33 reached) or after a fault. As in the kernel the target takes the current
 * frame's place: in a local function it returns to the function's caller.
 */
function tailCall(machine: Machine, program: DecodedProgram, slot: number): DecodedProgram | undefined {
  machine.work?.addCall(TAIL_CALL);
  const { registers } = program;
  const map = machine.runtime.maps.get(registers[4]! >>> 0);
  if (map?.programAt === undefined || registers[5] !== 0) {
    machine.reason = `r2 = ${hex(registers[4]!, registers[5]!)} is not a PROG_ARRAY`;
    recordFault(machine, program, slot);
    return undefined;
  }
  const target = machine.programs.get(map.programAt(registers[6]! >>> 0));
  if (target === undefined || machine.tailCalls >= MAX_TAIL_CALL_CNT) return undefined;
  machine.tailCalls++;
  const [low, high] = [registers[2]!, registers[3]!];
  machine.replaceProgram(target);
  target.registers[2] = low;
  target.registers[3] = high;
  return target;
}

function hex(low: number, high: number): string {
  const digits = (low >>> 0).toString(16);
  return high === 0 ? `0x${digits}` : `0x${(high >>> 0).toString(16)}${digits.padStart(8, '0')}`;
}

function signed(offset: number): string {
  return offset < 0 ? ` - ${-offset}` : ` + ${offset}`;
}
