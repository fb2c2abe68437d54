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
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_SLOT, REDIRECT_IFINDEX } from '../../src/bpf/runtime/xdp-frame.js';
import { PRNG_INCREMENT, PRNG_MULTIPLIER } from '../../src/bpf/runtime/run-state.js';
import { XDP_ABORTED, XDP_REDIRECT } from '../../src/bpf/xdp.js';
import { MAX_TAIL_CALL_CNT } from '../../src/bpf/opcodes.js';
import { helperArity, planCall, writesProgramMemory, type CallPlan } from './call-plan.js';
import { callTarget } from './control-flow-graph.js';
import { constant, type KnownValue } from './known-value.js';
import { FRAME_STRIDE } from './program-table.js';
import { emitLookup, type KeyWord } from './inline-map-lookup.js';
import type { NodeEmitter } from './structured-control-flow.js';
import {
  emitAlu,
  emitAtomic,
  emitCondition,
  loadOpcode,
  storeOpcode,
  type Operands,
} from './translate-insn.js';
import {
  accessSize,
  aluResult,
  callResult,
  cellOf,
  copyState,
  loadResult,
  readCell,
  step,
  type AnalysisInput,
  type FunctionAnalysis,
  type ProgramState,
} from './value-analysis.js';
import { I32, I64, OP, type FunctionWriter } from './wasm-encoder.js';

/** Fixed addresses and function indices that translated code refers to. */
export interface CodeEnvironment {
  /** Address of the run state. */
  readonly runState: number;
  /** Addresses of the executor's own cells: see program-table.ts. */
  readonly tailCalls: number;
  readonly dynamicFrame: number;
  /** Index of the imported global that counts insns down, -1 without a limit. */
  readonly budget: number;
  readonly directory: { readonly address: number; readonly mask: number };
  /** Index of the imported function of a helper. */
  helper(id: number): number;
  /** Index of the wasm function for the BPF function at a slot. */
  localFunction(slot: number): number;
  /** `(id: i32) → i32`: table index of a program that is not in its own place of the directory, or 0. */
  readonly findProgram: number;
  /** `() → i32`: table index of what a tail call through a map that is not known in advance selects, or 0. */
  readonly resolveTailCall: number;
  /** Type index of a program's main function, for the table. */
  readonly mainType: number;
  /** `(address low, address high, size and write flag, insn)`: throws if the access is not allowed. */
  readonly checkAccess: number | undefined;
  /** `(insn)`: throws because the insn limit is used up; undefined where insns are not counted. */
  readonly limitReached: number | undefined;
}

/** How a function hands back its result. */
export type FunctionExit =
  /** Returns R0 as an i64. */
  | { readonly kind: 'return' }
  /** Hands the verdict to whoever inlined the function; control must leave. */
  | { readonly kind: 'inlined'; verdict(pushVerdict: () => void): void };

export interface TranslationOptions {
  readonly input: AnalysisInput;
  readonly analysis: FunctionAnalysis;
  readonly environment: CodeEnvironment;
  readonly out: FunctionWriter;
  readonly exit: FunctionExit;
  /** The local with the frame's low end, where frames are not at fixed addresses. */
  readonly frameLocal?: number | undefined;
  /** Leave out stores to stack cells that locals hold; see `Translation.readsStackMemory`. */
  readonly elideStackStores: boolean;
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

/** Bit in `checkAccess`'s third argument. */
export const WRITE_FLAG = 0x1_0000;

/**
 * Writes the code of one BPF function, block by block, as `emitStructured` asks for it. It walks each block with
 * the state that the analysis found, so that it knows how every operand is held.
 */
export class FunctionTranslator implements NodeEmitter, Operands, Translation {
  readonly out: FunctionWriter;
  readsStackMemory = false;
  #state: ProgramState = { registers: [], cells: new Map() };
  /** State behind each block that was written; what edges start from. */
  readonly #after: (ProgramState | undefined)[] = [];
  readonly #wordLocals = new Map<number, number>();
  readonly #wideLocals = new Map<number, number>();
  readonly #cellLocals = new Map<number, number>();
  readonly #wideCellLocals = new Map<number, number>();
  readonly #scratch = new Map<string, number>();

  constructor(readonly options: TranslationOptions) {
    this.out = options.out;
  }

