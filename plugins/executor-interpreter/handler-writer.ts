import { I32, I64, OP, type BlockLabel, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';
import { INSN, MACHINE } from './machine-layout.js';

/** The operand of an insn that is what the one before has as dst. */
export type Sharing = 'dst' | 'src';

/** Where the run loop goes on when an insn does not lead to the next. */
export interface LoopLabels {
  /** The next insn: the one at `pc`. */
  readonly next: BlockLabel;
  /** To JavaScript, for the insn at `pc`. */
  readonly leave: BlockLabel;
  /** A jump back to `pc` beyond the slice. */
  readonly sliced: BlockLabel;
  /** The end of the frame at the base depth, at `pc`. */
  readonly exit: BlockLabel;
  /** A lookup in a map, and an update of one, at `pc`: code that is not repeated wherever insns run at once. */
  readonly lookup: BlockLabel;
  readonly update: BlockLabel;
}

/** Locals of the run loop. */
export class LoopLocals {
  readonly machine = 0;
  readonly pc = 1;
  /** i64: `pc` plus this is what was executed, in EXECUTED_UNIT. */
  readonly count: number;
  /** i64: the range that `MACHINE.packetStart` begins, because most accesses are to the packet. */
  readonly packetStart: number;
  readonly packetEnd: number;
  readonly #scratch = new Map<string, number>();

  constructor(readonly out: FunctionWriter) {
    this.count = out.local(I64);
    this.packetStart = out.local(I64);
    this.packetEnd = out.local(I64);
  }

  /** An i32 local for a purpose, within one handler. */
  i32(purpose: string): number {
    return this.#local(purpose, I32);
  }

  i64(purpose: string): number {
    return this.#local(purpose, I64);
  }

  #local(purpose: string, type: number): number {
    const key = `${type} ${purpose}`;
    let local = this.#scratch.get(key);
    if (local === undefined) this.#scratch.set(key, (local = this.out.local(type)));
    return local;
  }
}

/**
 * Writes what an op does in the run loop. `place` is which of the insns that run at once the code is for: their words lie one
 * behind the other from `pc` on.
 */
export class HandlerWriter {
  place = 0;
  /** The locals `dst` and `result` are address and value of the register that the insn before has as dst. */
  #resultKnown = false;
  /** Which operand of the insn is that register. */
  #sharing: Sharing | undefined;

  constructor(
    readonly out: FunctionWriter,
    readonly locals: LoopLocals,
    readonly labels: LoopLabels,
  ) {}

  /** Pushes a field of the insn. */
  field(offset: number, load: number = OP.i32_load): this {
    this.out.get(this.locals.pc).memory(load, INSN.size * this.place + offset);
    return this;
  }

  /** Begins with the first of the insns that run at once. */
  first(): void {
    this.place = 0;
    this.#resultKnown = false;
    this.#sharing = undefined;
  }

  /** Goes on to the next, behind one of so many slots. */
  next(slots: number, sharing: Sharing | undefined): void {
    this.place += slots;
    this.#sharing = this.#resultKnown ? sharing : undefined;
    this.#resultKnown = false;
  }

  /** The insn changes no register, so that the next may share its dst where it does itself. */
  keepResult(): void {
    this.#resultKnown = this.#sharing === 'dst';
  }

  /** Pushes dst and src. */
  dst64(): this {
    return this.#load('dst', OP.i64_load);
  }

  src64(): this {
    return this.#load('src', OP.i64_load);
  }

  /** Pushes the lower halves. */
  dst32(): this {
    return this.#load('dst', OP.i32_load);
  }

  src32(): this {
    return this.#load('src', OP.i32_load);
  }

