/**
 * Writer of the WebAssembly binary format (core specification, chapter 5): bytes, LEB128 numbers, function
 * bodies with labels, and the sections of a module. It knows nothing of BPF.
 */

/** Value types and the empty block type (5.3.1). */
export const I32 = 0x7f;
export const I64 = 0x7e;
const FUNCREF = 0x70;
const EMPTY_BLOCK = 0x40;

/** Instructions without immediates, by their name in the text format, and those with a memory argument. */
export const OP = {
  unreachable: 0x00,
  return: 0x0f,
  drop: 0x1a,
  select: 0x1b,
  i32_load: 0x28,
  i64_load: 0x29,
  f64_load: 0x2b,
  i32_load8_s: 0x2c,
  i32_load8_u: 0x2d,
  i32_load16_s: 0x2e,
  i32_load16_u: 0x2f,
  i64_load8_s: 0x30,
  i64_load8_u: 0x31,
  i64_load16_s: 0x32,
  i64_load16_u: 0x33,
  i64_load32_s: 0x34,
  i64_load32_u: 0x35,
  i32_store: 0x36,
  i64_store: 0x37,
  f64_store: 0x39,
  i32_store8: 0x3a,
  i32_store16: 0x3b,
  i64_store8: 0x3c,
  i64_store16: 0x3d,
  i64_store32: 0x3e,
  i32_eqz: 0x45,
  i32_eq: 0x46,
  i32_ne: 0x47,
  i32_lt_s: 0x48,
  i32_lt_u: 0x49,
  i32_gt_s: 0x4a,
  i32_gt_u: 0x4b,
  i32_le_s: 0x4c,
  i32_le_u: 0x4d,
  i32_ge_s: 0x4e,
  i32_ge_u: 0x4f,
  i64_eqz: 0x50,
  i64_eq: 0x51,
  i64_ne: 0x52,
  i64_lt_s: 0x53,
  i64_lt_u: 0x54,
  i64_gt_s: 0x55,
  i64_gt_u: 0x56,
  i64_le_s: 0x57,
  i64_le_u: 0x58,
  i64_ge_s: 0x59,
  i64_ge_u: 0x5a,
  i32_add: 0x6a,
  i32_sub: 0x6b,
  i32_mul: 0x6c,
  i32_div_s: 0x6d,
  i32_div_u: 0x6e,
  i32_rem_s: 0x6f,
  i32_rem_u: 0x70,
  i32_and: 0x71,
  i32_or: 0x72,
  i32_xor: 0x73,
  i32_shl: 0x74,
  i32_shr_s: 0x75,
  i32_shr_u: 0x76,
  i32_rotl: 0x77,
  i64_add: 0x7c,
  i64_sub: 0x7d,
  i64_mul: 0x7e,
  i64_div_s: 0x7f,
  i64_div_u: 0x80,
  i64_rem_s: 0x81,
  i64_rem_u: 0x82,
  i64_and: 0x83,
  i64_or: 0x84,
  i64_xor: 0x85,
  i64_shl: 0x86,
  i64_shr_s: 0x87,
  i64_shr_u: 0x88,
  i64_rotl: 0x89,
  i32_wrap_i64: 0xa7,
  f64_add: 0xa0,
  i64_extend_i32_s: 0xac,
  i64_extend_i32_u: 0xad,
  f64_convert_i32_u: 0xb8,
  i32_extend8_s: 0xc0,
  i32_extend16_s: 0xc1,
  i64_extend8_s: 0xc2,
  i64_extend16_s: 0xc3,
  i64_extend32_s: 0xc4,
} as const;

/** A growing byte string. */
export class ByteWriter {
  #bytes = new Uint8Array(256);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The bytes so far; valid until the next write. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  byte(value: number): this {
    if (this.#length === this.#bytes.length) this.#grow(1);
    this.#bytes[this.#length++] = value;
    return this;
  }

  raw(bytes: Uint8Array | readonly number[]): this {
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** Unsigned LEB128 of a 32-bit number. */
  u32(value: number): this {
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    return this.byte(rest);
  }

  /** Signed LEB128 of a 32-bit number. */
  s32(value: number): this {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  /** Signed LEB128 of a 64-bit number; the value is taken modulo 2^64. */
  s64(value: bigint): this {
    let rest = BigInt.asIntN(64, value);
    if (rest === BigInt.asIntN(32, rest)) return this.s32(Number(rest));
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  /** A name: its length in bytes, then UTF-8. */
  name(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u32(bytes.length).raw(bytes);
  }

  #grow(by: number): void {
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + by));
    larger.set(this.bytes);
    this.#bytes = larger;
  }
}

