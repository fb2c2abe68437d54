import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { MAX_BPF_STACK } from '../../src/bpf/opcodes.js';
import { CHAIN_WITHIN_CALL } from '../../src/bpf/runtime/insn-budget.js';
import { HASH_ELEMENT_KEY } from '../../src/bpf/runtime/map-layout.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { WORK_COUNTER } from '../../src/bpf/runtime/work-counters.js';
import { OP } from '../../src/bpf/wasm-encoder.js';
import type { HandlerWriter } from './handler-writer.js';
import {
  MACHINE,
  MAP_CACHE,
  MAP_CACHE_BITS,
  MAP_CACHE_ENTRY,
  MAP_CACHE_MULTIPLIER,
} from './machine-layout.js';

const register = (n: number): number => 8 * n;

/**
 * bpf_map_lookup_elem of an array or a hash map that the machine keeps an entry for, with a key in the current stack frame
 * or the packet. All else, faults and long chains included, is left to JavaScript, which then starts from the beginning.
 */
export function writeLookup(to: HandlerWriter): void {
  writeMap(to);
  writeFind(to);
  writeResult(to);
}

/** bpf_map_update_elem of such a map, where it is a copy to a value that there is already. */
export function writeUpdate(to: HandlerWriter): void {
  const { out, locals } = to;
  const registers = locals.i32('registers');
  const map = locals.i32('map');
  const [from, at] = [locals.i32('from'), locals.i32('found')];
  const left = locals.i32('left');
  writeMap(to);
  // Flags other than BPF_ANY are left to JavaScript, and to count where somebody does.
  out.get(map).memory(OP.i32_load, MAP_CACHE.plainValue).tee(left).op(OP.i32_eqz);
  out.get(registers).memory(OP.i64_load, register(4)).i64(0n).op(OP.i64_ne).op(OP.i32_or);
  out.get(locals.machine).memory(OP.i32_load, MACHINE.work).op(OP.i32_or);
  to.leaveIf();
  writeReadable(to, 3, MAP_CACHE.plainValue, from);
  writeFind(to);
  out.get(at).op(OP.i32_eqz);
  to.leaveIf();
  const copy = (size: number, load: number, store: number): void => {
    const done = out.block();
    const again = out.loop();
    out.get(left).i32(size).op(OP.i32_lt_u).brIf(done);
    out.get(at).get(from).memory(load).memory(store);
    for (const local of [at, from]) out.get(local).i32(size).op(OP.i32_add).set(local);
    out.get(left).i32(size).op(OP.i32_sub).set(left).br(again);
    out.end();
    out.end();
  };
  copy(8, OP.i64_load, OP.i64_store);
  copy(1, OP.i32_load8_u, OP.i32_store8);
  out.get(registers).i64(0n).memory(OP.i64_store);
}

/** Leaves the address of the program's registers in `registers`, and that of the entry for the map at R1 in `map`. */
function writeMap(to: HandlerWriter): void {
  const { out, locals } = to;
  const { machine } = locals;
  const registers = locals.i32('registers');
  const map = locals.i32('map');

  out.get(machine).memory(OP.i32_load, MACHINE.registers).set(registers);
  out.get(registers).memory(OP.i32_load, register(1)).i32(MAP_CACHE_MULTIPLIER).op(OP.i32_mul);
  out.i32(32 - MAP_CACHE_BITS).op(OP.i32_shr_u);
  out.i32(Math.log2(MAP_CACHE_ENTRY)).op(OP.i32_shl).get(machine).op(OP.i32_add);
  out.i32(MACHINE.maps).op(OP.i32_add).set(map);
  // R1 = 0 is the address of a free entry as well.
  out.get(registers).memory(OP.i64_load, register(1));
  out.get(map).memory(OP.i64_load32_u, MAP_CACHE.address).op(OP.i64_ne);
  out.get(map).memory(OP.i32_load, MAP_CACHE.address).op(OP.i32_eqz).op(OP.i32_or);
  to.leaveIf();
}

/** Leaves the address of the value for the key at R2 in `found`, or 0. */
function writeFind(to: HandlerWriter): void {
  const { out, locals } = to;
  const map = locals.i32('map');
  const key = locals.i32('key');
  const found = locals.i32('found');
  writeReadable(to, 2, MAP_CACHE.keySize, key);

  const done = out.block();
  const isHash = out.block();
  out.get(map).memory(OP.i32_load, MAP_CACHE.values).op(OP.i32_eqz).brIf(isHash);
  out.i32(0).set(found);
  out
    .get(key)
    .memory(OP.i32_load)
    .get(map)
    .memory(OP.i32_load, MAP_CACHE.maxEntries)
    .op(OP.i32_ge_u)
    .brIf(done);
  out.get(key).memory(OP.i32_load).get(map).memory(OP.i32_load, MAP_CACHE.stride).op(OP.i32_mul);
  out.get(map).memory(OP.i32_load, MAP_CACHE.values).op(OP.i32_add);
  addCpu(to, map);
  out.set(found).br(done);
  out.end();
  writeHashLookup(to, map);
  out.end();
}

/** Leaves what argument `n` points to in a local where the program may read as many bytes as the map's entry says. */
function writeReadable(to: HandlerWriter, n: number, size: number, local: number): void {
  const { out, locals } = to;
  const registers = locals.i32('registers');
  const address = locals.i64('address');
  out.get(registers).memory(OP.i64_load, register(n)).set(address);
  const readable = out.block();
  const within = (pushStart: () => void, pushEnd: () => void): void => {
    const outside = out.block();
    out.get(address);
    pushStart();
    out.op(OP.i64_lt_s).brIf(outside);
    out.get(address);
    pushEnd();
    out.get(locals.i32('map')).memory(OP.i64_load32_u, size).op(OP.i64_sub).op(OP.i64_le_s).brIf(readable);
    out.end();
  };
  const pushFramePointer = (): void => void out.get(registers).memory(OP.i64_load, register(10));
  within(() => {
    pushFramePointer();
    out.i64(BigInt(MAX_BPF_STACK)).op(OP.i64_sub);
  }, pushFramePointer);
  within(
    () => void out.get(locals.packetStart),
    () => void out.get(locals.packetEnd),
  );
  to.leave();
  out.end();
  out.get(address).op(OP.i32_wrap_i64).set(local);
}

