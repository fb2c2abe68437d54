/** What the generator knows of a register at a place in the program; undefined: it may hold nothing yet. */
export type Value =
  | { readonly kind: 'scalar' }
  | { readonly kind: 'context' }
  /** R10 plus an offset. */
  | { readonly kind: 'stack'; readonly offset: number }
  /** Into the packet: `offset` from where pointers of this `id` start, from where `range` bytes were checked. */
  | { readonly kind: 'packet'; readonly id: number; readonly offset: number; readonly range: number }
  | { readonly kind: 'packet-end' }
  /** Into the metadata, likewise. */
  | { readonly kind: 'metadata'; readonly offset: number; readonly range: number }
  /** Into a value of the map of this handle; `id` is set until the pointer is compared with NULL. */
  | {
      readonly kind: 'map-value';
      readonly map: number;
      readonly offset: number;
      readonly id?: number | undefined;
    }
  /** To a buffer that the caller passed, of `size` initialised bytes. */
  | { readonly kind: 'buffer'; readonly size: number };

export type Pointer = Exclude<Value, { readonly kind: 'scalar' }>;

/** What is known of eight bytes of the stack: initialised data, or a pointer that was spilled there. */
export type Cell = 'data' | Pointer;

export const SCALAR: Value = { kind: 'scalar' };

/** What holds at a place in the program on every path that leads there. */
export class MachineState {
  readonly registers: (Value | undefined)[];
  /** Cell `n` lies at R10 - 8 * (n + 1). */
  readonly cells: (Cell | undefined)[];

  constructor(registers: readonly (Value | undefined)[], cells: readonly (Cell | undefined)[]) {
    this.registers = [...registers];
    this.cells = [...cells];
  }

  clone(): MachineState {
    return new MachineState(this.registers, this.cells);
  }

  /** What holds on both of two paths. */
  join(other: MachineState): MachineState {
    return new MachineState(
      this.registers.map((value, index) => joinValues(value, other.registers[index])),
      this.cells.map((cell, index) => joinCells(cell, other.cells[index])),
    );
  }

  /** Replaces every value, wherever it is kept; undefined forgets it. */
  update(change: (value: Value) => Value | undefined): void {
    this.registers.forEach((value, index) => {
      if (value !== undefined) this.registers[index] = change(value);
    });
    this.cells.forEach((cell, index) => {
      if (cell === undefined || cell === 'data') return;
      const value = change(cell);
      this.cells[index] = value?.kind === 'scalar' ? 'data' : value;
    });
  }
}

function joinValues(a: Value | undefined, b: Value | undefined): Value | undefined {
  if (a === undefined || b === undefined) return undefined;
  if (a.kind === 'packet' && b.kind === 'packet' && a.id === b.id && a.offset === b.offset) {
    return a.range < b.range ? a : b;
  }
  if (a.kind === 'metadata' && b.kind === 'metadata' && a.offset === b.offset) {
    return a.range < b.range ? a : b;
  }
  return sameValue(a, b) ? a : undefined;
}

function joinCells(a: Cell | undefined, b: Cell | undefined): Cell | undefined {
  if (a === 'data' || b === 'data' || a === undefined || b === undefined) return a === b ? a : undefined;
  const joined = joinValues(a, b);
  return joined?.kind === 'scalar' ? undefined : joined;
}

function sameValue(a: Value, b: Value): boolean {
  const [left, right] = [a, b] as unknown as Record<string, unknown>[];
  return Object.keys({ ...left, ...right }).every((key) => left![key] === right![key]);
}
