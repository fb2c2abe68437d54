import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { helperId } from '../../bpf/helper-ids.js';
import * as op from '../../bpf/opcodes.js';
import { FRAG_BYTES, MAX_FRAME_LENGTH, MAX_SKB_FRAGS } from '../../bpf/runtime/xdp-frame.js';
import type { FunctionGenerator, Statement } from './function-generator.js';
import { Label } from './code-writer.js';
import type { GeneratedMap } from './generated-case.js';
import { SCALAR } from './machine-state.js';
import { load, store } from './memory-statements.js';

const T = BPF_MAP_TYPE;
const KEYED: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_LPM_TRIE,
]);
const QUEUES: ReadonlySet<number> = new Set([T.BPF_MAP_TYPE_QUEUE, T.BPF_MAP_TYPE_STACK]);
const REDIRECTS: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_DEVMAP,
  T.BPF_MAP_TYPE_DEVMAP_HASH,
  T.BPF_MAP_TYPE_CPUMAP,
]);

const id = (name: string): number => helperId(`bpf_${name}`)!;
const H = {
  lookup: id('map_lookup_elem'),
  update: id('map_update_elem'),
  delete: id('map_delete_elem'),
  push: id('map_push_elem'),
  pop: id('map_pop_elem'),
  peek: id('map_peek_elem'),
  tailCall: id('tail_call'),
  redirect: id('redirect'),
  redirectMap: id('redirect_map'),
  csumDiff: id('csum_diff'),
  adjustHead: id('xdp_adjust_head'),
  adjustMeta: id('xdp_adjust_meta'),
  adjustTail: id('xdp_adjust_tail'),
  bufferLength: id('xdp_get_buff_len'),
  loadBytes: id('xdp_load_bytes'),
  storeBytes: id('xdp_store_bytes'),
  tracePrintk: id('trace_printk'),
};
/** Helpers without arguments whose results a real kernel repeats, and those whose results it does not. */
const REPEATABLE = [id('get_smp_processor_id')];
const CHANGING = [
  id('ktime_get_ns'),
  id('ktime_get_boot_ns'),
  id('ktime_get_coarse_ns'),
  id('get_prandom_u32'),
  id('jiffies64'),
];

const mapsOf = (f: FunctionGenerator, types: ReadonlySet<number>): readonly GeneratedMap[] =>
  f.maps.filter((map) => types.has(map.attributes.type));
const has =
  (types: ReadonlySet<number>) =>
  (f: FunctionGenerator): boolean =>
    mapsOf(f, types).length > 0;
const movesPacket = (f: FunctionGenerator): boolean => f.hasContext && f.packetFixed === 0;

export const HELPER_STATEMENTS: readonly Statement[] = [
  { weight: 9, applies: has(KEYED), generate: lookup },
  { weight: 3, applies: (f) => pendingPointers(f).length > 0, generate: checkPending },
  { weight: 4, applies: has(KEYED), generate: update },
  { weight: 2, applies: has(KEYED), generate: remove },
  { weight: 1, applies: has(QUEUES), generate: queue },
  { weight: 2, generate: withoutArguments },
  { weight: 2, generate: checksumDifference },
  { weight: 3, applies: movesPacket, generate: movePacket },
  { weight: 1, applies: (f) => f.hasContext, generate: packetBytes },
  { weight: 1, applies: (f) => f.hasContext, generate: bufferLength },
  { weight: 1, generate: redirect },
  { weight: 2, applies: has(REDIRECTS), generate: redirectMap },
  {
    weight: 2,
    applies: (f) => movesPacket(f) && has(new Set([T.BPF_MAP_TYPE_PROG_ARRAY]))(f),
    generate: tailCall,
  },
  { weight: 1, applies: (f) => !f.around.kernel, generate: print },
];

// Arguments ------------------------------------------------------------------------------------------------------

/** Memory for an argument: a register that calls keep, or R10, and an offset. */
interface Buffer {
  readonly register: number;
  readonly offset: number;
}

function passBuffer(f: FunctionGenerator, argument: number, { register, offset }: Buffer): void {
  f.move(argument, register);
  if (register === op.FRAME_POINTER || offset !== 0) f.add(argument, offset);
}