/** As `hashKey` of map-layout.ts computes, for keys of whole words. */
function writeHashLookup(to: HandlerWriter, map: number): void {
  const { out, locals } = to;
  const key = locals.i32('key');
  const keyEnd = locals.i32('key end');
  const at = locals.i32('key word');
  const found = locals.i32('found');
  const hash = locals.i32('hash');
  const word = locals.i32('word');
  const field = (offset: number): void => void out.get(map).memory(OP.i32_load, offset);
  const shiftedXor = (local: number): void => {
    out.get(local).i32(15).op(OP.i32_shr_u).get(local).op(OP.i32_xor);
  };

  out.get(key);
  field(MAP_CACHE.keySize);
  out.op(OP.i32_add).set(keyEnd);
  field(MAP_CACHE.seed);
  out.set(hash).get(key).set(at);
  const words = out.loop();
  out.get(at).memory(OP.i32_load);
  field(MAP_CACHE.second);
  out.op(OP.i32_mul).set(word);
  shiftedXor(word);
  out.get(hash).op(OP.i32_xor);
  field(MAP_CACHE.first);
  out.op(OP.i32_mul).set(hash);
  shiftedXor(hash);
  out.set(hash);
  out.get(at).i32(4).op(OP.i32_add).tee(at).get(keyEnd).op(OP.i32_ne).brIf(words);
  out.end();

  const element = locals.i32('element');
  const elementWord = locals.i32('element word');
  const passed = locals.i32('passed');
  field(MAP_CACHE.buckets);
  out.get(hash);
  field(MAP_CACHE.bucketMask);
  out.op(OP.i32_and).i32(2).op(OP.i32_shl).op(OP.i32_add).memory(OP.i32_load).set(element);
  out.i32(0).set(found).i32(0).set(passed);
  const end = out.block();
  const chain = out.loop();
  out.get(element).op(OP.i32_eqz).brIf(end);
  out.get(passed).i32(1).op(OP.i32_add).tee(passed).i32(CHAIN_WITHIN_CALL).op(OP.i32_gt_u);
  to.leaveIf();
  const other = out.block();
  out.get(element).memory(OP.i32_load, 4).get(hash).op(OP.i32_ne).brIf(other);
  out.get(key).set(at).get(element).set(elementWord);
  const compare = out.loop();
  out.get(at).memory(OP.i32_load).get(elementWord).memory(OP.i32_load, HASH_ELEMENT_KEY);
  out.op(OP.i32_ne).brIf(other);
  out.get(elementWord).i32(4).op(OP.i32_add).set(elementWord);
  out.get(at).i32(4).op(OP.i32_add).tee(at).get(keyEnd).op(OP.i32_ne).brIf(compare);
  out.end();
  field(MAP_CACHE.usedOffset);
  out.if();
  out.get(element);
  field(MAP_CACHE.usedOffset);
  out.op(OP.i32_add).i32(1).memory(OP.i32_store);
  out.end();
  out.get(element);
  field(MAP_CACHE.valueOffset);
  out.op(OP.i32_add);
  addCpu(to, map);
  out.set(found).br(end);
  out.end();
  out.get(element).memory(OP.i32_load).set(element).br(chain);
  out.end();
  out.end();
}

/** Adds to an address on the stack what leads to the value of the current CPU. */
function addCpu({ out, locals }: HandlerWriter, map: number): void {
  out.get(locals.machine).memory(OP.i32_load, MACHINE.runState).memory(OP.i32_load, RUN_STATE.cpu);
  out.get(map).memory(OP.i32_load, MAP_CACHE.cpuStride).op(OP.i32_mul).op(OP.i32_add);
}

/** R0 := `found`, which is what the program touches next. */
function writeResult({ out, locals }: HandlerWriter): void {
  const { machine } = locals;
  const registers = locals.i32('registers');
  const map = locals.i32('map');
  const value = locals.i64('value');
  out.get(registers).get(locals.i32('found')).op(OP.i64_extend_i32_u).tee(value).memory(OP.i64_store);
  const range = (start: number, end: number, size: number): void => {
    out.get(machine).get(value).memory(OP.i64_store, start);
    out.get(machine).get(value);
    out.get(map).memory(OP.i64_load32_u, size).op(OP.i64_add).memory(OP.i64_store, end);
  };
  out.get(locals.i32('found')).if();
  range(MACHINE.readStart, MACHINE.readEnd, MAP_CACHE.readable);
  range(MACHINE.writeStart, MACHINE.writeEnd, MAP_CACHE.writable);
  out.end();

  const work = locals.i32('work');
  out.get(machine).memory(OP.i32_load, MACHINE.work).tee(work).if();
  const count = (offset: number, push: () => void): void => {
    out.get(work).get(work).memory(OP.f64_load, offset);
    push();
    out.op(OP.f64_convert_i32_u).op(OP.f64_add).memory(OP.f64_store, offset);
  };
  count(WORK_COUNTER.calls + 8 * BPF_FUNC.map_lookup_elem, () => void out.i32(1));
  count(WORK_COUNTER.bytes, () => void out.get(map).memory(OP.i32_load, MAP_CACHE.keySize));
  out.end();
}
