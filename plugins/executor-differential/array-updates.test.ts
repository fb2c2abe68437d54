import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { E2BIG, EEXIST, EINVAL } from '../../src/bpf/errno.js';
import { BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_MAP_TYPE, BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { CallOutcome, Executor, LoadedProgram } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { WasmExecutor } from '../executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';

const EXECUTORS: Readonly<Record<string, (runtime: BpfRuntime) => Executor>> = {
  interpreter: (runtime) => new InterpreterExecutor(runtime),
  wasm: (runtime) => new WasmExecutor(runtime, { checked: false }),
  'wasm, checked': (runtime) => new WasmExecutor(runtime, { checked: true }),
};
const TYPES = {
  ARRAY: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  PERCPU_ARRAY: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
} as const;
const ENTRIES = 3;
const CPUS = 3;

/** Updates the element of index R1 by the value at R2, which lies in other memory of the program's. */
const fromMemory = (flags: number, index?: number): string => `
  *(u32 *)(r10 -4) = ${index ?? 'r1'}
  r3 = r2
  r2 = r10
  r2 += -4
  r1 = map[m]
  r4 = ${flags} ll
  call bpf_map_update_elem
  exit`;

/** A map of two, an executor, and the bytes of every value of the map's. */
class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 20, cpus: CPUS });
  readonly map: ResidentMap & { readonly layout: { readonly kind: 'array'; readonly values: number } };
  readonly source: number;
  readonly #executor: Executor;

  constructor(
    executor: string,
    type: number,
    readonly valueSize: number,
  ) {
    const map = new MemoryMapBackend(this.runtime).create(
      { type, keySize: 4, valueSize, maxEntries: ENTRIES, flags: 0 },
      { name: 'm' },
    );
    if (typeof map === 'number') throw new Error(`errno ${map}`);
    this.map = map as Bench['map'];
    this.source = this.runtime.space.allocate(valueSize + 8, {
      kind: 'scratch',
      label: 'a value',
      access: 'read-write',
    }).start;
    this.#executor = EXECUTORS[executor]!(this.runtime);
  }

  async load(text: string): Promise<LoadedProgram> {
    const insns = assemble(text, { maps: new Map([['m', 1]]) });
    return this.#executor.load(
      { name: 'test', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns },
      { maps: new Map([[1, this.map]]), world: { trace() {} }, countWork: true },
    );
  }

  /** Every byte of the map's values, the room behind each included. */
  get bytes(): Uint8Array {
    const { values } = this.map.layout;
    const cpus = this.map.attributes.type === TYPES.ARRAY ? 1 : CPUS;
    return this.runtime.space.u8.slice(values, values + Math.ceil(this.valueSize / 8) * 8 * ENTRIES * cpus);
  }

  /** Where a value of this CPU begins in `bytes`. */
  offset(index: number): number {
    const stride = Math.ceil(this.valueSize / 8) * 8;
    const cpu = this.map.attributes.type === TYPES.ARRAY ? 0 : this.runtime.state.cpu;
    return stride * (cpu * ENTRIES + index);
  }
}

const errno = (code: number): CallOutcome => ({ r0: BigInt.asUintN(64, BigInt(-code)) });
const DONE: CallOutcome = { r0: 0n };

