import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type { LoadedProgram, RunOutcome } from '../../src/core/contract/executor.js';
import { randomStream } from '../../src/core/run/random.js';
import { mapSpec } from '../../src/conformance/offload/offload-rig.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { WasmExecutor } from './wasm-executor.js';

const RING_BYTES = 4096;
const RINGS = ['a', 'b'] as const;

/** A runtime with two rings, for programs whose calls are compiled, or made: to the helpers, as checked builds make them. */
class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 2 << 20, cpus: 4, seed: 5n });
  readonly frames = new FrameRing(this.runtime.space, 1);
  readonly executor: WasmExecutor;
  readonly backend = new MemoryMapBackend(this.runtime);
  readonly rings = RINGS.map((name) => this.ring(name));

  constructor(checked: boolean) {
    this.executor = new WasmExecutor(this.runtime, { checked });
    this.frames.load(0, new Uint8Array(60));
  }

  ring(name: string): ResidentMap {
    const spec = mapSpec(name, {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF,
      keySize: 0,
      valueSize: 0,
      maxEntries: RING_BYTES,
    });
    return this.backend.create(spec, { name }) as ResidentMap;
  }

  load(source: string): LoadedProgram {
    const handles = new Map(RINGS.map((name, index) => [name as string, index + 1]));
    return this.executor.loadNow(
      {
        name: 'test',
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        insns: assemble(source, { maps: handles }),
      },
      { maps: new Map(this.rings.map((map, index) => [index + 1, map])), world: { trace() {} } },
    );
  }

  run(source: string): RunOutcome {
    const loaded = this.load(source);
    const outcome = loaded.run(this.frames, 0);
    loaded.close();
    return outcome;
  }

  /** Both positions of each ring, of which the lower halves are about to overflow. */
  nearOverflow(): void {
    for (const { layout } of this.rings) {
      if (layout.kind !== 'ring') throw new Error('no ring');
      for (const at of [layout.producer, layout.consumer])
        this.runtime.space.view.setUint32(at, 2 ** 32 - 64, true);
    }
  }

  positions(): readonly bigint[] {
    return this.rings.flatMap((ring) => [2, 3].map((flag) => ring.ringQuery!(flag)));
  }
}

const reserve = (ring: string, size: number): string => `
  r1 = map[${ring}]
  r2 = ${size}
  r3 = 0
  call bpf_ringbuf_reserve`;
const finish = (how: 'submit' | 'discard', register = 6): string => `
  r1 = r${register}
  r2 = 1
  call bpf_ringbuf_${how}`;
/** Traps in code without checks as well. */
const FAULT = 'r1 = 0x7fffffff00 ll\nr0 = *(u64 *)(r1 +0)';