function passMap(f: FunctionGenerator, argument: number, map: GeneratedMap): void {
  f.code.wide(argument, op.BPF_PSEUDO_MAP_FD, map.handle, 0);
  f.set(argument, undefined);
}

/** A number that is there already, or a constant. */
function passScalar(
  f: FunctionGenerator,
  argument: number,
  constant: () => number,
  anyPercent: number,
): void {
  const kept = f.find((value, register) => value.kind === 'scalar' && (register === 0 || register > 5));
  if (kept.length > 0 && f.random.chance(anyPercent)) f.move(argument, f.random.pick(kept));
  else f.immediate(argument, constant());
}

/** Initialised memory to read: on the stack, sometimes in the packet or in a map's value. */
function readable(f: FunctionGenerator, bytes: number): Buffer | undefined {
  if (f.random.chance(20)) {
    const places = f.find((value, register) => {
      if (register < 6) return false;
      if (value.kind === 'packet') return value.range - bytes >= 0;
      return (
        value.kind === 'map-value' &&
        value.id === undefined &&
        f.mapOf(value.map).attributes.valueSize >= bytes
      );
    });
    if (places.length > 0) {
      const register = f.random.pick(places);
      const value = f.value(register)!;
      const room =
        value.kind === 'packet'
          ? value.range
          : value.kind === 'map-value'
            ? f.mapOf(value.map).attributes.valueSize
            : 0;
      const at = f.random.below(room - bytes + 1);
      return { register, offset: at - ('offset' in value ? value.offset : 0) };
    }
  }
  return stack(f, bytes, f.random.pick([1, 4, 8]));
}

function stack(f: FunctionGenerator, bytes: number, alignment = 8): Buffer | undefined {
  const offset = f.stackBuffer(bytes, alignment);
  return offset === undefined ? undefined : { register: op.FRAME_POINTER, offset };
}

/** A key: often one of a few, so that look-ups hit. */
function key(f: FunctionGenerator, map: GeneratedMap): Buffer | undefined {
  const { type, keySize, maxEntries } = map.attributes;
  const { random } = f;
  if (random.chance(15)) {
    const any = readable(f, keySize);
    if (any !== undefined) return any;
  }
  const place = stack(f, keySize, random.chance(80) ? 8 : 1);
  if (place === undefined) return undefined;
  const aligned = place.offset % 4 === 0;
  let at = 0;
  const put = (size: number, bytes: number, value: number): void => {
    f.code.emit(op.BPF_ST | op.BPF_MEM | size, op.FRAME_POINTER, 0, place.offset + at, value);
    at += bytes;
  };
  const index = random.chance(90) ? random.below(Math.min(maxEntries, 5)) : random.below(2 * maxEntries + 2);
  if (type === T.BPF_MAP_TYPE_LPM_TRIE) {
    if (!aligned) return place;
    put(op.BPF_W, 4, random.pick([0, 8, 16, 24, 32, 32, 33]));
    put(op.BPF_W, 4, random.pick([0x0a, 0x010a, 0x0100000a, 0x0200000a]));
    return place;
  }
  if (keySize >= 4 && aligned) put(op.BPF_W, 4, index);
  else put(op.BPF_B, 1, index);
  while (at < keySize) {
    if (keySize - at >= 4 && (place.offset + at) % 4 === 0) put(op.BPF_W, 4, 0);
    else put(op.BPF_B, 1, 0);
  }
  return place;
}

// Maps -----------------------------------------------------------------------------------------------------------

function lookup(f: FunctionGenerator): void {
  const { random } = f;
  const map = random.pick(mapsOf(f, KEYED));
  const place = key(f, map);
  if (place === undefined) return;
  passBuffer(f, 2, place);
  passMap(f, 1, map);
  const found = { kind: 'map-value', map: map.handle, offset: 0, id: f.newId() } as const;
  f.helper(H.lookup, found);
  const keep = random.chance(70);
  if (keep) f.move(f.savedTarget(0), 0);
  if (random.chance(85)) checkNull(f, keep && random.chance(50) ? pendingPointers(f).at(-1)! : 0);
}

/** Registers with pointers that were not compared with NULL yet. */
function pendingPointers(f: FunctionGenerator): number[] {
  return f.find((value) => value.kind === 'map-value' && value.id !== undefined);
}

function checkPending(f: FunctionGenerator): void {
  checkNull(f, f.random.pick(pendingPointers(f)));
}

