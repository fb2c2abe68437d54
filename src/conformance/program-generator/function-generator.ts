import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import * as op from '../../bpf/opcodes.js';
import type { SeededRandom } from '../verifier/seeded-random.js';
import type { Label } from './code-writer.js';
import { CodeWriter } from './code-writer.js';
import type { GeneratedMap } from './generated-case.js';
import { MachineState, SCALAR, type Pointer, type Value } from './machine-state.js';

/** What a local function takes in R1, R2 and so on. */
export type Parameter =
  | { readonly kind: 'scalar' }
  | { readonly kind: 'context' }
  | { readonly kind: 'buffer'; readonly size: number }
  /** The value of a map that has a direct address. */
  | { readonly kind: 'map-value'; readonly map: number };

/** A function that is there already and what a call of it does beyond returning a number. */
export interface Callee {
  readonly index: number;
  readonly parameters: readonly Parameter[];
  /** It is for helpers to call, and returns 0 or 1. */
  readonly callback: boolean;
  readonly changesPacket: boolean;
  /** Maps of which it updates or deletes elements; `all` after a tail call. */
  readonly touchedMaps: ReadonlySet<number> | 'all';
}

/** What a function may use. */
export interface Surroundings {
  readonly random: SeededRandom;
  readonly kernel: boolean;
  /** The program copes with frames in several buffers. */
  readonly frags: boolean;
  readonly maps: readonly GeneratedMap[];
  readonly callees: readonly Callee[];
  readonly parameters: readonly Parameter[];
  /** The function returns 0 or 1 to a helper. */
  readonly callback: boolean;
  /** Cells of 8 bytes on the stack. */
  readonly cells: number;
}

/** A piece of code that is generated at random. Its weight 0 leaves it out. */
export interface Statement {
  readonly weight: number;
  /** Whether it can be used here; by default always. */
  applies?(f: FunctionGenerator): boolean;
  generate(f: FunctionGenerator): void;
}

/** Memory that an access may touch: `low` to `high` are valid offsets from the register, `high` exclusive. */
export interface Place {
  readonly register: number;
  readonly offset: number;
  /** On the stack, where atomics and partial stores are judged more strictly. */
  readonly kind: Pointer['kind'];
}

export const SIZES = [op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW] as const;
export const SIZE_BYTES: Readonly<Record<number, number>> = {
  [op.BPF_B]: 1,
  [op.BPF_H]: 2,
  [op.BPF_W]: 4,
  [op.BPF_DW]: 8,
};

const REGISTERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const CLOBBERED = [0, 1, 2, 3, 4, 5];
const SAVED = [6, 7, 8, 9];

/**
 * One function under construction: its code, and what is known of registers and stack at the place where the next
 * insn goes. All emitting goes through here, so that what is known is always right.
 */
export class FunctionGenerator {
  readonly code = new CodeWriter();
  readonly random: SeededRandom;
  readonly #locked: number[] = new Array<number>(10).fill(0);
  readonly #lockedCells: number[];
  /** Labels that code here may jump forward to, the innermost last. */
  readonly labels: Label[] = [];
  /** Undefined where no path leads. */
  #state: MachineState | undefined;
  /** Where the context is kept for the whole function: a register or a cell. */
  #contextHome: { readonly register: number } | { readonly cell: number } | undefined;
  #nextId = 1;

  loopDepth = 0;
  /** Moving the packet's bounds is not allowed where a loop keeps pointers into it. */
  packetFixed = 0;
  changesPacket = false;
  touchedMaps: Set<number> | 'all' = new Set<number>();

  constructor(readonly around: Surroundings) {
    this.random = around.random;
    this.#lockedCells = new Array<number>(around.cells).fill(0);
    const registers: (Value | undefined)[] = new Array<undefined>(10).fill(undefined);
    around.parameters.forEach((parameter, index) => {
      registers[index + 1] = parameter.kind === 'map-value' ? { ...parameter, offset: 0 } : parameter;
    });
    this.#state = new MachineState(registers, new Array<undefined>(around.cells).fill(undefined));
    const context = registers.findIndex((value) => value?.kind === 'context');
    if (context >= 0) this.#saveContext(context);
  }

