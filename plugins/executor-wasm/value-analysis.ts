import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_B,
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_CMPXCHG,
  BPF_END,
  BPF_EXIT,
  BPF_FETCH,
  BPF_H,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_LDX,
  BPF_MEMSX,
  BPF_MODE_MASK,
  BPF_OP_MASK,
  BPF_SIZE_MASK,
  BPF_SRC_MASK,
  BPF_ST,
  BPF_STX,
  BPF_TO_BE,
  BPF_W,
  BPF_X,
  OP_LDDW,
  REGISTER_COUNT,
} from '../../src/bpf/opcodes.js';
import { WASM_PAGE } from '../../src/bpf/runtime/address-space.js';
import { XDP_MD } from '../../src/bpf/xdp.js';
import { helperArity, planCall, writesProgramMemory, type CallPlan, type CallPlanning } from './call-plan.js';
import type { BpfFunction } from './control-flow-graph.js';
import {
  constant,
  constantAddress,
  evaluateAlu,
  evaluateByteOrder,
  evaluateJump,
  joinValues,
  lowerWord,
  refineByJump,
  sameValue,
  sourceOperand,
  wide,
  widenValue,
  word,
  type KnownValue,
} from './known-value.js';

/**
 * A forward analysis over one function: what each register and each 4-byte cell of the function's own stack
 * frame holds where a block begins. It decides how values are held (see known-value.ts), which map a lookup is
 * for, and which stack cells need no memory.
 *
 * A cell is known when every path wrote it by address constants since anything else could have; its value then
 * also lives in a wasm local, and reads need not go through memory. A cell of form `wide` covers this cell and
 * the next one.
 */
export interface ProgramState {
  readonly registers: KnownValue[];
  readonly cells: Map<number, KnownValue>;
}

export interface AnalysisInput extends CallPlanning {
  readonly insns: readonly Insn[];
  readonly function: BpfFunction;
  readonly entry: readonly KnownValue[];
  /** The function's own stack frame, where its address is fixed and its cells may be held in locals. */
  readonly frame: { readonly low: number; readonly high: number } | undefined;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** What the `lddw` at a slot loads. */
  lddw(slot: number): KnownValue;
}

export interface FunctionAnalysis {
  /** State at the start of each block; undefined for a block that no path reaches. */
  readonly before: readonly (ProgramState | undefined)[];
  /** Successors of each block, without the edges that are never taken; the taken one first. */
  readonly successors: readonly (readonly number[])[];
  /** Registers that are read before they are written, per block, as a bit mask. */
  readonly live: Int32Array;
}

/** Rounds after which a bound that still moves is given up. */
const WIDEN_AFTER = 3;

export function analyzeFunction(input: AnalysisInput, order: readonly number[]): FunctionAnalysis {
  const { blocks } = input.function;
  const before = new Array<ProgramState | undefined>(blocks.length).fill(undefined);
  const visits = new Int32Array(blocks.length);
  const dirty = new Uint8Array(blocks.length);
  const successors: (readonly number[])[] = blocks.map(() => []);
  const state: ProgramState = { registers: [], cells: new Map() };
  before[0] = { registers: [...input.entry], cells: new Map() };
  dirty[0] = 1;
  for (let again = true; again;) {
    again = false;
    for (const index of order) {
      if (dirty[index] === 0) continue;
      dirty[index] = 0;
      visits[index]!++;
      const block = blocks[index]!;
      assignState(state, before[index]!);
      runBlock(input, block.start, block.end, state);
      const taken = branchTaken(input, index, state);
      // The last run of a block starts from its final state, so that what it finds here is final too.
      successors[index] = taken === undefined ? block.successors : [block.successors[taken ? 0 : 1]!];
      for (let position = 0; position < block.successors.length; position++) {
        if (taken === (position === 1)) continue;
        const next = block.successors[position]!;
        const arriving =
          block.successors.length === 2 ? refined(input, block.end - 1, state, position === 0) : state;
        const known = before[next];
        if (known === undefined) {
          before[next] = copyState(arriving);
        } else if (!joinInto(known, arriving, visits[next]! >= WIDEN_AFTER)) {
          continue;
        }
        dirty[next] = 1;
        again = true;
      }
    }
  }
  return { before, successors, live: liveness(input, successors) };
}

