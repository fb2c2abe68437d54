import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { FibAnswer, FibQuery, HelperNetwork } from '../../src/bpf/runtime/helper-world.js';
import type { ExecutionEnvironment, LoadedProgram } from '../../src/core/contract/executor.js';
import { randomStream } from '../../src/core/run/random.js';
import { mapSpec } from '../../src/conformance/offload/offload-rig.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { WasmExecutor, type WasmExecutorOptions } from './wasm-executor.js';

/** Takes the struct at R1 to the stack and back; R2 are the flags. */
const LOOKUP = `
  r6 = r1
  r4 = r2
  ${copy('r6 0', 'r10 -64')}
  r2 = r10
  r2 += -64
  r3 = 64
  call bpf_fib_lookup
  ${copy('r10 -64', 'r6 0')}
  exit`;

const BOTH_BUILDS = [{ checked: false }, { checked: true }];

describe('what bpf_fib_lookup found', () => {
  it.each(BOTH_BUILDS)(
    'is not asked for again until the network says that it changed (%o)',
    async (options) => {
      const network = new Routes();
      const bench = new Bench(options);
      const loaded = await bench.load(LOOKUP, network);
      const question = ipv4(1, [10, 0, 0, 1], [192, 168, 0, 2]);
      const first = bench.ask(loaded, question, 0);
      expect(first.r0).toBe(0n);
      expect([...first.struct.subarray(32, 36)]).toEqual([10, 0, 0, 254]);
      expect(bench.ask(loaded, question, 0)).toEqual(first);
      expect(network.asked).toBe(1);
      network.gateway = 253;
      network.tell();
      expect([...bench.ask(loaded, question, 0).struct.subarray(32, 36)]).toEqual([10, 0, 0, 253]);
      expect(network.asked).toBe(2);
      network.mtuOfAll = undefined;
      network.tell();
      expect(bench.ask(loaded, question, 0).r0).toBe(BigInt.asUintN(64, -19n));
    },
  );

  it('is asked for each time of a network that does not tell, and never where the helper was replaced', async () => {
    const network = new Routes();
    const bench = new Bench({ checked: false });
    const question = ipv4(1, [10, 0, 0, 1], [192, 168, 0, 2]);
    const always = await bench.load(LOOKUP, silent(network));
    bench.ask(always, question, 0);
    bench.ask(always, question, 0);
    expect(network.asked).toBe(2);
    const replaced = await bench.load(LOOKUP, network, {
      helperOverrides: new Map([[BPF_FUNC.fib_lookup, (state) => state.setResult(77)]]),
    });
    expect(bench.ask(replaced, question, 0).r0).toBe(77n);
    expect(network.listeners.size).toBe(0);
  });

  it('is not brought back by a snapshot of the memory', async () => {
    const network = new Routes();
    const bench = new Bench({ checked: false });
    const loaded = await bench.load(LOOKUP, network);
    const question = ipv4(1, [10, 0, 0, 1], [192, 168, 0, 2]);
    bench.ask(loaded, question, 0);
    const snapshot = bench.runtime.space.snapshot();
    network.gateway = 7;
    network.tell();
    bench.runtime.space.restore(snapshot);
    expect([...bench.ask(loaded, question, 0).struct.subarray(32, 36)]).toEqual([10, 0, 0, 7]);
  });

  it('is not kept when the network changed while it answered', async () => {
    const network = new Routes();
    const bench = new Bench({ checked: false });
    const loaded = await bench.load(LOOKUP, network);
    const question = ipv4(1, [10, 0, 0, 1], [192, 168, 0, 2]);
    network.changeOnce = () => {
      network.gateway = 9;
      network.tell();
    };
    expect([...bench.ask(loaded, question, 0).struct.subarray(32, 36)]).toEqual([10, 0, 0, 254]);
    expect([...bench.ask(loaded, question, 0).struct.subarray(32, 36)]).toEqual([10, 0, 0, 9]);
  });

  it('goes when the program is closed', async () => {
    const network = new Routes();
    const bench = new Bench({ checked: false });
    const keeper = await bench.load('r0 = 0\nexit', network);
    const before = bench.runtime.space.bytesInUse;
    const loaded = await bench.load(LOOKUP, network);
    expect(network.listeners.size).toBe(1);
    loaded.close();
    expect(network.listeners.size).toBe(0);
    expect(bench.runtime.space.bytesInUse).toBe(before);
    keeper.close();
  });

  it('is found by a program that stands in the place of a tail call', async () => {
    const network = new Routes();
    const bench = new Bench({ checked: false, linkAfter: 4 });
    const array = new MemoryMapBackend(bench.runtime).create(
      mapSpec('m', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 }),
      { name: 'm' },
    );
    if (typeof array === 'number') throw new Error(`no map: ${array}`);
    const maps = new Map([[1, array]]);
    const target = await bench.load(ON_FRAME, network);
    expect(array.setProgram!(0, target.id)).toBe(0);
    const caller = await bench.load('r2 = map[m]\nr3 = 0\ncall bpf_tail_call\nr0 = 99\nexit', undefined, {
      maps,
    });
    const ring = caller.openFrames(8, 64);
    for (let slot = 0; slot < 8; slot++) ring.load(slot, new Uint8Array(60));
    for (let round = 0; round < 4; round++) expect(caller.runBatch(ring, 0, 8)).toBe(0);
    expect(network.asked).toBe(1);
    for (let slot = 0; slot < 8; slot++) expect(ring.verdict(slot)).toBe(254);
    network.gateway = 3;
    network.tell();
    expect(caller.runBatch(ring, 0, 8)).toBe(0);
    expect(network.asked).toBe(2);
    for (let slot = 0; slot < 8; slot++) expect(ring.verdict(slot)).toBe(3);
  });

  it.each(BOTH_BUILDS)('leaves faults to the helper (%o)', async (options) => {
    const bench = new Bench(options);
    const source = 'r4 = r2\nr2 = r1\nr3 = 64\ncall bpf_fib_lookup\nexit';
    const loaded = await bench.load(source, new Routes());
    const always = await bench.load(source, silent(new Routes()));
    const { byteLength, regions, u8 } = bench.runtime.space;
    // A struct whose last byte lies beyond the memory, and such as overrun a frame of the stack.
    u8[byteLength - 63] = 2;
    const stack = regions.find(({ kind }) => kind === 'stack')!;
    const edges = [stack.start - 8, stack.start + 512 - 56, stack.start + 512, stack.start + stack.size - 32];
    const faults = [
      BigInt(byteLength - 63),
      ...(options.checked ? [8n, 1n << 40n, ...edges.map(BigInt)] : []),
    ];
    for (const address of faults) expect(always.call!(address, 0n)).toHaveProperty('fault');
    for (const address of [...faults, BigInt(byteLength), 0xffff_fff0n])
      expect(loaded.call!(address, 0n)).toEqual(always.call!(address, 0n));
  });

  it('is not written beyond a frame of the stack, nor by a pointer that is none', async () => {
    const bench = new Bench({ checked: true });
    const loaded = await bench.load(
      `
      r6 = r1
      r7 = r10
      r7 += -64
      w8 = w2
      r7 += r8
      ${copy('r6 0', 'r7 0', 7)}
      r2 >>= 32
      r2 <<= 32
      r2 += r7
      r3 = 64
      r4 = 0
      call bpf_fib_lookup
      exit`,
      new Routes(),
    );
    const at = bench.write(ipv4(1, [10, 0, 0, 1], [192, 168, 0, 2]));
    expect(loaded.call!(BigInt(at), 0n)).toEqual({ r0: 0n });
    const fault = (reason: string): object => ({
      fault: { insn: 24, reason: expect.stringContaining(reason) as string },
    });
    // The same question, whose last eight bytes lie beyond the frame; then by a pointer with an upper half.
    expect(loaded.call!(BigInt(at), BigInt.asUintN(64, 1n << 40n))).toEqual(fault('is not an address'));
    expect(loaded.call!(BigInt(at), 0n)).toEqual({ r0: 0n });
    expect(loaded.call!(BigInt(at), 8n)).toEqual(fault('argument r2: write of 64 bytes'));
  });
});

