import { isLddw, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { functionTarget, jumpTarget, liveAfter, reachableSlots, registerUse } from './register-use.js';

/** An insn that does nothing, whatever registers hold: `goto +0`. */
const NOP: Insn = { opcode: op.BPF_JMP | op.BPF_JA, dst: 0, src: 0, off: 0, imm: 0 };
const EXIT: Insn = { opcode: op.OP_EXIT, dst: 0, src: 0, off: 0, imm: 0 };

/**
 * Makes a program smaller while it keeps a property: yields candidates and is told of each whether it still has
 * the property; returns the smallest that had. As a generator, so that whoever asks may take as long as it likes
 * to answer, and may stop asking.
 *
 * It is delta debugging with replacements that keep a program valid: what a register or a byte of the stack was
 * given is never left without a value. A load becomes `rX = 0`, a store to the stack stores 0, a jump is taken
 * always or never. A pointer may become 0; that the program then does not use it is for the property to say.
 * In the end insns whose results nobody reads, those that cannot be reached and those that do nothing go.
 */
export function* shrinkProgram(insns: readonly Insn[]): Generator<readonly Insn[], readonly Insn[], boolean> {
  let best = insns;
  for (let before = Infinity; weight(best) < before;) {
    before = weight(best);
    best = yield* endEarlier(best);
    best = yield* simplifyChunks(best, (program, slot) => simplify(program, slot));
    best = yield* simplifyChunks(best, (program, slot) => takeAlways(program, slot));
    const compact = removeUnused(best);
    if (weight(compact) < weight(best) && (yield compact)) best = compact;
  }
  return best;
}

/** What shrinking makes less of: insns, and among them those that do more than set a register to 0. */
function weight(insns: readonly Insn[]): number {
  let sum = 0;
  for (const insn of insns) sum += isZero(insn) ? 2 : isNop(insn) || insn.opcode === 0 ? 1 : 3;
  return sum;
}

/** Ends the function at an insn with `r0 = 0; exit`, as early as it can. */
function* endEarlier(insns: readonly Insn[]): Generator<readonly Insn[], readonly Insn[], boolean> {
  let best = insns;
  const targets = new Set(
    insns.flatMap((insn, slot) => [jumpTarget(insn, slot), functionTarget(insn, slot)]),
  );
  // Halving finds the place if the fault lies before it; where it does not, the next passes do the work.
  let [low, high] = [0, insns.length - 2];
  while (low <= high) {
    const slot = (low + high) >> 1;
    const usable = !targets.has(slot + 1) && !isSecondSlot(best, slot) && !isSecondSlot(best, slot + 2);
    const candidate = usable ? replace(best, slot, [zero(0), EXIT]) : undefined;
    if (candidate !== undefined && (yield candidate)) {
      best = candidate;
      high = slot - 1;
    } else {
      low = slot + 1;
    }
  }
  return best;
}

/** Replaces insns in ever smaller chunks. `simpler` gives an insn's replacement, or undefined. */
function* simplifyChunks(
  insns: readonly Insn[],
  simpler: (insns: readonly Insn[], slot: number) => readonly Insn[] | undefined,
): Generator<readonly Insn[], readonly Insn[], boolean> {
  let best = insns;
  for (let size = Math.max(1, best.length >> 1); ; size >>= 1) {
    for (let start = 0; start < best.length; start += size) {
      let candidate = best;
      for (let slot = start; slot < Math.min(start + size, best.length); slot++) {
        if (isSecondSlot(candidate, slot)) continue;
        const replacement = simpler(candidate, slot);
        if (replacement !== undefined) candidate = replace(candidate, slot, replacement);
      }
      if (candidate !== best && (yield candidate)) best = candidate;
    }
    if (size === 1) return best;
  }
}

function simplify(insns: readonly Insn[], slot: number): readonly Insn[] | undefined {
  const insn = insns[slot]!;
  const { opcode, dst } = insn;
  switch (opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
    case op.BPF_ALU64:
      if ((opcode & op.BPF_OP_MASK) !== op.BPF_MOV) return [NOP];
      return isZero(insn) ? undefined : [zero(dst)];
    case op.BPF_LD:
      return isLddw(insn) ? [zero(dst), NOP] : undefined;
    case op.BPF_LDX:
      return [zero(dst)];
    case op.BPF_JMP:
    case op.BPF_JMP32:
      if (opcode === op.OP_CALL) return [zero(0)];
      return opcode === op.OP_EXIT || (opcode & op.BPF_OP_MASK) === op.BPF_JA ? undefined : [NOP];
    default: {
      if ((opcode & op.BPF_MODE_MASK) === op.BPF_ATOMIC || !mayPointToStack(insns).has(dst)) return [NOP];
      const store = op.BPF_ST | op.BPF_MEM | (opcode & op.BPF_SIZE_MASK);
      return opcode === store && insn.imm === 0
        ? undefined
        : [{ opcode: store, dst, src: 0, off: insn.off, imm: 0 }];
    }
  }
}

/** Turns a conditional jump into one that is always taken. */
function takeAlways(insns: readonly Insn[], slot: number): readonly Insn[] | undefined {
  const insn = insns[slot]!;
  if (jumpTarget(insn, slot) === undefined || (insn.opcode & op.BPF_OP_MASK) === op.BPF_JA) return undefined;
  return [{ ...NOP, off: insn.off }];
}

/** Registers that hold a pointer to the stack somewhere in the program, told without following control. */
function mayPointToStack(insns: readonly Insn[]): Set<number> {
  const registers = new Set([op.FRAME_POINTER]);
  let spilled = false;
  for (let before = 0; before < registers.size;) {
    before = registers.size;
    for (const { opcode, dst, src } of insns) {
      const copies =
        opcode === (op.BPF_ALU64 | op.BPF_MOV | op.BPF_X) || opcode === (op.BPF_ALU64 | op.BPF_X);
      if (copies && registers.has(src)) registers.add(dst);
      if (opcode === (op.BPF_STX | op.BPF_MEM | op.BPF_DW) && registers.has(src)) spilled = true;
      if (opcode === (op.BPF_LDX | op.BPF_MEM | op.BPF_DW) && spilled) registers.add(dst);
    }
  }
  return registers;
}

/** Without what cannot be reached, what computes something that nobody reads, and what does nothing. */
export function removeUnused(insns: readonly Insn[]): readonly Insn[] {
  let program = insns;
  for (;;) {
    const live = liveAfter(program);
    const next = program.map((insn, slot) => {
      if (isSecondSlot(program, slot)) return isDead(program, slot - 1, live) ? NOP : insn;
      return isDead(program, slot, live) ? NOP : insn;
    });
    if (next.every((insn, slot) => insn === program[slot])) break;
    program = next;
  }
  const reached = reachableSlots(program);
  return keepSlots(program, (slot) => reached.has(slot) && !isNop(program[slot]!));
}

function isDead(insns: readonly Insn[], slot: number, live: Int32Array): boolean {
  const { pure, writes } = registerUse(insns[slot]!);
  return pure && (writes & live[slot]!) === 0;
}

/** Drops slots and moves the targets of jumps and calls along; a jump to a dropped slot leads to the next kept. */
function keepSlots(insns: readonly Insn[], keep: (slot: number) => boolean): readonly Insn[] {
  const places: number[] = [];
  let count = 0;
  for (let slot = 0; slot <= insns.length; slot++) {
    places.push(count);
    if (slot < insns.length && keep(slot)) count++;
  }
  return insns.flatMap((insn, slot) => {
    if (!keep(slot)) return [];
    const [jump, called] = [jumpTarget(insn, slot), functionTarget(insn, slot)];
    const distance = (target: number): number => places[target]! - places[slot]! - 1;
    if (called !== undefined) return [{ ...insn, imm: distance(called) }];
    if (jump === undefined) return [insn];
    const inImmediate = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_JMP32 && isUnconditional(insn);
    return [inImmediate ? { ...insn, imm: distance(jump) } : { ...insn, off: distance(jump) }];
  });
}

function isUnconditional(insn: Insn): boolean {
  return (insn.opcode & op.BPF_OP_MASK) === op.BPF_JA;
}

function isNop(insn: Insn): boolean {
  return insn.opcode === NOP.opcode && insn.off === 0;
}

function isZero(insn: Insn): boolean {
  return insn.opcode === (op.BPF_ALU64 | op.BPF_MOV | op.BPF_K) && insn.imm === 0;
}

function zero(register: number): Insn {
  return { opcode: op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, dst: register, src: 0, off: 0, imm: 0 };
}

function isSecondSlot(insns: readonly Insn[], slot: number): boolean {
  return insns[slot]?.opcode === 0 && isLddw(insns[slot - 1]);
}

function replace(insns: readonly Insn[], slot: number, replacement: readonly Insn[]): readonly Insn[] {
  const next = [...insns];
  next.splice(slot, replacement.length, ...replacement);
  return next;
}