export function copyState(state: ProgramState): ProgramState {
  return { registers: [...state.registers], cells: new Map(state.cells) };
}

function assignState(state: ProgramState, from: ProgramState): void {
  for (let r = 0; r < REGISTER_COUNT; r++) state.registers[r] = from.registers[r]!;
  state.cells.clear();
  for (const [index, value] of from.cells) state.cells.set(index, value);
}

function runBlock(input: AnalysisInput, start: number, end: number, state: ProgramState): void {
  for (let slot = start; slot < end; slot++) {
    step(input, slot, state);
    if (input.insns[slot]!.opcode === OP_LDDW) slot++;
  }
}

/** Applies one insn to the state. */
export function step(input: AnalysisInput, slot: number, state: ProgramState): void {
  const insn = input.insns[slot]!;
  const { registers } = state;
  switch (insn.opcode & BPF_CLASS_MASK) {
    case BPF_ALU:
    case BPF_ALU64:
      registers[insn.dst] = aluResult(insn, registers);
      return;
    case BPF_LDX:
      registers[insn.dst] = loadResult(input, insn, state);
      return;
    case BPF_ST:
      storeCells(input, state, insn, constant(BigInt(insn.imm)));
      return;
    case BPF_STX:
      if ((insn.opcode & BPF_MODE_MASK) === BPF_ATOMIC) stepAtomic(input, insn, state);
      else storeCells(input, state, insn, registers[insn.src]!);
      return;
    case BPF_JMP:
      if ((insn.opcode & BPF_OP_MASK) === BPF_CALL) stepCall(input, insn, state);
      return;
    case BPF_JMP32:
      return;
    default:
      // BPF_LD: `lddw` is the only one left of it.
      registers[insn.dst] = input.lddw(slot);
  }
}

/** The register an arithmetic insn leaves behind. */
export function aluResult(insn: Insn, registers: readonly KnownValue[]): KnownValue {
  const dst = registers[insn.dst]!;
  if ((insn.opcode & BPF_OP_MASK) === BPF_END) return evaluateByteOrder(insn, dst, swapsBytes(insn));
  return evaluateAlu(insn, dst, sourceOperand(insn, registers));
}

/** Whether a BPF_END insn reverses bytes on a little-endian host: TO_BE and BSWAP do. */
export function swapsBytes(insn: Insn): boolean {
  return (insn.opcode & BPF_CLASS_MASK) === BPF_ALU64 || (insn.opcode & BPF_SRC_MASK) === BPF_TO_BE;
}

export function accessSize(insn: Insn): number {
  switch (insn.opcode & BPF_SIZE_MASK) {
    case BPF_B:
      return 1;
    case BPF_H:
      return 2;
    case BPF_W:
      return 4;
    default:
      return 8;
  }
}

/** The register whose sum with `off` an insn accesses memory at, if it does. */
export function accessedRegister(insn: Insn): number | undefined {
  const kind = insn.opcode & BPF_CLASS_MASK;
  if (kind === BPF_LDX) return insn.src;
  return kind === BPF_ST || kind === BPF_STX ? insn.dst : undefined;
}

/** The register a load leaves behind. */
export function loadResult(input: AnalysisInput, insn: Insn, state: ProgramState): KnownValue {
  const base = state.registers[insn.src]!;
  if ((insn.opcode & BPF_MODE_MASK) === BPF_MEMSX) return wide();
  const size = accessSize(insn);
  // Without a verifier's word for it the access may be of half a field, or R1 of a tail call no context.
  if (!input.checked && base.context === true && size === 4 && insn.off <= XDP_MD.data_meta) {
    return word(WASM_PAGE, input.memoryBytes);
  }
  const cell = cellOf(input, base, insn.off);
  const held = cell === undefined ? undefined : readCell(state, cell, size);
  if (held !== undefined) return held;
  if (size === 8) return wide(true);
  return word(0, 2 ** (8 * size) - 1);
}