describe('questions at random', () => {
  it.each(BOTH_BUILDS)('are answered as by the helper (%o)', async (options) => {
    const draw = randomStream(7n, 'questions');
    const below = (n: number): number => draw() % n;
    const pick = <T>(of: readonly T[]): T => of[below(of.length)]!;
    const network = new ManyAnswers();
    const bench = new Bench(options);
    const quick = await bench.load(LOOKUP, network);
    const plain = new ManyAnswers();
    const always = await bench.load(LOOKUP, silent(plain));
    let asked: { struct: Uint8Array; flags: number } | undefined;
    for (let round = 0; round < 4000; round++) {
      if (below(400) === 0) {
        plain.salt = ++network.salt;
        network.tell();
      }
      const struct = Uint8Array.from({ length: 64 }, () => (below(4) === 0 ? below(256) : 0));
      const view = new DataView(struct.buffer);
      struct[0] = pick([2, 2, 10, 10, 3]);
      view.setUint16(6, pick([0, 0, 100, 1501, 0xffff, below(1600), below(1600)]), true);
      view.setUint32(8, pick([1, 1, 2, 9]), true);
      const size = struct[0] === 10 ? 16 : 4;
      struct.fill(0, 16, 16 + size).fill(0, 32, 32 + size);
      struct[16] = pick([1, 2]);
      struct[32 + size - 1] = pick([1, 2, 3]);
      if (asked === undefined || below(2) === 0)
        asked = { struct, flags: pick([0, 0, 1, 2, 4, 5, 6, 7, 8, 16, 32, 64]) };
      const expected = bench.ask(always, asked.struct, asked.flags);
      expect(bench.ask(quick, asked.struct, asked.flags), `question ${round}`).toEqual(expected);
    }
    // Half of the questions are asked again at once, and half of the answers are such as are kept.
    expect(network.asked).toBeLessThan(0.9 * plain.asked);
    expect(network.asked).toBeGreaterThan(0);
  });
});