  get state(): MachineState {
    return this.#state!;
  }

  get reachable(): boolean {
    return this.#state !== undefined;
  }

  get hasContext(): boolean {
    return this.#contextHome !== undefined;
  }

  get maps(): readonly GeneratedMap[] {
    return this.around.maps;
  }

  newId(): number {
    return this.#nextId++;
  }

  value(register: number): Value | undefined {
    return this.state.registers[register];
  }

  set(register: number, value: Value | undefined): void {
    this.state.registers[register] = value;
  }

  lock(register: number): void {
    this.#locked[register]!++;
  }

  unlock(register: number): void {
    this.#locked[register]!--;
  }

  isLocked(register: number): boolean {
    return this.#locked[register]! > 0;
  }

  lockCell(cell: number): void {
    this.#lockedCells[cell]!++;
  }

  unlockCell(cell: number): void {
    this.#lockedCells[cell]!--;
  }

  isCellLocked(cell: number): boolean {
    return this.#lockedCells[cell]! > 0;
  }

  // Choosing registers -------------------------------------------------------------------------------------------

  /** A register that may be overwritten. */
  target(...avoid: number[]): number {
    const free = REGISTERS.filter((register) => !this.isLocked(register) && !avoid.includes(register));
    return this.random.pick(free);
  }

  /** As `target`, one that calls keep if there is one. */
  savedTarget(...avoid: number[]): number {
    const free = SAVED.filter((register) => !this.isLocked(register) && !avoid.includes(register));
    return free.length > 0 ? this.random.pick(free) : this.target(...avoid);
  }

  find(wanted: (value: Value, register: number) => boolean): number[] {
    return REGISTERS.filter((register) => {
      const value = this.value(register);
      return value !== undefined && wanted(value, register);
    });
  }

  /** A register that holds a number; makes one if there is none. */
  scalar(...avoid: number[]): number {
    const scalars = this.find((value, register) => value.kind === 'scalar' && !avoid.includes(register));
    if (scalars.length > 0) return this.random.pick(scalars);
    const register = this.target(...avoid);
    this.constant(register);
    return register;
  }

  /** As `scalar`, one that may be changed. */
  scalarTarget(...avoid: number[]): number {
    const scalars = this.find(
      (value, register) => value.kind === 'scalar' && !this.isLocked(register) && !avoid.includes(register),
    );
    if (scalars.length > 0) return this.random.pick(scalars);
    const register = this.target(...avoid);
    this.constant(register);
    return register;
  }

  // Arithmetic and moves -----------------------------------------------------------------------------------------

