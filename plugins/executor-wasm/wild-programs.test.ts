import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import type { Insn } from '../../src/bpf/insn.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PSEUDO_MAP_FD, MAX_BPF_STACK } from '../../src/bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { BpfMap, ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import {
  createHelpers,
  defaultAccessCheck,
  helperFaultReason,
} from '../../src/bpf/runtime/helpers/helper-table.js';
import { mapSpec } from '../../src/conformance/offload/offload-rig.js';
import type { ExecutionEnvironment, LoadedProgram, ProgramFault } from '../../src/core/contract/executor.js';
import { randomStream } from '../../src/core/run/random.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { Oracle } from './testing-oracle.js';
import { WasmExecutor } from './wasm-executor.js';

/**
 * Programs that no verifier has seen, with pointers to the edges of objects and beyond, in the checked build and in the
 * oracle, which asks `defaultAccessCheck` before each access: verdict, fault (insn and reason) and all bytes are the same.
 */

const PROGRAMS = 1500;
const FRAME_BYTES = 60;
const T = BPF_MAP_TYPE;

const SPECS = [
  mapSpec('array', { type: T.BPF_MAP_TYPE_ARRAY, valueSize: 24, maxEntries: 3 }),
  mapSpec('constants', {
    type: T.BPF_MAP_TYPE_ARRAY,
    valueSize: 16,
    maxEntries: 1,
    flags: BPF_F_RDONLY_PROG,
  }),
  mapSpec('hash', { type: T.BPF_MAP_TYPE_HASH, keySize: 8, valueSize: 12, maxEntries: 4 }),
  mapSpec('percpu', { type: T.BPF_MAP_TYPE_PERCPU_ARRAY, valueSize: 8, maxEntries: 2 }),
  mapSpec('programs', { type: T.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4, maxEntries: 1 }),
  mapSpec('devices', { type: T.BPF_MAP_TYPE_DEVMAP, valueSize: 4, maxEntries: 2 }),
];
const LOOKED_UP: Readonly<Record<string, number>> = { array: 24, constants: 16, hash: 12, percpu: 8 };

describe('a wild program', () => {
  it('is stopped by the checked build where the judge of accesses stops it', async () => {
    const seen = { faults: new Set<string>(), passed: 0 };
    for (const countWork of [false, true]) {
      const bench = new Bench();
      for (let seed = 1; seed <= PROGRAMS / 2; seed++) {
        const { outcome } = await bench.compare(seed, new Generator(seed).text(), countWork);
        if (outcome.fault === undefined) seen.passed++;
        else seen.faults.add(outcome.fault.reason.replace(/0x[0-9a-f]+|\d+/g, '#'));
      }
    }
    // Most kinds of faults must have come up, and programs that are not stopped as well.
    expect(seen.passed).toBeGreaterThan(PROGRAMS / 20);
    expect(seen.faults.size).toBeGreaterThan(20);
  });
});

describe('an object that is gone', () => {
  it('is no longer what was found at its address before', async () => {
    const bench = new Bench();
    const { space } = bench.runtime;
    const region = space.allocate(16, { kind: 'scratch', label: 'a buffer', access: 'read-write' });
    const loaded = await bench.load(
      `r1 = ${region.start} ll\nr0 = *(u32 *)(r1 +4)\n*(u32 *)(r1 +8) = 1\nexit`,
    );
    for (let run = 0; run < 2; run++) expect(loaded.run(bench.ring, 0)).toEqual({ verdict: 0 });
    space.free(region);
    expect(loaded.run(bench.ring, 0).fault).toEqual({
      insn: 2,
      reason: `0x${(region.start + 4).toString(16)} belongs to no object`,
    });
  });

  it('is not looked up in, where it is a map', async () => {
    const bench = new Bench();
    const text = 'r2 = r10\nr2 += -4\n*(u32 *)(r2 +0) = 0\nr1 = map[array]\ncall bpf_map_lookup_elem\n';
    const finder = await bench.load(`${text}r0 = *(u8 *)(r0 +0)\nexit`);
    const direct = await bench.load('r1 = map[constants][0] + 4\nr0 = *(u8 *)(r1 +0)\nexit');
    const other = await bench.load(`${text.replace('array', 'percpu')}r0 = *(u8 *)(r0 +0)\nexit`);
    for (const loaded of [finder, direct, other]) expect(loaded.run(bench.ring, 0)).toEqual({ verdict: 0 });
    bench.map('array').close();
    bench.map('constants').close();
    expect(finder.run(bench.ring, 0).fault).toMatchObject({
      insn: 5,
      reason: expect.stringMatching(/is not a map/) as string,
    });
    expect(direct.run(bench.ring, 0).fault).toMatchObject({
      insn: 2,
      reason: expect.stringMatching(/belongs to no object/) as string,
    });
    expect(other.run(bench.ring, 0)).toEqual({ verdict: 0 });
    const late = await bench.load(`${text}r0 = *(u8 *)(r0 +0)\nexit`);
    expect(late.run(bench.ring, 0).fault).toMatchObject({
      insn: 5,
      reason: expect.stringMatching(/is not a map/) as string,
    });
  });

  it('is not accessed by a pointer that was found before a helper took it away', async () => {
    const text = (after: string): string => `
      r2 = r10
      r2 += -4
      *(u32 *)(r2 +0) = 0
      r1 = map[array]
      call bpf_map_lookup_elem
      r6 = r0
      *(u32 *)(r6 +0) = 1
      ${after}
      *(u32 *)(r6 +0) = 2
      r0 = 2
      exit
      f: call bpf_ktime_get_ns
      r0 = 0
      exit`;
    for (const after of ['call bpf_ktime_get_ns', 'call f']) {
      const bench = new Bench();
      const close = (): void => bench.map('array').close();
      const loaded = await bench.load(text(after), new Map([[BPF_FUNC.ktime_get_ns, close]]));
      expect(loaded.run(bench.ring, 0).fault).toMatchObject({
        insn: 9,
        reason: expect.stringMatching(/belongs to no object/) as string,
      });
    }
  });
});

describe('an access', () => {
  const edges = (accesses: readonly string[], before: string): string[] =>
    accesses.map((access) => `r6 = r1\nr7 = *(u32 *)(r1 +0)\n${before}\n${access}\nr0 = 2\nexit`);
  const reads = (offsets: readonly number[]): string[] =>
    offsets.map((off) => `r0 = *(u16 *)(r7 ${off < 0 ? off : `+${off}`})`);

  it.each(['bpf_xdp_adjust_head', 'bpf_xdp_adjust_tail', 'bpf_xdp_adjust_meta'])(
    'is judged by the bounds of the packet behind %s',
    async (helper) => {
      const bench = new Bench();
      for (const delta of [-20, -8, 8, 20]) {
        const adjust = `r0 = *(u16 *)(r7 +0)\nr0 = *(u16 *)(r7 +58)\nr1 = r6\nr2 = ${delta}\ncall ${helper}`;
        const near = [-1, -2, -3].flatMap((off) =>
          [0, delta, FRAME_BYTES, FRAME_BYTES + delta].map((edge) => edge + off),
        );
        const outcomes = new Set<boolean>();
        for (const text of edges(reads(near), adjust))
          outcomes.add((await bench.compare(1, text, false)).outcome.fault === undefined);
        expect(outcomes).toEqual(new Set([true, false]));
      }
    },
  );

  it('is refused where a number beyond 32 bits was added to what no lookup found', async () => {
    const bench = new Bench();
    for (const added of ['0x10000000000', '0x100000000', '0', '-1']) {
      const { outcome } = await bench.compare(
        1,
        `*(u32 *)(r10 -4) = 99
        r2 = r10
        r2 += -4
        r1 = map[array]
        call bpf_map_lookup_elem
        r2 = ${added} ll
        r0 += r2
        r0 = *(u8 *)(r0 +0)
        exit`,
        false,
      );
      expect(outcome.fault?.insn).toBe(9);
    }
  });

  // Which of two look-ups stands for both hangs on the order in which they are come to.
  it.each(['==', '!='])(
    'is refused at NULL from a map that is not known, where one that is may have been asked (%s)',
    async (comparison) => {
      const known = 'r1 = map[array]\ncall bpf_map_lookup_elem';
      const any = 'r1 = map[array]\nif r7 != 0 goto on\nr1 = map[percpu]\non: call bpf_map_lookup_elem';
      const [first, second] = comparison === '==' ? [known, any] : [any, known];
      const bench = new Bench();
      // Both numbers are 0.
      const { outcome } = await bench.compare(
        1,
        `*(u32 *)(r10 -4) = 99
      r2 = r10
      r2 += -4
      r6 = *(u32 *)(r1 +12)
      r7 = *(u32 *)(r1 +16)
      if r6 ${comparison} 0 goto second
      ${first}
      goto met
      second: ${second}
      met: r0 = *(u64 *)(r0 +0)
      r0 = 2
      exit`,
        false,
      );
      expect(outcome.fault?.reason).toBe('null pointer dereference at 0x0');
    },
  );

  it.each(['==', '!='])(
    'is refused behind a short value, where a long one may have been found (%s)',
    async (comparison) => {
      const look = (map: string): string => `r1 = map[${map}]\ncall bpf_map_lookup_elem`;
      const [first, second] = comparison === '==' ? ['array', 'percpu'] : ['percpu', 'array'];
      const bench = new Bench();
      const { outcome } = await bench.compare(
        1,
        `*(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r6 = *(u32 *)(r1 +12)
      if r6 ${comparison} 0 goto second
      ${look(first)}
      goto met
      second: ${look(second)}
      met: *(u64 *)(r0 +0) = 1
      *(u64 *)(r0 +12) = 1
      r0 = 2
      exit`,
        false,
      );
      expect(outcome.fault?.reason).toMatch(/ overruns /);
    },
  );

  it('may not reach from one object into the next', async () => {
    const bench = new Bench();
    const { space } = bench.runtime;
    const [first, second] = ['first', 'second'].map((label) =>
      space.allocate(16, { kind: 'scratch', label, access: 'read-write' }),
    );
    expect(second!.start).toBe(first!.start + 16);
    // The objects were accessed before, each by itself.
    const loaded = await bench.load(`
      r1 = ${first!.start} ll
      *(u64 *)(r1 +16) = 1
      *(u64 *)(r1 +8) = 1
      *(u64 *)(r1 +12) = 1
      r0 = 2
      exit`);
    expect(loaded.run(bench.ring, 0).fault).toMatchObject({
      insn: 4,
      reason: expect.stringMatching(/offset 12 overruns first/) as string,
    });
  });

  it('by the R1 of a tail call is judged by where R1 points to', async () => {
    const target =
      'r3 = *(u32 *)(r1 +0)\nr4 = *(u32 *)(r1 +4)\n*(u8 *)(r1 +8) = 1\nr0 = *(u8 *)(r3 +0)\nexit';
    for (const [r1, fault] of [
      ['r10 + -16', { insn: 3, reason: '0x7000000 belongs to no object' }],
      ['r10 + 0', { insn: 0, reason: expect.stringMatching(/overruns the 512-byte element/) as string }],
      ['r1 + 0', { insn: 2, reason: expect.stringMatching(/read-only context/) as string }],
      ['r1 + 4', { insn: 2, reason: expect.stringMatching(/read-only context/) as string }],
    ] as const) {
      const bench = new Bench();
      const [base, off] = r1.split(' + ');
      const caller = await bench.load(`
        *(u64 *)(r10 -16) = 0x7000000
        r1 = ${base}
        r1 += ${off}
        r2 = map[programs]
        r3 = 0
        call bpf_tail_call
        r0 = 2
        exit`);
      bench.map('programs').setProgram!(0, (await bench.load(target)).id);
      expect(caller.run(bench.ring, 0).fault).toMatchObject(fault);
    }
  });
});

class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 21, cpus: 2 });
  readonly ring = new FrameRing(this.runtime.space, 2);
  readonly #executor = new WasmExecutor(this.runtime, { checked: true });
  readonly #maps = new Map<number, ResidentMap>();
  readonly #handles = new Map<string, number>();

  constructor() {
    const backend = new MemoryMapBackend(this.runtime);
    for (const spec of SPECS) {
      const map = backend.create(spec, { name: spec.name }) as BpfMap;
      this.#handles.set(spec.name, this.#maps.size + 1);
      this.#maps.set(this.#maps.size + 1, map as ResidentMap);
    }
    for (let slot = 0; slot < 2; slot++) this.ring.load(slot, new Uint8Array(FRAME_BYTES));
    const value = Uint8Array.from({ length: 12 }, (_, i) => i);
    for (const first of [1, 2]) this.map('hash').update(Uint8Array.of(first, 0, 0, 0, 0, 0, 0, 0), value, 0n);
  }

  map(name: string): BpfMap {
    return this.#maps.get(this.#handles.get(name)!)!;
  }

  #program(text: string): Program {
    const insns = assemble(text, { maps: this.#handles });
    return { name: 'wild', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns };
  }

  async load(
    text: string,
    helperOverrides?: ExecutionEnvironment['helperOverrides'],
    countWork = false,
  ): Promise<LoadedProgram> {
    const world = { trace() {} };
    return this.#executor.load(this.#program(text), { maps: this.#maps, world, helperOverrides, countWork });
  }

  async compare(seed: number, text: string, countWork: boolean) {
    const { runtime, ring } = this;
    const { space } = runtime;
    const loaded = await this.load(text, undefined, countWork);
    const { insns } = this.#program(text);
    try {
      for (let slot = 0; slot < 2; slot++) {
        const frame = Uint8Array.from({ length: FRAME_BYTES }, (_, i) => (i * 37 + seed) & 0xff);
        ring.load(slot, frame, seed % 3 === 0 ? { dataMeta: new Uint8Array(8).fill(seed) } : {});
      }
      const before = space.snapshot();
      const context = ring.address(seed % 2);
      const expected = this.#expected(insns, context);
      const bytes = this.#programBytes();
      space.restore(before);
      const outcome = loaded.run(ring, seed % 2);
      expect(outcome, `seed ${seed}\n${text}`).toEqual(expected);
      expect(this.#programBytes().equals(bytes), `bytes of seed ${seed}\n${text}`).toBe(true);
      // Again, from where the first run left off, with what it left in caches.
      const again = this.#expected(insns, context);
      const bytesAgain = this.#programBytes();
      space.restore(before);
      loaded.run(ring, seed % 2);
      expect(loaded.run(ring, seed % 2), `seed ${seed}, again\n${text}`).toEqual(again);
      expect(this.#programBytes().equals(bytesAgain), `bytes of seed ${seed}, again\n${text}`).toBe(true);
      space.restore(before);
      return { outcome };
    } finally {
      loaded.close();
    }
  }

  #expected(insns: readonly Insn[], context: number): { verdict: number; fault?: ProgramFault } {
    const { runtime } = this;
    const { space, state } = runtime;
    state.context = context;
    const judge = defaultAccessCheck(runtime);
    const helpers = createHelpers(runtime, { trace() {} }, { invoke: () => {} });
    const stack = space.regions.find(({ label }) => label === 'the stack')!;
    const oracle = new Oracle(insns, space.u8, {
      access: (address, size, write, insn) => {
        const reason =
          address > 0xffff_ffffn
            ? `0x${address.toString(16)} belongs to no object`
            : judge(Number(address), size, write);
        if (reason !== undefined) throw new Refusal({ insn, reason });
      },
      helper: (id, registers, insn) => {
        for (let r = 1; r <= 5; r++)
          state.setArg(
            r,
            Number(BigInt.asIntN(32, registers[r]!)),
            Number(BigInt.asIntN(32, registers[r]! >> 32n)),
          );
        try {
          helpers.call(id);
        } catch (error) {
          throw new Refusal({ insn, reason: helperFaultReason(error) });
        }
        return space.view.getBigUint64(state.address, true);
      },
      lddw: ({ src, imm }) => {
        const map = this.#maps.get(imm)!;
        return BigInt(src === BPF_PSEUDO_MAP_FD ? map.address : map.directValueAddress(0));
      },
    });
    try {
      const r0 = oracle.run([BigInt(context)], stack.start + MAX_BPF_STACK);
      return { verdict: Number(BigInt.asUintN(32, r0)) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { verdict: 0, fault: error.fault };
    }
  }

  /** What programs can reach. */
  #programBytes(): Buffer {
    const { space } = this.runtime;
    const parts = space.regions
      .filter(({ access, kind }) => access !== 'none' && kind !== 'packet')
      .map(({ start, size }) => space.read(start, size));
    // Of a slot, not what the verdict is left in.
    for (let slot = 0; slot < 2; slot++)
      parts.push(space.read(this.ring.address(slot), 32), space.read(this.ring.address(slot) + 36, 4100));
    return Buffer.concat(parts);
  }
}

class Refusal extends Error {
  constructor(readonly fault: ProgramFault) {
    super(fault.reason);
  }
}

/** R6: the context, R7: a pointer into the packet, R8: what a lookup found, R9: a pointer into the stack. */
class Generator {
  readonly #next: () => number;
  readonly #lines: string[] = [];
  /** Of what R8 points to. */
  #valueBytes = 8;
  #functions = 0;

  constructor(seed: number) {
    this.#next = randomStream(BigInt(seed), 'wild programs');
  }

  text(): string {
    this.#lines.push('r6 = r1', `r7 = *(u32 *)(r1 +${this.#pick([0, 0, 4, 8])})`, 'r9 = r10', 'r9 += -64');
    for (let at = -64; at < 0; at += 8) this.#lines.push(`*(u64 *)(r10 ${at}) = ${this.#below(3)}`);
    this.#lookup('r10', -8 * (1 + this.#below(8)));
    const count = 2 + this.#below(14);
    for (let i = 0; i < count; i++) this.#item(i);
    this.#lines.push(`r0 = ${this.#below(5)}`, 'exit');
    for (let i = 0; i < this.#functions; i++) {
      this.#lines.push(`f${i}:`);
      for (let n = 0; n < 3; n++)
        this.#access(this.#pick(['r1', 'r2', 'r3', 'r4', 'r10']), this.#below(30) - 4, 'r0');
      this.#lines.push('r0 = 1', 'exit');
    }
    return this.#lines.join('\n');
  }

  #item(index: number): void {
    const kind = this.#below(20);
    if (kind < 11) {
      const [base, off] = this.#place();
      if (this.#below(3) === 0) {
        // By a sum with a variable, or through the stack.
        this.#lines.push(`r2 = ${base}`);
        if (this.#below(2) === 0)
          this.#lines.push('*(u64 *)(r10 -80) = r2', 'r2 = 0', 'r2 = *(u64 *)(r10 -80)');
        else this.#lines.push('r3 = *(u8 *)(r10 -64)', `r3 &= ${this.#pick([1, 3, 255])}`, 'r2 += r3');
        this.#access('r2', off, 'r3');
      } else {
        this.#access(base, off, 'r3');
      }
    } else if (kind < 13) {
      const [base, off] = this.#place();
      this.#lookup(base, off);
    } else if (kind < 14) {
      const delta = this.#pick([-70, -9, -4, -1, 0, 1, 4, 9, 30]);
      const helper = this.#pick(['head', 'tail', 'meta']);
      this.#lines.push('r1 = r6', `r2 = ${delta}`, `call bpf_xdp_adjust_${helper}`);
      if (this.#below(2) === 0) this.#lines.push('r7 = *(u32 *)(r6 +0)');
    } else if (kind < 15) {
      const [from, fromOff] = this.#place();
      const [to, toOff] = this.#place();
      const sizes = this.#pick([
        [0, 4],
        [8, 0],
        [4, 12],
        [24, 8],
        [2, 2],
      ] as const);
      this.#lines.push(`r1 = ${from}`, `r1 += ${fromOff}`, `r2 = ${sizes[0]}`);
      this.#lines.push(`r3 = ${to}`, `r3 += ${toOff}`, `r4 = ${sizes[1]}`, 'r5 = 7', 'call bpf_csum_diff');
      this.#lines.push('*(u64 *)(r10 -8) = r0');
    } else if (kind < 16) {
      this.#lines.push(`r2 = ${this.#below(4)}`, 'r1 = map[devices]', 'r3 = 2', 'call bpf_redirect_map');
      this.#lines.push('*(u64 *)(r10 -8) = r0');
    } else if (kind < 17) {
      this.#lines.push('r1 = r6', 'r2 = r7', 'r3 = r8', 'r4 = r9', `call f${this.#functions++}`);
    } else if (kind < 18) {
      // Two ways that meet, with another pointer on each.
      const [one, other] = [this.#pick(['r6', 'r7', 'r8', 'r9', 'r10']), this.#pick(['r7', 'r8'])];
      this.#lines.push(`r2 = ${one}`, 'r3 = *(u8 *)(r10 -64)', `if r3 == 0 goto m${index}`, `r2 = ${other}`);
      this.#lines.push(`m${index}:`);
      this.#access('r2', this.#below(20), 'r3');
    } else if (kind < 19) {
      const wild = this.#pick([
        '0',
        '0x10008',
        '0x1000100000000',
        '0x7ffffff8',
        '0xfffffffc',
        '-4',
        '0x10000001000',
      ]);
      this.#lines.push(`r2 = ${wild} ll`);
      if (this.#below(2) === 0) this.#lines.push(`r2 += ${this.#pick(['r6', 'r7', 'r8', 'r9'])}`);
      this.#access('r2', this.#below(12) - 4, 'r3');
    } else {
      this.#lines.push(`r2 = map[constants][0] + 0`);
      this.#access('r2', this.#pick([0, 4, 8, 12, 15, 16, -1]), 'r3');
    }
  }

  /** A pointer and an offset, in most cases within the object. */
  #place(): readonly [string, number] {
    const [base, low, high] = this.#pick([
      ['r6', 0, 24],
      ['r7', 0, FRAME_BYTES],
      ['r8', 0, this.#valueBytes],
      ['r9', -448, 64],
      ['r10', -512, 0],
    ] as const);
    const edge = this.#below(6);
    if (edge === 0) return [base, high - this.#below(9)];
    if (edge === 1 && this.#below(4) === 0) return [base, low - this.#below(9)];
    return [base, low + this.#below(Math.max(1, high - low - 8))];
  }

  #access(base: string, off: number, value: string): void {
    const size = this.#pick(['u8', 'u16', 'u32', 'u64']);
    const place = `*(${size} *)(${base} ${off < 0 ? off : `+${off}`})`;
    switch (base === 'r6' ? 0 : this.#below(5)) {
      case 0:
      case 1:
        this.#lines.push(`${value} = ${place}`);
        break;
      case 2:
        this.#lines.push(`${place} = ${this.#below(100)}`);
        break;
      case 3:
        this.#lines.push(`${value} = ${this.#below(100)}`, `${place} = ${value}`);
        break;
      default:
        if (size === 'u8' || size === 'u16') this.#lines.push(`${value} = ${place}`);
        else this.#lines.push(`${value} = 3`, `lock ${place} += ${value}`);
    }
  }

  /** Of a key at a place; R8 may be NULL behind it. */
  #lookup(base: string, off: number): void {
    const map = this.#pick(Object.keys(LOOKED_UP));
    this.#lines.push(
      `r2 = ${base}`,
      `r2 += ${off}`,
      `r1 = map[${map}]`,
      'call bpf_map_lookup_elem',
      'r8 = r0',
    );
    this.#valueBytes = LOOKED_UP[map]!;
    if (this.#below(3) > 0) this.#lines.push('if r8 != 0 goto +2', 'r0 = 1', 'exit');
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }

  #below(limit: number): number {
    return (this.#next() >>> 8) % limit;
  }
}
