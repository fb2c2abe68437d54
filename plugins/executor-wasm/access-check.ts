import type { Insn } from '../../src/bpf/insn.js';
import { FRAME_POINTER, MAX_BPF_STACK, OP_CALL, OP_LDDW } from '../../src/bpf/opcodes.js';
import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_SLOT, PACKET_AREA } from '../../src/bpf/runtime/xdp-frame.js';
import { XDP_MD } from '../../src/bpf/xdp.js';
import {
  copyOrigins,
  findOrigins,
  stepOrigins,
  type FoundOrigins,
  type Origin,
  type Origins,
} from './access-origin.js';
import { planCall, type CallPlan } from './call-plan.js';
import { constantAddress, WORD_MAX, type KnownValue } from './known-value.js';
import { FRAME_STRIDE } from './program-table.js';
import type { Operands } from './translate-insn.js';
import {
  accessedRegister,
  accessSize,
  copyState,
  step,
  type AnalysisInput,
  type FunctionAnalysis,
} from './value-analysis.js';
import { FunctionWriter, I32, I64, OP, type FunctionType } from '../../src/bpf/wasm-encoder.js';

/**
 * The checks of a checked build. Each access is compared with the bounds of the object that it is most likely for
 * (access-origin.ts), in locals or known when the code is written. What lies outside of them is judged by `checkAccess`,
 * which knows all objects and ends the run where there is none: the comparison may let nothing pass that it would not.
 *
 * | object | its bounds |
 * |---|---|
 * | own stack frame, by R10 | known |
 * | context | where the frame lies, in a local |
 * | packet | in locals, taken from the frame where the function begins and after each call that may move them |
 * | value that a lookup in a known map found | a local for the lookup, NO_OBJECT when it found none |
 * | value of a map at a constant address | known |
 *
 * The last two hold for as long as the map lives, of which `AccessPlaces.stale` tells.
 */

/** Functions and globals that checks refer to. */
export interface AccessPlaces {
  /** `(address: i64, size and write flag, insn)`: throws if the access is not allowed. */
  readonly checkAccess: number;
  /** Global that is not 0 once an object that was watched is gone. */
  readonly stale: number;
  readonly space: AddressSpace;
  /** Has `stale` tell of the object at an address. */
  watch(address: number): void;
}

/** Bit in the second argument of `checkAccess`. */
export const WRITE_FLAG = 0x1_0000;

/** In place of the address of a value: further from each 32-bit address than a value is long. */
const NO_OBJECT = 1n << 40n;

/** What a lookup in a known map finds. */
interface FoundValue {
  /** Address of the map. */
  readonly map: number;
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** The object that an access is compared with. */
type Place =
  | { readonly kind: 'settled' | 'context' | 'packet' }
  | { readonly kind: 'map'; readonly address: number }
  | { readonly kind: 'value'; readonly local: number; readonly size: number };

export interface AccessCheckOptions {
  readonly input: AnalysisInput;
  readonly analysis: FunctionAnalysis;
  readonly places: AccessPlaces;
  readonly runState: number;
  /** The function's own stack frame, unless it may lie anywhere. */
  readonly stackFrame: { readonly low: number; readonly high: number } | undefined;
}

/** The checks of one function under translation. */
export class AccessChecks {
  readonly #found: FoundOrigins;
  #origins: Origins = { registers: [], spilled: new Map() };
  /** By lookup. */
  readonly #values = new Map<number, FoundValue>();
  /** An i64 for each representative of lookups whose value is accessed. */
  readonly #valueLocals = new Map<number, number>();
  /** An i32 for each size of accesses to the packet: at how many addresses from its start one may be. */
  readonly #limits = new Map<number, number>();
  readonly #frame: number;
  readonly #packet: number;
  readonly #packetBytes: number;
  readonly #usesFrame: boolean;
  readonly #usesPacket: boolean;