/** Moves 64 bytes, or so many words of 8. */
function copy(from: string, to: string, words = 8): string {
  return Array.from(
    { length: words },
    (_, i) => `r3 = *(u64 *)(${place(from, 8 * i)})\n*(u64 *)(${place(to, 8 * i)}) = r3`,
  ).join('\n');
}

/** What lies so far behind `base`, a register and an offset of it. */
function place(base: string, offset: number): string {
  const [register, start] = base.split(' ');
  const at = Number(start) + offset;
  return `${register} ${at < 0 ? '' : '+'}${at}`;
}

/** struct bpf_fib_lookup. */
function ipv4(ifindex: number, source: readonly number[], destination: readonly number[]): Uint8Array {
  const struct = new Uint8Array(64);
  struct[0] = 2;
  struct[8] = ifindex;
  struct.set(source, 16);
  struct.set(destination, 32);
  return struct;
}

/** Asks for 192.168.0.2 on device 1 and returns the last byte of the next hop. */
const ON_FRAME = `
  ${Array.from({ length: 8 }, (_, i) => `*(u64 *)(r10 ${-64 + 8 * i}) = 0`).join('\n')}
  *(u8 *)(r10 -64) = 2
  *(u32 *)(r10 -56) = 1
  *(u32 *)(r10 -32) = 0x0200a8c0
  r2 = r10
  r2 += -64
  r3 = 64
  r4 = 0
  call bpf_fib_lookup
  r0 = *(u8 *)(r10 -29)
  exit`;

