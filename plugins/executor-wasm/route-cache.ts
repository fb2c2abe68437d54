import { MAX_BPF_STACK } from '../../src/bpf/opcodes.js';
import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import {
  AF_INET,
  AF_INET6,
  BPF_FIB_LKUP_RET,
  BPF_FIB_LOOKUP,
  BPF_FIB_LOOKUP_DIRECT,
  BPF_FIB_LOOKUP_OUTPUT,
  BPF_FIB_LOOKUP_SIZE,
  BPF_FIB_LOOKUP_SKIP_NEIGH,
} from '../../src/bpf/runtime/fib-lookup.js';
import type { FibAnswer, FibQuery, HelperNetwork } from '../../src/bpf/runtime/helper-world.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_STRIDE } from './program-table.js';
import { FunctionWriter, I32, I64, OP, type FunctionType } from '../../src/bpf/wasm-encoder.js';

/**
 * What a network answered to bpf_fib_lookup, in the address space, where code finds it. An entry for each hash of a
 * question, which a later one takes over:
 *
 * ```
 *   +0   u32 generation           that of the network's answers, never 0
 *   +4   u8 family, u8 bit 1 BPF_FIB_LOOKUP_OUTPUT, u16 tot_len
 *   +8   u32 ifindex
 *   +12  u8 family, u8 0, u16 mtu_result    of the answer
 *   +16  source, 16 bytes         of IPv4 the first 4, the others 0
 *   +32  destination, likewise
 *        of the answer:
 *   +48  u32 ifindex, +52 u32 rt_metric
 *   +56  next hop, 16 bytes
 *   +72  u8 smac[6], u8 dmac[6]
 * ```
 * Whoever overwrites it changes what is written into a program's `struct bpf_fib_lookup`, and nothing else. The number of
 * the generation is not in memory: an entry that a snapshot brings back is not taken for a new one.
 */
const ENTRY = {
  generation: 0,
  question: 4,
  ifindex: 8,
  answer: 12,
  source: 16,
  destination: 32,
  ifindexOut: 48,
  metric: 52,
  nextHop: 56,
  macs: 72,
  size: 88,
} as const;
const INDEX_BITS = 8;
/** 2^32 divided by the golden ratio (Knuth): spreads what differs in any bit over the upper ones. */
const HASH_MULTIPLIER = 0x9e37_79b1 | 0;
const MAC_BYTES = 6;

/** Flags with which a lookup may be answered by code. */
const PLAIN_FLAGS = BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_OUTPUT | BPF_FIB_LOOKUP_SKIP_NEIGH;

/** A network whose answers may be kept until it says otherwise. */
type SteadyNetwork = HelperNetwork & Required<Pick<HelperNetwork, 'onChange'>>;

export function tellsChanges(network: HelperNetwork): network is SteadyNetwork {
  return network.onChange !== undefined;
}

/** A network whose last answers code finds in memory, where no call to the host is needed for it. */
export class RouteCache implements HelperNetwork {
  /** Counts changes of the network; not in memory, where a program might reach it. */
  readonly generation = new WebAssembly.Global({ value: 'i32', mutable: true }, 1);
  readonly #entries: Region;
  readonly #forget: () => void;

  constructor(
    readonly space: AddressSpace,
    readonly network: SteadyNetwork,
  ) {
    this.#entries = space.allocate(ENTRY.size << INDEX_BITS, {
      kind: 'scratch',
      label: 'routes that were looked up',
      access: 'none',
    });
    this.#forget = network.onChange(() => {
      this.generation.value = (this.generation.value + 1) | 0 || 1;
    });
  }

  get address(): number {
    return this.#entries.start;
  }

  mtu(ifindex: number): number | undefined {
    return this.network.mtu(ifindex);
  }

  fibLookup(query: FibQuery): FibAnswer {
    // An answer that changes while it is given is not kept for the new one.
    const generation: number = this.generation.value;
    const answer = this.network.fibLookup(query);
    this.#keep(query, answer, generation);
    return answer;
  }

  close(): void {
    this.#forget();
    this.space.free(this.#entries);
  }

  /** Only an answer with all that a successful lookup writes: what it leaves as it was is in the program's memory. */
  #keep(query: FibQuery, answer: FibAnswer, generation: number): void {
    const { ifindex, mtu, sourceMac, destinationMac, nextHop = query.destination } = answer;
    if (answer.result !== BPF_FIB_LKUP_RET.SUCCESS || ifindex === undefined || mtu === undefined) return;
    if (query.totalLength > mtu || query.tableId !== undefined || query.mark !== undefined) return;
    if (sourceMac?.length !== MAC_BYTES || destinationMac?.length !== MAC_BYTES) return;
    if (nextHop.length !== 4 && nextHop.length !== 16) return;
    const { view, u8 } = this.space;
    const family = query.family === 'inet' ? AF_INET : AF_INET6;
    const question = family | (query.output ? BPF_FIB_LOOKUP_OUTPUT << 8 : 0) | (query.totalLength << 16);
    const [source, destination] = [words(query.source), words(query.destination)];
    const entry = this.address + ENTRY.size * entryIndex(question, query.ifindex, source, destination);
    u8.fill(0, entry, entry + ENTRY.size);
    view.setUint32(entry + ENTRY.generation, generation, true);
    view.setUint32(entry + ENTRY.question, question, true);
    view.setUint32(entry + ENTRY.ifindex, query.ifindex, true);
    u8.set(query.source, entry + ENTRY.source);
    u8.set(query.destination, entry + ENTRY.destination);
    u8[entry + ENTRY.answer] = nextHop.length === 4 ? AF_INET : AF_INET6;
    view.setUint16(entry + ENTRY.answer + 2, mtu, true);
    view.setUint32(entry + ENTRY.ifindexOut, ifindex, true);
    view.setUint32(entry + ENTRY.metric, answer.metric ?? 0, true);
    u8.set(nextHop, entry + ENTRY.nextHop);
    u8.set(sourceMac, entry + ENTRY.macs);
    u8.set(destinationMac, entry + ENTRY.macs + MAC_BYTES);
  }
}