  #load(operand: Sharing, load: number): this {
    const { out, locals } = this;
    if (this.#sharing === operand) {
      out.get(locals.i64('result'));
      if (load === OP.i32_load) out.op(OP.i32_wrap_i64);
    } else {
      this.field(INSN[operand]).out.memory(load);
    }
    return this;
  }

  /** Pushes the address of dst, which is also left in a local. */
  #dstAddress(): number {
    const at = this.locals.i32('dst');
    if (this.#sharing === 'dst') this.out.get(at);
    else this.field(INSN.dst).out.tee(at);
    return at;
  }

  /** Pops dst's address and value. */
  #store(): void {
    this.out.tee(this.locals.i64('result')).memory(OP.i64_store);
    this.#resultKnown = true;
  }

  /** Pushes the operand, sign-extended. */
  operand64(): this {
    return this.field(INSN.operand, OP.i64_load32_s);
  }

  /** dst := what `combine` leaves in the place of its value on the stack, an i64. */
  change64(combine: () => void): void {
    const at = this.#dstAddress();
    if (this.#sharing === 'dst') this.dst64();
    else this.out.get(at).memory(OP.i64_load);
    combine();
    this.#store();
  }

  /** The same of its lower half, an i32; zero-extended. */
  change32(combine: () => void): void {
    const at = this.#dstAddress();
    if (this.#sharing === 'dst') this.dst32();
    else this.out.get(at).memory(OP.i32_load);
    combine();
    this.out.op(OP.i64_extend_i32_u);
    this.#store();
  }

  /** dst := what `push` leaves on the stack, an i64. */
  assign64(push: () => void): void {
    this.#dstAddress();
    push();
    this.#store();
  }

  /** dst := what `push` leaves on the stack, an i32, zero-extended. */
  assign32(push: () => void): void {
    this.assign64(() => {
      push();
      this.out.op(OP.i64_extend_i32_u);
    });
  }

  /** Moves `pc` to an insn of those that run at once, or behind them. */
  moveTo(place: number): void {
    const { out, locals } = this;
    if (place > 0)
      out
        .get(locals.pc)
        .i32(INSN.size * place)
        .op(OP.i32_add)
        .set(locals.pc);
  }

  /** Goes on for the insn somewhere else in the loop. */
  goTo(label: keyof LoopLabels): void {
    this.moveTo(this.place);
    this.out.br(this.labels[label]);
  }

  /** Hands the insn over to JavaScript. */
  leave(): void {
    this.goTo('leave');
  }

  /** The same where the condition on the stack holds. */
  leaveIf(): void {
    this.out.if();
    this.leave();
    this.out.end();
  }

  exit(): void {
    const { out, locals } = this;
    out.get(locals.machine).memory(OP.i32_load, MACHINE.depth);
    out.get(locals.machine).memory(OP.i32_load, MACHINE.baseDepth).op(OP.i32_ne);
    this.leaveIf();
    this.goTo('exit');
  }

  /** Jumps to where the insn says. Jumps back end the slice when it is used up. */
  jump(): void {
    const { out, locals, labels } = this;
    const distance = locals.i32('distance');
    this.field(INSN.operand).out.set(distance);
    out.get(locals.count).get(distance).op(OP.i64_extend_i32_s).op(OP.i64_sub).set(locals.count);
    this.moveTo(this.place + 1);
    out.get(locals.pc).get(distance).op(OP.i32_add).set(locals.pc);
    out.get(distance).i32(0).op(OP.i32_ge_s).brIf(labels.next);
    this.executed();
    out.get(locals.machine).memory(OP.i64_load, MACHINE.sliceEnd).op(OP.i64_le_s).brIf(labels.next);
    out.br(labels.sliced);
  }

  /** Pushes what was executed before the insn at `pc`. */
  executed(): void {
    const { out, locals } = this;
    out.get(locals.count).get(locals.pc).op(OP.i64_extend_i32_u).op(OP.i64_add);
  }

  /**
   * Sees that the i64 in `address` is the address of `size` bytes that may be read, or written: those of the packet, or of the
   * object that was read, or written, last. JavaScript judges all others, and has this insn tried again where they are right.
   */
  check(address: number, size: number, write: boolean): void {
    const { out } = this;
    const { machine, packetStart, packetEnd } = this.locals;
    const range = write ? MACHINE.writeStart : MACHINE.readStart;
    const allowed = out.block();
    this.#allowIn(
      () => out.get(packetStart),
      () => out.get(packetEnd),
      address,
      size,
      allowed,
    );
    this.#allowIn(
      () => out.get(machine).memory(OP.i64_load, range),
      () => out.get(machine).memory(OP.i64_load, range + 8),
      address,
      size,
      allowed,
    );
    this.leave();
    out.end();
  }

  #allowIn(
    pushStart: () => void,
    pushEnd: () => void,
    address: number,
    size: number,
    allowed: BlockLabel,
  ): void {
    const { out } = this;
    const outside = out.block();
    out.get(address);
    pushStart();
    out.op(OP.i64_lt_s).brIf(outside);
    out.get(address);
    pushEnd();
    out.i64(BigInt(size)).op(OP.i64_sub).op(OP.i64_le_s).brIf(allowed);
    out.end();
  }
}
