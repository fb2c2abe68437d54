import {
  addressSlowPath,
  atomic,
  callHelper,
  failWith,
  lookupElem,
  Stop,
  tailCall,
  type Machine,
} from './machine.js';
import { insnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import { FRAME_SLOT } from '../../src/bpf/runtime/xdp-frame.js';
import { FP, type DecodedProgram } from './decoded-program.js';
import type { Op } from './op.js';
import {
  divide64,
  modulo64,
  multiply64,
  signedDivide32,
  signedDivide64,
  signedModulo32,
  signedModulo64,
} from './wide-arithmetic.js';

/** Words after which `runSlice` returns at the next jump back or local call. */
const SLICE = 1 << 16;

/**
 * Runs predecoded insns from word `start` of `entry` on until the frame at `baseDepth` returns, a fault, or a
 * PAUSE.
 */
export function interpret(machine: Machine, entry: DecodedProgram, start: number, baseDepth: number): Stop {
  let program = entry;
  let pc = start;
  for (;;) {
    const stop = runSlice(machine, program, pc, baseDepth);
    if (stop === CONTINUE) {
      program = machine.program;
      pc = machine.resumeAt;
      if (machine.executed > machine.limit) {
        machine.reason = insnLimitReason(machine.limit / 2);
        return failWith(machine, program, pc, 0);
      }
    } else {
      return stop;
    }
  }
}

/** `runSlice` asks to be called again, for `machine.program` at `machine.resumeAt`. */
const CONTINUE = 3;

/**
 * The loop. Two words per slot: `op | dst << 8 | src << 16`, where dst and src index the lower half of a
 * register, and `x`: an offset, a jump target in words, a helper's number. Registers are pairs of int32 (low,
 * high): a BigInt costs ten times as much.
 *
 * Memory accesses compare with two ranges at hand, the packet and the object that was touched last, and go to
 * `addressSlowPath` otherwise. Addresses are positive int32, since the address space is smaller than 2 GiB: a
 * sum of register and offset that wraps can never fall into a range.
 *
 * What makes it fast in V8: it handles one program, so that `code` and `registers` are loop invariants; every
 * local is kept an int32 by `| 0`; and it returns now and then, because only code that was optimized from the
 * function's entry, and not from the middle of a running loop, knows these types.
 */
function runSlice(
  machine: Machine,
  program: DecodedProgram,
  start: number,
  baseDepth: number,
): Stop | typeof CONTINUE {
  const { i32, u8, view } = machine;
  const code = machine.pausing === undefined ? program.fused : machine.pausing(program);
  const regs = program.registers;
  const left = machine.limit - machine.executed;
  let sliceEnd = left < SLICE ? left | 0 : SLICE;
  let pc = start | 0;
  /** First word of the straight run of insns under way; what lies between it and pc is not counted yet. */
  let from = start | 0;
  let executed = 0;
  let packetStart = machine.packetStart() | 0;
  let packetEnd = machine.packetEnd() | 0;
  // The context is what most programs read first.
  let readStart = machine.frame | 0;
  let readEnd = machine.frame === 0 ? 0 : (machine.frame + FRAME_SLOT.hardStart) | 0;
  let writeStart = 0;
  let writeEnd = 0;

  for (;;) {
    const word = code[pc]!;
    const d = (word >>> 8) & 0xff;
    const s = word >>> 16;
    switch (word & 0xff) {
      case 8 satisfies typeof Op.ADD64: {
        const a = regs[d]!;
        const sum = (a + regs[s]!) | 0;
        regs[d + 1] = regs[d + 1]! + regs[s + 1]! + (sum >>> 0 < a >>> 0 ? 1 : 0);
        regs[d] = sum;
        pc = (pc + 2) | 0;
        continue;
      }
      case 9 satisfies typeof Op.SUB64: {
        const a = regs[d]!;
        const b = regs[s]!;
        regs[d + 1] = regs[d + 1]! - regs[s + 1]! - (a >>> 0 < b >>> 0 ? 1 : 0);
        regs[d] = a - b;
        pc = (pc + 2) | 0;
        continue;
      }
      case 10 satisfies typeof Op.MUL64:
        multiply64(regs, d, s);
        pc = (pc + 2) | 0;
        continue;
      case 11 satisfies typeof Op.DIV64:
        divide64(regs, d, s);
        pc = (pc + 2) | 0;
        continue;
      case 12 satisfies typeof Op.SDIV64:
        signedDivide64(regs, d, s);
        pc = (pc + 2) | 0;
        continue;
      case 13 satisfies typeof Op.MOD64:
        modulo64(regs, d, s);
        pc = (pc + 2) | 0;
        continue;
      case 14 satisfies typeof Op.SMOD64:
        signedModulo64(regs, d, s);
        pc = (pc + 2) | 0;
        continue;
      case 15 satisfies typeof Op.OR64:
        regs[d] = regs[d]! | regs[s]!;
        regs[d + 1] = regs[d + 1]! | regs[s + 1]!;
        pc = (pc + 2) | 0;
        continue;
      case 16 satisfies typeof Op.AND64:
        regs[d] = regs[d]! & regs[s]!;
        regs[d + 1] = regs[d + 1]! & regs[s + 1]!;
        pc = (pc + 2) | 0;
        continue;
      case 17 satisfies typeof Op.XOR64:
        regs[d] = regs[d]! ^ regs[s]!;
        regs[d + 1] = regs[d + 1]! ^ regs[s + 1]!;
        pc = (pc + 2) | 0;
        continue;
      case 18 satisfies typeof Op.MOV64:
        regs[d] = regs[s]!;
        regs[d + 1] = regs[s + 1]!;
        pc = (pc + 2) | 0;
        continue;
      case 6 satisfies typeof Op.LDDW:
        regs[d] = regs[s]!;
        regs[d + 1] = regs[s + 1]!;
        pc = (pc + 4) | 0;
        // Two slots, one insn.
        from = (from + 2) | 0;
        continue;
      case 19 satisfies typeof Op.NEG64: {
        const low = regs[d]!;
        regs[d] = -low;
        regs[d + 1] = ~regs[d + 1]! + (low === 0 ? 1 : 0);
        pc = (pc + 2) | 0;
        continue;
      }
      case 20 satisfies typeof Op.LSH64: {
        const shift = regs[s]! & 63;
        const low = regs[d]!;
        if (shift >= 32) {
          regs[d + 1] = low << (shift - 32);
          regs[d] = 0;
        } else if (shift !== 0) {
          regs[d + 1] = (regs[d + 1]! << shift) | (low >>> (32 - shift));
          regs[d] = low << shift;
        }
        pc = (pc + 2) | 0;
        continue;
      }
      case 21 satisfies typeof Op.RSH64: {
        const shift = regs[s]! & 63;
        const high = regs[d + 1]!;
        if (shift >= 32) {
          regs[d] = high >>> (shift - 32);
          regs[d + 1] = 0;
        } else if (shift !== 0) {
          regs[d] = (regs[d]! >>> shift) | (high << (32 - shift));
          regs[d + 1] = high >>> shift;
        }
        pc = (pc + 2) | 0;
        continue;
      }
      case 22 satisfies typeof Op.ARSH64: {
        const shift = regs[s]! & 63;
        const high = regs[d + 1]!;
        if (shift >= 32) {
          regs[d] = high >> (shift - 32);
          regs[d + 1] = high >> 31;
        } else if (shift !== 0) {
          regs[d] = (regs[d]! >>> shift) | (high << (32 - shift));
          regs[d + 1] = high >> shift;
        }
        pc = (pc + 2) | 0;
        continue;
      }
      case 23 satisfies typeof Op.LSH64_SHORT: {
        const shift = code[pc + 1]!;
        const low = regs[d]!;
        // In two steps, because a shift by 32 would be one by 0.
        regs[d + 1] = (regs[d + 1]! << shift) | ((low >>> 1) >>> (31 - shift));
        regs[d] = low << shift;
        pc = (pc + 2) | 0;
        continue;
      }
      case 24 satisfies typeof Op.LSH64_LONG:
        regs[d + 1] = regs[d]! << code[pc + 1]!;
        regs[d] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 25 satisfies typeof Op.RSH64_SHORT: {
        const shift = code[pc + 1]!;
        const high = regs[d + 1]!;
        regs[d] = (regs[d]! >>> shift) | ((high << 1) << (31 - shift));
        regs[d + 1] = high >>> shift;
        pc = (pc + 2) | 0;
        continue;
      }
      case 26 satisfies typeof Op.RSH64_LONG:
        regs[d] = regs[d + 1]! >>> code[pc + 1]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 27 satisfies typeof Op.ARSH64_SHORT: {
        const shift = code[pc + 1]!;
        const high = regs[d + 1]!;
        regs[d] = (regs[d]! >>> shift) | ((high << 1) << (31 - shift));
        regs[d + 1] = high >> shift;
        pc = (pc + 2) | 0;
        continue;
      }
      case 28 satisfies typeof Op.ARSH64_LONG: {
        const high = regs[d + 1]!;
        regs[d] = high >> code[pc + 1]!;
        regs[d + 1] = high >> 31;
        pc = (pc + 2) | 0;
        continue;
      }
      case 29 satisfies typeof Op.MOVSX64: {
        const unused = code[pc + 1]!;
        const value = (regs[s]! << unused) >> unused;
        regs[d] = value;
        regs[d + 1] = value >> 31;
        pc = (pc + 2) | 0;
        continue;
      }
      case 30 satisfies typeof Op.BSWAP64: {
        const low = regs[d]!;
        regs[d] = swap32(regs[d + 1]!);
        regs[d + 1] = swap32(low);
        pc = (pc + 2) | 0;
        continue;
      }

      case 31 satisfies typeof Op.ADD32:
        regs[d] = regs[d]! + regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 32 satisfies typeof Op.SUB32:
        regs[d] = regs[d]! - regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 33 satisfies typeof Op.MUL32:
        regs[d] = Math.imul(regs[d]!, regs[s]!);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 34 satisfies typeof Op.DIV32: {
        const divisor = regs[s]! >>> 0;
        regs[d] = divisor === 0 ? 0 : (regs[d]! >>> 0) / divisor;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 35 satisfies typeof Op.SDIV32:
        regs[d] = signedDivide32(regs[d]!, regs[s]!);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 36 satisfies typeof Op.MOD32: {
        const divisor = regs[s]! >>> 0;
        if (divisor !== 0) regs[d] = (regs[d]! >>> 0) % divisor;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 37 satisfies typeof Op.SMOD32:
        regs[d] = signedModulo32(regs[d]!, regs[s]!);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 38 satisfies typeof Op.OR32:
        regs[d] = regs[d]! | regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 39 satisfies typeof Op.AND32:
        regs[d] = regs[d]! & regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 40 satisfies typeof Op.XOR32:
        regs[d] = regs[d]! ^ regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 41 satisfies typeof Op.MOV32:
        regs[d] = regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 42 satisfies typeof Op.NEG32:
        regs[d] = -regs[d]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      // JavaScript masks a shift's count with 31, as the RFC asks for.
      case 43 satisfies typeof Op.LSH32:
        regs[d] = regs[d]! << regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 44 satisfies typeof Op.RSH32:
        regs[d] = regs[d]! >>> regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 45 satisfies typeof Op.ARSH32:
        regs[d] = regs[d]! >> regs[s]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 46 satisfies typeof Op.MOVSX32: {
        const unused = code[pc + 1]!;
        regs[d] = (regs[s]! << unused) >> unused;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 47 satisfies typeof Op.BSWAP32:
        regs[d] = swap32(regs[d]!);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 48 satisfies typeof Op.BSWAP16: {
        const value = regs[d]!;
        regs[d] = ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 49 satisfies typeof Op.TRUNCATE16:
        regs[d] = regs[d]! & 0xffff;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 50 satisfies typeof Op.NOP:
        pc = (pc + 2) | 0;
        continue;

      // Jumps: `break` takes the jump, `continue` does not.
      case 7 satisfies typeof Op.JA:
        break;
      case 51 satisfies typeof Op.JEQ64:
        if (regs[d] === regs[s] && regs[d + 1] === regs[s + 1]) break;
        pc = (pc + 2) | 0;
        continue;
      case 52 satisfies typeof Op.JNE64:
        if (regs[d] !== regs[s] || regs[d + 1] !== regs[s + 1]) break;
        pc = (pc + 2) | 0;
        continue;
      case 53 satisfies typeof Op.JSET64:
        if (((regs[d]! & regs[s]!) | (regs[d + 1]! & regs[s + 1]!)) !== 0) break;
        pc = (pc + 2) | 0;
        continue;
      case 54 satisfies typeof Op.JGT64:
        if (isAbove(regs, word)) break;
        pc = (pc + 2) | 0;
        continue;
      case 55 satisfies typeof Op.JGE64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 >= regs[s]! >>> 0 : a >>> 0 > b >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 56 satisfies typeof Op.JLT64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 < regs[s]! >>> 0 : a >>> 0 < b >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 57 satisfies typeof Op.JLE64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 <= regs[s]! >>> 0 : a >>> 0 < b >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 58 satisfies typeof Op.JSGT64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 > regs[s]! >>> 0 : a > b) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 59 satisfies typeof Op.JSGE64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 >= regs[s]! >>> 0 : a > b) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 60 satisfies typeof Op.JSLT64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 < regs[s]! >>> 0 : a < b) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 61 satisfies typeof Op.JSLE64: {
        const a = regs[d + 1]!;
        const b = regs[s + 1]!;
        if (a === b ? regs[d]! >>> 0 <= regs[s]! >>> 0 : a < b) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 62 satisfies typeof Op.JEQ32:
        if (regs[d] === regs[s]) break;
        pc = (pc + 2) | 0;
        continue;
      case 63 satisfies typeof Op.JNE32:
        if (regs[d] !== regs[s]) break;
        pc = (pc + 2) | 0;
        continue;
      case 64 satisfies typeof Op.JSET32:
        if ((regs[d]! & regs[s]!) !== 0) break;
        pc = (pc + 2) | 0;
        continue;
      case 65 satisfies typeof Op.JGT32:
        if (regs[d]! >>> 0 > regs[s]! >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      case 66 satisfies typeof Op.JGE32:
        if (regs[d]! >>> 0 >= regs[s]! >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      case 67 satisfies typeof Op.JLT32:
        if (regs[d]! >>> 0 < regs[s]! >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      case 68 satisfies typeof Op.JLE32:
        if (regs[d]! >>> 0 <= regs[s]! >>> 0) break;
        pc = (pc + 2) | 0;
        continue;
      case 69 satisfies typeof Op.JSGT32:
        if (regs[d]! > regs[s]!) break;
        pc = (pc + 2) | 0;
        continue;
      case 70 satisfies typeof Op.JSGE32:
        if (regs[d]! >= regs[s]!) break;
        pc = (pc + 2) | 0;
        continue;
      case 71 satisfies typeof Op.JSLT32:
        if (regs[d]! < regs[s]!) break;
        pc = (pc + 2) | 0;
        continue;
      case 72 satisfies typeof Op.JSLE32:
        if (regs[d]! <= regs[s]!) break;
        pc = (pc + 2) | 0;
        continue;

      case 73 satisfies typeof Op.LDX8: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 1) && (at < readStart || at > readEnd - 1))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 1, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        regs[d] = u8[at]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 74 satisfies typeof Op.LDX16: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 2) && (at < readStart || at > readEnd - 2))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 2, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        regs[d] = view.getUint16(at, true);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 75 satisfies typeof Op.LDX32: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 4) && (at < readStart || at > readEnd - 4))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 4, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        regs[d] = view.getInt32(at, true);
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      }
      case 76 satisfies typeof Op.LDX64: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 8) && (at < readStart || at > readEnd - 8))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 8, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        regs[d] = view.getInt32(at, true);
        regs[d + 1] = view.getInt32(at + 4, true);
        pc = (pc + 2) | 0;
        continue;
      }
      case 77 satisfies typeof Op.LDXS8: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 1) && (at < readStart || at > readEnd - 1))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 1, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        const value = (u8[at]! << 24) >> 24;
        regs[d] = value;
        regs[d + 1] = value >> 31;
        pc = (pc + 2) | 0;
        continue;
      }
      case 78 satisfies typeof Op.LDXS16: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 2) && (at < readStart || at > readEnd - 2))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 2, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        const value = view.getInt16(at, true);
        regs[d] = value;
        regs[d + 1] = value >> 31;
        pc = (pc + 2) | 0;
        continue;
      }
      case 79 satisfies typeof Op.LDXS32: {
        const at = (regs[s]! + code[pc + 1]!) | 0;
        if (
          regs[s + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 4) && (at < readStart || at > readEnd - 4))
        ) {
          if (!addressSlowPath(machine, regs, s, code[pc + 1]!, 4, false))
            return failWith(machine, program, pc, executed + pc - from + 2);
          readStart = machine.rangeStart | 0;
          readEnd = machine.rangeEnd | 0;
        }
        const value = view.getInt32(at, true);
        regs[d] = value;
        regs[d + 1] = value >> 31;
        pc = (pc + 2) | 0;
        continue;
      }
      case 84 satisfies typeof Op.LDX32_STACK:
        regs[d] = i32[(regs[FP]! + code[pc + 1]!) >> 2]!;
        regs[d + 1] = 0;
        pc = (pc + 2) | 0;
        continue;
      case 85 satisfies typeof Op.LDX64_STACK: {
        const at = (regs[FP]! + code[pc + 1]!) >> 2;
        regs[d] = i32[at]!;
        regs[d + 1] = i32[at + 1]!;
        pc = (pc + 2) | 0;
        continue;
      }

      case 80 satisfies typeof Op.STX8: {
        const at = (regs[d]! + code[pc + 1]!) | 0;
        if (
          regs[d + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 1) && (at < writeStart || at > writeEnd - 1))
        ) {
          if (!addressSlowPath(machine, regs, d, code[pc + 1]!, 1, true))
            return failWith(machine, program, pc, executed + pc - from + 2);
          writeStart = machine.rangeStart | 0;
          writeEnd = machine.rangeEnd | 0;
        }
        u8[at] = regs[s]!;
        pc = (pc + 2) | 0;
        continue;
      }
      case 81 satisfies typeof Op.STX16: {
        const at = (regs[d]! + code[pc + 1]!) | 0;
        if (
          regs[d + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 2) && (at < writeStart || at > writeEnd - 2))
        ) {
          if (!addressSlowPath(machine, regs, d, code[pc + 1]!, 2, true))
            return failWith(machine, program, pc, executed + pc - from + 2);
          writeStart = machine.rangeStart | 0;
          writeEnd = machine.rangeEnd | 0;
        }
        view.setInt16(at, regs[s]!, true);
        pc = (pc + 2) | 0;
        continue;
      }
      case 82 satisfies typeof Op.STX32: {
        const at = (regs[d]! + code[pc + 1]!) | 0;
        if (
          regs[d + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 4) && (at < writeStart || at > writeEnd - 4))
        ) {
          if (!addressSlowPath(machine, regs, d, code[pc + 1]!, 4, true))
            return failWith(machine, program, pc, executed + pc - from + 2);
          writeStart = machine.rangeStart | 0;
          writeEnd = machine.rangeEnd | 0;
        }
        view.setInt32(at, regs[s]!, true);
        pc = (pc + 2) | 0;
        continue;
      }
      case 83 satisfies typeof Op.STX64: {
        const at = (regs[d]! + code[pc + 1]!) | 0;
        if (
          regs[d + 1] !== 0 ||
          ((at < packetStart || at > packetEnd - 8) && (at < writeStart || at > writeEnd - 8))
        ) {
          if (!addressSlowPath(machine, regs, d, code[pc + 1]!, 8, true))
            return failWith(machine, program, pc, executed + pc - from + 2);
          writeStart = machine.rangeStart | 0;
          writeEnd = machine.rangeEnd | 0;
        }
        view.setInt32(at, regs[s]!, true);
        view.setInt32(at + 4, regs[s + 1]!, true);
        pc = (pc + 2) | 0;
        continue;
      }
      case 86 satisfies typeof Op.STX32_STACK:
        i32[(regs[FP]! + code[pc + 1]!) >> 2] = regs[s]!;
        pc = (pc + 2) | 0;
        continue;
      case 87 satisfies typeof Op.STX64_STACK: {
        const at = (regs[FP]! + code[pc + 1]!) >> 2;
        i32[at] = regs[s]!;
        i32[at + 1] = regs[s + 1]!;
        pc = (pc + 2) | 0;
        continue;
      }
      case 88 satisfies typeof Op.ATOMIC_ADD32: {
        const at = (regs[d]! + code[pc + 1]!) | 0;
        if (regs[d + 1] !== 0 || (at & 3) !== 0 || at < writeStart || at > writeEnd - 4) {
          if (!addressSlowPath(machine, regs, d, code[pc + 1]!, 4, true, true)) {
            return failWith(machine, program, pc, executed + pc - from + 2);
          }
          writeStart = machine.rangeStart | 0;
          writeEnd = machine.rangeEnd | 0;
        }
        i32[at >> 2] = i32[at >> 2]! + regs[s]!;
        pc = (pc + 2) | 0;
        continue;
      }
      case 89 satisfies typeof Op.ATOMIC_ADD64: {
        const at = (regs[d]! + code[pc + 1]!) | 0;
        if (regs[d + 1] !== 0 || (at & 7) !== 0 || at < writeStart || at > writeEnd - 8) {
          if (!addressSlowPath(machine, regs, d, code[pc + 1]!, 8, true, true)) {
            return failWith(machine, program, pc, executed + pc - from + 2);
          }
          writeStart = machine.rangeStart | 0;
          writeEnd = machine.rangeEnd | 0;
        }
        const index = at >> 2;
        const old = i32[index]!;
        const sum = (old + regs[s]!) | 0;
        i32[index] = sum;
        i32[index + 1] = i32[index + 1]! + regs[s + 1]! + (sum >>> 0 < old >>> 0 ? 1 : 0);
        pc = (pc + 2) | 0;
        continue;
      }
      case 90 satisfies typeof Op.ATOMIC:
        if (!atomic(machine, program, pc, d, s))
          return failWith(machine, program, pc, executed + pc - from + 2);
        pc = (pc + 2) | 0;
        continue;

      case 3 satisfies typeof Op.CALL_HELPER:
        executed = (executed + pc - from + 2) | 0;
        machine.executed += executed;
        // What is counted already still counts: a loop that calls a helper has to end as any other.
        sliceEnd = (sliceEnd - executed) | 0;
        executed = 0;
        pc = (pc + 2) | 0;
        from = pc;
        if (!callHelper(machine, program, code[pc - 1]!, pc - 2)) return Stop.FAULT;
        // The helper may have moved the packet, or given an object's memory back.
        packetStart = machine.packetStart() | 0;
        packetEnd = machine.packetEnd() | 0;
        readStart = readEnd = writeStart = writeEnd = 0;
        continue;
      case 91 satisfies typeof Op.CALL_LOOKUP:
        if (!lookupElem(machine, regs)) {
          return failWith(machine, program, pc, executed + pc - from + 2);
        }
        // What was found is what the program touches next.
        readStart = machine.readableStart | 0;
        readEnd = machine.readableEnd | 0;
        writeStart = machine.writableStart | 0;
        writeEnd = machine.writableEnd | 0;
        pc = (pc + 2) | 0;
        continue;
      case 92 satisfies typeof Op.SUM64: {
        const other = code[pc + 2]! >>> 16;
        const a = regs[s]!;
        const sum = (a + regs[other]!) | 0;
        regs[d + 1] = regs[s + 1]! + regs[other + 1]! + (sum >>> 0 < a >>> 0 ? 1 : 0);
        regs[d] = sum;
        pc = (pc + 4) | 0;
        continue;
      }
      case 93 satisfies typeof Op.SUM64_JGT64: {
        const other = code[pc + 2]! >>> 16;
        const a = regs[s]!;
        const sum = (a + regs[other]!) | 0;
        regs[d + 1] = regs[s + 1]! + regs[other + 1]! + (sum >>> 0 < a >>> 0 ? 1 : 0);
        regs[d] = sum;
        pc = (pc + 4) | 0;
        if (isAbove(regs, code[pc]!)) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 94 satisfies typeof Op.ADD64_JGT64: {
        const a = regs[d]!;
        const sum = (a + regs[s]!) | 0;
        regs[d + 1] = regs[d + 1]! + regs[s + 1]! + (sum >>> 0 < a >>> 0 ? 1 : 0);
        regs[d] = sum;
        pc = (pc + 2) | 0;
        if (isAbove(regs, code[pc]!)) break;
        pc = (pc + 2) | 0;
        continue;
      }
      case 4 satisfies typeof Op.CALL_LOCAL:
        executed = (executed + pc - from + 2) | 0;
        if (!machine.pushFrame(program, pc + 2)) return failWith(machine, program, pc, executed);
        pc = from = code[pc + 1]! | 0;
        if (executed > sliceEnd) {
          machine.executed += executed;
          machine.program = program;
          machine.resumeAt = pc;
          return CONTINUE;
        }
        readStart = readEnd = writeStart = writeEnd = 0;
        continue;
      case 5 satisfies typeof Op.TAIL_CALL: {
        executed = (executed + pc - from + 2) | 0;
        pc = (pc + 2) | 0;
        from = pc;
        const target = tailCall(machine, program, pc - 2);
        if (target === undefined) {
          if (machine.fault !== undefined) {
            machine.executed += executed;
            return Stop.FAULT;
          }
          continue;
        }
        machine.executed += executed;
        machine.program = target;
        machine.resumeAt = 0;
        return CONTINUE;
      }
      case 2 satisfies typeof Op.EXIT: {
        executed = (executed + pc - from + 2) | 0;
        if (machine.depth === baseDepth) {
          machine.executed += executed;
          machine.program = program;
          return Stop.EXIT;
        }
        const caller = machine.popFrame();
        pc = from = machine.resumeAt | 0;
        readStart = readEnd = writeStart = writeEnd = 0;
        if (caller === program) continue;
        // This program came here by a tail call in a local function; its result is the function's.
        caller.registers[0] = regs[0]!;
        caller.registers[1] = regs[1]!;
        machine.executed += executed;
        machine.program = caller;
        return CONTINUE;
      }
      case 1 satisfies typeof Op.PAUSE:
        machine.executed += executed + (pc - from);
        machine.program = program;
        machine.pausedAt = pc;
        return Stop.PAUSED;
      default:
        machine.reason = 'control reached a slot that holds no insn';
        return failWith(machine, program, pc, executed + pc - from);
    }

    // A jump that is taken.
    const target = code[pc + 1]! | 0;
    executed = (executed + pc - from + 2) | 0;
    if (target <= pc && executed > sliceEnd) {
      machine.executed += executed;
      machine.program = program;
      machine.resumeAt = target;
      return CONTINUE;
    }
    pc = from = target;
  }
}

function swap32(value: number): number {
  return (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);
}

/** The condition of JGT64, by the word of the insn. */
function isAbove(regs: Int32Array, word: number): boolean {
  const d = (word >>> 8) & 0xff;
  const s = word >>> 16;
  const a = regs[d + 1]!;
  const b = regs[s + 1]!;
  return a === b ? regs[d]! >>> 0 > regs[s]! >>> 0 : a >>> 0 > b >>> 0;
}