/** An address as the words that it has in memory, of IPv4 one. */
function words(address: Uint8Array): readonly number[] {
  const view = new DataView(address.buffer, address.byteOffset, address.length);
  return Array.from({ length: address.length / 4 }, (_, i) => view.getInt32(4 * i, true));
}

/** As `defineRouteLookup` does. A difference between the two would only make it miss. */
function entryIndex(
  question: number,
  ifindex: number,
  source: readonly number[],
  destination: readonly number[],
): number {
  const mixed = [...source, ...destination].reduce((a, b) => a ^ b, question ^ ifindex);
  return Math.imul(mixed, HASH_MULTIPLIER) >>> (32 - INDEX_BITS);
}

export interface RouteLookup {
  readonly runState: number;
  /** Bytes of the address space. */
  readonly memoryBytes: number;
  /** Address of the entries. */
  readonly entries: number;
  /** Global with the generation. */
  readonly generation: number;
  /** In a checked build: the stack of programs whose frames are at fixed addresses. Elsewhere the helper checks. */
  readonly stack: Region | undefined;
}

export const ROUTE_LOOKUP_TYPE: FunctionType = { parameters: [], results: [I32] };

/**
 * `(): i32`: bpf_fib_lookup with the arguments in the run state, if an entry has the answer: 1, and the result is there;
 * 0, and nothing was done, where the helper has to be called.
 */
