import * as op from '../../bpf/opcodes.js';
import { XDP_MD } from '../../bpf/xdp.js';
import { SIZES, SIZE_BYTES, type FunctionGenerator, type Statement } from './function-generator.js';
import { Label } from './code-writer.js';
import { SCALAR } from './machine-state.js';

const ATOMIC_OPERATIONS = [
  op.BPF_ADD,
  op.BPF_OR,
  op.BPF_AND,
  op.BPF_XOR,
  op.BPF_ADD | op.BPF_FETCH,
  op.BPF_OR | op.BPF_FETCH,
  op.BPF_AND | op.BPF_FETCH,
  op.BPF_XOR | op.BPF_FETCH,
  op.BPF_XCHG,
  op.BPF_CMPXCHG,
];

export const MEMORY_STATEMENTS: readonly Statement[] = [
  { weight: 8, generate: load },
  { weight: 8, generate: store },
  { weight: 6, generate: atomic },
  { weight: 2, generate: spill },
  { weight: 2, generate: fill },
  { weight: 2, generate: variableStack },
  { weight: 2, generate: variableMapValue },
  { weight: 2, generate: directMapValue },
  { weight: 3, applies: (f) => f.hasContext, generate: contextField },
  { weight: 6, applies: (f) => f.hasContext, generate: checkedPacket },
  { weight: 3, applies: (f) => f.hasContext, generate: variablePacket },
  { weight: 1, applies: (f) => f.hasContext, generate: checkedMetadata },
];

export function load(f: FunctionGenerator): void {
  const size = f.random.pick(SIZES);
  const place = f.place(SIZE_BYTES[size]!, false);
  if (place === undefined) return initialise(f);
  const signed = size !== op.BPF_DW && f.random.chance(30);
  f.load(size, f.target(), place.register, place.offset, signed);
}

export function store(f: FunctionGenerator): void {
  const size = f.random.pick(SIZES);
  const place = f.place(SIZE_BYTES[size]!, true);
  if (place === undefined) return initialise(f);
  if (f.random.chance(35)) {
    f.code.emit(op.BPF_ST | op.BPF_MEM | size, place.register, 0, place.offset, f.word());
  } else {
    const value = f.scalar(place.register);
    f.code.emit(op.BPF_STX | op.BPF_MEM | size, place.register, value, place.offset);
  }
}

function initialise(f: FunctionGenerator): void {
  const cells = f.freeCells();
  if (cells.length > 0) f.initialiseCell(f.random.pick(cells));
}

function atomic(f: FunctionGenerator): void {
  const size = f.random.pick([op.BPF_W, op.BPF_DW]);
  const place = f.place(SIZE_BYTES[size]!, true, true);
  if (place === undefined) return initialise(f);
  const operation = f.random.pick(ATOMIC_OPERATIONS);
  const writesSource = (operation & op.BPF_FETCH) !== 0 && operation !== op.BPF_CMPXCHG;
  if (operation === op.BPF_CMPXCHG) {
    if (f.isLocked(0) || place.register === 0) return;
    if (f.value(0)?.kind !== 'scalar') f.constant(0);
    // Often what is there, so that the exchange takes place.
    if (f.random.chance(50)) f.load(size, 0, place.register, place.offset);
  }
  const source = writesSource ? f.scalarTarget(place.register) : f.scalar(place.register);
  f.code.emit(op.BPF_STX | op.BPF_ATOMIC | size, place.register, source, place.offset, operation);
}

/** Any register to the stack: a pointer stays one. */
function spill(f: FunctionGenerator): void {
  const cells = f.freeCells();
  const registers = f.find(() => true);
  if (cells.length === 0 || registers.length === 0) return;
  f.spill(f.random.pick(registers), f.random.pick(cells));
}

function fill(f: FunctionGenerator): void {
  const { cells } = f.state;
  const used = cells.flatMap((content, cell) => (content === undefined ? [] : [cell]));
  if (used.length > 0) f.fill(f.target(), f.random.pick(used));
}

/** An index that is below `limit` (a power of two) whatever the number was, a multiple of `step`. */
function boundedIndex(f: FunctionGenerator, limit: number, step: number, ...avoid: number[]): number {
  const { random } = f;
  const source = f.scalar(...avoid);
  const index = f.target(...avoid, source);
  const wide = random.chance(60);
  f.code.emit((wide ? op.BPF_ALU64 : op.BPF_ALU) | op.BPF_MOV | op.BPF_X, index, source);
  const mask = (limit - 1) & ~(step - 1);
  const way = step > 1 ? 0 : random.below(4);
  f.set(index, SCALAR);
  if (way === 1 && wide) {
    f.code.emit(op.BPF_ALU64 | op.BPF_RSH | op.BPF_K, index, 0, 0, 64 - Math.log2(limit));
  } else if (way === 2 && f.labels.length > 0) {
    f.branch(random.pick(f.labels), op.BPF_JMP | op.BPF_JGE | op.BPF_K, index, 0, limit);
  } else {
    f.code.emit((wide ? op.BPF_ALU64 : op.BPF_ALU) | op.BPF_AND | op.BPF_K, index, 0, 0, mask);
  }
  return index;
}