  constructor(
    readonly operands: Operands,
    readonly options: AccessCheckOptions,
  ) {
    const { insns, function: fn, entry } = options.input;
    const origins = entry.map((value): Origin => (value.context === true ? 'context' : undefined));
    this.#found = findOrigins(insns, fn, options.analysis.successors, origins);
    const { out } = operands;
    this.#frame = out.local(I32);
    this.#packet = out.local(I64);
    this.#packetBytes = out.local(I64);
    let [usesFrame, usesPacket] = [false, false];
    const accessedLookups = new Set<number>();
    this.#eachInsn((slot, atSlot, registers) => {
      const insn = insns[slot]!;
      const accessed = accessedRegister(insn);
      const plan = quickPlan(insn, registers, options.input);
      if (plan?.kind === 'lookup') this.#foundBy(slot, plan);
      const used = [...(accessed === undefined ? [] : [accessed]), ...(plan === undefined ? [] : [1, 2, 3])];
      for (const origin of used.map((register) => atSlot.registers[register])) {
        if (origin === 'context') usesFrame = true;
        if (origin === 'packet') usesPacket = true;
        if (origin === 'packet' && accessed !== undefined) {
          const size = accessSize(insn);
          if (!this.#limits.has(size)) this.#limits.set(size, out.local(I32));
        }
        if (typeof origin === 'number') accessedLookups.add(origin);
      }
    });
    for (const lookup of accessedLookups) {
      const representative = this.#found.representative(lookup);
      if (!this.#valueLocals.has(representative)) this.#valueLocals.set(representative, out.local(I64));
    }
    this.#usesFrame = usesFrame || usesPacket;
    this.#usesPacket = usesPacket;
  }