export function defineRouteLookup({
  runState,
  memoryBytes,
  entries,
  generation,
  stack,
}: RouteLookup): FunctionWriter {
  const out = new FunctionWriter(ROUTE_LOOKUP_TYPE);
  const [at, flags, question, entry] = [out.local(I32), out.local(I32), out.local(I32), out.local(I32)];
  const [source, sourceRest, destination, destinationRest, mixed] = [
    out.local(I64),
    out.local(I64),
    out.local(I64),
    out.local(I64),
    out.local(I64),
  ];
  const argument = (n: number, half = 0): FunctionWriter =>
    out.i32(runState).memory(OP.i32_load, RUN_STATE.r0 + 8 * n + half);
  const field = (opcode: number, offset: number): FunctionWriter => out.get(at).memory(opcode, offset);
  const kept = (opcode: number, offset: number): FunctionWriter => out.get(entry).memory(opcode, offset);
  /** Writes a field of the program's struct from one of the entry. */
  const copy = (load: number, from: number, store: number, to: number): void => {
    out.get(at);
    kept(load, from);
    out.memory(store, to);
  };

  const miss = out.block();
  argument(3).i32(BPF_FIB_LOOKUP_SIZE).op(OP.i32_ne).brIf(miss);
  argument(4).tee(flags).i32(~PLAIN_FLAGS).op(OP.i32_and).brIf(miss);
  argument(2)
    .tee(at)
    .i32(memoryBytes - BPF_FIB_LOOKUP_SIZE)
    .op(OP.i32_gt_u)
    .brIf(miss);
  if (stack !== undefined) {
    argument(2, 4).brIf(miss);
    out.get(at).i32(stack.start).op(OP.i32_sub).i32(stack.size).op(OP.i32_ge_u).brIf(miss);
    out.get(at).i32(stack.start).op(OP.i32_sub);
    out.i32(FRAME_STRIDE - 1).op(OP.i32_and);
    out
      .i32(MAX_BPF_STACK - BPF_FIB_LOOKUP_SIZE)
      .op(OP.i32_gt_u)
      .brIf(miss);
  }

  field(OP.i32_load8_u, BPF_FIB_LOOKUP.family).tee(question);
  out.i32(AF_INET).op(OP.i32_eq).if();
  field(OP.i64_load32_u, BPF_FIB_LOOKUP.source).set(source);
  field(OP.i64_load32_u, BPF_FIB_LOOKUP.destination).set(destination);
  out.else();
  field(OP.i64_load, BPF_FIB_LOOKUP.source).set(source);
  field(OP.i64_load, BPF_FIB_LOOKUP.source + 8).set(sourceRest);
  field(OP.i64_load, BPF_FIB_LOOKUP.destination).set(destination);
  field(OP.i64_load, BPF_FIB_LOOKUP.destination + 8).set(destinationRest);
  out.end();
  out.get(question).get(flags).i32(BPF_FIB_LOOKUP_OUTPUT).op(OP.i32_and).i32(8).op(OP.i32_shl).op(OP.i32_or);
  field(OP.i32_load16_u, BPF_FIB_LOOKUP.totLen).i32(16).op(OP.i32_shl).op(OP.i32_or).tee(question);
  field(OP.i32_load, BPF_FIB_LOOKUP.ifindex).op(OP.i32_xor);
  out.get(source).get(sourceRest).op(OP.i64_xor);
  out.get(destination).op(OP.i64_xor).get(destinationRest).op(OP.i64_xor).tee(mixed);
  out.op(OP.i32_wrap_i64).op(OP.i32_xor);
  out.get(mixed).i64(32n).op(OP.i64_shr_u).op(OP.i32_wrap_i64).op(OP.i32_xor);
  out.i32(HASH_MULTIPLIER).op(OP.i32_mul);
  out.i32(32 - INDEX_BITS).op(OP.i32_shr_u);
  out.i32(ENTRY.size).op(OP.i32_mul).i32(entries).op(OP.i32_add).set(entry);

  kept(OP.i32_load, ENTRY.generation).globalGet(generation).op(OP.i32_ne).brIf(miss);
  kept(OP.i32_load, ENTRY.question).get(question).op(OP.i32_ne).brIf(miss);
  kept(OP.i32_load, ENTRY.ifindex);
  field(OP.i32_load, BPF_FIB_LOOKUP.ifindex).op(OP.i32_ne).brIf(miss);
  kept(OP.i64_load, ENTRY.source).get(source).op(OP.i64_xor);
  kept(OP.i64_load, ENTRY.source + 8)
    .get(sourceRest)
    .op(OP.i64_xor)
    .op(OP.i64_or);
  kept(OP.i64_load, ENTRY.destination).get(destination).op(OP.i64_xor).op(OP.i64_or);
  kept(OP.i64_load, ENTRY.destination + 8)
    .get(destinationRest)
    .op(OP.i64_xor)
    .op(OP.i64_or);
  out.op(OP.i64_eqz).op(OP.i32_eqz).brIf(miss);

  copy(OP.i32_load8_u, ENTRY.answer, OP.i32_store8, BPF_FIB_LOOKUP.family);
  copy(OP.i32_load16_u, ENTRY.answer + 2, OP.i32_store16, BPF_FIB_LOOKUP.totLen);
  copy(OP.i32_load, ENTRY.ifindexOut, OP.i32_store, BPF_FIB_LOOKUP.ifindex);
  copy(OP.i32_load, ENTRY.metric, OP.i32_store, BPF_FIB_LOOKUP.rtMetric);
  kept(OP.i32_load8_u, ENTRY.answer).i32(AF_INET).op(OP.i32_eq).if();
  copy(OP.i32_load, ENTRY.nextHop, OP.i32_store, BPF_FIB_LOOKUP.destination);
  out.else();
  copy(OP.i64_load, ENTRY.nextHop, OP.i64_store, BPF_FIB_LOOKUP.destination);
  copy(OP.i64_load, ENTRY.nextHop + 8, OP.i64_store, BPF_FIB_LOOKUP.destination + 8);
  out.end();
  out.get(at).i32(0).memory(OP.i32_store, BPF_FIB_LOOKUP.tbid);
  out.get(flags).i32(BPF_FIB_LOOKUP_SKIP_NEIGH).op(OP.i32_and).op(OP.i32_eqz).if();
  copy(OP.i64_load, ENTRY.macs, OP.i64_store, BPF_FIB_LOOKUP.smac);
  copy(OP.i32_load, ENTRY.macs + 8, OP.i32_store, BPF_FIB_LOOKUP.smac + 8);
  out.end();
  out.i32(runState).i64(0n).memory(OP.i64_store, RUN_STATE.r0);
  out.i32(1).op(OP.return);
  out.end();
  out.i32(0);
  return out;
}