function checkNull(f: FunctionGenerator, register: number): void {
  const { random } = f;
  const value = f.value(register)!;
  if (value.kind !== 'map-value' || value.id === undefined) return;
  const known = (): void =>
    f.state.update((other) =>
      other.kind === 'map-value' && other.id === value.id ? { ...other, id: undefined } : other,
    );
  const use = (): void => {
    for (let i = 1 + random.below(3); i > 0; i--) {
      if (random.chance(50)) load(f);
      else store(f);
    }
  };
  const isNull = new Label();
  const outside = f.labels.length > 0 && random.chance(40);
  const target = outside ? random.pick(f.labels) : isNull;
  if (random.chance(70)) {
    // A register that is NULL is not a pointer any more.
    const before = f.state.clone();
    f.state.update((other) => (other.kind === 'map-value' && other.id === value.id ? SCALAR : other));
    const nulls = f.state.clone();
    f.resume(nulls);
    f.branch(target, op.BPF_JMP | op.BPF_JEQ | op.BPF_K, register, 0, 0);
    f.resume(before);
    known();
    use();
    if (!outside) f.placeLabel(isNull);
    return;
  }
  const found = new Label();
  const before = f.state.clone();
  known();
  f.branch(found, op.BPF_JMP | op.BPF_JNE | op.BPF_K, register, 0, 0);
  f.resume(before);
  f.state.update((other) => (other.kind === 'map-value' && other.id === value.id ? SCALAR : other));
  if (random.chance(30) && f.labels.length > 0) f.goto(random.pick(f.labels));
  else if (random.chance(50)) f.constant(f.target());
  f.placeLabel(found);
}

function update(f: FunctionGenerator): void {
  const map = f.random.pick(mapsOf(f, KEYED));
  const place = key(f, map);
  // The key must stay what it is: its cells are set apart while the value is chosen.
  if (place === undefined) return;
  const locked = lockCells(f, place, map.attributes.keySize);
  const value = readable(f, map.attributes.valueSize);
  for (const cell of locked) f.unlockCell(cell);
  if (value === undefined) return;
  passScalar(f, 4, () => f.random.pick([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 8]), 5);
  passBuffer(f, 3, value);
  passBuffer(f, 2, place);
  passMap(f, 1, map);
  f.touchMap(map.handle);
  f.helper(H.update);
}

function lockCells(f: FunctionGenerator, { register, offset }: Buffer, bytes: number): number[] {
  if (register !== op.FRAME_POINTER) return [];
  const cells: number[] = [];
  for (let at = offset; at < offset + bytes; at++) {
    const cell = Math.ceil(-at / 8) - 1;
    if (cells.at(-1) !== cell) cells.push(cell);
  }
  for (const cell of cells) f.lockCell(cell);
  return cells;
}

function remove(f: FunctionGenerator): void {
  const map = f.random.pick(mapsOf(f, KEYED));
  const place = key(f, map);
  if (place === undefined) return;
  passBuffer(f, 2, place);
  passMap(f, 1, map);
  f.touchMap(map.handle);
  f.helper(H.delete);
}

function queue(f: FunctionGenerator): void {
  const { random } = f;
  const map = random.pick(mapsOf(f, QUEUES));
  const place = stack(f, map.attributes.valueSize);
  if (place === undefined) return;
  const call = random.pick([H.push, H.push, H.pop, H.peek]);
  passBuffer(f, 2, place);
  passMap(f, 1, map);
  // BPF_EXIST makes room by dropping the oldest.
  if (call === H.push) f.immediate(3, random.pick([0, 0, 2, 1]));
  f.helper(call);
}

// Other helpers --------------------------------------------------------------------------------------------------

function withoutArguments(f: FunctionGenerator): void {
  const { random } = f;
  const repeatable = random.chance(30);
  f.helper(random.pick(repeatable ? REPEATABLE : CHANGING));
  if (f.around.kernel && !repeatable) f.immediate(0, f.word());
  else if (random.chance(60)) f.move(f.savedTarget(0), 0);
}

