import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { EAGAIN, EINVAL } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
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
const SIZE = 4096;
const RINGBUF_OUTPUT = 130;

/** Sends so many bytes from R1 on. */
const output = (size: number, flags = 0): string => `
  r2 = r1
  r1 = map[m]
  r3 = ${size}
  r4 = ${flags} ll
  call bpf_ringbuf_output
  exit`;

class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 20, cpus: 3 });
  readonly map: ResidentMap;
  readonly source: number;
  readonly #executor: Executor;

  constructor(executor: string) {
    const map = new MemoryMapBackend(this.runtime).create(
      { type: BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: SIZE, flags: 0 },
      { name: 'm' },
    );
    if (typeof map === 'number') throw new Error(`errno ${map}`);
    this.map = map;
    this.source = this.runtime.space.allocate(256, {
      kind: 'scratch',
      label: 'data',
      access: 'read-write',
    }).start;
    this.#executor = EXECUTORS[executor]!(this.runtime);
  }

  load(text: string): Promise<LoadedProgram> {
    const insns = assemble(text, { maps: new Map([['m', 1]]) });
    return this.#executor.load(
      { name: 'test', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns },
      { maps: new Map([[1, this.map]]), world: { trace() {} }, countWork: true },
    );
  }

  /** Puts `data` where programs send it from. */
  write(data: Uint8Array): bigint {
    this.runtime.space.write(this.source, data);
    return BigInt(this.source);
  }
}

const bytes = (size: number, first: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => i + first);
const errno = (code: number): CallOutcome => ({ r0: BigInt.asUintN(64, BigInt(-code)) });
const DONE: CallOutcome = { r0: 0n };

describe.each(Object.keys(EXECUTORS))('bpf_ringbuf_output in executor %s', (executor) => {
  it.each([0, 1, 3, 4, 7, 8, 12, 16, 24, 63, 64, 65, 200])('sends %i bytes, round the ring', async (size) => {
    const bench = new Bench(executor);
    const loaded = await bench.load(output(size));
    // Each takes 8 bytes at least: more often than the ring has room for.
    for (let sent = 0; sent < SIZE / 8 + 10; sent++) {
      bench.runtime.state.cpu = sent % 3;
      const data = bytes(size, sent);
      expect(loaded.call!(bench.write(data), 0n)).toEqual(DONE);
      expect(bench.map.drainRecords!()).toEqual([{ cpu: sent % 3, data, lost: 0 }]);
    }
  });

  it('sends what lies in the stack, however it got there', async () => {
    const bench = new Bench(executor);
    const loaded = await bench.load(`
      *(u64 *)(r10 -24) = r2
      *(u32 *)(r10 -16) = r2
      *(u32 *)(r10 -12) = 7
      *(u64 *)(r10 -8) = 9
      r2 = r10
      r2 += -24
      r1 = map[m]
      r3 = 20
      r4 = 3
      call bpf_ringbuf_output
      exit`);
    expect(loaded.call!(0n, 0x1122_3344_5566_7788n)).toEqual(DONE);
    const [record] = bench.map.drainRecords!();
    expect(Buffer.from(record!.data).toString('hex')).toBe(
      `8877665544332211${'88776655'}${'07000000'}09000000`,
    );
  });

  it('says when there is no room, and what was lost', async () => {
    const bench = new Bench(executor);
    const loaded = await bench.load(output(24));
    // 32 bytes each, and the ring is never quite full: 127 have room.
    for (let sent = 0; sent < 127; sent++)
      expect(loaded.call!(bench.write(bytes(24, sent)), 0n)).toEqual(DONE);
    for (let sent = 0; sent < 3; sent++)
      expect(loaded.call!(bench.write(bytes(24, 0)), 0n)).toEqual(errno(EAGAIN));
    expect(bench.map.drainRecords!().map(({ data, lost }) => [data[0], lost])).toEqual(
      Array.from({ length: 127 }, (_, sent) => [sent, 0]),
    );
    for (const lost of [3, 0]) {
      expect(loaded.call!(bench.write(bytes(24, 0)), 0n)).toEqual(DONE);
      expect(bench.map.drainRecords!()).toMatchObject([{ lost }]);
    }
  });

  it('knows two flags', async () => {
    const bench = new Bench(executor);
    for (const flags of [0, 1, 2, 3, 4, 2 ** 32, 2 ** 32 + 1]) {
      const loaded = await bench.load(output(8, flags));
      expect(loaded.call!(bench.write(bytes(8, 1)), 0n)).toEqual(flags <= 3 ? DONE : errno(EINVAL));
      expect(bench.map.drainRecords!()).toHaveLength(flags <= 3 ? 1 : 0);
    }
  });

  it('goes on beyond 2^32 bytes', async () => {
    const bench = new Bench(executor);
    const loaded = await bench.load(output(24));
    const { layout } = bench.map;
    if (layout.kind !== 'ring') throw new Error(layout.kind);
    for (const position of [layout.producer, layout.consumer])
      bench.runtime.space.view.setBigUint64(position, (5n << 32n) - 40n, true);
    for (let sent = 0; sent < 3; sent++) expect(loaded.call!(bench.write(bytes(24, sent)), 0n)).toEqual(DONE);
    expect(bench.runtime.space.view.getBigUint64(layout.producer, true)).toBe((5n << 32n) + 56n);
    expect(bench.map.drainRecords!().map(({ data }) => data)).toEqual(
      [0, 1, 2].map((sent) => bytes(24, sent)),
    );
  });

  it('writes nowhere else when its positions were overwritten', async () => {
    const bench = new Bench(executor);
    const loaded = await bench.load(output(24));
    const { layout } = bench.map;
    if (layout.kind !== 'ring') throw new Error(layout.kind);
    const before = bench.runtime.space.u8.slice();
    for (const position of [0x7fff_ffff, 0xffff_ffff, 12345])
      for (const consumer of [0, 1, 0xffff_fff0, position]) {
        bench.runtime.space.view.setUint32(layout.producer, position, true);
        bench.runtime.space.view.setUint32(layout.consumer, consumer, true);
        loaded.call!(BigInt(bench.source), 0n);
      }
    for (const field of [layout.producer, layout.consumer])
      bench.runtime.space.u8.set(before.subarray(field, field + 8), field);
    const after = bench.runtime.space.u8.slice();
    // The record, what was lost, and what executors keep for a run.
    for (const [start, size] of [
      [layout.data, 2 * SIZE],
      [layout.lost, 4],
    ] as const)
      after.set(before.subarray(start, start + size), start);
    for (const region of bench.runtime.space.regions) {
      if (['run-state', 'stack'].includes(region.kind) || /executor|work/.test(region.label))
        after.set(before.subarray(region.start, region.start + region.size), region.start);
    }
    expect(Buffer.compare(after, before)).toBe(0);
  });

  it('counts as a call of so many bytes, with room and without', async () => {
    const bench = new Bench(executor);
    const loaded = await bench.load(output(24));
    const { work } = loaded;
    for (let sent = 0; sent < 130; sent++) {
      const before = { calls: work!.calls(RINGBUF_OUTPUT), bytes: work!.bytes };
      loaded.call!(bench.write(bytes(24, 0)), 0n);
      expect([work!.calls(RINGBUF_OUTPUT) - before.calls, work!.bytes - before.bytes]).toEqual([1, 24]);
    }
  });
});
