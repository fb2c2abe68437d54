import { MAX_BPF_STACK, MAX_CALL_FRAMES, MAX_TAIL_CALL_CNT } from '../../src/bpf/opcodes.js';
import type { Region } from '../../src/bpf/runtime/address-space.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { XdpbedError } from '../../src/core/diagnostic.js';

/** Entries of the directory, a power of two; half of them may be in use. */
const DIRECTORY_ENTRIES = 4096;
export const MAX_PROGRAMS = DIRECTORY_ENTRIES / 2;

/** Byte offsets of the executor's own cells. */
const CELL = { tailCalls: 0, dynamicFrame: 4, firstDynamicFrame: 8, size: 12 } as const;

/** From one stack frame to the next; what lies between belongs to none, so that an overrun is noticed. */
export const FRAME_STRIDE = 2 * MAX_BPF_STACK;

/** Frames that tail calls out of local functions can leave behind, at seven for each, and one set on top. */
const DYNAMIC_FRAMES = MAX_TAIL_CALL_CNT * (MAX_CALL_FRAMES - 1) + MAX_CALL_FRAMES;

/** A program's place in the table, and how it gets a new instance when the table is replaced. */
export interface TableMember {
  /** Makes an instance that refers to `table` and returns its main function. */
  instantiate(table: WebAssembly.Table): WebAssembly.ExportValue;
  /** Whether its instances import the table. */
  readonly importsTable: boolean;
  /** Told that a program is in the table no more. */
  programGone(programId: number): void;
}

interface Entry {
  readonly member: TableMember;
  readonly index: number;
}

/**
 * What all wasm programs of one runtime share: the stack, the cells that survive a tail call, and the table
 * through which one program enters another.
 *
 * A PROG_ARRAY holds program ids, which only ever grow; the table has a place per program that is loaded. The
 * directory in memory leads from one to the other:
 *
 * ```
 *   directory + 8 * n:  u32 program id (0: free), u32 table index
 * ```
 * An id starts at entry `id & mask` and moves on to the next free one. The directory is written anew whenever a
 * program comes or goes; a program that overwrites it reaches others of its runtime, and no further.
 *
 * V8 keeps every instance that ever imported a table alive as long as the table lives. So the table is replaced,
 * and the programs that are still loaded are instantiated anew, once enough dead instances hang on it.
 */
export class ProgramTable {
  table: WebAssembly.Table;
  /** Insns that the run under way has left. Not in memory, where a program might reach it. */
  readonly budget = new WebAssembly.Global({ value: 'i32', mutable: true }, 0);
  readonly stack: Region;
  readonly #cells: Region;
  readonly #directory: Region;
  #dynamicStack: Region | undefined;
  readonly #entries = new Map<number, Entry>();
  readonly #freeIndices: number[] = [];
  #nextIndex = 1;
  /** Instances that imported the present table. */
  #importers = 0;

  constructor(readonly runtime: BpfRuntime) {
    const { space } = runtime;
    this.stack = space.allocate(MAX_CALL_FRAMES * FRAME_STRIDE, {
      kind: 'stack',
      label: 'the stack',
      access: 'read-write',
      elements: { first: 0, stride: FRAME_STRIDE, size: MAX_BPF_STACK, count: MAX_CALL_FRAMES },
    });
    const host = { kind: 'scratch', access: 'none' } as const;
    this.#cells = space.allocate(CELL.size, { ...host, label: 'state of the wasm executor' });
    this.#directory = space.allocate(8 * DIRECTORY_ENTRIES, { ...host, label: 'the program directory' });
    this.table = newTable(16);
  }

  get tailCalls(): number {
    return this.#cells.start + CELL.tailCalls;
  }

  get dynamicFrame(): number {
    return this.#cells.start + CELL.dynamicFrame;
  }

  /** What `dynamicFrame` starts from in each run that may come to make tail calls; 0 before there are such frames. */
  get firstDynamicFrame(): number {
    return this.#cells.start + CELL.firstDynamicFrame;
  }

  get directory(): { readonly address: number; readonly mask: number } {
    return { address: this.#directory.start, mask: DIRECTORY_ENTRIES - 1 };
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * Stack for programs whose local functions make tail calls: such a program's frames are still in use while
   * the program it called runs, which may be itself.
   */
  dynamicStack(): Region {
    if (this.#dynamicStack === undefined) {
      const { space } = this.runtime;
      this.#dynamicStack = space.allocate(DYNAMIC_FRAMES * FRAME_STRIDE, {
        kind: 'stack',
        label: 'the stack of tail calls',
        access: 'read-write',
        elements: { first: 0, stride: FRAME_STRIDE, size: MAX_BPF_STACK, count: DYNAMIC_FRAMES },
      });
      space.i32[this.firstDynamicFrame >> 2] = this.#dynamicStack.start;
    }
    return this.#dynamicStack;
  }

  add(programId: number, member: TableMember): void {
    if (this.#entries.size >= MAX_PROGRAMS) {
      throw new XdpbedError('executor-unsupported', `more than ${MAX_PROGRAMS} programs in one runtime`);
    }
    if (this.#entries.has(programId)) throw new RangeError(`program ${programId} is loaded already`);
    const index = this.#freeIndices.pop() ?? this.#nextIndex++;
    if (index >= this.table.length) this.table.grow(this.table.length);
    this.#enter(index, member);
    this.#entries.set(programId, { member, index });
    this.#writeDirectory();
  }

  remove(programId: number): void {
    const entry = this.#entries.get(programId);
    if (entry === undefined) return;
    this.#entries.delete(programId);
    this.table.set(entry.index, null);
    this.#freeIndices.push(entry.index);
    this.#writeDirectory();
    for (const { member } of this.#entries.values()) member.programGone(programId);
    this.#replaceIfLeaking();
  }

  member(programId: number): TableMember | undefined {
    return this.#entries.get(programId)?.member;
  }

  /** Told that an instance beside a member's own imports the table. */
  imported(): void {
    this.#importers++;
  }

  /** Table index of a program, or 0. */
  find(programId: number): number {
    return this.#entries.get(programId)?.index ?? 0;
  }

  close(): void {
    const { space } = this.runtime;
    space.free(this.stack);
    space.free(this.#cells);
    space.free(this.#directory);
    if (this.#dynamicStack !== undefined) space.free(this.#dynamicStack);
  }

  #enter(index: number, member: TableMember): void {
    if (member.importsTable) this.#importers++;
    this.table.set(index, member.instantiate(this.table));
  }

  #writeDirectory(): void {
    const { i32 } = this.runtime.space;
    const start = this.#directory.start >> 2;
    i32.fill(0, start, start + 2 * DIRECTORY_ENTRIES);
    for (const [programId, { index }] of this.#entries) {
      let at = programId & (DIRECTORY_ENTRIES - 1);
      while (i32[start + 2 * at] !== 0) at = (at + 1) & (DIRECTORY_ENTRIES - 1);
      i32[start + 2 * at] = programId;
      i32[start + 2 * at + 1] = index;
    }
  }

  #replaceIfLeaking(): void {
    let live = 0;
    for (const { member } of this.#entries.values()) if (member.importsTable) live++;
    if (this.#importers - live < Math.max(64, live)) return;
    this.table = newTable(this.table.length);
    this.#importers = 0;
    for (const { member, index } of this.#entries.values()) this.#enter(index, member);
  }
}

function newTable(initial: number): WebAssembly.Table {
  return new WebAssembly.Table({ element: 'anyfunc', initial });
}