/** A load or store at a place that depends on a number; `base` then is of no more use. */
function accessAndDrop(f: FunctionGenerator, base: number, offset: number, size: number): void {
  const bytes = size;
  if (f.random.chance(60)) {
    const signed = bytes !== op.BPF_DW && f.random.chance(25);
    f.load(bytes, f.target(...(f.random.chance(70) ? [base] : [])), base, offset, signed);
  } else {
    const value = f.scalar(base);
    f.code.emit(op.BPF_STX | op.BPF_MEM | bytes, base, value, offset);
  }
  if (f.value(base)?.kind !== 'scalar') f.set(base, undefined);
}

function variableStack(f: FunctionGenerator): void {
  const size = f.random.pick(SIZES);
  const bytes = f.random.pick([16, 32]);
  const start = f.stackBuffer(bytes);
  if (start === undefined || start % 8 !== 0) return;
  const base = f.target();
  f.move(base, op.FRAME_POINTER);
  f.add(base, start);
  const index = boundedIndex(f, bytes, Math.max(SIZE_BYTES[size]!, 1), base);
  f.code.emit(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, base, index);
  f.set(base, undefined);
  accessAndDrop(f, base, 0, size);
}

function variableMapValue(f: FunctionGenerator): void {
  const pointers = f.find(
    (value) =>
      value.kind === 'map-value' && value.id === undefined && f.mapOf(value.map).attributes.valueSize >= 16,
  );
  if (pointers.length === 0) return directMapValue(f);
  const pointer = f.random.pick(pointers);
  const value = f.value(pointer)!;
  if (value.kind !== 'map-value') return;
  const size = f.random.pick(SIZES);
  const room = f.mapOf(value.map).attributes.valueSize;
  const base = f.target(pointer);
  f.move(base, pointer);
  const index = boundedIndex(f, 8, 1, base, pointer);
  f.code.emit(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, base, index);
  f.set(base, undefined);
  const low = f.random.below(room - 7 - SIZE_BYTES[size]! + 1);
  accessAndDrop(f, base, low - value.offset, size);
}

/** The address of a value that the loader resolves. */
function directMapValue(f: FunctionGenerator): void {
  const maps = f.maps.filter(({ name }) => name === 'direct');
  if (maps.length === 0) return;
  const map = f.random.pick(maps);
  const dst = f.random.chance(50) ? f.savedTarget() : f.target();
  const offset = f.random.chance(50) ? 0 : f.random.below(map.attributes.valueSize);
  f.code.wide(dst, op.BPF_PSEUDO_MAP_VALUE, map.handle, offset);
  f.set(dst, { kind: 'map-value', map: map.handle, offset });
}

function contextField(f: FunctionGenerator): void {
  // A program that is not attached to a devmap may not read egress_ifindex.
  const field = f.random.pick([XDP_MD.ingress_ifindex, XDP_MD.rx_queue_index]);
  const context = f.context();
  f.load(op.BPF_W, f.target(), context, field);
}

/** Makes pointers to the packet's start and end; R? := data, R? := data_end. */
function packetPointers(f: FunctionGenerator): { readonly data: number; readonly end: number } {
  const context = f.context();
  const data = f.random.chance(50) ? f.savedTarget(context) : f.target(context);
  const ends = f.find((value, register) => value.kind === 'packet-end' && register !== data);
  f.load(op.BPF_W, data, context, XDP_MD.data);
  f.set(data, { kind: 'packet', id: 0, offset: 0, range: 0 });
  if (ends.length > 0 && f.random.chance(50)) return { data, end: f.random.pick(ends) };
  const end = f.target(data);
  f.load(op.BPF_W, end, context, XDP_MD.data_end);
  f.set(end, { kind: 'packet-end' });
  return { data, end };
}

