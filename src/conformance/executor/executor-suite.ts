import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { helperName } from '../../bpf/helper-ids.js';
import type { Insn } from '../../bpf/insn.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, type MapAttributes } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import type {
  ExecutionEnvironment,
  Executor,
  LoadedProgram,
  ProgramWork,
} from '../../core/contract/executor.js';
import type { MapBackend } from '../../core/contract/map-backend.js';
import type { Lifecycle } from '../../core/contract/plugin.js';
import { ALU32_CASES } from './alu32-cases.js';
import { ALU64_CASES } from './alu64-cases.js';
import { ATOMIC_CASES } from './atomic-cases.js';
import { runConformanceProgram } from './bpf-conformance.js';
import { CALL_CASES } from './call-cases.js';
import {
  countingBytes,
  type CaseMap,
  type ComputationCase,
  type OperandCase,
  type XdpCase,
} from './executor-case.js';
import { CaseSelection, needsOf, type ExecutorLimits, type ExecutorNeed } from './executor-limits.js';
import { FAULT_CASES } from './fault-cases.js';
import { FRAGS_CASES } from './frags-cases.js';
import { HELPER_CASES } from './helper-cases.js';
import { COMPARISON_CASES, JUMP_CASES } from './jump-cases.js';
import { MAP_CASES } from './map-cases.js';
import { MEMORY_CASES } from './memory-cases.js';
import { PACKET_CASES } from './packet-cases.js';
import { TAIL_CALL_CASES } from './tail-call-cases.js';
import { WORK_CASES } from './work-cases.js';

export interface ExecutorConformanceOptions {
  /**
   * Makes a backend whose maps the executor's programs can use: resident ones over the runtime, unless it lacks
   * `runtime-memory`. Without one, the cases that need maps are skipped.
   */
  readonly makeMapBackend?: (runtime: BpfRuntime) => MapBackend;
  /** The executor checks every access: it must also pass the cases of programs that overrun an object. */
  readonly checked?: boolean;
  /** Size of each test's address space; default 8 MiB. */
  readonly memoryBytes?: number;
  /** What of the suite the executor cannot do, with the reasons; by default nothing. */
  readonly limits?: ExecutorLimits;
}

const CPUS = 2;

/**
 * Registers, under vitest, what every executor must do. The expected results were worked out from RFC 9669 and,
 * for helpers, from kernel 6.18; each case names its source.
 */