/** Offset from the frame's low end of `base + off`, when that is a place in the own frame known now. */
export function cellOf(input: AnalysisInput, base: KnownValue, off: number): number | undefined {
  const { frame } = input;
  const address = constantAddress(base);
  if (frame === undefined || address === undefined) return undefined;
  const offset = address + off - frame.low;
  return offset >= 0 && offset < frame.high - frame.low ? offset : undefined;
}

/** The value of `size` bytes at an offset of the frame, when locals hold it. */
export function readCell(state: ProgramState, offset: number, size: number): KnownValue | undefined {
  const index = offset >> 2;
  const value = state.cells.get(index);
  if (value === undefined) return undefined;
  const within = offset & 3;
  if (value.form === 'wide') return size === 8 && within === 0 ? value : undefined;
  if (size === 8) {
    if (within !== 0) return undefined;
    const upper = state.cells.get(index + 1);
    if (upper === undefined || upper.form === 'wide') return undefined;
    if (upper.form === 'const' && upper.constant === 0n) return value;
    if (upper.form === 'const' && value.form === 'const') {
      return constant((upper.constant << 32n) | value.constant);
    }
    return wide(value.stack || upper.stack);
  }
  if (within + size > 4) return undefined;
  if (size === 4) return value;
  const mask = 2 ** (8 * size) - 1;
  if (value.form === 'const') return constant((value.constant >> BigInt(8 * within)) & BigInt(mask));
  return within === 0 && value.high <= mask ? value : word(0, mask);
}

/** What a store does to the cells. */
function storeCells(input: AnalysisInput, state: ProgramState, insn: Insn, value: KnownValue): void {
  const base = state.registers[insn.dst]!;
  const offset = cellOf(input, base, insn.off);
  const size = accessSize(insn);
  if (offset === undefined) {
    if (base.stack) state.cells.clear();
    return;
  }
  const index = offset >> 2;
  if (size < 4 && (offset & 3) + size <= 4) {
    const held = state.cells.get(index);
    if (held !== undefined && held.form !== 'wide') {
      state.cells.set(index, patchedCell(held, value, offset & 3, size));
      return;
    }
  }
  forgetCells(state, offset, size);
  if ((offset & 3) !== 0 || size < 4) return;
  if (size === 4) {
    state.cells.set(index, lowerWord(value));
  } else if (value.form === 'wide') {
    state.cells.set(index, value);
  } else {
    state.cells.set(index, lowerWord(value));
    state.cells.set(index + 1, constant(value.constant >> 32n));
  }
}

/** A cell after one or two of its bytes were written. */
export function patchedCell(held: KnownValue, value: KnownValue, within: number, size: number): KnownValue {
  const shift = BigInt(8 * within);
  const mask = BigInt(2 ** (8 * size) - 1);
  if (held.form === 'const' && value.form === 'const') {
    return constant((held.constant & ~(mask << shift)) | ((value.constant & mask) << shift));
  }
  return word();
}

function forgetCells(state: ProgramState, offset: number, size: number): void {
  const first = offset >> 2;
  const before = state.cells.get(first - 1);
  if (before?.form === 'wide') state.cells.delete(first - 1);
  for (let index = first; index <= (offset + size - 1) >> 2; index++) state.cells.delete(index);
}