describe('records of a ring', () => {
  it('are reserved and submitted without the host', () => {
    const bench = new Bench(false);
    let calls = 0;
    for (const ring of bench.rings)
      for (const name of ['ringReserve', 'ringSubmit', 'ringDiscard'] as const)
        Object.defineProperty(ring, name, { value: () => calls++ });
    const source = `${reserve('a', 8)}\nr6 = r0\nif r6 == 0 goto +4\n*(u64 *)(r6 +0) = 7${finish('submit')}\nr0 = 2\nexit`;
    expect(bench.run(source)).toEqual({ verdict: 2 });
    expect(calls).toBe(0);
    expect(bench.rings[0]!.drainRecords!()).toEqual([
      { cpu: 0, data: Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0), lost: 0 },
    ]);
    expect(bench.runtime.reservations.records).toEqual([]);
  });

  it('are discarded when the run ends in a fault', () => {
    const bench = new Bench(false);
    expect(bench.run(`${reserve('a', 8)}\n${reserve('b', 8)}\n${FAULT}\nexit`)).toHaveProperty('fault');
    expect(bench.runtime.reservations.records).toEqual([]);
    const record = (ring: string): string =>
      `${reserve(ring, 8)}\nr6 = r0\n*(u64 *)(r6 +0) = 1${finish('submit')}`;
    expect(bench.run(`${record('a')}${record('b')}\nr0 = 2\nexit`)).toEqual({ verdict: 2 });
    for (const ring of bench.rings) expect(ring.drainRecords!()).toHaveLength(1);
  });

  it.each([
    ['twice', finish('submit'), finish('submit')],
    ['in its middle', 'r6 += 8', finish('submit')],
    ['by a pointer with an upper half', 'r1 = 1\nr1 <<= 40\nr6 += r1', finish('discard')],
    ['of nobody', 'r6 = 0', finish('discard')],
  ])('cannot be given back %s', (_, ...steps) => {
    const source = `${reserve('a', 16)}\nr6 = r0\n${steps.join('\n')}\nr0 = 2\nexit`;
    const [compiled, called] = [new Bench(false), new Bench(true)];
    const outcome = compiled.run(source);
    expect(outcome.fault?.reason).toMatch(/is no reserved record$/);
    expect(outcome).toEqual(called.run(source));
    expect(compiled.positions()).toEqual(called.positions());
    expect(compiled.rings[0]!.drainRecords!()).toEqual(called.rings[0]!.drainRecords!());
  });

  it('hide what follows for as long as they are reserved', () => {
    const bench = new Bench(false);
    const output = 'r1 = map[a]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\ncall bpf_ringbuf_output';
    const source = `*(u64 *)(r10 -8) = 5\n${reserve('a', 8)}\n${output}\nr0 = 2\nexit`;
    expect(bench.run(source)).toEqual({ verdict: 2 });
    expect(bench.rings[0]!.drainRecords!()).toEqual([]);
    bench.runtime.discardReservations();
    expect(bench.rings[0]!.drainRecords!()).toEqual([
      { cpu: 0, data: Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0), lost: 0 },
    ]);
  });

  it('are the host’s to keep while it has others', () => {
    const bench = new Bench(false);
    const source = `${reserve('a', 8)}\nr6 = r0\n${reserve('b', 8)}${finish('submit')}\n${reserve('a', 8)}\nr0 = 2\nexit`;
    expect(bench.run(source)).toEqual({ verdict: 2 });
    const { space, address } = bench.runtime.state;
    expect(space.i32[(address + RUN_STATE.reservedRecord) >> 2]).toBe(0);
    expect(space.i32[(address + RUN_STATE.otherReservations) >> 2]).toBe(2);
    expect(bench.runtime.reservations.records).toHaveLength(2);
  });

  it('that are left reserved when their map goes are nobody’s', () => {
    const bench = new Bench(false);
    expect(bench.run(`${reserve('b', 16)}\nr0 = 2\nexit`)).toEqual({ verdict: 2 });
    expect(bench.runtime.reservations.records).toHaveLength(1);
    bench.rings[1]!.close();
    bench.rings[1] = bench.ring('b');
    // The new map lies where the other did, so that its first record is at the same address.
    const source = `${reserve('b', 16)}\nr6 = r0\n*(u64 *)(r6 +0) = 3${finish('submit')}\nr0 = 2\nexit`;
    expect(bench.run(source)).toEqual({ verdict: 2 });
    expect(bench.runtime.reservations.records).toEqual([]);
    expect(bench.rings[1].drainRecords!()).toHaveLength(1);
  });

  it('come out of any calls as out of those of the helpers', () => {
    const draw = randomStream(3n, 'rings');
    const below = (n: number): number => draw() % n;
    const pick = <T>(of: readonly T[]): T => of[below(of.length)]!;
    const [compiled, called] = [new Bench(false), new Bench(true)];
    let drained = 0;
    let lost = 0;
    for (let round = 0; round < 600; round++) {
      if (round === 100)
        for (const bench of [compiled, called]) {
          for (const ring of bench.rings) ring.drainRecords!();
          bench.nearOverflow();
        }
      const source = randomCalls(below, pick);
      const cpu = below(4);
      const outcomes = [compiled, called].map((bench) => {
        bench.runtime.state.cpu = cpu;
        const { verdict, fault } = bench.run(source);
        return { verdict, faulted: fault !== undefined, left: bench.runtime.reservations.records.length };
      });
      expect(outcomes[0], source).toEqual(outcomes[1]);
      expect(compiled.positions(), source).toEqual(called.positions());
      if (below(8) > 0) continue;
      const records = [compiled, called].map(({ rings }) => rings.map((ring) => ring.drainRecords!()));
      expect(records[0]).toEqual(records[1]);
      for (const record of records[0]!.flat()) {
        drained++;
        lost += record.lost;
      }
    }
    expect(drained).toBeGreaterThan(100);
    expect(lost).toBeGreaterThan(10);
  });
});

/** Reserves up to three at once in two rings, submits or discards all of them in any order, or ends in a fault before. */
function randomCalls(below: (n: number) => number, pick: <T>(of: readonly T[]) => T): string {
  const lines = ['r6 = 0', 'r7 = 0', 'r8 = 0', '*(u64 *)(r10 -8) = 0x1234'];
  const held = new Set<number>();
  const giveBack = (register: number): void => {
    lines.push(
      `if r${register} == 0 goto +3`,
      ...finish(pick(['submit', 'discard']), register)
        .trim()
        .split('\n'),
    );
    held.delete(register);
  };
  for (let calls = 1 + below(6); calls > 0; calls--) {
    const free = [6, 7, 8].filter((register) => !held.has(register));
    const what = below(4);
    if (what < 2 && free.length > 0) {
      const register = pick(free);
      const size = pick([8, 12, 16, 40, 500, 4000, 4080, 4088, 4096]);
      lines.push(
        reserve(pick(RINGS), size),
        `r${register} = r0`,
        `if r0 == 0 goto +1`,
        `*(u64 *)(r0 +0) = ${below(99)}`,
      );
      held.add(register);
    } else if (what === 2 && held.size > 0) {
      giveBack(pick([...held]));
    } else {
      lines.push(
        `r1 = map[${pick(RINGS)}]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = ${below(4)}\ncall bpf_ringbuf_output`,
      );
    }
  }
  if (below(6) === 0) lines.push(FAULT);
  for (const register of held) giveBack(register);
  return `${lines.join('\n')}\nr0 = 2\nexit`;
}