export function executorConformance(
  name: string,
  makeExecutor: (runtime: BpfRuntime) => Executor,
  options: ExecutorConformanceOptions = {},
): void {
  describe(`executor ${name}`, () => {
    const selection = new CaseSelection(options.limits);
    let bench: ExecutorBench;
    let executor: Executor;
    let runtime: BpfRuntime;

    beforeEach(() => {
      bench = new ExecutorBench(makeExecutor, options);
      ({ executor, runtime } = bench);
    });
    afterEach(() => bench.close());

    /** A test, or the reason why it is none. */
    function test(title: string, body: () => Promise<void>, ...needs: ExecutorNeed[]): void {
      const why = selection.whyNot(title, needs);
      if (why === undefined) it(title, unlessUnsupported(body));
      else it.skip(`${title} (left out: ${why})`, body);
    }

    function unlessUnsupported(body: () => Promise<void>) {
      return async ({ skip }: { readonly skip: (note: string) => void }): Promise<void> => {
        try {
          await body();
        } catch (error) {
          const what = selection.unsupported(error);
          if (what === undefined) throw error;
          skip(`left out: ${what}`);
        }
      };
    }

    /** As {@link test}; a program that the executor is to refuse is only loaded. */
    function caseTest(title: string, run: () => Promise<void>, needs: readonly ExecutorNeed[] = []): void {
      const refusal = selection.refusal(title);
      if (refusal === undefined) return test(title, run, ...needs);
      test(
        `${title}: is refused`,
        async () => {
          await expect(run()).rejects.toMatchObject({
            code: 'executor-unsupported',
            message: expect.stringMatching(refusal) as string,
          });
        },
        ...needs,
      );
      selection.whyNot(title);
    }

    async function compute(text: string, memory: readonly number[]) {
      if (selection.lacks('runtime-memory') !== undefined) return computeInMaps(bench, text, memory);
      const loaded = await load(executor, assemble(text));
      if (memory.length === 0) return { outcome: loaded.call!(0n, 0n), after: [] };
      const region = runtime.space.allocate(memory.length, {
        kind: 'scratch',
        label: "the test's memory",
        access: 'read-write',
      });
      runtime.space.write(region.start, Uint8Array.from(memory));
      const outcome = loaded.call!(BigInt(region.start), BigInt(memory.length));
      const after = [...runtime.space.read(region.start, memory.length)];
      loaded.close();
      return { outcome, after };
    }

    function computations(title: string, cases: readonly ComputationCase[]): void {
      describe(title, () => {
        for (const { name: caseName, program: text, memory, r0, memoryAfter } of cases) {
          caseTest(caseName, async () => {
            const { outcome, after } = await compute(text, memory ?? []);
            expect(outcome).toEqual({ r0 });
            if (memoryAfter !== undefined) expect(after).toEqual(memoryAfter);
          });
        }
      });
    }

    function operands(title: string, cases: readonly OperandCase[]): void {
      describe(title, () => {
        for (const row of cases) {
          const [insn, dst, src, r1] = row;
          caseTest(caseTitle(row), async () => {
            const text = `r1 = ${hex(dst)}\nr2 = ${hex(src)}\n${insn}\nr0 = r1\nexit`;
            expect((await compute(text, [])).outcome).toEqual({ r0: r1 });
          });
        }
      });
    }

    function xdp(title: string, cases: readonly XdpCase[]): void {
      describe(title, () => {
        for (const one of cases) {
          const run = async (): Promise<void> => {
            // Once alone, and once in a batch that wraps at the end of the ring; then both with work counted.
            await runXdpCase(bench, one, selection, 'run');
            const counted =
              selection.lacks('work') === undefined ? (['counted run', 'counted batch'] as const) : [];
            for (const how of ['batch', ...counted] as const) {
              const again = new ExecutorBench(makeExecutor, options);
              try {
                await runXdpCase(again, one, selection, how);
              } finally {
                again.close();
              }
            }
          };
          caseTest(one.name, run, needsOf(one));
        }
      });
    }

    operands('ALU64 (RFC 9669 section 4.1)', ALU64_CASES);
    operands('ALU (RFC 9669 section 4.1)', ALU32_CASES);
    describe('comparisons (RFC 9669 section 4.3)', () => {
      for (const [comparison, r1, r2, holds] of COMPARISON_CASES) {
        caseTest(`${comparison} with ${r1}, ${r2}: ${holds}`, async () => {
          const text = `r1 = ${hex(r1)}\nr2 = ${hex(r2)}\nr0 = 1\nif ${comparison} goto yes\nr0 = 0\nyes: exit`;
          expect((await compute(text, [])).outcome).toEqual({ r0: holds ? 1n : 0n });
        });
      }
    });
    computations('jumps', JUMP_CASES);
    computations('loads and stores', MEMORY_CASES);
    computations('atomic operations', ATOMIC_CASES);
    computations('calls', CALL_CASES);
    xdp(
      'packet and context',
      PACKET_CASES.filter((one) => one.maps === undefined),
    );
    const withoutMaps = options.makeMapBackend === undefined;
    xdp(
      'frames in several buffers',
      FRAGS_CASES.filter((one) => !withoutMaps || one.maps === undefined),
    );
    describe('room for frames', () => {
      const longFrame = new Uint8Array(3521);

      it('is one buffer for a program without frags, whatever is asked for', async () => {
        const loaded = await executor.load(program('plain', assemble('r0 = 2\nexit')), environment());
        const frames = loaded.openFrames(1, 9000);
        expect(frames.longestFrame).toBe(3520);
        expect(() => frames.load(0, longFrame)).toThrow('a frame of 3521 bytes exceeds the limit of 3520');
        frames.close();
        loaded.close();
      });

      it('is what was asked for with frags, 17 pages and the linear part at most, and given back', async () => {
        const loaded = await executor.load(program('frags', assemble('r0 = 2\nexit'), true), environment());
        // Where frames lie elsewhere, nothing is ever in use here.
        const before = runtime.space.bytesInUse;
        for (const [asked, longest] of [
          [undefined, 3520],
          [9000, 3520 + 2 * 4096],
          [1e6, 3520 + 17 * 4096],
        ] as const) {
          const frames = loaded.openFrames(2, asked);
          expect(frames.longestFrame).toBe(longest);
          expect(() => frames.load(1, new Uint8Array(longest + 1))).toThrow(
            `exceeds the limit of ${longest}`,
          );
          frames.load(1, new Uint8Array(longest));
          expect(loaded.run(frames, 1)).toEqual({ verdict: 2 });
          expect(frames.packet(1)).toHaveLength(longest);
          frames.close();
          expect(runtime.space.bytesInUse).toBe(before);
        }
        loaded.close();
      });
    });
    xdp(
      'helpers',
      HELPER_CASES.filter((one) => !withoutMaps || one.maps === undefined),
    );
    if (!withoutMaps) {
      xdp('maps', MAP_CASES);
      xdp('tail calls', TAIL_CALL_CASES);
    }
    xdp(
      'work',
      WORK_CASES.filter((one) => !withoutMaps || one.maps === undefined),
    );
    describe('work of several runs', () => {
      const run = (loaded: LoadedProgram, frames = 1): void => {
        const ring = loaded.openFrames(3);
        for (let slot = 0; slot < 3; slot++) ring.load(slot, countingBytes(64));
        if (frames === 1) expect(loaded.run(ring, 0)).toEqual({ verdict: 2 });
        else expect(loaded.runBatch(ring, 2, frames)).toBe(0);
        ring.close();
      };
      const CLOCK = 5;

      test(
        'adds up, over batches and programs, and stays when they are gone',
        async () => {
          // 6 insns, with a way to go past one of them.
          const text =
            'r1 = *(u32 *)(r1 +0)\nr2 = *(u8 *)(r1 +5)\nr0 = 2\nif r2 != 5 goto pc+1\nr0 += 0\nexit';
          const first = await load(executor, assemble(text), { countWork: true });
          const { work } = first;
          expect(work?.insns).toBe(0);
          expect(work?.helpers).toEqual([]);
          run(first);
          expect(work?.insns).toBe(6);
          run(first, 3);
          expect(work?.insns).toBe(24);
          const clock = assemble('call bpf_ktime_get_ns\nr0 = 2\nexit');
          const second = await load(executor, clock, { countWork: true });
          expect(second.work).toBe(work);
          expect(work?.helpers).toEqual([CLOCK]);
          run(second);
          expect([work?.insns, work?.calls(CLOCK)]).toEqual([27, 1]);
          first.close();
          second.close();
          const third = await load(executor, clock, { countWork: true });
          run(third);
          expect(third.work).toBe(work);
          expect([work?.insns, work?.calls(CLOCK), work?.bytes]).toEqual([30, 2, 0]);
          third.close();
        },
        'work',
      );

      test(
        'is counted in calls that are not on a frame',
        async () => {
          const insns = assemble('r0 = r1\nr0 += r2\nif r0 == 7 goto pc+1\nr0 += 1\nexit');
          const loaded = await load(executor, insns, { countWork: true });
          expect(loaded.call!(3n, 4n)).toEqual({ r0: 7n });
          expect(loaded.work?.insns).toBe(4);
          expect(loaded.call!(3n, 5n)).toEqual({ r0: 9n });
          expect(loaded.work?.insns).toBe(4 + 5);
          loaded.close();
        },
        'work',
        'runtime-memory',
      );

      test(
        'is about the limit where a run is ended by it',
        async () => {
          const insns = assemble('again: r0 += 1\nr0 += r0\ngoto again');
          const loaded = await load(executor, insns, { countWork: true, insnLimit: 100_000 });
          expect(loaded.call!(0n, 0n)).toHaveProperty('fault');
          // Executors may look at the limit once in some rounds, and leave out as many.
          expect(Math.abs(loaded.work!.insns - 100_000)).toBeLessThan(100);
          loaded.close();
        },
        'work',
        'insn-limit',
        'runtime-memory',
      );
    });
    if (options.checked === true && selection.lacks('faults') === undefined) {
      xdp(
        'faults',
        FAULT_CASES.filter((one) => !withoutMaps || one.maps === undefined),
      );
    }

    describe('loading', () => {
      it('refuses a helper that it does not have, naming insn and helper', async () => {
        const insns = assemble('r1 = 0\ncall bpf_sys_bpf\nexit');
        await expect(load(executor, insns)).rejects.toMatchObject({
          code: 'executor-unsupported',
          message: expect.stringMatching(/insn 1.*bpf_sys_bpf/) as string,
        });
      });

      it('refuses a kfunc', async () => {
        const insns = assemble('call kernel-function#1\nexit');
        await expect(load(executor, insns)).rejects.toMatchObject({ code: 'executor-unsupported' });
      });

      it('refuses a map that is not there', async () => {
        const insns = assemble('r1 = map[99]\nexit', { maps: new Map([['99', 99]]) });
        await expect(load(executor, insns)).rejects.toMatchObject({ code: 'executor-unsupported' });
      });

      test(
        'gives back all memory on close',
        async () => {
          const warm = await load(executor, assemble('r0 = 2\nexit'));
          warm.close();
          const before = runtime.space.bytesInUse;
          for (let i = 0; i < 50; i++) (await load(executor, assemble('r0 = 2\nexit'))).close();
          expect(runtime.space.bytesInUse).toBe(before);
        },
        'runtime-memory',
      );

      test(
        'replaces helpers on request',
        async () => {
          const loaded = await load(executor, assemble('r1 = 7\ncall 5\nr0 += 1\nexit'), {
            helperOverrides: new Map([[5, (state) => state.setResult64(state.arg(1))]]),
          });
          expect(loaded.call!(0n, 0n)).toEqual({ r0: 8n });
          loaded.close();
        },
        'helper-overrides',
      );
    });

    const noHelpers = selection.lacks('helper-overrides');
    const leftOut = noHelpers === undefined ? '' : ` (left out: ${noHelpers})`;
    describe.skipIf(noHelpers !== undefined)(`bpf_conformance${leftOut}`, () => {
      const ADD =
        'b7 01 00 00 03 00 00 00 b7 00 00 00 02 00 00 00 0f 10 00 00 00 00 00 00 95 00 00 00 00 00 00 00';

      it('runs a program given in hex', async () => {
        expect(await runConformanceProgram(executor, runtime, ADD)).toEqual({ r0: 5n });
      });

      it('passes memory in R1 and its length in R2', async () => {
        // r0 = *(u8 *)(r1 + 1); r0 += r2; exit
        const program = '7110010000000000 0f20000000000000 9500000000000000';
        expect(await runConformanceProgram(executor, runtime, program, '0a 14 1e')).toEqual({ r0: 23n });
      });

      it(`returns its first argument from ${helperName(5)}`, async () => {
        const program = 'b7010000 2a000000 85000000 05000000 95000000 00000000';
        expect(await runConformanceProgram(executor, runtime, program)).toEqual({ r0: 42n });
      });

      it('answers bad input with an error', async () => {
        expect(await runConformanceProgram(executor, runtime, 'zz')).toHaveProperty('error');
        expect(await runConformanceProgram(executor, runtime, '9500')).toHaveProperty('error');
        expect(await runConformanceProgram(executor, runtime, 'ff00000000000000')).toHaveProperty('error');
      });
    });

    // Last, when every case has had its turn.
    it('is limited in nothing that the suite does not ask for', () => {
      expect(selection.unknown()).toEqual([]);
      expect(selection.unused()).toEqual([]);
    });
  });
}