/** A label to branch to: how many blocks were open when it was made. */
export type BlockLabel = number;

/**
 * The body of one function. Labels are absolute, so that code that is nested by someone else can still name
 * its targets; `br` turns them into the format's relative depths.
 */
export class FunctionWriter {
  readonly code = new ByteWriter();
  /** `[offset in code, mark]` pairs, ascending: which source position a trap belongs to. */
  readonly marks: number[] = [];
  readonly #locals: number[] = [];
  readonly #parameters: number;
  #depth = 0;

  constructor(readonly type: FunctionType) {
    this.#parameters = type.parameters.length;
  }

  get locals(): readonly number[] {
    return this.#locals;
  }

  /** A new local of a value type; its index. */
  local(type: number): number {
    this.#locals.push(type);
    return this.#parameters + this.#locals.length - 1;
  }

  /** What follows belongs to source position `mark`. */
  mark(mark: number): void {
    this.marks.push(this.code.length, mark);
  }

  op(opcode: number): this {
    this.code.byte(opcode);
    return this;
  }

  i32(value: number): this {
    this.code.byte(0x41).s32(value);
    return this;
  }

  i64(value: bigint): this {
    this.code.byte(0x42).s64(value);
    return this;
  }

  get(local: number): this {
    this.code.byte(0x20).u32(local);
    return this;
  }

  set(local: number): this {
    this.code.byte(0x21).u32(local);
    return this;
  }

  tee(local: number): this {
    this.code.byte(0x22).u32(local);
    return this;
  }

  globalGet(index: number): this {
    this.code.byte(0x23).u32(index);
    return this;
  }

  globalSet(index: number): this {
    this.code.byte(0x24).u32(index);
    return this;
  }

  /** A load or store with its constant offset. No alignment is promised: the hint has no effect on x86 or Arm. */
  memory(opcode: number, offset = 0): this {
    this.code.byte(opcode).byte(0).u32(offset);
    return this;
  }

  /** @param result the type of the value that it leaves, if it leaves one */
  block(result = EMPTY_BLOCK): BlockLabel {
    this.code.byte(0x02).byte(result);
    return this.#depth++;
  }

  loop(): BlockLabel {
    this.code.byte(0x03).byte(EMPTY_BLOCK);
    return this.#depth++;
  }

  /** Pops the condition. */
  if(): BlockLabel {
    this.code.byte(0x04).byte(EMPTY_BLOCK);
    return this.#depth++;
  }

  else(): this {
    this.code.byte(0x05);
    return this;
  }

  end(): this {
    this.#depth--;
    this.code.byte(0x0b);
    return this;
  }