  move(dst: number, src: number): void {
    if (dst === src) return;
    this.code.emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst, src);
    this.set(dst, src === op.FRAME_POINTER ? { kind: 'stack', offset: 0 } : this.value(src));
  }

  /** dst := a small number that is known. */
  immediate(dst: number, imm: number): void {
    const insnClass = this.random.chance(70) || imm < 0 ? op.BPF_ALU64 : op.BPF_ALU;
    this.code.emit(insnClass | op.BPF_MOV | op.BPF_K, dst, 0, 0, imm);
    this.set(dst, SCALAR);
  }

  /** dst := any number. */
  constant(dst: number): void {
    if (this.random.chance(30)) {
      this.code.wide(dst, 0, this.word(), this.word());
      this.set(dst, SCALAR);
    } else {
      this.immediate(dst, this.word());
    }
  }

  /** A 32-bit number, often one at an edge. */
  word(): number {
    const { random } = this;
    return random.chance(50) ? random.pick(EDGES) : random.u32() | 0;
  }

  add(dst: number, imm: number): void {
    // The kernel lets nothing be subtracted from a pointer to the stack.
    const subtract = this.random.chance(20) && this.value(dst)?.kind !== 'stack';
    if (subtract) this.code.emit(op.BPF_ALU64 | op.BPF_SUB | op.BPF_K, dst, 0, 0, -imm);
    else this.code.emit(op.BPF_ALU64 | op.BPF_ADD | op.BPF_K, dst, 0, 0, imm);
    const value = this.value(dst);
    if (value !== undefined && 'offset' in value) this.set(dst, { ...value, offset: value.offset + imm });
  }

  // Memory -------------------------------------------------------------------------------------------------------

  load(size: number, dst: number, base: number, offset: number, signed = false): void {
    this.code.emit(op.BPF_LDX | (signed ? op.BPF_MEMSX : op.BPF_MEM) | size, dst, base, offset);
    this.set(dst, SCALAR);
  }

  /** Stores a number into a cell, which is then data. */
  initialiseCell(cell: number): void {
    const offset = -8 * (cell + 1);
    const scalars = this.find((value) => value.kind === 'scalar');
    if (scalars.length > 0 && this.random.chance(50)) {
      this.code.emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, this.random.pick(scalars), offset);
    } else {
      this.code.emit(op.BPF_ST | op.BPF_MEM | op.BPF_DW, 10, 0, offset, this.word());
    }
    this.state.cells[cell] = 'data';
  }

  /** Spills a register; what it holds is then in the cell. */
  spill(register: number, cell: number): void {
    this.code.emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, register, -8 * (cell + 1));
    const value = this.value(register)!;
    this.state.cells[cell] = value.kind === 'scalar' ? 'data' : value;
  }

  fill(register: number, cell: number): void {
    this.code.emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, register, 10, -8 * (cell + 1));
    const content = this.state.cells[cell]!;
    this.set(register, content === 'data' ? SCALAR : content);
  }

  /** Cells that may be overwritten. */
  freeCells(): number[] {
    return this.state.cells.flatMap((_, cell) => (this.isCellLocked(cell) ? [] : [cell]));
  }

  /**
   * Offset from R10 of `bytes` of initialised stack that may be written; initialises what is missing. A multiple
   * of `alignment`.
   */
  stackBuffer(bytes: number, alignment = 8): number | undefined {
    const count = Math.ceil(bytes / 8);
    const { cells } = this.state;
    const starts: number[] = [];
    for (let first = 0; first + count <= cells.length; first++) {
      const run = cells.slice(first, first + count);
      if (run.every((_, index) => !this.isCellLocked(first + index))) starts.push(first);
    }
    if (starts.length === 0) return undefined;
    const first = this.random.pick(starts);
    for (let cell = first; cell < first + count; cell++) {
      if (cells[cell] !== 'data') this.initialiseCell(cell);
    }
    const slack = count * 8 - bytes;
    const shift = slack === 0 ? 0 : this.random.below(Math.floor(slack / alignment) + 1) * alignment;
    return -8 * (first + count) + shift;
  }

  /** A place of `size` bytes that the function may access; undefined if there is none but the stack is full. */
  place(size: number, write: boolean, atomic = false): Place | undefined {
    const places: Place[] = [];
    const stack = this.#stackOffset(size, write);
    if (stack !== undefined) places.push({ register: 10, offset: stack, kind: 'stack' });
    for (const register of this.find((value) => value.kind !== 'scalar')) {
      const place = this.#placeAt(register, size, write, atomic);
      if (place !== undefined) places.push(place, place);
    }
    return places.length === 0 ? undefined : this.random.pick(places);
  }

  #placeAt(register: number, size: number, write: boolean, atomic: boolean): Place | undefined {
    const value = this.value(register)!;
    if (value.kind === 'scalar') return undefined;
    const within = (low: number, high: number, base: number): Place | undefined => {
      if (high - size < low) return undefined;
      let at = low + this.random.below(high - size - low + 1);
      if (atomic || (value.kind === 'map-value' && this.random.chance(80))) at -= at % size;
      return at < low ? undefined : { register, offset: at - base, kind: value.kind };
    };
    switch (value.kind) {
      case 'stack': {
        const offset = this.#stackOffset(size, write);
        return offset === undefined ? undefined : { register, offset: offset - value.offset, kind: 'stack' };
      }
      case 'packet':
      case 'metadata':
        return atomic ? undefined : within(0, value.range, value.offset);
      case 'map-value': {
        if (value.id !== undefined) return undefined;
        return within(0, this.mapOf(value.map).attributes.valueSize, value.offset);
      }
      case 'buffer': {
        const place = within(0, value.size, 0);
        return place === undefined ? undefined : { ...place, offset: place.offset - (place.offset % size) };
      }
      default:
        return undefined;
    }
  }

  /** An aligned offset from R10 in a cell that holds data. */
  #stackOffset(size: number, write: boolean): number | undefined {
    const cells = this.state.cells.flatMap((content, cell) =>
      content === 'data' && !(write && this.isCellLocked(cell)) ? [cell] : [],
    );
    if (cells.length === 0) return undefined;
    return -8 * (this.random.pick(cells) + 1) + this.random.below(8 / size) * size;
  }

  mapOf(handle: number): GeneratedMap {
    return this.maps.find((map) => map.handle === handle)!;
  }

  // Context and packet -------------------------------------------------------------------------------------------

  /** A register that holds the context; not one of `avoid` if it has to be brought into one. */
  context(...avoid: number[]): number {
    const home = this.#contextHome!;
    if ('register' in home) return home.register;
    const register = this.target(...avoid);
    this.fill(register, home.cell);
    return register;
  }

  /** Brings the context into a register. */
  contextInto(dst: number): void {
    const home = this.#contextHome!;
    if ('register' in home) this.move(dst, home.register);
    else this.fill(dst, home.cell);
  }

  #saveContext(register: number): void {
    if (this.random.chance(75)) {
      const home = this.random.pick(SAVED);
      this.move(home, register);
      this.lock(home);
      this.#contextHome = { register: home };
    } else {
      const cell = this.random.below(this.around.cells);
      this.spill(register, cell);
      this.lockCell(cell);
      this.#contextHome = { cell };
    }
  }

  /** The packet's bounds have moved: no pointer into it is good any more. */
  forgetPacket(): void {
    this.changesPacket = true;
    this.state.update((value) =>
      value.kind === 'packet' || value.kind === 'packet-end' || value.kind === 'metadata' ? undefined : value,
    );
  }

  /**
   * An element of a map was updated or deleted. In the kernel a pointer into a hash table's element may then show
   * another element or the old value.
   */
  touchMap(handle: number | 'all'): void {
    if (this.touchedMaps !== 'all') {
      if (handle === 'all') this.touchedMaps = 'all';
      else this.touchedMaps.add(handle);
    }
    if (!this.around.kernel) return;
    this.state.update((value) => {
      if (value.kind !== 'map-value') return value;
      const moves = MOVING_TYPES.has(this.mapOf(value.map).attributes.type);
      return moves && (handle === 'all' || handle === value.map) ? undefined : value;
    });
  }

  // Control ------------------------------------------------------------------------------------------------------

  /** Calls a helper or function: R0 holds a number afterwards, R1 to R5 nothing. */
  afterCall(result: Value = SCALAR): void {
    for (const register of CLOBBERED) this.set(register, undefined);
    this.set(0, result);
  }

  helper(id: number, result?: Value): void {
    this.code.emit(op.OP_CALL, 0, 0, 0, id);
    this.afterCall(result);
  }

  /** Jumps to a label that is placed later, on a condition: what holds here holds there. */
  branch(label: Label, opcode: number, dst: number, src: number, imm: number): void {
    this.#arrive(label);
    this.code.jump(label, opcode, dst, src, imm);
  }

  /** Jumps to a label that is placed later. */
  goto(label: Label): void {
    this.#arrive(label);
    this.code.jump(label, this.random.chance(85) ? op.BPF_JMP | op.BPF_JA : op.BPF_JMP32 | op.BPF_JA);
    this.#state = undefined;
  }

  placeLabel(label: Label): void {
    this.code.place(label);
    if (label.state === undefined) return;
    this.#state = this.#state === undefined ? label.state : this.#state.join(label.state);
  }

  exit(): void {
    this.code.emit(op.OP_EXIT);
    this.#state = undefined;
  }

  /** Goes on from what held elsewhere, where a branch was not taken. */
  resume(state: MachineState): void {
    this.#state = state;
  }

  #arrive(label: Label): void {
    label.state = label.state === undefined ? this.state.clone() : label.state.join(this.state);
  }
}

/** Types whose elements are exchanged on an update, or reused after a deletion. */
const MOVING_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
]);

const EDGES = [
  0, 1, -1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff,
  -0x80000000, -2, -8, -0x7fffffff, 0x80, -0x8000,
];
