import type { Insn } from '../insn.js';
import {
  BPF_ADD,
  BPF_ALU64,
  BPF_CLASS_MASK,
  BPF_DW,
  BPF_K,
  BPF_LDX,
  BPF_MEM,
  BPF_MOV,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_X,
  FRAME_POINTER,
  MAX_BPF_STACK,
} from '../opcodes.js';

/** Where a function keeps a value that is not its own: from its first insn to its last it leaves it alone. */
export type Keeper =
  | { readonly kind: 'register'; readonly register: number }
  /** 8 bytes at R10 + `off`. */
  | { readonly kind: 'stack'; readonly off: number };

export interface KeeperOptions {
  /** Bytes of stack below R10 that the function uses, where that is known; else {@link stackUse}. */
  readonly stackBytes?: number | undefined;
  /** Bytes of stack below R10 that will be used besides. */
  readonly scratchBytes?: number | undefined;
  /** What is kept elsewhere already. */
  readonly taken?: readonly Keeper[] | undefined;
}

/**
 * A callee-saved register that the function never mentions, R9 first, or else 8 bytes below all the stack that it uses;
 * undefined where there are neither. `body` are the function's insns, without the functions that it calls, which have a
 * stack of their own.
 *
 * A kernel's verifier sees what became of the value: should a function use more stack than it seems to, a program that
 * relies on the keeper is rejected.
 */
export function findKeeper(body: readonly Insn[], options: KeeperOptions = {}): Keeper | undefined {
  const { taken = [], scratchBytes = 0 } = options;
  const mentioned = new Set(body.flatMap(({ dst, src }) => [dst, src]));
  for (const keeper of taken) if (keeper.kind === 'register') mentioned.add(keeper.register);
  // A register costs least.
  for (let register = 9; register >= 6; register--) {
    if (!mentioned.has(register)) return { kind: 'register', register };
  }
  const lowest = Math.min(
    -(options.stackBytes ?? stackUse(body)),
    -scratchBytes,
    ...taken.map((keeper) => (keeper.kind === 'stack' ? keeper.off : 0)),
  );
  const off = Math.floor(lowest / 8) * 8 - 8;
  return off < -MAX_BPF_STACK ? undefined : { kind: 'stack', off };
}

/** Puts a register into the keeper. */
export function keepRegister(keeper: Keeper, src: number): Insn {
  return keeper.kind === 'register'
    ? { opcode: BPF_ALU64 | BPF_MOV | BPF_X, dst: keeper.register, src, off: 0, imm: 0 }
    : { opcode: BPF_STX | BPF_MEM | BPF_DW, dst: FRAME_POINTER, src, off: keeper.off, imm: 0 };
}

/** Brings it back into a register. */
export function fetchKept(keeper: Keeper, dst: number): Insn {
  return keeper.kind === 'register'
    ? { opcode: BPF_ALU64 | BPF_MOV | BPF_X, dst, src: keeper.register, off: 0, imm: 0 }
    : { opcode: BPF_LDX | BPF_MEM | BPF_DW, dst, src: FRAME_POINTER, off: keeper.off, imm: 0 };
}

/**
 * Bytes of stack below R10 that the insns of one function may touch: by loads and stores through R10, and by what is
 * added to registers and then accessed, each of which might have been a copy of R10. More than it really uses, mostly;
 * less only where it computes an address from two negative constants, which compilers do not do.
 */
export function stackUse(body: readonly Insn[]): number {
  let direct = 0;
  let added = 0;
  let displaced = 0;
  for (const { opcode, dst, src, off, imm } of body) {
    const insnClass = opcode & BPF_CLASS_MASK;
    if (insnClass === BPF_LDX || insnClass === BPF_ST || insnClass === BPF_STX) {
      const base = insnClass === BPF_LDX ? src : dst;
      if (base === FRAME_POINTER) direct = Math.min(direct, off);
      else displaced = Math.min(displaced, off);
    }
    const addend =
      opcode === (BPF_ALU64 | BPF_ADD | BPF_K) ? imm : opcode === (BPF_ALU64 | BPF_SUB | BPF_K) ? -imm : 0;
    if (addend >= -MAX_BPF_STACK) added = Math.min(added, addend);
  }
  return Math.max(
    -direct,
    added === 0 ? 0 : -Math.max(-MAX_BPF_STACK, added + Math.max(-MAX_BPF_STACK, displaced)),
  );
}