  br(label: BlockLabel): this {
    this.code.byte(0x0c).u32(this.#depth - 1 - label);
    return this;
  }

  brIf(label: BlockLabel): this {
    this.code.byte(0x0d).u32(this.#depth - 1 - label);
    return this;
  }

  /** Pops the index; one beyond the labels goes to `fallback`. */
  brTable(labels: readonly BlockLabel[], fallback: BlockLabel): this {
    this.code.byte(0x0e).u32(labels.length);
    for (const label of labels) this.code.u32(this.#depth - 1 - label);
    this.code.u32(this.#depth - 1 - fallback);
    return this;
  }

  call(functionIndex: number): this {
    this.code.byte(0x10).u32(functionIndex);
    return this;
  }

  callIndirect(typeIndex: number): this {
    this.code.byte(0x11).u32(typeIndex).u32(0);
    return this;
  }

  /** Pops an address, a byte and a number of bytes, which are then that byte (bulk memory). */
  memoryFill(): this {
    this.code.raw([0xfc, 0x0b, 0x00]);
    return this;
  }

  /** A tail call: the callee's frame takes the place of this one. */
  returnCallIndirect(typeIndex: number): this {
    this.code.byte(0x13).u32(typeIndex).u32(0);
    return this;
  }
}

export interface FunctionType {
  readonly parameters: readonly number[];
  readonly results: readonly number[];
}

/** Where each function of an encoded module came to lie: for turning a trap's offset into a source position. */
export interface EncodedModule {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Offset in `bytes` of each defined function's code, in the order of definition. */
  readonly codeOffsets: readonly number[];
}

/**
 * A module under construction. Imports first, then functions; indices are handed out as things are declared,
 * so that bodies can be written in any order.
 */
export class ModuleWriter {
  readonly #types: FunctionType[] = [];
  readonly #imports: ByteWriter[] = [];
  readonly #functions: { type: number; body: FunctionWriter | undefined }[] = [];
  readonly #exports: { name: string; index: number }[] = [];
  #importedFunctions = 0;
  #importedGlobals = 0;

  /** @param name shown in stack traces, and thereby how a trap finds its way back to a program. */
  constructor(readonly name: string) {}

  typeIndex(type: FunctionType): number {
    const known = this.#types.findIndex(
      (t) => sameTypes(t.parameters, type.parameters) && sameTypes(t.results, type.results),
    );
    return known >= 0 ? known : this.#types.push(type) - 1;
  }

  /** Imports a memory of `pages` to `most` pages. */
  importMemory(module: string, name: string, pages: number, most = pages): void {
    this.#imports.push(new ByteWriter().name(module).name(name).byte(0x02).byte(0x01).u32(pages).u32(most));
  }

  importTable(module: string, name: string): void {
    this.#imports.push(new ByteWriter().name(module).name(name).byte(0x01).byte(FUNCREF).byte(0x00).u32(0));
  }

  /** Imports a mutable global; its index. There are no others. */
  importGlobal(module: string, name: string, type: number): number {
    this.#imports.push(new ByteWriter().name(module).name(name).byte(0x03).byte(type).byte(0x01));
    return this.#importedGlobals++;
  }

  /** All imported functions come before the first defined one. */
  importFunction(module: string, name: string, type: FunctionType): number {
    if (this.#functions.length > 0) throw new RangeError('imports come before functions');
    this.#imports.push(new ByteWriter().name(module).name(name).byte(0x00).u32(this.typeIndex(type)));
    return this.#importedFunctions++;
  }

  /** Reserves an index for a function whose body is given later by `define`. */
  declare(type: FunctionType): number {
    this.#functions.push({ type: this.typeIndex(type), body: undefined });
    return this.#importedFunctions + this.#functions.length - 1;
  }

  define(index: number, body: FunctionWriter): void {
    this.#functions[index - this.#importedFunctions]!.body = body;
  }

  export(name: string, index: number): void {
    this.#exports.push({ name, index });
  }

  /** The number of imported functions: what a defined function's index exceeds its position by. */
  get importedFunctions(): number {
    return this.#importedFunctions;
  }

  encode(): EncodedModule {
    const out = new ByteWriter().raw([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    const section = (id: number, content: ByteWriter): void => {
      out.byte(id).u32(content.length).raw(content.bytes);
    };
    const types = new ByteWriter().u32(this.#types.length);
    for (const type of this.#types) {
      types.byte(0x60).u32(type.parameters.length).raw(type.parameters);
      types.u32(type.results.length).raw(type.results);
    }
    section(1, types);
    const imports = new ByteWriter().u32(this.#imports.length);
    for (const entry of this.#imports) imports.raw(entry.bytes);
    section(2, imports);
    const functions = new ByteWriter().u32(this.#functions.length);
    for (const { type } of this.#functions) functions.u32(type);
    section(3, functions);
    const exports = new ByteWriter().u32(this.#exports.length);
    for (const { name, index } of this.#exports) exports.name(name).byte(0x00).u32(index);
    section(7, exports);

    const code = new ByteWriter().u32(this.#functions.length);
    const offsets: number[] = [];
    for (const { body } of this.#functions) {
      if (body === undefined) throw new RangeError('a declared function has no body');
      const locals = encodeLocals(body.locals);
      code.u32(locals.length + body.code.length + 1).raw(locals.bytes);
      offsets.push(code.length);
      code.raw(body.code.bytes).byte(0x0b);
    }
    const codeStart = out.length + 1 + lebLength(code.length);
    section(10, code);
    const moduleName = new ByteWriter().name(this.name);
    section(0, new ByteWriter().name('name').byte(0).u32(moduleName.length).raw(moduleName.bytes));
    return { bytes: out.bytes.slice(), codeOffsets: offsets.map((offset) => codeStart + offset) };
  }
}

function sameTypes(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((type, i) => type === b[i]);
}

/** Locals are written as runs of one type. */
function encodeLocals(locals: readonly number[]): ByteWriter {
  const runs: { type: number; count: number }[] = [];
  for (const type of locals) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  const out = new ByteWriter().u32(runs.length);
  for (const { type, count } of runs) out.u32(count).byte(type);
  return out;
}

function lebLength(value: number): number {
  return new ByteWriter().u32(value).length;
}
