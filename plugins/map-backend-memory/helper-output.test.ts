import { describe, expect, it } from 'vitest';
import { helperName } from '../../src/bpf/helper-ids.js';
import { type HelperArgument, XDP_HELPER_PROTOTYPES } from '../../src/bpf/helper-prototypes.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { createHelpers, supportedHelpers } from '../../src/bpf/runtime/helpers/helper-table.js';
import { MemoryMapBackend } from './memory-map-backend.js';

/** What lies in memory before the call. Nothing that a helper could write here has such a byte. */
const POISON = 0xaa;
/** Each output is so long a piece of memory, more than any size that is tried. */
const ROOM = 128;
const SIZES = [1, 8, 64, 100];
const NUMBERS = [0, 8, 100, 0xffff_ffff];
const TEXTS = ['12', '', 'x', '%d', '%f', '-99999999999999999999'];
const VALUE_SIZE = 8;

const writers = [...XDP_HELPER_PROTOTYPES.values()].filter(
  ({ id, args }) => supportedHelpers.has(id) && args.some((arg) => 'access' in arg && arg.access === 'write'),
);

class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 20, cpus: 1 });
  readonly helpers = createHelpers(this.runtime, { trace: () => {} });
  readonly frames = new FrameRing(this.runtime.space, 1);
  readonly #scratch = this.runtime.space.allocate(4096, { kind: 'stack', label: 's', access: 'read-write' });
  readonly #constants = this.runtime.space.allocate(256, { kind: 'map-element', label: 'c', access: 'read' });
  readonly maps: ResidentMap[];
  /** Where each output starts, and its size. */
  outputs: { at: number; size: number }[] = [];

  constructor() {
    const backend = new MemoryMapBackend(this.runtime);
    const create = (type: number, keySize: number) =>
      backend.create(
        { type, keySize, valueSize: VALUE_SIZE, maxEntries: 4, flags: 0 },
        { name: 'm' },
      ) as ResidentMap;
    const full = create(BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, 0);
    this.maps = [
      full,
      create(BPF_MAP_TYPE.BPF_MAP_TYPE_STACK, 0),
      create(BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 4),
    ];
    full.update(new Uint8Array(), new Uint8Array(VALUE_SIZE).fill(1), 0n);
    this.frames.load(0, new Uint8Array(100).fill(2));
    this.runtime.state.context = this.frames.address(0);
  }

  /** What may be tried for an argument, the one before it being chosen. */
  choices(arg: HelperArgument): readonly number[] {
    switch (arg.kind) {
      case 'context':
        return [this.frames.address(0)];
      case 'map':
        return this.maps.map((map) => map.address);
      case 'size':
        return SIZES;
      case 'scalar':
      case 'address':
        return NUMBERS;
      case 'constant-string':
      case 'memory':
        return 'access' in arg && arg.access === 'write' ? [0] : TEXTS.map((_, index) => index);
      case 'map-value':
      case 'fixed-memory':
        return [0];
      default:
        throw new Error(`no choices for an argument of kind ${arg.kind}`);
    }
  }

  call(id: number, args: readonly HelperArgument[], chosen: readonly number[]): number {
    const { space, state } = this.runtime;
    space.u8.fill(POISON, this.#scratch.start, this.#scratch.start + this.#scratch.size);
    this.outputs = [];
    args.forEach((arg, index) => {
      let value = chosen[index]!;
      const room = this.#scratch.start + 2 * ROOM * index;
      if ('access' in arg && arg.access === 'write') {
        const size =
          arg.kind === 'fixed-memory' ? arg.bytes : arg.kind === 'memory' ? chosen[index + 1]! : VALUE_SIZE;
        this.outputs.push({ at: room, size });
        value = room;
      } else if (arg.kind === 'memory' || arg.kind === 'constant-string') {
        const at = arg.kind === 'memory' ? room : this.#constants.start;
        const bytes = new Uint8Array(ROOM);
        bytes.set(Buffer.from(TEXTS[value]!));
        space.u8.set(bytes, at);
        value = at;
      }
      state.setArg(index + 1, value | 0, 0);
    });
    this.helpers.call(id);
    return state.resultLow;
  }

  /** Offsets of poison within the outputs, and of what is not poison right behind them. */
  faults(): string[] {
    const { u8 } = this.runtime.space;
    return this.outputs.flatMap(({ at, size }) => {
      const left = u8.subarray(at, at + size).indexOf(POISON);
      const behind = u8.subarray(at + size, at + 2 * ROOM).findIndex((byte) => byte !== POISON);
      return [
        ...(left >= 0 ? [`byte ${left} of ${size} was not written`] : []),
        ...(behind >= 0 ? [`byte ${behind} behind ${size} was written`] : []),
      ];
    });
  }
}

function* combinations(lists: readonly (readonly number[])[]): Generator<number[]> {
  const [first, ...rest] = lists;
  if (first === undefined) yield [];
  else for (const value of first) for (const others of combinations(rest)) yield [value, ...others];
}

// A verifier takes the memory for written after the call: what a helper left there, an address for one, would be data.
describe('memory that a helper is given to write is written, whatever it returns', () => {
  it('by some helpers', () => expect(writers.length).toBeGreaterThan(5));

  it.each(writers.map((prototype) => [helperName(prototype.id), prototype] as const))(
    '%s',
    (_, prototype) => {
      const { id, args } = prototype;
      let [failed, succeeded] = [0, 0];
      const bench = new Bench();
      for (const chosen of combinations(args.map((arg) => bench.choices(arg)))) {
        // A queue that was emptied by the call before is filled again.
        bench.maps[0]!.update(new Uint8Array(), new Uint8Array(VALUE_SIZE).fill(1), 0n);
        if (bench.call(id, args, chosen) < 0) failed++;
        else succeeded++;
        expect(bench.faults(), `arguments ${chosen.join(', ')}`).toEqual([]);
      }
      expect(failed).toBeGreaterThan(0);
      expect(succeeded).toBeGreaterThan(0);
    },
  );
});