  /** Moves the function's parameters, `[register, local, type]`, to where the first block expects them. */
  enter(parameters: readonly (readonly [register: number, local: number, type: number])[]): void {
    const entry = this.options.input.entry;
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
  }

  // What emitStructured asks for.

  body(node: number): void {
    const { input, analysis, environment } = this.options;
    const block = input.function.blocks[node]!;
    this.#state = copyState(analysis.before[node]!);
    if (environment.limitReached !== undefined) this.#countInsns(block.start, block.end);
    for (let slot = block.start; slot < block.end; slot++) {
      this.out.mark(slot);
      this.#insn(slot);
      step(input, slot, this.#state);
      if (input.insns[slot]!.opcode === OP_LDDW) slot++;
    }
    this.#after[node] = this.#state;
  }

  condition(node: number): void {
    const slot = this.options.input.function.blocks[node]!.end - 1;
    emitCondition(this, this.options.input.insns[slot]!);
  }

  hasEdgeCode(from: number, to: number): boolean {
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
    this.#convert(this.#after[from]!, to);
  }

  exit(_node: number): void {
    const { exit } = this.options;
    if (exit.kind === 'return') {
      this.pushWide(0);
      this.out.op(OP.return);
    } else {
      exit.verdict(() => this.pushWord(0));
    }
  }

  // How registers are pushed and set: what translate-insn.ts works with.

  known(register: number): KnownValue {
    return this.#state.registers[register]!;
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
    const { environment } = this.options;
    const base = this.known(register);
    if (environment.checkAccess !== undefined) {
      const address = this.scratch(I64, 'address');
      this.pushWide(register);
      this.out.i64(BigInt(off)).op(OP.i64_add).tee(address).op(OP.i32_wrap_i64);
      this.out.get(address).i64(32n).op(OP.i64_shr_u).op(OP.i32_wrap_i64);
      this.out.i32(size | (write ? WRITE_FLAG : 0)).i32(slot);
      this.out.call(environment.checkAccess).get(address).op(OP.i32_wrap_i64);
      return 0;
    }
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
      if ((live & (1 << r)) === 0 || !needsConversion(value, wanted)) continue;
      if (wanted.form === 'wide') this.#pushWide(r, value);
      else this.#pushWord(r, value);
      this.set(r, wanted);
    }
    for (const [index, wanted] of after.cells) {
      const value = before.cells.get(index)!;
      if (!needsConversion(value, wanted)) continue;
      this.#pushCell(index, value);
      this.out.set(this.#cellLocal(index, wanted));
    }
  }

  #pushCell(index: number, value: KnownValue): void {
    if (value.form === 'const') this.out.i32(Number(BigInt.asIntN(32, value.constant)));
    else this.out.get(this.#cellLocal(index, value));
  }

  #countInsns(start: number, end: number): void {
    const { environment, input } = this.options;
    let count = 0;
    for (let slot = start; slot < end; slot++) {
      if (input.insns[slot]!.opcode === OP_LDDW) slot++;
      count++;
    }
    const budget = this.scratch(I64, 'budget');
    this.out.globalGet(environment.budget).i64(BigInt(count)).op(OP.i64_sub).tee(budget);
    this.out.globalSet(environment.budget).get(budget).i64(0n).op(OP.i64_lt_s);
    this.out.if();
    this.out.i32(start).call(environment.limitReached!).op(OP.unreachable);
    this.out.end();
  }