  /** Code may stand in a loop of the caller's: what locals hold is of the run before. */
  enter(): void {
    const { out } = this.operands;
    for (const local of this.#valueLocals.values()) out.i64(NO_OBJECT).set(local);
    this.#takeFrame();
  }

  startBlock(node: number): void {
    this.#origins = copyOrigins(this.#found.before[node]!);
  }

  step(slot: number): void {
    stepOrigins(this.options.input.insns, slot, this.#origins);
  }

  /** Behind code that may have called into the host or another function. */
  called(): void {
    const { out } = this.operands;
    if (this.#valueLocals.size > 0) {
      out.globalGet(this.options.places.stale).if();
      for (const local of this.#valueLocals.values()) out.i64(NO_OBJECT).set(local);
      out.end();
    }
    this.#takeFrame();
  }

  /** Behind the call at `slot`: R0 is held as `result` says. `asked`: the helper was, which knows the maps that there are now. */
  found(slot: number, result: KnownValue, asked: boolean): void {
    const value = this.#values.get(slot);
    const local = this.#valueLocals.get(this.#found.representative(slot));
    if (local === undefined || value === undefined || !sameFound(value, this.#valueOf(slot))) return;
    const { out } = this.operands;
    this.operands.pushConstantOrRegister(0, result, true);
    out.tee(local).i64(NO_OBJECT);
    out.get(local).op(OP.i64_eqz);
    if (asked) {
      // Where the map was, another may lie, whose values are of another size.
      const { places } = this.options;
      places.watch(value.map);
      out.globalGet(places.stale).op(OP.i32_or);
    }
    out.op(OP.i32_eqz).op(OP.select).set(local);
  }

  /** As `Operands.pushAddress`. */
  pushAddress(register: number, off: number, size: number, write: boolean, slot: number): number {
    const { operands, options } = this;
    const { out } = operands;
    const place = this.#placeOf(register, off, size, write);
    const value = operands.known(register);
    const narrow = isExact(value, off);
    const address = operands.scratch(narrow ? I32 : I64, 'address');
    if (narrow) operands.pushWord(register);
    else operands.pushWide(register);
    if (off !== 0) {
      if (narrow) out.i32(off).op(OP.i32_add);
      else out.i64(BigInt(off)).op(OP.i64_add);
    }
    if (place?.kind === 'settled') {
      if (!narrow) out.op(OP.i32_wrap_i64);
      return 0;
    }
    out.set(address);
    const pushAddress = (): void => {
      out.get(address);
      if (narrow) out.op(OP.i64_extend_i32_u);
    };
    if (place !== undefined) {
      this.#pushWithin(place, pushAddress, off, size, narrow);
      out.op(OP.i32_eqz).if();
    }
    pushAddress();
    out
      .i32(size | (write ? WRITE_FLAG : 0))
      .i32(slot)
      .call(options.places.checkAccess);
    if (place !== undefined) out.end();
    out.get(address);
    if (!narrow) out.op(OP.i32_wrap_i64);
    return 0;
  }

  /**
   * Pushes an i32 that is not 0 if a call may be inlined as planned, which then accesses nothing that it may not. False,
   * and nothing is pushed, when it may never be.
   */
  pushMayInline(plan: CallPlan): boolean {
    const { out } = this.operands;
    const { places } = this.options;
    const arguments_ = readArguments(plan);
    if (arguments_ === undefined) return false;
    const found = arguments_.map(({ register, size }) => this.#placeOf(register, 0, size, false));
    if (found.some((place) => place === undefined)) return false;
    if ('map' in plan) places.watch(plan.map.address);
    out.globalGet(places.stale).op(OP.i32_eqz);
    arguments_.forEach(({ register, size }, index) => {
      this.#pushWithin(found[index]!, () => this.operands.pushWide(register), 0, size, false);
      out.op(OP.i32_and);
    });
    return true;
  }

  #placeOf(register: number, off: number, size: number, write: boolean): Place | undefined {
    const { places, stackFrame } = this.options;
    const value = this.operands.known(register);
    const inFrame = (from: number): boolean => from >= -MAX_BPF_STACK && from + size <= 0;
    if (register === FRAME_POINTER && inFrame(off)) return { kind: 'settled' };
    if (value.form === 'const') {
      const base = constantAddress(value);
      if (base === undefined) return undefined;
      const address = base + off;
      if (stackFrame !== undefined && inFrame(address - stackFrame.high)) return { kind: 'settled' };
      const isMap = address >= 0 && places.space.regionAt(address)?.kind === 'map-element';
      if (!isMap || places.space.accessFault(address, size, write) !== undefined) return undefined;
      places.watch(address);
      return { kind: 'map', address };
    }
    const origin = this.#origins.registers[register];
    if (origin === 'context') {
      return !write && off >= 0 && off + size <= FRAME_SLOT.hardStart ? { kind: 'context' } : undefined;
    }
    if (typeof origin !== 'number') return origin === undefined ? undefined : { kind: origin };
    const found = this.#valueOf(origin);
    if (found === undefined || size > found.size || !(write ? found.writable : found.readable))
      return undefined;
    return {
      kind: 'value',
      local: this.#valueLocals.get(this.#found.representative(origin))!,
      size: found.size,
    };
  }

  /** Pushes whether `size` bytes lie in a place. `pushAddress` pushes an i64; `narrow`: its upper half is 0. */
  #pushWithin(place: Place, pushAddress: () => void, off: number, size: number, narrow: boolean): void {
    const { out } = this.operands;
    switch (place.kind) {
      case 'settled':
        out.i32(1);
        return;
      case 'map':
        out.globalGet(this.options.places.stale).op(OP.i32_eqz);
        return;
      case 'context':
        pushAddress();
        out.get(this.#frame).i32(off).op(OP.i32_add).op(OP.i64_extend_i32_u).op(OP.i64_eq);
        return;
      case 'packet': {
        const limit = this.#limits.get(size);
        pushAddress();
        out.get(this.#packet).op(OP.i64_sub);
        if (limit === undefined) this.#pushLimit(size);
        else out.get(limit);
        out.op(OP.i64_extend_i32_u).op(OP.i64_lt_u);
        return;
      }
      case 'value':
        pushAddress();
        out.get(place.local).op(OP.i64_sub);
        out.i64(BigInt(place.size - size)).op(OP.i64_le_u);
        if (narrow) return;
        // As far above NO_OBJECT is where a 64-bit number may be.
        pushAddress();
        out.i64(32n).op(OP.i64_shr_u).op(OP.i64_eqz).op(OP.i32_and);
    }
  }

  /** Takes from the frame where it lies and what lies in it. */
  #takeFrame(): void {
    if (!this.#usesFrame) return;
    const { out } = this.operands;
    const frame = this.#frame;
    out.i32(this.options.runState).memory(OP.i32_load, RUN_STATE.context).set(frame);
    if (!this.#usesPacket) return;
    pushPacketStart(out, frame, this.operands.scratch(I64, 'bound'));
    out.set(this.#packet);
    pushPacketEnd(out, frame, this.operands.scratch(I64, 'bound'));
    out.get(this.#packet).op(OP.i64_sub).set(this.#packetBytes);
    for (const [size, local] of this.#limits) {
      this.#pushLimit(size);
      out.set(local);
    }
  }

  /** At how many addresses, from the packet's start on, so many bytes lie in it. */
  #pushLimit(size: number): void {
    const { out } = this.operands;
    out
      .get(this.#packetBytes)
      .op(OP.i32_wrap_i64)
      .i32(size - 1)
      .op(OP.i32_sub)
      .i32(0);
    out.get(this.#packetBytes).i64(BigInt(size)).op(OP.i64_ge_s).op(OP.select);
  }

  #foundBy(slot: number, { map, layout }: CallPlan & { kind: 'lookup' }): void {
    if (layout.kind === 'slots') return;
    const { space } = this.options.places;
    const size = map.attributes.valueSize;
    const first = layout.kind === 'array' ? layout.values : layout.elements + layout.valueOffset;
    const may = (write: boolean): boolean => space.accessFault(first, size, write) === undefined;
    this.#values.set(slot, { map: map.address, size, readable: may(false), writable: may(true) });
  }

  /** What the representative of a lookup finds. */
  #valueOf(lookup: number): FoundValue | undefined {
    return this.#values.get(this.#found.representative(lookup));
  }

  #eachInsn(visit: (slot: number, origins: Origins, registers: readonly KnownValue[]) => void): void {
    const { input, analysis } = this.options;
    input.function.blocks.forEach(({ start, end }, index) => {
      if (analysis.before[index] === undefined) return;
      const state = copyState(analysis.before[index]);
      const origins = copyOrigins(this.#found.before[index]!);
      for (let slot = start; slot < end; slot++) {
        visit(slot, origins, state.registers);
        step(input, slot, state);
        stepOrigins(input.insns, slot, origins);
        if (input.insns[slot]!.opcode === OP_LDDW) slot++;
      }
    });
  }
}

function sameFound(a: FoundValue, b: FoundValue | undefined): boolean {
  return a.size === b?.size && a.readable === b.readable && a.writable === b.writable;
}

/**
 * How a call is compiled where nothing has to be checked, if that is in code while a checked build, which leaves the checks
 * of arguments to the helper, calls it.
 */
export function quickPlan(
  insn: Insn,
  registers: readonly KnownValue[],
  input: AnalysisInput,
): CallPlan | undefined {
  if (insn.opcode !== OP_CALL || planCall(insn, registers, input).kind !== 'helper') return undefined;
  const plan = planCall(insn, registers, { ...input, checked: false });
  return plan.kind === 'helper' ? undefined : plan;
}

/** What a call reads by pointers of the program; undefined for one that has more to be checked. */
function readArguments(
  plan: CallPlan,
): readonly { readonly register: number; readonly size: number }[] | undefined {
  switch (plan.kind) {
    case 'lookup':
      // What a map of maps holds has bounds of its own.
      return plan.layout.kind === 'slots' ? undefined : [{ register: 2, size: plan.map.attributes.keySize }];
    case 'checksum':
      return [
        { register: 1, size: plan.fromSize },
        { register: 3, size: plan.toSize },
      ].filter(({ size }) => size > 0);
    case 'redirect-map':
      return [];
    default:
      return undefined;
  }
}

/** Whether `value + off` is an address below 2^32 whatever the value is. */
function isExact({ low, high }: KnownValue, off: number): boolean {
  return low + off >= 0 && high + off <= WORD_MAX;
}

/** As `packetStart` in xdp-frame.ts, an i64. */
function pushPacketStart(out: FunctionWriter, frame: number, scratch: number): void {
  pushBound(out, frame, scratch, XDP_MD.data_meta, PACKET_AREA.start, OP.i64_gt_u);
}

/** As `packetEnd`. */
function pushPacketEnd(out: FunctionWriter, frame: number, scratch: number): void {
  pushBound(out, frame, scratch, XDP_MD.data_end, PACKET_AREA.end, OP.i64_lt_u);
}

/** Pushes the field of the context at `field` or, unless it compares with it as told, the address of byte `limit`. */
function pushBound(
  out: FunctionWriter,
  frame: number,
  scratch: number,
  field: number,
  limit: number,
  comparison: number,
): void {
  const pushLimit = (): void => void out.get(frame).i32(limit).op(OP.i32_add).op(OP.i64_extend_i32_u);
  out.get(frame).memory(OP.i64_load32_u, field).tee(scratch);
  pushLimit();
  out.get(scratch);
  pushLimit();
  out.op(comparison).op(OP.select);
}

function returnIf(out: FunctionWriter): void {
  out.if();
  out.op(OP.return).end();
}

export interface AccessJudge {
  readonly runState: number;
  /** The stack of programs whose frames are at fixed addresses. */
  readonly stack: Region;
  /** Globals of ObjectCache. */
  readonly read: { readonly start: number; readonly end: number };
  readonly write: { readonly start: number; readonly end: number };
  /** `(address low, address high, size and write flag, insn)`: throws if the access is not allowed. */
  readonly check: number;
}

export const ACCESS_CHECK_TYPE: FunctionType = { parameters: [I64, I32, I32], results: [] };

/**
 * `AccessPlaces.checkAccess`: whether an access falls into the packet, the context, a stack frame or the object that was
 * last accessed so; else the host is asked.
 */
export function defineAccessCheck({ runState, stack, read, write, check }: AccessJudge): FunctionWriter {
  const out = new FunctionWriter(ACCESS_CHECK_TYPE);
  const [address, sizeAndFlag, slot] = [0, 1, 2];
  const [start, end, scratch, frame, offset] = [
    out.local(I64),
    out.local(I64),
    out.local(I64),
    out.local(I32),
    out.local(I32),
  ];
  out
    .get(sizeAndFlag)
    .i32(WRITE_FLAG - 1)
    .op(OP.i32_and)
    .op(OP.i64_extend_i32_u);
  const size = out.local(I64);
  out.set(size);
  const pushIsWrite = (): void => void out.get(sizeAndFlag).i32(WRITE_FLAG).op(OP.i32_and);
  /** Returns if the access lies between `start` and `end`. */
  const returnIfWithin = (): void => {
    out.get(address).get(start).op(OP.i64_ge_u);
    out.get(address).get(size).op(OP.i64_add).get(end).op(OP.i64_le_u);
    returnIf(out.op(OP.i32_and));
  };
  const ask = out.block();
  // From here on sums do not wrap.
  out.get(address).i64(32n).op(OP.i64_shr_u).op(OP.i64_eqz).op(OP.i32_eqz).brIf(ask);
  out.i32(runState).memory(OP.i32_load, RUN_STATE.context).tee(frame).if();
  pushPacketStart(out, frame, scratch);
  out.set(start);
  pushPacketEnd(out, frame, scratch);
  out.set(end);
  returnIfWithin();
  pushIsWrite();
  out.op(OP.i32_eqz).if();
  out.get(frame).op(OP.i64_extend_i32_u).tee(start);
  out.i64(BigInt(FRAME_SLOT.hardStart)).op(OP.i64_add).set(end);
  returnIfWithin();
  out.end();
  out.end();
  out.get(address).op(OP.i32_wrap_i64).i32(stack.start).op(OP.i32_sub).tee(offset);
  out.i32(stack.size).op(OP.i32_lt_u);
  out
    .get(offset)
    .i32(FRAME_STRIDE - 1)
    .op(OP.i32_and)
    .get(size)
    .op(OP.i32_wrap_i64)
    .op(OP.i32_add);
  returnIf(out.i32(MAX_BPF_STACK).op(OP.i32_le_u).op(OP.i32_and));
  pushIsWrite();
  out.if();
  out.globalGet(write.start).op(OP.i64_extend_i32_u).set(start);
  out.globalGet(write.end).op(OP.i64_extend_i32_u).set(end);
  out.else();
  out.globalGet(read.start).op(OP.i64_extend_i32_u).set(start);
  out.globalGet(read.end).op(OP.i64_extend_i32_u).set(end);
  out.end();
  returnIfWithin();
  out.end();
  out.get(address).op(OP.i32_wrap_i64);
  out.get(address).i64(32n).op(OP.i64_shr_u).op(OP.i32_wrap_i64);
  out.get(sizeAndFlag).get(slot).call(check);
  return out;
}
