import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_JMP,
  BPF_JMP32,
  BPF_LDX,
  BPF_MODE_MASK,
  BPF_OP_MASK,
  BPF_ST,
  BPF_STX,
  OP_LDDW,
  REGISTER_COUNT,
} from '../../src/bpf/opcodes.js';
import { planCall } from './call-plan.js';
import { constant, type KnownValue } from './known-value.js';
import { emitCall, type CallSite, type CallSiteOptions } from './translate-call.js';
import { AccessChecks, quickPlan } from './access-check.js';
import { emitCharge } from './code-environment.js';
import type { InsnCharges } from './insn-charges.js';
import type { FlowShape, NodeEmitter } from './structured-control-flow.js';
import { addCall, addInsn, emitCount, NO_WORK, type WorkCount } from './work-count.js';
import { emitAlu, emitAtomic, emitCondition, loadOpcode, storeOpcode } from './translate-insn.js';
import {
  accessSize,
  aluResult,
  callResult,
  cellOf,
  copyState,
  loadResult,
  readCell,
  step,
  type FunctionAnalysis,
  type ProgramState,
} from './value-analysis.js';
import { I32, I64, OP, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';

export interface TranslationOptions extends CallSiteOptions {
  readonly analysis: FunctionAnalysis;
  readonly charges: InsnCharges;
  readonly shape: FlowShape;
  readonly out: FunctionWriter;
  /** Leave out stores to stack cells that locals hold; see `Translation.readsStackMemory`. */
  readonly elideStackStores: boolean;
  /** The function's own stack frame, unless it may lie anywhere. */
  readonly stackFrame: { readonly low: number; readonly high: number } | undefined;
  /** What is added to a slot to make it a mark of `out`. */
  readonly firstMark: number;
  /** What was done before and is to be written down with what is done here. */
  readonly workBefore: WorkCount;
}

/** What came of writing a function. */
export interface Translation {
  readonly out: FunctionWriter;
  /**
   * The code reads stack memory that stores must have reached. A translation that left stores out and says so is
   * void.
   */
  readonly readsStackMemory: boolean;
}

/**
 * Writes the code of one BPF function, block by block, as `emitStructured` asks for it. It walks each block with
 * the state that the analysis found, so that it knows how every operand is held.
 */
export class FunctionTranslator implements NodeEmitter, CallSite, Translation {
  readonly out: FunctionWriter;
  readsStackMemory = false;
  state: ProgramState = { registers: [], cells: new Map() };
  /** State behind each block that was written; what edges start from. */
  readonly #after: (ProgramState | undefined)[] = [];
  /** What was done up to here and is not in the counters; where nothing is counted, it stays NO_WORK. */
  #work = NO_WORK;
  /** The same behind each block that was written. */
  readonly #workAfter: WorkCount[] = [];
  /** Insns of ways that have met others since the counters were added to; undefined where none do. */
  readonly #insnsLocal: number | undefined;
  readonly #wordLocals = new Map<number, number>();
  readonly #wideLocals = new Map<number, number>();
  readonly #cellLocals = new Map<number, number>();
  readonly #wideCellLocals = new Map<number, number>();
  readonly #scratch = new Map<string, number>();
  readonly #options: TranslationOptions;
  readonly #checks: AccessChecks | undefined;
  /** Whether code is written that is run where all that it accesses has been checked. */
  #quick = false;

  constructor(options: TranslationOptions) {
    this.#options = options;
    this.out = options.out;
    const { environment, shape } = options;
    const counted = environment.workCounters !== undefined;
    if (counted && shape.nodes.some((node) => this.#isMeeting(node))) this.#insnsLocal = this.out.local(I32);
    const { access } = environment;
    if (access !== undefined) {
      const { input, analysis, stackFrame } = options;
      const { runState } = environment;
      this.#checks = new AccessChecks(this, { input, analysis, places: access, runState, stackFrame });
    }
  }

  get options(): TranslationOptions {
    if (!this.#quick) return this.#options;
    const { input, environment } = this.#options;
    return {
      ...this.#options,
      input: { ...input, checked: false },
      environment: { ...environment, access: undefined },
    };
  }

  /** Moves the function's parameters, `[register, local, type]`, to where the first block expects them. */
  enter(parameters: readonly (readonly [register: number, local: number, type: number])[]): void {
    const entry = this.options.input.entry;
    // The code may stand in a loop of the caller's.
    if (this.#insnsLocal !== undefined) this.out.i32(0).set(this.#insnsLocal);
    const { environment, workBefore } = this.options;
    if (environment.workCounters !== undefined && this.#isMeeting(0))
      emitCount(this.out, environment.workCounters, workBefore);
    for (const [register, local, type] of parameters) {
      const value = entry[register]!;
      if (value.form === 'const') continue;
      if (type === I64 && value.form === 'wide') {
        // A parameter is a local of its own; the register may simply live there.
        this.#wideLocals.set(register, local);
        continue;
      }
      this.out.get(local);
      if (type === I64 && value.form === 'word') this.out.op(OP.i32_wrap_i64);
      if (type === I32 && value.form === 'wide') this.out.op(OP.i64_extend_i32_u);
      this.set(register, value);
    }
    this.#convert({ registers: [...entry], cells: new Map() }, 0);
    this.#checks?.enter();
  }

  // What emitStructured asks for.

  body(node: number): void {
    const { options } = this;
    const { input, analysis, charges, environment } = options;
    const block = input.function.blocks[node]!;
    this.state = copyState(analysis.before[node]!);
    emitCharge(
      this.out,
      environment,
      charges.insns[node]!,
      charges.checked[node] === 1 ? { slot: block.start } : undefined,
    );
    const before = this.#isMeeting(node) ? undefined : options.shape.predecessors[node]![0];
    if (before !== undefined) this.#work = this.#workAfter[before]!;
    else this.#work = node === 0 && !this.#isMeeting(0) ? options.workBefore : NO_WORK;
    this.#checks?.startBlock(node);
    for (let slot = block.start; slot < block.end; slot++) {
      this.mark(slot);
      if (environment.workCounters !== undefined) this.#work = addInsn(this.#work);
      this.#insn(slot);
      this.#checks?.step(slot);
      step(input, slot, this.state);
      if (input.insns[slot]!.opcode === OP_LDDW) slot++;
    }
    this.#after[node] = this.state;
    this.#workAfter[node] = this.#work;
  }

  condition(node: number): void {
    const slot = this.options.input.function.blocks[node]!.end - 1;
    emitCondition(this, this.options.input.insns[slot]!);
  }

  hasEdgeCode(from: number, to: number): boolean {
    if (this.#workAfter[from] !== NO_WORK && this.#isMeeting(to)) return true;
    const before = this.#after[from]!;
    const after = this.options.analysis.before[to]!;
    const live = this.options.analysis.live[to]!;
    for (let r = 0; r < REGISTER_COUNT; r++) {
      if ((live & (1 << r)) !== 0 && needsConversion(before.registers[r]!, after.registers[r]!)) return true;
    }
    for (const [index, value] of after.cells) {
      if (needsConversion(before.cells.get(index)!, value)) return true;
    }
    return false;
  }

  edge(from: number, to: number): void {
    if (this.#isMeeting(to)) this.#countEdge(from, to);
    this.#convert(this.#after[from]!, to);
  }

  exit(_node: number): void {
    const { exit } = this.options;
    this.emitCount();
    if (exit.kind === 'return') {
      this.pushWide(0);
      this.out.op(OP.return);
    } else {
      exit.verdict(() => this.pushWord(0));
    }
  }

  mark(slot: number): void {
    this.out.mark(this.options.firstMark + slot);
  }

  // How work is counted.

  countCall(helper: number, bytes: number): void {
    const { workCounters } = this.options.environment;
    if (workCounters === undefined) return;
    // The call is counted where the helper is called instead, which counts the bytes itself.
    if (this.#quick) emitCount(this.out, workCounters, { ...NO_WORK, bytes });
    else this.#work = addCall(this.#work, helper, bytes);
  }

  emitCount(): void {
    this.#emitCount(this.#work);
  }

  handOnWork(): WorkCount {
    if (this.#insnsLocal === undefined) return this.#work;
    this.emitCount();
    return NO_WORK;
  }

  #emitCount(work: WorkCount): void {
    const { workCounters } = this.options.environment;
    if (workCounters !== undefined) emitCount(this.out, workCounters, work, this.#insnsLocal);
  }

  /**
   * Where a way has no other to meet, its count goes on with it. Where it does, insns are added in a local, and to the
   * counters only where the function is left or a loop goes round, so that little is missing when a run is ended there.
   */
  #countEdge(from: number, to: number): void {
    const { out, options } = this;
    const work = this.#workAfter[from]!;
    const local = this.#insnsLocal;
    const { workCounters } = options.environment;
    if (workCounters === undefined || local === undefined) return;
    const { order } = options.shape;
    if (order[to]! <= order[from]!) {
      this.#emitCount(work);
      out.i32(0).set(local);
    } else {
      out.get(local).i32(work.insns).op(OP.i32_add).set(local);
      emitCount(out, workCounters, { ...work, insns: 0 });
    }
  }

  /** Whether more ways than one lead to a node: one of them to the entry is the call of the function. */
  #isMeeting(node: number): boolean {
    return this.options.shape.predecessors[node]!.length + (node === 0 ? 1 : 0) > 1;
  }

  // How registers are pushed and set: what translate-insn.ts works with.

  known(register: number): KnownValue {
    return this.state.registers[register]!;
  }

  pushWord(register: number): void {
    this.#pushWord(register, this.known(register));
  }

  pushWide(register: number): void {
    this.#pushWide(register, this.known(register));
  }

  pushConstantOrRegister(register: number | undefined, value: KnownValue, wide: boolean): void {
    if (value.form === 'const') {
      if (wide) this.out.i64(value.constant);
      else this.out.i32(Number(BigInt.asIntN(32, value.constant)));
    } else if (wide) {
      this.#pushWide(register!, value);
    } else {
      this.#pushWord(register!, value);
    }
  }

  /** Pops what is on the stack, an i32 for a word and an i64 for a wide value. Not for a constant. */
  set(register: number, value: KnownValue): void {
    this.out.set(this.#local(register, value));
  }

  scratch(type: number, purpose: string): number {
    const key = `${type} ${purpose}`;
    let local = this.#scratch.get(key);
    if (local === undefined) {
      local = this.out.local(type);
      this.#scratch.set(key, local);
    }
    return local;
  }

  /**
   * Pushes the i32 that, with the returned constant offset, makes the address of `register + off`; checks the
   * access first in a checked build.
   */
  pushAddress(register: number, off: number, size: number, write: boolean, slot: number): number {
    if (this.#checks !== undefined && !this.#quick)
      return this.#checks.pushAddress(register, off, size, write, slot);
    const base = this.known(register);
    if (base.form === 'const') {
      this.out.i32(Number(BigInt.asIntN(32, base.constant + BigInt(off))));
      return 0;
    }
    this.#pushWord(register, base);
    // The format's offset is unsigned and added without wrapping: only an offset that adds up is one.
    if (off >= 0) return off;
    this.out.i32(off).op(OP.i32_add);
    return 0;
  }

  #pushWord(register: number, value: KnownValue): void {
    if (value.form === 'const') {
      this.out.i32(Number(BigInt.asIntN(32, value.constant)));
    } else {
      this.out.get(this.#local(register, value));
      if (value.form === 'wide') this.out.op(OP.i32_wrap_i64);
    }
  }

  #pushWide(register: number, value: KnownValue): void {
    if (value.form === 'const') {
      this.out.i64(value.constant);
    } else {
      this.out.get(this.#local(register, value));
      if (value.form === 'word') this.out.op(OP.i64_extend_i32_u);
    }
  }

  #local(register: number, value: KnownValue): number {
    return value.form === 'wide'
      ? localIn(this.#wideLocals, register, this.out, I64)
      : localIn(this.#wordLocals, register, this.out, I32);
  }

  #cellLocal(index: number, value: KnownValue): number {
    return value.form === 'wide'
      ? localIn(this.#wideCellLocals, index, this.out, I64)
      : localIn(this.#cellLocals, index, this.out, I32);
  }

  /** Brings what is held before block `to` into the form it expects. */
  #convert(before: ProgramState, to: number): void {
    const after = this.options.analysis.before[to]!;
    const live = this.options.analysis.live[to]!;
    for (let r = 0; r < REGISTER_COUNT; r++) {
      const value = before.registers[r]!;
      const wanted = after.registers[r]!;
      if ((live & (1 << r)) !== 0) this.#hold(r, value, wanted);
    }
    for (const [index, wanted] of after.cells) {
      const value = before.cells.get(index)!;
      if (!needsConversion(value, wanted)) continue;
      this.pushCell(index, value);
      this.out.set(this.#cellLocal(index, wanted));
    }
  }

  /** Brings a register that is held as one value says into the form of another. */
  #hold(register: number, value: KnownValue, wanted: KnownValue): void {
    if (!needsConversion(value, wanted)) return;
    if (wanted.form === 'wide') this.#pushWide(register, value);
    else this.#pushWord(register, value);
    this.set(register, wanted);
  }

  pushCell(index: number, value: KnownValue): void {
    if (value.form === 'const') this.out.i32(Number(BigInt.asIntN(32, value.constant)));
    else this.out.get(this.#cellLocal(index, value));
  }

  #insn(slot: number): void {
    const { insns } = this.options.input;
    const insn = insns[slot]!;
    switch (insn.opcode & BPF_CLASS_MASK) {
      case BPF_ALU:
      case BPF_ALU64:
        emitAlu(this, insn, aluResult(insn, this.state.registers));
        return;
      case BPF_LDX:
        this.#load(insn, slot);
        return;
      case BPF_ST:
        this.#store(insn, slot, undefined, constant(BigInt(insn.imm)));
        return;
      case BPF_STX:
        if ((insn.opcode & BPF_MODE_MASK) !== BPF_ATOMIC) {
          this.#store(insn, slot, insn.src, this.known(insn.src));
        } else {
          if (
            cellOf(this.options.input, this.known(insn.dst), insn.off) !== undefined ||
            this.known(insn.dst).stack
          ) {
            this.readsStackMemory = true;
          }
          this.#noteEscape(this.known(insn.src));
          emitAtomic(this, insn, slot);
        }
        return;
      case BPF_JMP:
      case BPF_JMP32:
        // Conditions are written by `condition`, returns by `exit`.
        if ((insn.opcode & BPF_OP_MASK) === BPF_CALL) this.#call(insn, slot);
        return;
      default:
        // `lddw`: its value is a constant and needs no code, but for one that no constant holds.
        return;
    }
  }

  #call(insn: Insn, slot: number): void {
    const { input } = this.#options;
    const checks = this.#checks;
    const { registers } = this.state;
    if (checks === undefined) {
      emitCall(this, insn, slot);
      return;
    }
    const plan = planCall(insn, registers, input);
    const result = callResult(input, plan, this.state);
    const quick = quickPlan(insn, registers, input);
    const guarded = quick !== undefined && checks.pushMayInline(quick);
    if (guarded) {
      this.out.if();
      this.#quick = true;
      emitCall(this, insn, slot);
      this.#quick = false;
      this.#hold(0, callResult({ ...input, checked: false }, quick, this.state)!, result!);
      checks.found(slot, result!, false);
      this.out.else();
    }
    emitCall(this, insn, slot);
    if (plan.kind === 'helper' || plan.kind === 'local') checks.called();
    if (result !== undefined) checks.found(slot, result, true);
    if (guarded) this.out.end();
  }

  #load(insn: Insn, slot: number): void {
    const { input } = this.options;
    const base = this.known(insn.src);
    const size = accessSize(insn);
    const result = loadResult(input, insn, this.state);
    const opcode = loadOpcode(insn);
    if (opcode.signed === false) {
      const offset = cellOf(input, base, insn.off);
      if (offset !== undefined && readCell(this.state, offset, size) !== undefined) {
        this.#loadCell(insn.dst, offset, size, result);
        return;
      }
    }
    if (base.stack) this.readsStackMemory = true;
    const offset = this.pushAddress(insn.src, insn.off, size, false, slot);
    this.out.memory(opcode.opcode, offset);
    this.set(insn.dst, result);
  }

  /** A load that locals answer. */
  #loadCell(register: number, offset: number, size: number, result: KnownValue): void {
    if (result.form === 'const') return;
    const index = offset >> 2;
    const value = this.state.cells.get(index)!;
    if (size === 8 && value.form !== 'wide') {
      const upper = this.state.cells.get(index + 1)!;
      this.pushCell(index, value);
      if (result.form === 'wide') {
        this.out.op(OP.i64_extend_i32_u);
        this.pushCell(index + 1, upper);
        this.out.op(OP.i64_extend_i32_u).i64(32n).op(OP.i64_shl).op(OP.i64_or);
      }
    } else {
      this.pushCell(index, value);
      const shift = 8 * (offset & 3);
      if (shift > 0) this.out.i32(shift).op(OP.i32_shr_u);
      if (size < 4 && shift + 8 * size < 32 && value.high >= 2 ** (8 * size)) {
        this.out.i32(2 ** (8 * size) - 1).op(OP.i32_and);
      }
    }
    this.set(register, result);
  }

  #store(insn: Insn, slot: number, register: number | undefined, value: KnownValue): void {
    const { input, elideStackStores } = this.options;
    const size = accessSize(insn);
    const base = this.known(insn.dst);
    const offset = cellOf(input, base, insn.off);
    this.#noteEscape(value);
    if (offset === undefined || !elideStackStores) {
      const at = this.pushAddress(insn.dst, insn.off, size, true, slot);
      this.pushConstantOrRegister(register, value, size === 8);
      this.out.memory(storeOpcode(insn), at);
    }
    if (offset !== undefined) this.#storeCell(offset, size, register, value);
  }

  /** Keeps in step the locals that stand for the stack cells a store writes. */
  #storeCell(offset: number, size: number, register: number | undefined, value: KnownValue): void {
    const index = offset >> 2;
    if (size < 4) {
      const held = this.state.cells.get(index);
      const within = offset & 3;
      if (within + size > 4 || held === undefined || held.form === 'wide') return;
      if (held.form === 'const' && value.form === 'const') return;
      const mask = 2 ** (8 * size) - 1;
      this.pushCell(index, held);
      this.out.i32(~(mask << (8 * within))).op(OP.i32_and);
      this.pushConstantOrRegister(register, value, false);
      this.out.i32(mask).op(OP.i32_and);
      if (within > 0) this.out.i32(8 * within).op(OP.i32_shl);
      this.out.op(OP.i32_or).set(this.#cellLocal(index, { ...held, form: 'word' }));
      return;
    }
    if ((offset & 3) !== 0 || value.form === 'const') return;
    if (size === 8 && value.form === 'wide') {
      this.#pushWide(register!, value);
      this.out.set(this.#cellLocal(index, value));
    } else {
      this.#pushWord(register!, value);
      this.out.set(this.#cellLocal(index, { ...value, form: 'word' }));
    }
  }

  /** A pointer into the stack that is stored may be followed by anyone. */
  #noteEscape(value: KnownValue): void {
    if (value.stack && this.options.input.frame !== undefined) this.readsStackMemory = true;
  }
}

/** Whether a value must be moved on the way to where `wanted` is expected. */
function needsConversion(value: KnownValue, wanted: KnownValue): boolean {
  return wanted.form !== 'const' && value.form !== wanted.form;
}

function localIn(locals: Map<number, number>, key: number, out: FunctionWriter, type: number): number {
  let local = locals.get(key);
  if (local === undefined) {
    local = out.local(type);
    locals.set(key, local);
  }
  return local;
}
