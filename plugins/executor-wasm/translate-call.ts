import type { Insn } from '../../src/bpf/insn.js';
import { E2BIG } from '../../src/bpf/errno.js';
import { MAX_TAIL_CALL_CNT } from '../../src/bpf/opcodes.js';
import {
  BPF_RINGBUF_BUSY_BIT,
  BPF_RINGBUF_DISCARD_BIT,
  RING_LENGTH_MASK,
  RING_RECORD,
} from '../../src/bpf/runtime/map-layout.js';
import { PRNG_INCREMENT, PRNG_MULTIPLIER, RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import {
  FRAME_SLOT,
  REDIRECT_IFINDEX,
  REDIRECT_MAP,
  REDIRECT_NONE,
} from '../../src/bpf/runtime/xdp-frame.js';
import { XDP_ABORTED, XDP_REDIRECT } from '../../src/bpf/xdp.js';
import {
  helperArity,
  mayCharge,
  planCall,
  ringBytes,
  writesProgramMemory,
  type CallPlan,
  type ProgramArray,
  type RingLayout,
} from './call-plan.js';
import { emitCharge, type CodeEnvironment, type FunctionExit } from './code-environment.js';
import { callTarget } from './control-flow-graph.js';
import { emitElementAddress, emitLookup, type KeyWord } from './inline-map-lookup.js';
import type { KnownValue } from './known-value.js';
import { FRAME_STRIDE } from './program-table.js';
import type { Operands } from './translate-insn.js';
import { emitCount, NO_WORK, type WorkCount } from './work-count.js';
import {
  callResult,
  cellOf,
  isIndexKnown,
  readCell,
  type AnalysisInput,
  type ProgramState,
} from './value-analysis.js';
import { I32, I64, OP } from '../../src/bpf/wasm-encoder.js';

export interface CallSiteOptions {
  readonly input: AnalysisInput;
  readonly environment: CodeEnvironment;
  readonly exit: FunctionExit;
  /** The local with the frame's low end, where frames are not at fixed addresses. */
  readonly frameLocal?: number | undefined;
  /**
   * How many tail calls led to a main program, which nothing but another can have made: the number, or the i64 local with
   * it. Left out: none.
   */
  readonly chain?: number | { readonly local: number } | undefined;
  /** What stands in the place of a tail call; see tail-links.ts. */
  readonly linked?: ((array: ProgramArray, index: KnownValue) => TailLinks) | undefined;
}

/** The programs that are compiled in place of a tail call. */
export interface TailLinks {
  readonly programs: readonly LinkedProgram[];
  /** These are all that the map held, so that another is news. */
  readonly complete: boolean;
}

export interface LinkedProgram {
  /** Global with the program's id; 0, which no entry holds that comes so far, once the program is gone. */
  readonly id: number;
  /**
   * Writes the program's code, which control does not leave but by its exit; whether it reads stack memory.
   *
   * @param context the i32 local with R1
   * @param work what was done before and is not written down
   */
  emit(context: number, work: WorkCount): boolean;
}

/** What the code of a call is made from: the function under translation, at one insn. */
export interface CallSite extends Operands {
  readonly options: CallSiteOptions;
  /** What registers and stack cells hold before the call. */
  readonly state: ProgramState;
  /** Set when the code reads stack memory that stores must have reached. */
  readsStackMemory: boolean;
  /** Counts a call, and bytes that code in its place goes through. */
  countCall(helper: number, bytes: number): void;
  /** Writes down what was done on the way to here; what comes behind counts it again. */
  emitCount(): void;
  /** Likewise, but for what the code that comes next can add to its own. */
  handOnWork(): WorkCount;
  /** What is written from here on belongs to the insn at `slot`. */
  mark(slot: number): void;
  /** Pushes the stack cell of that index as an i32 (i64 where it is held wide). */
  pushCell(index: number, value: KnownValue): void;
}

/** Writes the call at `slot`: of a local function, of a helper (inlined where `planCall` says so), or a tail call. */
export function emitCall(at: CallSite, insn: Insn, slot: number): void {
  const { input, environment, frameLocal } = at.options;
  const plan = planCall(insn, at.state.registers, input);
  const result = callResult(input, plan, at.state);
  const { out } = at;
  if (plan.kind !== 'local') {
    at.countCall(insn.imm, inlineBytes(plan));
  }
  switch (plan.kind) {
    case 'local':
      at.readsStackMemory = true;
      for (let r = 1; r <= 5; r++) at.pushWide(r);
      if (frameLocal !== undefined) out.get(frameLocal).i32(FRAME_STRIDE).op(OP.i32_add);
      out.call(environment.localFunction(callTarget(input.insns, slot)));
      at.set(0, result!);
      return;
    case 'lookup':
      emitMapLookup(at, plan, result!, slot);
      return;
    case 'update':
      emitArrayUpdate(at, plan, result!);
      return;
    case 'ring-output':
      emitRingOutput(at, plan, insn.imm, result!);
      return;
    case 'ring-reserve':
      emitRingReserve(at, plan, insn.imm, result!);
      return;
    case 'ring-commit':
      emitRingCommit(at, plan, insn.imm, result!);
      return;
    case 'time':
      out.i32(environment.runState).memory(OP.i64_load, RUN_STATE.now);
      at.set(0, result!);
      return;
    case 'cpu':
      out.i32(environment.runState).memory(OP.i32_load, RUN_STATE.cpu);
      at.set(0, result!);
      return;
    case 'random': {
      const next = at.scratch(I64, 'random');
      out.i32(environment.runState).memory(OP.i32_load, RUN_STATE.givenLeft).if();
      emitHelperCall(at, insn.imm, result!);
      out.else();
      out.i32(environment.runState).i32(environment.runState).memory(OP.i64_load, RUN_STATE.prng);
      out.i64(PRNG_MULTIPLIER).op(OP.i64_mul).i64(PRNG_INCREMENT).op(OP.i64_add).tee(next);
      out.memory(OP.i64_store, RUN_STATE.prng);
      out.get(next).i64(32n).op(OP.i64_shr_u).op(OP.i32_wrap_i64);
      at.set(0, result!);
      out.end();
      return;
    }
    case 'redirect':
      emitRedirect(at, result!);
      return;
    case 'checksum':
      emitChecksum(at, plan, result!, slot);
      return;
    case 'redirect-map':
      emitRedirectMap(at, plan, result!);
      return;
    case 'tail-call':
      emitTailCall(at, plan, slot);
      return;
    case 'helper':
      emitHelperCall(at, plan.id, result!);
  }
}

/** Bytes that the code in place of a helper goes through. */
function inlineBytes(plan: CallPlan): number {
  if (plan.kind === 'lookup') return plan.map.attributes.keySize;
  if (plan.kind === 'update') return plan.map.attributes.keySize + plan.map.syscallValueSize;
  return plan.kind === 'checksum' ? plan.fromSize + plan.toSize : 0;
}

function emitHelperCall(at: CallSite, id: number, result: KnownValue): void {
  const { environment, input } = at.options;
  const { out } = at;
  for (let r = 1; r <= helperArity(id, input); r++) {
    if (at.known(r).stack) at.readsStackMemory = true;
    out.i32(environment.runState);
    at.pushWide(r);
    out.memory(OP.i64_store, RUN_STATE.r0 + 8 * r);
  }
  // A helper of unknown habits may follow a pointer that it finds in memory.
  if (writesProgramMemory(id, input)) at.readsStackMemory = true;
  if (mayCharge(id, at.state.registers, input)) environment.mayCharge();
  const tried = environment.triedBefore(id);
  if (tried !== undefined) out.call(tried).op(OP.i32_eqz).if();
  out.call(environment.helper(id));
  if (tried !== undefined) out.end();
  if (result.form === 'const') return;
  out.i32(environment.runState);
  out.memory(result.form === 'word' ? OP.i32_load : OP.i64_load, RUN_STATE.r0);
  at.set(0, result);
}

function emitMapLookup(
  at: CallSite,
  plan: CallPlan & { kind: 'lookup' },
  result: KnownValue,
  slot: number,
): void {
  const { environment } = at.options;
  const keySize = plan.map.attributes.keySize;
  if (result.form === 'const') return;
  emitLookup({
    out: at.out,
    layout: plan.layout,
    keyWord: (index) => pointedWord(at, 2, 4 * index, Math.min(4, keySize - 4 * index)),
    keySize,
    cpuAddress: environment.runState + RUN_STATE.cpu,
    charge: (insns) => {
      environment.mayCharge();
      emitCharge(at.out, environment, insns, { slot });
    },
    scratch: (purpose) => at.scratch(I32, purpose),
  });
  at.set(0, result);
}

/** Up to four bytes, from so many on, of what a register points to: from the cell that holds them, or from memory. */
function pointedWord(at: CallSite, register: number, from: number, size: number): KeyWord {
  const base = at.known(register);
  const offset = cellOf(at.options.input, base, from);
  const held = offset === undefined ? undefined : readCell(at.state, offset, 4);
  if (held !== undefined && offset !== undefined && (offset & 3) === 0) {
    return {
      size,
      known: held,
      push: () => {
        at.pushCell(offset >> 2, held);
        // What lies behind the key in the cell is not part of it.
        if (size < 4) at.out.i32(2 ** (8 * size) - 1).op(OP.i32_and);
      },
    };
  }
  if (base.stack) at.readsStackMemory = true;
  const load = (opcode: number, within: number): void => {
    if (base.form === 'const') at.out.i32(base.low + from + within).memory(opcode);
    else {
      at.pushWord(register);
      at.out.memory(opcode, from + within);
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
      at.out.i32(16).op(OP.i32_shl).op(OP.i32_or);
    },
  };
}

/** bpf_map_update_elem on an array: the value is read before any of it is written, as the two may overlap. */
function emitArrayUpdate(at: CallSite, plan: CallPlan & { kind: 'update' }, result: KnownValue): void {
  const { out } = at;
  const { layout, map } = plan;
  const { input, environment } = at.options;
  const { valueSize } = map.attributes;
  const index = at.scratch(I32, 'index');
  const element = at.scratch(I32, 'element');
  pointedWord(at, 2, 0, 4).push();
  out.set(index);
  const known = isIndexKnown(input, plan, at.state);
  if (!known) {
    out.get(index).i32(layout.maxEntries).op(OP.i32_ge_u).if();
    out.i64(BigInt(-E2BIG));
    at.set(0, result);
    out.else();
  }
  const storeValue = emitValueLoads(at, 3, valueSize);
  out.get(index);
  emitElementAddress({ out, cpuAddress: environment.runState + RUN_STATE.cpu }, layout);
  out.set(element);
  storeValue(element, 0);
  if (known) return;
  out.i64(0n);
  at.set(0, result);
  out.end();
}

/** bpf_ringbuf_output of known size; where there is no room, by the helper. */
function emitRingOutput(
  at: CallSite,
  { layout, size }: CallPlan & { kind: 'ring-output' },
  id: number,
  result: KnownValue,
): void {
  const { out } = at;
  const { workCounters } = at.options.environment;
  pushRingRoom(at, layout, size);
  out.if();
  // Before anything is written: the data may be in the ring itself.
  const storeData = emitValueLoads(at, 2, size);
  const record = emitRingRecord(at, layout, size, 0);
  storeData(record, RING_RECORD.data);
  if (workCounters !== undefined) emitCount(out, workCounters, { ...NO_WORK, bytes: size });
  out.i64(0n);
  at.set(0, result);
  out.else();
  emitHelperCall(at, id, result);
  out.end();
}

/** bpf_ringbuf_reserve of known size; by the helper where there is no room, or another record is reserved. */
function emitRingReserve(
  at: CallSite,
  { map, layout, size }: CallPlan & { kind: 'ring-reserve' },
  id: number,
  result: KnownValue,
): void {
  const { out } = at;
  const { runState } = at.options.environment;
  pushRingRoom(at, layout, size);
  // With the number of other reservations, which lies behind it.
  out.i32(runState).memory(OP.i64_load, RUN_STATE.reservedRecord).op(OP.i64_eqz).op(OP.i32_and).if();
  const record = emitRingRecord(at, layout, size, BPF_RINGBUF_BUSY_BIT);
  out.get(record).i32(RING_RECORD.data).op(OP.i32_add).set(record);
  out.i32(runState).i32(map.address).memory(OP.i32_store, RUN_STATE.reservedMap);
  out.i32(runState).get(record).memory(OP.i32_store, RUN_STATE.reservedRecord);
  out.get(record);
  at.set(0, result);
  out.else();
  emitHelperCall(at, id, result);
  out.end();
}

/** bpf_ringbuf_submit and _discard of the record that the run state has; of another, by the helper. */
function emitRingCommit(
  at: CallSite,
  { discard }: CallPlan & { kind: 'ring-commit' },
  id: number,
  result: KnownValue,
): void {
  const { out } = at;
  const { runState } = at.options.environment;
  const record = at.scratch(I32, 'record');
  out.i32(runState).memory(OP.i32_load, RUN_STATE.reservedRecord).tee(record);
  out.op(OP.i32_eqz).op(OP.i32_eqz);
  at.pushWide(1);
  out.get(record).op(OP.i64_extend_i32_u).op(OP.i64_eq).op(OP.i32_and).if();
  out.get(record).i32(RING_RECORD.data).op(OP.i32_sub).tee(record);
  out.get(record).memory(OP.i32_load, RING_RECORD.length).i32(RING_LENGTH_MASK).op(OP.i32_and);
  if (discard) out.i32(BPF_RINGBUF_DISCARD_BIT).op(OP.i32_or);
  out.memory(OP.i32_store, RING_RECORD.length);
  out.i32(runState).i32(0).memory(OP.i32_store, RUN_STATE.reservedRecord);
  out.else();
  emitHelperCall(at, id, result);
  out.end();
}

/** Pushes whether a ring has room for a record of so many bytes. */
function pushRingRoom({ out }: CallSite, layout: RingLayout, size: number): void {
  out.i32(layout.producer).memory(OP.i32_load);
  out.i32(layout.consumer).memory(OP.i32_load).op(OP.i32_sub);
  out.i32(layout.size - 1 - ringBytes(size)).op(OP.i32_le_u);
}

/** Appends a record, for which there is room, of so many bytes and these bits beside their number; the local with its address. */
function emitRingRecord(at: CallSite, layout: RingLayout, size: number, bits: number): number {
  const { out } = at;
  const { environment } = at.options;
  const position = at.scratch(I32, 'ring position');
  const record = at.scratch(I32, 'record');
  const total = ringBytes(size);
  out.i32(layout.producer).memory(OP.i32_load).tee(position);
  out
    .i32(layout.size - 8)
    .op(OP.i32_and)
    .i32(layout.data)
    .op(OP.i32_add)
    .tee(record);
  out.i32(size | bits).memory(OP.i32_store, RING_RECORD.length);
  out.get(record).i32(environment.runState).memory(OP.i32_load16_u, RUN_STATE.cpu);
  out.i32(layout.lost).memory(OP.i32_load).i32(16).op(OP.i32_shl).op(OP.i32_or);
  out.memory(OP.i32_store, RING_RECORD.origin);
  out.i32(layout.lost).i32(0).memory(OP.i32_store);
  out.i32(layout.producer).get(position).i32(total).op(OP.i32_add).tee(position).memory(OP.i32_store);
  out.get(position).i32(total).op(OP.i32_lt_u).if();
  const upper = layout.producer + 4;
  out.i32(upper).i32(upper).memory(OP.i32_load).i32(1).op(OP.i32_add).memory(OP.i32_store);
  out.end();
  return record;
}

/**
 * Puts into locals what memory holds of the bytes that a register points to; gives what writes all of them from an offset of
 * an address on, which a local has.
 */
function emitValueLoads(
  at: CallSite,
  register: number,
  size: number,
): (address: number, offset: number) => void {
  const { out } = at;
  const parts: (ValuePart & { readonly from: number })[] = [];
  for (let from = 0; from < size;) {
    const part = emitValuePart(at, register, from, size - from);
    parts.push({ ...part, from });
    from += part.size;
  }
  return (address, offset) => {
    for (const { from, store, push } of parts) {
      out.get(address);
      push();
      out.memory(store, offset + from);
    }
  };
}

interface ValuePart {
  readonly size: number;
  readonly store: number;
  readonly push: () => void;
}

/** The next part, of at most `rest` bytes, of the value that a register points to: the cell that holds it, or the local that it is put into. */
function emitValuePart(at: CallSite, register: number, from: number, rest: number): ValuePart {
  const base = at.known(register);
  const offset = cellOf(at.options.input, base, from);
  const index = offset === undefined || (offset & 3) !== 0 ? undefined : offset >> 2;
  const held = index === undefined ? undefined : at.state.cells.get(index);
  if (index !== undefined && held !== undefined) {
    const [size, store] = held.form === 'wide' ? [8, OP.i64_store] : [4, OP.i32_store];
    if (size <= rest) return { size, store, push: () => void at.pushCell(index, held) };
  }
  if (base.stack) at.readsStackMemory = true;
  const { size, type, load, store } = VALUE_PARTS.find((part) => part.size <= rest)!;
  const local = at.scratch(type, `value ${from}`);
  at.pushWord(register);
  at.out.memory(load, from).set(local);
  return { size, store, push: () => void at.out.get(local) };
}

const VALUE_PARTS = [
  { size: 8, type: I64, load: OP.i64_load, store: OP.i64_store },
  { size: 4, type: I32, load: OP.i32_load, store: OP.i32_store },
  { size: 2, type: I32, load: OP.i32_load16_u, store: OP.i32_store16 },
  { size: 1, type: I32, load: OP.i32_load8_u, store: OP.i32_store8 },
] as const;

function emitRedirect(at: CallSite, result: KnownValue): void {
  const { out } = at;
  const frame = at.scratch(I32, 'frame');
  const ifindex = at.scratch(I32, 'ifindex');
  // R0 may not be written before its arguments are read, and XDP takes no flags.
  at.pushWord(1);
  out.set(ifindex);
  at.pushWide(2);
  out.op(OP.i64_eqz).if();
  out.i32(at.options.environment.runState).memory(OP.i32_load, RUN_STATE.context).tee(frame);
  out.i32(REDIRECT_IFINDEX).memory(OP.i32_store, FRAME_SLOT.redirectKind);
  out.get(frame).get(ifindex).memory(OP.i32_store, FRAME_SLOT.redirectTarget);
  out.get(frame).i32(0).memory(OP.i32_store, FRAME_SLOT.redirectMap);
  out.get(frame).i32(0).memory(OP.i32_store, FRAME_SLOT.redirectFlags);
  out.i32(XDP_REDIRECT);
  at.set(0, result);
  out.else().i32(XDP_ABORTED);
  at.set(0, result);
  out.end();
}

/**
 * bpf_csum_diff, as the helper computes it: which of the two zeros of one's complement comes out is the same too. Words are
 * added up in 64 bits and the carries at the end.
 */
function emitChecksum(
  at: CallSite,
  { fromSize, toSize }: CallPlan & { kind: 'checksum' },
  result: KnownValue,
  slot: number,
): void {
  const { out } = at;
  const sum = at.scratch(I64, 'sum');
  /** Pushes the sum of what is on the stack and the words that a register points to. */
  const addWords = (register: number, size: number): void => {
    if (size > 0 && at.known(register).stack) at.readsStackMemory = true;
    for (let word = 0; word < size; word += 4) {
      const offset = at.pushAddress(register, word, 4, false, slot);
      out.memory(OP.i32_load, offset).op(OP.i64_extend_i32_u).op(OP.i64_add);
    }
  };
  /** Pops a sum and pushes it with its carries beyond `bits` added in, twice: the first time there may be another. */
  const fold = (bits: bigint): void => {
    for (let times = 0; times < 2; times++) {
      out
        .tee(sum)
        .i64((1n << bits) - 1n)
        .op(OP.i64_and);
      out.get(sum).i64(bits).op(OP.i64_shr_u).op(OP.i64_add);
    }
  };
  const complement = (): void => void out.i64(0xffff_ffffn).op(OP.i64_xor);
  at.pushWord(5);
  out.op(OP.i64_extend_i32_u);
  if (toSize > 0) {
    addWords(3, toSize);
    if (fromSize > 0) {
      out.i64(0n);
      addWords(1, fromSize);
      fold(32n);
      complement();
      out.op(OP.i64_add);
    }
  } else if (fromSize > 0) {
    complement();
    addWords(1, fromSize);
    fold(32n);
    complement();
  }
  fold(32n);
  fold(16n);
  out.op(OP.i32_wrap_i64);
  at.set(0, result);
}

/** bpf_redirect_map with flags that name one entry. */
function emitRedirectMap(
  at: CallSite,
  { map, layout, otherwise }: CallPlan & { kind: 'redirect-map' },
  result: KnownValue,
): void {
  const { out } = at;
  const frame = at.scratch(I32, 'frame');
  const index = at.scratch(I32, 'index');
  // R0 may not be written before its arguments are read; of the key the helper takes the lower half.
  at.pushWord(2);
  out.set(index);
  out.i32(at.options.environment.runState).memory(OP.i32_load, RUN_STATE.context).set(frame);
  const store = (value: number, offset: number): void => {
    out.get(frame).i32(value).memory(OP.i32_store, offset);
  };
  const done = out.block();
  const missing = out.block();
  out.get(index).i32(layout.maxEntries).op(OP.i32_ge_u).brIf(missing);
  out
    .get(index)
    .i32(3)
    .op(OP.i32_shl)
    .memory(OP.i32_load, layout.entries + layout.usedOffset);
  out.op(OP.i32_eqz).brIf(missing);
  store(REDIRECT_MAP, FRAME_SLOT.redirectKind);
  out.get(frame).get(index).memory(OP.i32_store, FRAME_SLOT.redirectTarget);
  store(map.address, FRAME_SLOT.redirectMap);
  store(0, FRAME_SLOT.redirectFlags);
  out.i32(XDP_REDIRECT);
  at.set(0, result);
  out.br(done);
  out.end();
  // A miss also forgets what an earlier call of the run left behind.
  store(REDIRECT_NONE, FRAME_SLOT.redirectKind);
  for (const field of ['redirectTarget', 'redirectMap', 'redirectFlags'] as const)
    store(0, FRAME_SLOT[field]);
  out.i32(otherwise);
  at.set(0, result);
  out.end();
}

function emitTailCall(at: CallSite, plan: CallPlan & { kind: 'tail-call' }, slot: number): void {
  const { environment, exit, frameLocal, linked } = at.options;
  const { out } = at;
  const target = at.scratch(I32, 'target');
  const count = at.scratch(I32, 'tail calls');
  const miss = out.block();
  pushTailCallCount(at);
  out.tee(count).i32(MAX_TAIL_CALL_CNT).op(OP.i32_ge_u).brIf(miss);
  const resolve = (): void => {
    for (let r = 1; r <= 3; r++) {
      out.i32(environment.runState);
      at.pushWide(r);
      out.memory(OP.i64_store, 8 * r);
    }
    out.call(environment.resolveTailCall).tee(target).op(OP.i32_eqz).brIf(miss);
  };
  if (plan.array === undefined) resolve();
  else {
    const { access } = environment;
    if (access !== undefined) {
      // Where the array was, another map may lie.
      access.watch(plan.array.map.address);
      out.globalGet(access.stale).if();
      resolve();
      out.else();
    }
    const index = at.scratch(I32, 'index');
    const program = at.scratch(I32, 'program');
    const entry = at.scratch(I32, 'entry');
    // The helper takes the index as a u32.
    const { layout } = plan.array;
    at.pushWord(3);
    out.tee(index).i32(layout.maxEntries).op(OP.i32_ge_u).brIf(miss);
    out.get(index).i32(2).op(OP.i32_shl).memory(OP.i32_load, layout.slots);
    out.tee(program).op(OP.i32_eqz).brIf(miss);
    if (linked !== undefined) emitLinks(at, linked(plan.array, at.known(3)), program, slot);
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
    if (access !== undefined) out.end();
  }
  at.emitCount();
  out.i32(environment.tailCalls).get(count).i32(1).op(OP.i32_add).memory(OP.i32_store);
  if (frameLocal !== undefined) {
    // Of a main program, about what came before the call; a local function is charged for as it goes.
    const { start } = at.options.input.function;
    emitCharge(out, environment, start === 0 ? slot + 1 : 0, { slot });
    // This frame is dead; the target may have it.
    out.i32(environment.dynamicFrame).get(frameLocal).memory(OP.i32_store);
  }
  at.pushWide(1);
  out.get(count).i32(1).op(OP.i32_add).op(OP.i64_extend_i32_u).get(target);
  if (exit.kind === 'return') {
    out.returnCallIndirect(environment.mainType);
  } else {
    const result = at.scratch(I64, 'tail result');
    out.callIndirect(environment.mainType).set(result);
    exit.verdict(() => out.get(result).op(OP.i32_wrap_i64));
  }
  out.end();
}

/** Runs the program whose id is in a local where it stands here; else control goes on behind. */
function emitLinks(at: CallSite, { programs, complete }: TailLinks, program: number, slot: number): void {
  const { out } = at;
  const context = at.scratch(I32, 'context');
  at.pushWord(1);
  out.set(context);
  for (const linked of programs) {
    out.get(program).globalGet(linked.id).op(OP.i32_eq).if();
    if (linked.emit(context, at.handOnWork())) at.readsStackMemory = true;
    out.op(OP.unreachable).end();
    at.mark(slot);
  }
  if (complete) out.call(at.options.environment.linkMissed);
}

/**
 * Pushes how many tail calls the run has made, an i32. It is a parameter of the program that was called, where no
 * program can overwrite it. Only local functions that made tail calls and went on after them must look in memory;
 * what they do is counted as insns, so that they do not go on for ever either.
 */
function pushTailCallCount({ out, options }: CallSite): void {
  const { environment, frameLocal, chain = 0 } = options;
  if (frameLocal !== undefined) out.i32(environment.tailCalls).memory(OP.i32_load);
  else if (typeof chain === 'number') out.i32(chain);
  else out.get(chain.local).op(OP.i32_wrap_i64);
}