  #insn(slot: number): void {
    const { insns } = this.options.input;
    const insn = insns[slot]!;
    switch (insn.opcode & BPF_CLASS_MASK) {
      case BPF_ALU:
      case BPF_ALU64:
        emitAlu(this, insn, aluResult(insn, this.#state.registers));
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

  #load(insn: Insn, slot: number): void {
    const { input } = this.options;
    const base = this.known(insn.src);
    const size = accessSize(insn);
    const result = loadResult(input, insn, this.#state);
    const opcode = loadOpcode(insn);
    if (opcode.signed === false) {
      const offset = cellOf(input, base, insn.off);
      if (offset !== undefined && readCell(this.#state, offset, size) !== undefined) {
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
    const value = this.#state.cells.get(index)!;
    if (size === 8 && value.form !== 'wide') {
      const upper = this.#state.cells.get(index + 1)!;
      this.#pushCell(index, value);
      if (result.form === 'wide') {
        this.out.op(OP.i64_extend_i32_u);
        this.#pushCell(index + 1, upper);
        this.out.op(OP.i64_extend_i32_u).i64(32n).op(OP.i64_shl).op(OP.i64_or);
      }
    } else {
      this.#pushCell(index, value);
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
      const held = this.#state.cells.get(index);
      const within = offset & 3;
      if (within + size > 4 || held === undefined || held.form === 'wide') return;
      if (held.form === 'const' && value.form === 'const') return;
      const mask = 2 ** (8 * size) - 1;
      this.#pushCell(index, held);
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

  #call(insn: Insn, slot: number): void {
    const { input, environment, frameLocal } = this.options;
    const plan = planCall(insn, this.#state.registers, input);
    const result = callResult(input, plan, this.#state);
    const { out } = this;
    switch (plan.kind) {
      case 'local':
        this.readsStackMemory = true;
        for (let r = 1; r <= 5; r++) this.pushWide(r);
        if (frameLocal !== undefined) out.get(frameLocal).i32(FRAME_STRIDE).op(OP.i32_add);
        out.call(environment.localFunction(callTarget(input.insns, slot)));
        this.set(0, result!);
        return;
      case 'lookup':
        this.#lookup(plan, result!);
        return;
      case 'time':
        out.i32(environment.runState).memory(OP.i64_load, RUN_STATE.now);
        this.set(0, result!);
        return;
      case 'cpu':
        out.i32(environment.runState).memory(OP.i32_load, RUN_STATE.cpu);
        this.set(0, result!);
        return;
      case 'random': {
        const next = this.scratch(I64, 'random');
        out.i32(environment.runState).i32(environment.runState).memory(OP.i64_load, RUN_STATE.prng);
        out.i64(PRNG_MULTIPLIER).op(OP.i64_mul).i64(PRNG_INCREMENT).op(OP.i64_add).tee(next);
        out.memory(OP.i64_store, RUN_STATE.prng);
        out.get(next).i64(32n).op(OP.i64_shr_u).op(OP.i32_wrap_i64);
        this.set(0, result!);
        return;
      }
      case 'redirect':
        this.#redirect(result!);
        return;
      case 'tail-call':
        this.#tailCall(plan);
        return;
      case 'helper':
        this.#helper(plan.id, result!);
    }
  }

  #helper(id: number, result: KnownValue): void {
    const { environment, input } = this.options;
    const { out } = this;
    for (let r = 1; r <= helperArity(id, input); r++) {
      if (this.known(r).stack) this.readsStackMemory = true;
      out.i32(environment.runState);
      this.pushWide(r);
      out.memory(OP.i64_store, RUN_STATE.r0 + 8 * r);
    }
    // A helper of unknown habits may follow a pointer that it finds in memory.
    if (writesProgramMemory(id, input)) this.readsStackMemory = true;
    out.call(environment.helper(id));
    if (result.form === 'const') return;
    out.i32(environment.runState);
    out.memory(result.form === 'word' ? OP.i32_load : OP.i64_load, RUN_STATE.r0);
    this.set(0, result);
  }

  #lookup(plan: CallPlan & { kind: 'lookup' }, result: KnownValue): void {
    const { input, environment } = this.options;
    const keySize = plan.map.attributes.keySize;
    if (result.form === 'const') return;
    const base = this.known(2);
    const keyWord = (index: number): KeyWord => {
      const size = Math.min(4, keySize - 4 * index);
      const offset = cellOf(input, base, 4 * index);
      const held = offset === undefined ? undefined : readCell(this.#state, offset, 4);
      if (held !== undefined && offset !== undefined && (offset & 3) === 0) {
        return {
          size,
          known: held,
          push: () => {
            this.#pushCell(offset >> 2, held);
            // What lies behind the key in the cell is not part of it.
            if (size < 4) this.out.i32(2 ** (8 * size) - 1).op(OP.i32_and);
          },
        };
      }
      if (base.stack) this.readsStackMemory = true;
      const load = (opcode: number, at: number): void => {
        if (base.form === 'const') this.out.i32(base.low + 4 * index + at).memory(opcode);
        else {
          this.pushWord(2);
          this.out.memory(opcode, 4 * index + at);
        }
      };
      return {
        size,
        known: undefined,
        push: () => {
          if (size === 4) load(OP.i32_load, 0);
          else if (size === 1) load(OP.i32_load8_u, 0);
          else load(OP.i32_load16_u, 0);
          if (size !== 3) return;
          load(OP.i32_load8_u, 2);
          this.out.i32(16).op(OP.i32_shl).op(OP.i32_or);
        },
      };
    };
    emitLookup({
      out: this.out,
      layout: plan.layout,
      keyWord,
      keySize,
      cpuAddress: environment.runState + RUN_STATE.cpu,
      scratch: (purpose) => this.scratch(I32, purpose),
    });
    this.set(0, result);
  }

  #redirect(result: KnownValue): void {
    const { out } = this;
    const frame = this.scratch(I32, 'frame');
    const ifindex = this.scratch(I32, 'ifindex');
    // R0 may not be written before its arguments are read, and XDP takes no flags.
    this.pushWord(1);
    out.set(ifindex);
    this.pushWide(2);
    out.op(OP.i64_eqz).if();
    out.i32(this.options.environment.runState).memory(OP.i32_load, RUN_STATE.context).tee(frame);
    out.i32(REDIRECT_IFINDEX).memory(OP.i32_store, FRAME_SLOT.redirectKind);
    out.get(frame).get(ifindex).memory(OP.i32_store, FRAME_SLOT.redirectTarget);
    out.get(frame).i32(0).memory(OP.i32_store, FRAME_SLOT.redirectMap);
    out.get(frame).i32(0).memory(OP.i32_store, FRAME_SLOT.redirectFlags);
    out.i32(XDP_REDIRECT);
    this.set(0, result);
    out.else().i32(XDP_ABORTED);
    this.set(0, result);
    out.end();
  }

  #tailCall(plan: CallPlan & { kind: 'tail-call' }): void {
    const { environment, exit, frameLocal } = this.options;
    const { out } = this;
    const target = this.scratch(I32, 'target');
    const count = this.scratch(I32, 'tail calls');
    const miss = out.block();
    out.i32(environment.tailCalls).memory(OP.i32_load).tee(count);
    out.i32(MAX_TAIL_CALL_CNT).op(OP.i32_ge_u).brIf(miss);
    if (plan.layout === undefined) {
      for (let r = 1; r <= 3; r++) {
        out.i32(environment.runState);
        this.pushWide(r);
        out.memory(OP.i64_store, 8 * r);
      }
      out.call(environment.resolveTailCall).tee(target).op(OP.i32_eqz).brIf(miss);
    } else {
      const index = this.scratch(I32, 'index');
      const program = this.scratch(I32, 'program');
      const entry = this.scratch(I32, 'entry');
      // The helper takes the index as a u32.
      this.pushWord(3);
      out.tee(index).i32(plan.layout.maxEntries).op(OP.i32_ge_u).brIf(miss);
      out.get(index).i32(2).op(OP.i32_shl).memory(OP.i32_load, plan.layout.slots);
      out.tee(program).op(OP.i32_eqz).brIf(miss);
      const { address, mask } = environment.directory;
      out.get(program).i32(mask).op(OP.i32_and).i32(3).op(OP.i32_shl).tee(entry);
      out.memory(OP.i32_load, address).get(program).op(OP.i32_eq).if();
      out
        .get(entry)
        .memory(OP.i32_load, address + 4)
        .set(target);
      out.else();
      out.get(program).call(environment.findProgram).tee(target).op(OP.i32_eqz).brIf(miss);
      out.end();
    }
    out.i32(environment.tailCalls).get(count).i32(1).op(OP.i32_add).memory(OP.i32_store);
    if (frameLocal !== undefined) {
      // This frame is dead; the target may have it.
      out.i32(environment.dynamicFrame).get(frameLocal).memory(OP.i32_store);
    }
    this.pushWide(1);
    out.i64(0n).get(target);
    if (exit.kind === 'return') {
      out.returnCallIndirect(environment.mainType);
    } else {
      const result = this.scratch(I64, 'tail result');
      out.callIndirect(environment.mainType).set(result);
      exit.verdict(() => out.get(result).op(OP.i32_wrap_i64));
    }
    out.end();
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