/** Jumps to `label` unless `low <= high`: all the ways in which compilers write it. */
function unlessAtMost(f: FunctionGenerator, low: number, high: number, label: Label): void {
  const x = op.BPF_JMP | op.BPF_X;
  const { random } = f;
  switch (random.below(5)) {
    case 0:
      return f.branch(label, x | op.BPF_JGT, low, high, 0);
    case 1:
      return f.branch(label, x | op.BPF_JLT, high, low, 0);
    // Too strict by a byte, which is right as well.
    case 2:
      return f.branch(label, x | op.BPF_JGE, low, high, 0);
    case 3:
      return f.branch(label, x | op.BPF_JLE, high, low, 0);
    default: {
      const inside = new Label();
      f.branch(inside, x | (random.chance(50) ? op.BPF_JLE : op.BPF_JLT), low, high, 0);
      f.goto(label);
      f.placeLabel(inside);
    }
  }
}

/** Where a failed check leads: out to an enclosing label, or past what follows. */
function failureLabel(f: FunctionGenerator): { readonly label: Label; readonly local: boolean } {
  const local = f.labels.length === 0 || f.random.chance(40);
  return { label: local ? new Label() : f.random.pick(f.labels), local };
}

/** The bounds check, then accesses within what was checked. */
function checkedPacket(f: FunctionGenerator): void {
  const { random } = f;
  const known = f.find((value) => value.kind === 'packet');
  const ends = f.find((value) => value.kind === 'packet-end');
  const reuse = known.length > 0 && ends.length > 0 && random.chance(40);
  const { data, end } = reuse ? { data: random.pick(known), end: random.pick(ends) } : packetPointers(f);
  const value = f.value(data)!;
  if (value.kind !== 'packet') return;
  const bytes = value.offset + random.pick([1, 2, 4, 8, 14, 14, 20, 34, 42, 54, 64, 100]);
  const limit = f.target(data, end);
  f.move(limit, data);
  f.add(limit, bytes - value.offset);
  const { label, local } = failureLabel(f);
  unlessAtMost(f, limit, end, label);
  f.state.update((other) =>
    other.kind === 'packet' && other.id === value.id
      ? { ...other, range: Math.max(other.range, bytes) }
      : other,
  );
  for (let i = random.below(4); i > 0; i--) {
    if (random.chance(60)) load(f);
    else store(f);
  }
  if (local) f.placeLabel(label);
}

/** An offset that depends on a number, then the check, as for IP options. */
function variablePacket(f: FunctionGenerator): void {
  const { random } = f;
  const { data, end } = packetPointers(f);
  if (f.isLocked(data)) return;
  const index = boundedIndex(f, random.pick([4, 16, 64, 256]), 1, data, end);
  f.code.emit(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, data, index);
  const id = f.newId();
  f.set(data, { kind: 'packet', id, offset: 0, range: 0 });
  const bytes = random.pick([1, 2, 4, 8, 16]);
  const limit = f.target(data, end);
  f.move(limit, data);
  f.add(limit, bytes);
  const { label, local } = failureLabel(f);
  unlessAtMost(f, limit, end, label);
  f.state.update((other) =>
    other.kind === 'packet' && other.id === id ? { ...other, range: bytes } : other,
  );
  if (local || random.chance(60)) {
    const size = random.pick(SIZES.filter((candidate) => SIZE_BYTES[candidate]! <= bytes));
    if (random.chance(50)) f.load(size, f.target(data), data, random.below(bytes - SIZE_BYTES[size]! + 1));
    else
      f.code.emit(
        op.BPF_STX | op.BPF_MEM | size,
        data,
        f.scalar(data),
        random.below(bytes - SIZE_BYTES[size]! + 1),
      );
  }
  if (local) f.placeLabel(label);
}

function checkedMetadata(f: FunctionGenerator): void {
  const { random } = f;
  const context = f.context();
  const meta = f.target(context);
  f.load(op.BPF_W, meta, context, XDP_MD.data_meta);
  f.set(meta, { kind: 'metadata', offset: 0, range: 0 });
  const data = f.target(meta, context);
  f.load(op.BPF_W, data, context, XDP_MD.data);
  f.set(data, { kind: 'packet', id: 0, offset: 0, range: 0 });
  const bytes = random.pick([4, 8, 16]);
  const limit = f.target(meta, data);
  f.move(limit, meta);
  f.add(limit, bytes);
  const { label, local } = failureLabel(f);
  f.branch(label, op.BPF_JMP | op.BPF_JGT | op.BPF_X, limit, data, 0);
  f.set(meta, { kind: 'metadata', offset: 0, range: bytes });
  const size = random.pick([op.BPF_B, op.BPF_H, op.BPF_W]);
  const at = random.below(bytes / SIZE_BYTES[size]!) * SIZE_BYTES[size]!;
  if (random.chance(50)) f.load(size, f.target(meta), meta, at);
  else f.code.emit(op.BPF_STX | op.BPF_MEM | size, meta, f.scalar(meta), at);
  if (local) f.placeLabel(label);
}