class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 2 << 20 });
  readonly #executor: WasmExecutor;

  constructor(options: WasmExecutorOptions) {
    this.#executor = new WasmExecutor(this.runtime, options);
  }

  async load(
    source: string,
    network: HelperNetwork | undefined,
    more: Partial<ExecutionEnvironment> = {},
  ): Promise<LoadedProgram> {
    const maps = new Map([['m', 1]]);
    return this.#executor.load(
      {
        name: 'test',
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        insns: assemble(source, { maps }),
      },
      { maps: new Map(), world: { trace() {}, network }, ...more },
    );
  }

  write(struct: Uint8Array): number {
    const { space } = this.runtime;
    const { start } = space.allocate(64, { kind: 'scratch', label: 'a struct', access: 'read-write' });
    space.write(start, struct);
    return start;
  }

  ask(loaded: LoadedProgram, struct: Uint8Array, flags: number): { r0: bigint; struct: Uint8Array } {
    const { space } = this.runtime;
    const at = this.write(struct);
    const outcome = loaded.call!(BigInt(at), BigInt(flags));
    const after = space.read(at, 64);
    space.free(space.regionAt(at)!);
    if (!('r0' in outcome)) throw new Error(outcome.fault.reason);
    return { r0: outcome.r0, struct: after };
  }
}

/** All is reached by one gateway, 10.0.0.`gateway`. Its fields are its own, as those of a class may be. */
class Routes implements HelperNetwork {
  readonly listeners = new Set<() => void>();
  asked = 0;
  mtuOfAll: number | undefined = 1500;
  changeOnce: (() => void) | undefined;
  #gateway = 254;

  set gateway(gateway: number) {
    this.#gateway = gateway;
  }

  mtu(_ifindex: number): number | undefined {
    return this.mtuOfAll;
  }

  fibLookup(query: FibQuery): FibAnswer {
    this.asked++;
    const answer = this.answer(query);
    this.changeOnce?.();
    this.changeOnce = undefined;
    return answer;
  }

  onChange(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => void this.listeners.delete(changed);
  }

  tell(): void {
    for (const changed of this.listeners) changed();
  }

  protected answer(_query: FibQuery): FibAnswer {
    return {
      result: 0,
      ifindex: 2,
      mtu: 1500,
      nextHop: Uint8Array.of(10, 0, 0, this.#gateway),
      sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
    };
  }
}

/** Answers of all kinds, which depend on the question and on `salt`. */
class ManyAnswers extends Routes {
  salt = 0;

  override mtu(ifindex: number): number | undefined {
    return ifindex === 9 ? undefined : 1500;
  }

  protected override answer(query: FibQuery): FibAnswer {
    const draw = randomStream(BigInt(this.salt), JSON.stringify({ ...query, ...texts(query) }));
    const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => draw());
    const mostly = <T>(value: T): T | undefined => (draw() % 16 === 0 ? undefined : value);
    const part = <K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> =>
      value === undefined ? {} : ({ [key]: value } as Record<K, V>);
    return {
      result: mostly(0) ?? draw() % 10,
      ...part('ifindex', mostly(draw() >>> 8)),
      ...part('mtu', mostly(1500)),
      ...part('metric', draw() % 2 === 0 ? draw() : undefined),
      ...part('nextHop', [undefined, bytes(4), bytes(16)][draw() % 3]),
      ...part('preferredSource', mostly(bytes(query.source.length))),
      ...part('sourceMac', mostly(bytes(6))),
      ...part('destinationMac', mostly(bytes(6))),
    };
  }
}

function texts({ source, destination }: FibQuery): object {
  return { source: source.join('.'), destination: destination.join('.') };
}

/** The same network, which does not tell of changes. */
function silent(network: HelperNetwork): HelperNetwork {
  return { mtu: (ifindex) => network.mtu(ifindex), fibLookup: (query) => network.fibLookup(query) };
}