function stepAtomic(input: AnalysisInput, insn: Insn, state: ProgramState): void {
  const base = state.registers[insn.dst]!;
  const size = accessSize(insn);
  const offset = cellOf(input, base, insn.off);
  if (offset !== undefined) forgetCells(state, offset, size);
  else if (base.stack) state.cells.clear();
  if ((insn.imm & BPF_FETCH) === 0) return;
  const old = size === 8 ? wide(true) : word();
  state.registers[insn.imm === BPF_CMPXCHG ? 0 : insn.src] = old;
}

function stepCall(input: AnalysisInput, insn: Insn, state: ProgramState): void {
  const plan = planCall(insn, state.registers, input);
  const result = callResult(input, plan, state);
  if (plan.kind === 'local') state.cells.clear();
  if (plan.kind === 'helper' && writesProgramMemory(plan.id, input)) state.cells.clear();
  if (result !== undefined) state.registers[0] = result;
}

/** What R0 holds after a call, undefined where it stays as it was. */
export function callResult(
  input: AnalysisInput,
  plan: CallPlan,
  state: ProgramState,
): KnownValue | undefined {
  switch (plan.kind) {
    case 'tail-call':
      return undefined;
    case 'random':
    case 'cpu':
      return word();
    case 'redirect':
    case 'redirect-map':
      return word(0, 4);
    case 'checksum':
      return word(0, 0xffff);
    case 'lookup':
      return lookupResult(input, plan, state);
    case 'update':
      return isIndexKnown(input, plan, state) ? constant(0n) : wide();
    case 'ring-reserve':
      return word(0, input.memoryBytes);
    case 'ring-commit':
      return constant(0n);
    case 'helper':
      return plan.id === 1 && !input.overridden.has(1) ? word(0, input.memoryBytes) : wide();
    default:
      return wide(plan.kind === 'local');
  }
}

function lookupResult(
  input: AnalysisInput,
  { layout }: CallPlan & { kind: 'lookup' },
  state: ProgramState,
): KnownValue {
  if (layout.kind !== 'array') return word(0, input.memoryBytes);
  const key = knownKeyWord(input, state, 0) ?? word();
  if (key.low >= layout.maxEntries) return constant(0n);
  const lastIndex = Math.min(key.high, layout.maxEntries - 1);
  const last = layout.values + lastIndex * layout.stride + (input.cpus - 1) * layout.cpuStride;
  return key.high < layout.maxEntries ? word(layout.values + key.low * layout.stride, last) : word(0, last);
}

/** Whether the key that R2 points to is known to be that of an element of an array. */
export function isIndexKnown(
  input: AnalysisInput,
  { layout }: CallPlan & { kind: 'update' },
  state: ProgramState,
): boolean {
  const key = knownKeyWord(input, state, 0);
  return key !== undefined && key.high < layout.maxEntries;
}

/** Word `index` of the key that R2 points to, when a local or a constant holds it. */
export function knownKeyWord(
  input: AnalysisInput,
  state: ProgramState,
  index: number,
): KnownValue | undefined {
  const offset = cellOf(input, state.registers[2]!, 4 * index);
  return offset === undefined ? undefined : readCell(state, offset, 4);
}

/** Whether the conditional jump at a block's end is taken, where that is known. */
function branchTaken(input: AnalysisInput, index: number, state: ProgramState): boolean | undefined {
  const block = input.function.blocks[index]!;
  if (block.successors.length < 2) return undefined;
  const insn = input.insns[block.end - 1]!;
  return evaluateJump(insn, state.registers[insn.dst]!, sourceOperand(insn, state.registers));
}

/** The state on one side of a conditional jump. */
function refined(input: AnalysisInput, slot: number, state: ProgramState, taken: boolean): ProgramState {
  const insn = input.insns[slot]!;
  let src = sourceOperand(insn, state.registers);
  if ((insn.opcode & BPF_CLASS_MASK) === BPF_JMP32) src = lowerWord(src);
  const dst = state.registers[insn.dst]!;
  const known = refineByJump(insn, dst, src, taken);
  if (known === dst) return state;
  const registers = [...state.registers];
  registers[insn.dst] = known;
  return { registers, cells: state.cells };
}