function checksumDifference(f: FunctionGenerator): void {
  const { random } = f;
  const sizes = [random.below(5) * 4, random.below(5) * 4];
  const from = sizes[0] === 0 ? undefined : readable(f, sizes[0]!);
  if (sizes[0] !== 0 && from === undefined) return;
  // A stack buffer for the second may use the first's bytes: they stay initialised, and both are only read.
  const to = sizes[1] === 0 ? undefined : readable(f, sizes[1]!);
  if (sizes[1] !== 0 && to === undefined) return;
  passScalar(f, 5, () => f.word(), 60);
  f.immediate(4, sizes[1]!);
  if (to === undefined) f.immediate(3, 0);
  else passBuffer(f, 3, to);
  f.immediate(2, sizes[0]!);
  if (from === undefined) f.immediate(1, 0);
  else passBuffer(f, 1, from);
  f.helper(H.csumDiff);
}

function passContext(f: FunctionGenerator): void {
  f.contextInto(1);
}

function movePacket(f: FunctionGenerator): void {
  const { random } = f;
  const call = random.pick([H.adjustHead, H.adjustTail, H.adjustMeta]);
  const step = (): number => {
    const long = f.around.frags && call === H.adjustTail && random.chance(50);
    const amount = long ? packetOffset(f) : random.pick([0, 1, 4, 8, 14, 20, 40, 64, 252, 300, 4000]);
    return random.chance(50) ? amount : -amount;
  };
  passScalar(f, 2, step, 10);
  passContext(f);
  f.helper(call);
  f.forgetPacket();
}

/** bpf_xdp_load_bytes and bpf_xdp_store_bytes. */
function packetBytes(f: FunctionGenerator): void {
  const { random } = f;
  const length = f.around.frags && random.chance(10) ? 25 + random.below(100) : 1 + random.below(24);
  const place = stack(f, length);
  if (place === undefined) return;
  passScalar(f, 2, () => (f.around.frags && random.chance(80) ? packetOffset(f) : random.below(80)), 30);
  passBuffer(f, 3, place);
  f.immediate(4, length);
  passContext(f);
  f.helper(random.pick([H.loadBytes, H.storeBytes]));
}

/** Of a frame with frags: often about where the linear part or a page ends. */
function packetOffset({ random }: FunctionGenerator): number {
  const end =
    MAX_FRAME_LENGTH + FRAG_BYTES * (random.chance(5) ? random.below(MAX_SKB_FRAGS) : random.below(3));
  return random.chance(70) ? Math.max(0, end - 24 + random.below(28)) : random.below(end);
}

function bufferLength(f: FunctionGenerator): void {
  passContext(f);
  f.helper(H.bufferLength);
}

function redirect(f: FunctionGenerator): void {
  passScalar(f, 1, () => f.random.below(4), 20);
  passScalar(f, 2, () => f.random.pick([0, 0, 0, 1]), 10);
  f.helper(H.redirect);
}

function redirectMap(f: FunctionGenerator): void {
  const map = f.random.pick(mapsOf(f, REDIRECTS));
  passScalar(f, 2, () => f.random.below(5), 30);
  passScalar(f, 3, () => f.random.pick([0, 1, 2, 3, 2, 4, 8, 24]), 5);
  passMap(f, 1, map);
  f.helper(H.redirectMap);
}

function tailCall(f: FunctionGenerator): void {
  const map = f.random.pick(mapsOf(f, new Set([T.BPF_MAP_TYPE_PROG_ARRAY])));
  passScalar(f, 3, () => f.random.below(map.attributes.maxEntries + 1), 25);
  passMap(f, 2, map);
  passContext(f);
  // In a local function the program that is called returns to this one's caller, which must know what it may do.
  f.touchMap('all');
  f.helper(H.tailCall);
  // A tail call that fails leaves nothing in R0.
  f.set(0, undefined);
  f.forgetPacket();
}

/** `x=%d` with its end, in one word and a byte. */
function print(f: FunctionGenerator): void {
  const place = stack(f, 8);
  if (place === undefined) return;
  f.code.emit(op.BPF_ST | op.BPF_MEM | op.BPF_W, 10, 0, place.offset, 0x64253d78);
  f.code.emit(op.BPF_ST | op.BPF_MEM | op.BPF_W, 10, 0, place.offset + 4, 0);
  passScalar(f, 3, () => f.word(), 80);
  f.immediate(2, 5);
  passBuffer(f, 1, place);
  f.helper(H.tracePrintk);
}