describe.each(Object.keys(EXECUTORS))('an update of an array in executor %s', (executor) => {
  describe.each(Object.entries(TYPES))('%s', (_, type) => {
    it.each([1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 23, 64, 65, 200])('copies %i bytes', async (valueSize) => {
      const bench = new Bench(executor, type, valueSize);
      const value = Uint8Array.from({ length: valueSize }, (_, i) => 7 * i + 1);
      bench.runtime.space.write(bench.source, value);
      bench.runtime.space.u8.fill(0xee, bench.source + valueSize, bench.source + valueSize + 8);
      for (const flags of [BPF_ANY, BPF_EXIST]) {
        const any = await bench.load(fromMemory(flags));
        const second = await bench.load(fromMemory(flags, 1));
        for (const [cpu, index, loaded] of [
          [0, 0, any],
          [2, 2, any],
          [1, 1, second],
        ] as const) {
          bench.runtime.state.cpu = cpu;
          const expected = bench.bytes;
          expected.set(value, bench.offset(index));
          expect(loaded.call!(BigInt(index), BigInt(bench.source))).toEqual(DONE);
          expect(bench.bytes).toEqual(expected);
          bench.runtime.space.u8[bench.source] = value[0] = value[0]! + 1;
        }
      }
    });

    it('is refused beyond the end, and by flags', async () => {
      const bench = new Bench(executor, type, 8);
      bench.runtime.space.write(bench.source, new Uint8Array(8).fill(9));
      const before = bench.bytes;
      const update = async (flags: number, index: bigint): Promise<CallOutcome> =>
        (await bench.load(fromMemory(flags))).call!(index, BigInt(bench.source));
      for (const flags of [BPF_ANY, BPF_EXIST, BPF_NOEXIST]) {
        for (const index of [3n, 0x4000_0000n, 0xffff_ffffn])
          expect(await update(flags, index)).toEqual(errno(E2BIG));
      }
      const beyond = await bench.load(fromMemory(BPF_ANY, 3));
      expect(beyond.call!(0n, BigInt(bench.source))).toEqual(errno(E2BIG));
      expect(await update(BPF_NOEXIST, 2n)).toEqual(errno(EEXIST));
      for (const flags of [3, BPF_F_LOCK, 8, 2 ** 32, 2 ** 32 + BPF_EXIST])
        expect(await update(flags, 2n)).toEqual(errno(EINVAL));
      expect(bench.bytes).toEqual(before);
      expect(await update(BPF_ANY, (7n << 32n) | 2n)).toEqual(DONE);
    });

    it('takes a value from the stack, however it got there', async () => {
      const bench = new Bench(executor, type, 32);
      const loaded = await bench.load(`
        *(u64 *)(r10 -40) = r2
        *(u32 *)(r10 -32) = r2
        *(u32 *)(r10 -28) = 0x01020304
        *(u64 *)(r10 -24) = 5
        *(u32 *)(r10 -16) = 0
        *(u16 *)(r10 -14) = r2
        *(u8 *)(r10 -12) = 8
        *(u8 *)(r10 -11) = 9
        *(u16 *)(r10 -10) = r2
        *(u32 *)(r10 -4) = r1
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -40
        r1 = map[m]
        r4 = 0
        call bpf_map_update_elem
        exit`);
      expect(loaded.call!(1n, 0x1122_3344_5566_7788n)).toEqual(DONE);
      const at = bench.offset(1);
      expect(Buffer.from(bench.bytes.subarray(at, at + 32)).toString('hex')).toBe(
        '8877665544332211' + '88776655' + '04030201' + '0500000000000000' + '00008877' + '08098877',
      );
    });

    // What checks refuse to read.
    const overlapping = executor === 'wasm' ? [-8, -4, 4, 8] : [];
    it.each(overlapping)('reads a value that lies %i bytes beside it before it writes', async (beside) => {
      const bench = new Bench(executor, type, 24);
      const loaded = await bench.load(fromMemory(BPF_ANY));
      const { values } = bench.map.layout;
      bench.runtime.space.u8.set(
        bench.bytes.map((_, i) => i + 1),
        values,
      );
      const expected = bench.bytes;
      expected.copyWithin(24, 24 + beside, 48 + beside);
      expect(loaded.call!(1n, BigInt(values + 24 + beside))).toEqual(DONE);
      expect(bench.bytes).toEqual(expected);
    });

    it('counts as one call, with the bytes of the key and of all values', async () => {
      const bench = new Bench(executor, type, 24);
      const { work, call } = await bench.load(fromMemory(BPF_ANY, 1)).then((loaded) => ({
        work: loaded.work!,
        call: () => loaded.call!(0n, BigInt(bench.source)),
      }));
      const before = { calls: work.calls(2), bytes: work.bytes, insns: work.insns };
      call();
      expect(work.calls(2) - before.calls).toBe(1);
      expect(work.bytes - before.bytes).toBe(4 + 24 * (type === TYPES.ARRAY ? 1 : CPUS));
      expect(work.insns - before.insns).toBe(8);
    });
  });
});