/** Joins what arrives into what is known; whether that changed it. */
function joinInto(known: ProgramState, arriving: ProgramState, widen: boolean): boolean {
  let changed = false;
  const join = widen ? widenValue : joinValues;
  for (let r = 0; r < REGISTER_COUNT; r++) {
    const before = known.registers[r]!;
    const after = join(before, arriving.registers[r]!);
    if (sameValue(before, after)) continue;
    known.registers[r] = after;
    changed = true;
  }
  for (const [index, before] of known.cells) {
    const other = arriving.cells.get(index);
    if (other === undefined || (other.form === 'wide') !== (before.form === 'wide')) {
      known.cells.delete(index);
      changed = true;
      continue;
    }
    const after = join(before, other);
    if (sameValue(before, after)) continue;
    known.cells.set(index, after);
    changed = true;
  }
  return changed;
}

/** Registers an insn reads, as a bit mask, and those it writes, in the upper half. */
function readsAndWrites(insn: Insn, planning: CallPlanning): number {
  const dst = 1 << insn.dst;
  const src = 1 << insn.src;
  switch (insn.opcode & BPF_CLASS_MASK) {
    case BPF_ALU:
    case BPF_ALU64: {
      const operation = insn.opcode & BPF_OP_MASK;
      const readsSrc = (insn.opcode & BPF_SRC_MASK) === BPF_X && operation !== BPF_END ? src : 0;
      return both(readsSrc | (operation === 0xb0 ? 0 : dst), dst);
    }
    case BPF_LDX:
      return both(src, dst);
    case BPF_ST:
      return both(dst, 0);
    case BPF_STX: {
      if ((insn.opcode & BPF_MODE_MASK) !== BPF_ATOMIC) return both(dst | src, 0);
      if (insn.imm === BPF_CMPXCHG) return both(dst | src | 1, 1);
      return both(dst | src, (insn.imm & BPF_FETCH) === 0 ? 0 : src);
    }
    case BPF_JMP:
    case BPF_JMP32: {
      const operation = insn.opcode & BPF_OP_MASK;
      if (operation === BPF_JA) return both(0, 0);
      if (operation === BPF_EXIT) return both(1, 0);
      if (operation === BPF_CALL) {
        const count = insn.src === 0 && insn.imm !== 12 ? helperArity(insn.imm, planning) : 5;
        // A failed tail call leaves R0 alone.
        return both(((1 << count) - 1) << 1, insn.src === 0 && insn.imm === 12 ? 0 : 1);
      }
      return both(dst | ((insn.opcode & BPF_SRC_MASK) === BPF_X ? src : 0), 0);
    }
    default:
      return both(0, dst);
  }
}

function both(reads: number, writes: number): number {
  return reads | (writes << 16);
}

function liveness(input: AnalysisInput, successors: readonly (readonly number[])[]): Int32Array {
  const { blocks } = input.function;
  const reads = new Int32Array(blocks.length);
  const writes = new Int32Array(blocks.length);
  const predecessors: number[][] = blocks.map(() => []);
  blocks.forEach((block, index) => {
    for (const next of successors[index]!) predecessors[next]!.push(index);
    for (let slot = block.start; slot < block.end; slot++) {
      const insn = input.insns[slot]!;
      const masks = readsAndWrites(insn, input);
      reads[index]! |= masks & 0xffff & ~writes[index]!;
      writes[index]! |= masks >>> 16;
      if (insn.opcode === OP_LDDW) slot++;
    }
  });
  const live = reads.slice();
  const pending = blocks.map((_, index) => index);
  for (let index = pending.pop(); index !== undefined; index = pending.pop()) {
    let after = 0;
    for (const next of successors[index]!) after |= live[next]!;
    const now = reads[index]! | (after & ~writes[index]!);
    if (now === live[index]) continue;
    live[index] = now;
    pending.push(...predecessors[index]!);
  }
  return live;
}