function caseTitle([insn, dst, src, r1, note]: OperandCase): string {
  const operands = /[rw]2\b/.test(insn) ? `${hex(dst)}, ${hex(src)}` : hex(dst);
  return `${insn} on ${operands} gives ${hex(r1)}${note === undefined ? '' : ` (${note})`}`;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}ll`;
}

function program(name: string, insns: readonly Insn[], frags = false): Program {
  return { name, type: 6, attachType: 'BPF_XDP', gplCompatible: true, frags, insns };
}

async function load(
  executor: Executor,
  insns: readonly Insn[],
  more: Partial<ExecutionEnvironment> = {},
): Promise<LoadedProgram> {
  return executor.load(program('test', insns), { ...environment(), ...more });
}

function environment(): ExecutionEnvironment {
  return { maps: new Map(), world: { trace() {} } };
}

async function runXdpCase(
  bench: ExecutorBench,
  one: XdpCase,
  selection: CaseSelection,
  how: 'run' | 'batch' | 'counted run' | 'counted batch',
): Promise<void> {
  const { executor } = bench;
  const countWork = how.startsWith('counted');
  const maps = makeMaps(bench, one.maps ?? {});
  const handles = new Map([...maps.keys()].map((name, index) => [name, index + 1]));
  const byHandle = new Map([...maps.values()].map((map, index) => [index + 1, map]));
  const trace: string[] = [];
  const world = {
    trace: (text: string) => void trace.push(text),
    now: () => one.now ?? 0n,
    ...(one.network === undefined ? {} : { network: one.network }),
  };

  const ids = new Map<string, number>();
  const loaded: LoadedProgram[] = [];
  let main: LoadedProgram | undefined;
  for (const [name, text] of [...Object.entries(one.others ?? {}), ['main', one.program] as const]) {
    main = await executor.load(program(name, assemble(text, { maps: handles }), one.frags), {
      maps: byHandle,
      world,
      insnLimit: one.insnLimit,
      countWork,
    });
    ids.set(name, main.id);
    loaded.push(main);
  }
  for (const [name, { programs }] of Object.entries(one.maps ?? {})) {
    for (const [index, target] of Object.entries(programs ?? {})) {
      expect(maps.get(name)!.setProgram!(Number(index), ids.get(target)!)).toBe(0);
    }
  }

  const packet = one.packet ?? countingBytes(64);
  const ring = main!.openFrames(3, packet.length);
  const alone = how.endsWith('run');
  const slot = alone ? 1 : 2;
  ring.load(slot, packet, one.metadata);
  bench.runtime.state.giveRandom(one.random ?? []);
  if (alone) {
    const outcome = main!.run(ring, slot);
    expect(outcome.verdict).toBe(one.verdict);
    expectFault(one, outcome.fault);
  } else {
    const aborted = main!.runBatch(ring, slot, 1);
    expect(aborted).toBe(one.fault === undefined ? 0 : 1);
    expect(ring.verdict(slot)).toBe(one.verdict);
    expectFault(one, one.fault === undefined ? undefined : main!.lastFault);
  }

  if (one.work !== undefined && countWork) expectWork(one.work, main!.work);
  if (!countWork) expect(main!.work).toBeUndefined();
  expectBytes(ring.packet(slot), one.packetAfter ?? packet);
  if (one.metadataAfter !== undefined) expect(ring.metadata(slot)).toEqual(copy(one.metadataAfter));
  if (one.redirect !== undefined && selection.lacks('redirect-target') === undefined) {
    const { map: name, ...redirect } = one.redirect;
    expect(ring.redirect(slot)).toEqual(
      name === undefined ? redirect : { ...redirect, map: maps.get(String(name)) },
    );
  }
  for (const [name, entries] of Object.entries(one.mapsAfter ?? {})) {
    for (const [key, value] of entries) {
      const found = maps.get(name)!.lookup(key);
      if (typeof value === 'number' || typeof found === 'number') expect(found).toEqual(value);
      else expectBytes(found, value);
    }
  }
  for (const [name, records] of Object.entries(one.records ?? {})) {
    const drained = maps.get(name)!.drainRecords!().map(({ data }) => data);
    expect(drained.length).toBe(records.length);
    drained.forEach((record, index) => expectBytes(record, records[index]!));
  }
  if (one.trace !== undefined) expect(trace).toEqual(one.trace);

  for (const each of loaded) each.close();
  ring.close();
}

/** Of the only run so far. */
function expectWork(expected: NonNullable<XdpCase['work']>, work: ProgramWork | undefined): void {
  const calls = work?.helpers.map((id) => [helperName(id), work.calls(id)] as const);
  expect({ insns: work?.insns, calls: new Map(calls), bytes: work?.bytes }).toEqual({
    insns: expected.insns,
    calls: new Map(Object.entries(expected.calls ?? {})),
    bytes: expected.bytes ?? 0,
  });
}

function expectFault(one: XdpCase, fault: { insn: number; reason: string } | undefined): void {
  if (one.fault === undefined) {
    expect(fault).toBeUndefined();
  } else {
    expect(fault?.reason).toMatch(one.fault.reason);
    if (one.fault.insn !== undefined) expect(fault?.insn).toBe(one.fault.insn);
  }
}

/** Matchers take their time with long packets, so they only get to see what differs. */
function expectBytes(found: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(found, expected) !== 0) expect(copy(found)).toEqual(copy(expected));
}

/** A plain Uint8Array, so that a Buffer compares equal. */
function copy(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}

/** An executor and what it works on, for one test. */
class ExecutorBench {
  readonly runtime: BpfRuntime;
  readonly executor: Executor;
  readonly #options: ExecutorConformanceOptions;
  #backend: MapBackend | undefined;

  constructor(makeExecutor: (runtime: BpfRuntime) => Executor, options: ExecutorConformanceOptions) {
    this.#options = options;
    this.runtime = new BpfRuntime({ memoryBytes: options.memoryBytes ?? 8 << 20, cpus: CPUS });
    this.executor = makeExecutor(this.runtime);
  }

  createMap(name: string, attributes: MapAttributes, innerTemplate?: BpfMap): BpfMap {
    this.#backend ??= this.#options.makeMapBackend!(this.runtime);
    const map = this.#backend.create(attributes, { name, innerTemplate });
    if (typeof map === 'number') throw new Error(`map ${name} cannot be created: ${map}`);
    const mayLieElsewhere = this.#options.limits?.lacks?.['runtime-memory'] !== undefined;
    if (!isResidentMap(map) && !mayLieElsewhere) throw new Error(`map ${name} does not lie in the runtime`);
    return map;
  }

  /** What the core does with plugins of a party. */
  close(): void {
    void (this.executor as Lifecycle).stop?.();
    void (this.#backend as Lifecycle | undefined)?.stop?.();
  }
}

/**
 * A computation of an executor that runs XDP programs only, whose memory and R0 lie in maps: the program is a function
 * that is called with the address of a map's value.
 */
async function computeInMaps(bench: ExecutorBench, text: string, memory: readonly number[]) {
  const array = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, keySize: 4, maxEntries: 1, flags: 0 };
  const result = bench.createMap('result', { ...array, valueSize: 8 });
  const bytes = bench.createMap('memory', { ...array, valueSize: Math.max(1, memory.length) });
  if (memory.length > 0) expect(bytes.update(new Uint8Array(4), Uint8Array.from(memory), 0n)).toBe(0);
  const wrapped = `
      r1 = ${memory.length === 0 ? '0' : 'map[memory][0]+0'}
      r2 = ${memory.length}
      call computation
      r1 = map[result][0]+0
      *(u64 *)(r1 +0) = r0
      r0 = 2
      exit
    computation:
      ${text}`;
  const names = new Map([
    ['result', 1],
    ['memory', 2],
  ]);
  const loaded = await bench.executor.load(program('test', assemble(wrapped, { maps: names })), {
    ...environment(),
    maps: new Map([
      [1, result],
      [2, bytes],
    ]),
  });
  const frames = loaded.openFrames(1);
  frames.load(0, countingBytes(64));
  expect(loaded.run(frames, 0)).toEqual({ verdict: 2 });
  const r0 = result.lookup(new Uint8Array(4));
  const after = bytes.lookup(new Uint8Array(4));
  if (typeof r0 === 'number' || typeof after === 'number') throw new Error('the maps cannot be read');
  return {
    outcome: { r0: new DataView(r0.buffer, r0.byteOffset).getBigUint64(0, true) },
    after: memory.length === 0 ? [] : [...after],
  };
}

function makeMaps(bench: ExecutorBench, declared: Readonly<Record<string, CaseMap>>): Map<string, BpfMap> {
  const maps = new Map<string, BpfMap>();
  for (const [name, { type, entries, inner, ...rest }] of Object.entries(declared)) {
    const template = inner?.[0] === undefined ? undefined : maps.get(inner[0][1])!;
    const attributes: MapAttributes = {
      keySize: rest.keySize ?? 4,
      valueSize: rest.valueSize ?? 4,
      maxEntries: rest.maxEntries ?? 1,
      flags: rest.flags ?? 0,
      type: BPF_MAP_TYPE[type],
      btf: rest.btf,
      ...(template === undefined ? {} : { inner: template.attributes }),
    };
    const map = bench.createMap(name, attributes, template);
    maps.set(name, map);
    for (const [key, value] of entries ?? []) {
      expect(map.update(copy(key), copy(value), 0n)).toBe(0);
    }
    // What programs may only read is fixed, as loaders do with .rodata.
    if ((attributes.flags & BPF_F_RDONLY_PROG) !== 0) expect(map.freeze()).toBe(0);
    for (const [key, innerName] of inner ?? []) {
      expect(map.setInnerMap!(copy(key), maps.get(innerName)!)).toBe(0);
    }
  }
  return maps;
}
