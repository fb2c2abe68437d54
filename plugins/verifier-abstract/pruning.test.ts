import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BYTES_OF } from './budget.js';
import { Frame, type CallbackFrame, type Rounds } from './frame.js';
import { Checkpoint, markLive, markPrecise, markReturned } from './checkpoint.js';
import { DemandPool, Demands } from './demands.js';
import { ALL_BYTES, Origin, OriginKind } from './origin.js';
import { COMPARISONS, Comparison, covers as coversWhole, markEverything } from './pruning.js';
import { Scalar, UNKNOWN } from './scalar/scalar.js';
import { Byte, Slot, byteMask } from './slot.js';
import { StackState } from './stack-state.js';
import { CONTEXT, Kind, pointer, UNKNOWN_NUMBER, type KnownMap, Value } from './value.js';
import { type HeldLock, type PassedState, VerifierState } from './verifier-state.js';

const map = (handle: number): KnownMap => ({
  handle,
  spec: {
    name: `m${handle}`,
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
    keySize: 4,
    valueSize: 8,
    maxEntries: 4,
    flags: 0,
  },
  special: { fields: [] },
});
const [MAP, OTHER_MAP] = [map(1), map(2)];
const RANGE = Scalar.signed(0n, 255n);

/** A value whose every field holds something. */
const full = (kind: Kind): Value => new Value(kind, RANGE, 7, 8, 34, false, 9, MAP, 16, 'sock');

/** One change for each field that makes a value another one. */
const CHANGED: { readonly [K in keyof typeof COMPARISONS.value]: (value: Value) => Value } = {
  kind: (value) =>
    new Value(
      value.kind === Kind.Socket ? Kind.Memory : Kind.Socket,
      value.scalar,
      value.id,
      value.off,
      value.range,
      value.maybeNull,
      value.ref,
      value.map,
      value.size,
      value.socket,
    ),
  scalar: (value) => value.with({ scalar: Scalar.signed(0n, 256n) }),
  id: (value) => value.with({ id: 70 }),
  off: (value) => value.with({ off: 9 }),
  range: (value) => value.with({ range: 33 }),
  maybeNull: (value) => value.with({ maybeNull: true }),
  ref: (value) => value.with({ ref: 90 }),
  map: (value) => value.with({ map: OTHER_MAP }),
  size: (value) => value.with({ size: 17 }),
  socket: (value) => value.with({ socket: 'tcp_sock' }),
};

const POINTERS = [
  Kind.Context,
  Kind.Packet,
  Kind.PacketMeta,
  Kind.PacketEnd,
  Kind.Stack,
  Kind.Map,
  Kind.MapValue,
  Kind.MapKey,
  Kind.Memory,
  Kind.Socket,
  Kind.XskSocket,
  Kind.Function,
  Kind.Stale,
  Kind.PacketLow,
];
/** `explored`: everything mattered, by marks. */
type How = 'explored' | 'same' | 'within';
const ALL: readonly How[] = ['explored', 'same', 'within'];

const passed = (state: VerifierState, liveRegisters = 0x3ff): PassedState => ({
  state,
  liveRegisters: state.frames.map(() => liveRegisters),
});

/** What a state demands after which that was marked. */
function demandsOf(
  old: VerifierState,
  mark: (after: VerifierState) => void = markEverything,
  liveRegisters?: number,
): Demands {
  const after = old.fork();
  const marks = new Checkpoint(old.steps, undefined);
  after.latest = marks;
  mark(after);
  return new Demands(passed(old, liveRegisters), marks, new DemandPool());
}

function covers(old: VerifierState, current: VerifierState, how: How): boolean {
  if (how === 'explored') return demandsOf(old).areMet(current);
  return coversWhole(passed(old), current, how === 'same' ? Comparison.Same : Comparison.Within);
}

/** Notes that bytes of a slot of the first frame are read. */
function read({ top, latest }: VerifierState, slot: number, bytes: number): void {
  markLive(top.stack.origins[slot], latest, 0, slot, bytes);
}

const made = (): Origin => new Origin(0, 0, undefined, undefined, OriginKind.Value);

/** A state with these values in R6 and up. */
function withRegisters(...values: readonly Value[]): VerifierState {
  const state = VerifierState.initial();
  const frame = state.writable();
  values.forEach((value, index) => {
    frame.regs[6 + index] = value;
    frame.origins[6 + index] = made();
  });
  return state;
}

function withSlots(...slots: readonly Slot[]): VerifierState {
  const state = VerifierState.initial();
  const stack = state.writableStack(0);
  slots.forEach((slot, index) => stack.set(index, slot, made()));
  return state;
}

const spill = (value: Value): Slot => new Slot(0xffff, value, 8);

describe('a field that is part of the comparison', () => {
  it('is every field there is', () => {
    expect(Object.keys(COMPARISONS.value).sort()).toEqual(Object.keys(full(Kind.Packet)).sort());
    expect(Object.keys(COMPARISONS.slot).sort()).toEqual(Object.keys(spill(CONTEXT)).sort());
    expect(Object.keys(COMPARISONS.frame).sort()).toEqual(Object.keys(VerifierState.initial().top).sort());
    expect(Object.keys(COMPARISONS.state).sort()).toEqual(Object.keys(VerifierState.initial()).sort());
  });

  for (const [field, change] of Object.entries(CHANGED)) {
    it.each(POINTERS.map((kind) => [Kind[kind], kind] as const))(`${field} of a %s`, (_, kind) => {
      const value = full(kind);
      // The id of one value alone may be renamed; that of two that belong together may not.
      const old = withRegisters(value, value);
      const current = withRegisters(value, change(value));
      const oldSlots = withSlots(spill(value), spill(value));
      const currentSlots = withSlots(spill(value), spill(change(value)));
      for (const comparison of ALL) {
        expect(covers(old, withRegisters(value, value), comparison)).toBe(true);
        expect(covers(old, current, comparison)).toBe(false);
        expect(covers(oldSlots, withSlots(spill(value), spill(value)), comparison)).toBe(true);
        expect(covers(oldSlots, currentSlots, comparison)).toBe(false);
      }
    });
  }

  it.each([
    ['kind', CHANGED.kind],
    ['scalar', CHANGED.scalar],
    ['id', CHANGED.id],
    ['off', CHANGED.off],
  ] as const)('%s of a number', (_, change) => {
    const number = new Value(Kind.Scalar, RANGE, 7, 8, 0, false, 0, undefined, 0, undefined);
    for (const comparison of ALL) {
      expect(covers(withRegisters(number, number), withRegisters(number, change(number)), comparison)).toBe(
        false,
      );
      expect(
        covers(
          withSlots(spill(number), spill(number)),
          withSlots(spill(number), spill(change(number))),
          comparison,
        ),
      ).toBe(false);
    }
  });

  it('is the same object in both states, too, when its reference means another one', () => {
    const record = pointer(Kind.Memory, { ref: 2, size: 16 });
    const held = (ids: readonly number[], ref: number): VerifierState => {
      const state = withSlots(spill(record));
      state.references = ids.map((id) => ({ id, insn: 0, what: 'the ring buffer record' }));
      state.writable().regs[6] = pointer(Kind.Memory, { ref, size: 16 });
      return state;
    };
    expect(covers(held([1, 2], 1), held([1, 2], 1), 'explored')).toBe(true);
    // The record that was 1 is now 2, so that the one that was 2 cannot be it as well.
    expect(covers(held([1, 2], 1), held([2, 3], 2), 'explored')).toBe(false);
  });
});

describe('a lock', () => {
  const value = pointer(Kind.MapValue, { map: MAP, id: 2 });
  const holding = (lock: HeldLock | undefined, id = 2): VerifierState => {
    const state = withRegisters(value.with({ id }));
    state.lock = lock;
    return state;
  };
  const held: HeldLock = { map: MAP, id: 2, insn: 4 };

  it.each(ALL)('is held in both states, and the same one (%s)', (comparison) => {
    const is = (old: VerifierState, current: VerifierState): boolean => covers(old, current, comparison);
    expect(is(holding(held), holding(held))).toBe(true);
    expect(is(holding(held), holding({ ...held, id: 7 }, 7))).toBe(true);
    expect(is(holding(held), holding({ ...held, insn: 5 }))).toBe(true);
    expect(is(holding(held), holding({ ...held, id: 7 }))).toBe(false);
    expect(is(holding(held), holding({ ...held, map: OTHER_MAP }))).toBe(false);
    expect(is(holding(held), holding(undefined))).toBe(false);
    expect(is(holding(undefined), holding(held))).toBe(false);
  });

  it('is known of a second path', () => {
    expect(holding(held).fork().lock).toBe(held);
  });
});

describe('ids', () => {
  const number = (id: number, off = 0): Value =>
    new Value(Kind.Scalar, Scalar.signed(0n, 1n << 40n), id, off, 0, false, 0, undefined, 0, undefined);
  const known = (value: number): Value =>
    new Value(Kind.Scalar, Scalar.of(value), 0, 0, 0, false, 0, undefined, 0, undefined);
  const is = (old: readonly Value[], current: readonly Value[]): boolean =>
    covers(withRegisters(...old), withRegisters(...current), 'explored');

  it('are renamed one to one, with the constants between them', () => {
    expect(is([number(1), number(1, 4)], [number(5, 2), number(5, 6)])).toBe(true);
    expect(is([number(1), number(1, 4)], [number(5, 2), number(5, 7)])).toBe(false);
    expect(is([number(1), number(1, 1)], [number(2, 31), number(23, 1)])).toBe(false);
    expect(is([number(1), number(1)], [number(2), number(3)])).toBe(false);
    expect(is([number(1), number(2)], [number(3), number(3)])).toBe(false);
  });

  it('may turn out to be of constants that are as far apart', () => {
    expect(is([number(1), number(1, 4)], [known(10), known(14)])).toBe(true);
    expect(is([number(1), number(1, 4)], [known(10), known(15)])).toBe(false);
    expect(is([number(1), number(1)], [known(10), number(3, 10)])).toBe(false);
    expect(is([number(1), number(1)], [number(0), number(0)])).toBe(false);
    // A number without an id is no other one, and no constant either.
    expect(is([number(1), number(1)], [number(0), known(0)])).toBe(false);
    expect(is([number(1), number(1)], [known(0), number(0)])).toBe(false);
  });

  it('of one number alone mean nothing', () => {
    expect(is([number(1)], [number(0)])).toBe(true);
    expect(is([number(0), number(0)], [number(3), number(3)])).toBe(true);
  });
});

describe('demands that are shared', () => {
  const slot = spill(CONTEXT);
  const demand = { value: CONTEXT, slot: undefined, live: 0, isReturned: false };

  it('are of one place', () => {
    const pool = new DemandPool();
    const ask = (frame: number, place: number, part: Slot | undefined) =>
      pool.share({ ...demand, frame, place, slot: part });
    const places = Array.from({ length: 8 }, (_, frame) => [
      ...Array.from({ length: 10 }, (__, place) => [frame, place, undefined] as const),
      ...Array.from({ length: 64 }, (__, place) => [frame, place, slot] as const),
    ]).flat();
    for (const [frame, place, part] of places) {
      expect(ask(frame, place, part)).toMatchObject({ frame, place, slot: part });
    }
    expect(pool.made).toBe(places.length);
    for (const [frame, place, part] of places) ask(frame, place, part);
    expect(pool.made).toBe(places.length);
  });

  it('are the same in all that they ask for', () => {
    const pool = new DemandPool();
    const first = { ...demand, frame: 1, place: 2, slot, live: 3 };
    for (const other of [
      { ...first, value: UNKNOWN_NUMBER },
      { ...first, slot: spill(CONTEXT) },
      { ...first, live: 1 },
      { ...first, isReturned: true },
    ]) {
      const known = pool.share(first);
      expect(pool.share(other)).not.toBe(known);
      expect(pool.share(other)).toBe(pool.share(other));
    }
  });

  it('count once, and each place of them for what names it', () => {
    const pool = new DemandPool();
    const state = withRegisters(CONTEXT, CONTEXT);
    state.references = [1, 2, 3].map((id) => ({ id, insn: 0, what: 'the ring buffer record' }));
    const bytes = () => new Demands(passed(state, 0xc0), new Checkpoint(0, undefined), pool).bytes;
    const { settled, place, demand: each, reference } = BYTES_OF;
    expect(bytes()).toBe(settled + 2 * place + 2 * each + 3 * reference);
    expect(bytes()).toBe(settled + 2 * place + 3 * reference);
  });
});

describe('packet ranges', () => {
  const packet = (range: number): Value => pointer(Kind.Packet, { range });
  it('may be wider in the current state, unless it has to be the same', () => {
    for (const [comparison, wider] of [
      ['explored', true],
      ['within', true],
      ['same', false],
    ] as const) {
      expect(covers(withRegisters(packet(14)), withRegisters(packet(14)), comparison)).toBe(true);
      expect(covers(withRegisters(packet(14)), withRegisters(packet(34)), comparison)).toBe(wider);
      expect(covers(withRegisters(packet(34)), withRegisters(packet(14)), comparison)).toBe(false);
      expect(covers(withRegisters(packet(-2)), withRegisters(packet(14)), comparison)).toBe(false);
      expect(covers(withRegisters(packet(0)), withRegisters(packet(-2)), comparison)).toBe(false);
    }
  });
});

describe('stack slots', () => {
  const bytes = (byte: Byte): Slot => new Slot(byteMask(0, 8) & (0x5555 * byte), undefined, 0);
  it.each([
    [Byte.Misc, Byte.Misc, true],
    [Byte.Misc, Byte.Zero, true],
    [Byte.Misc, Byte.Invalid, false],
    [Byte.Zero, Byte.Zero, true],
    [Byte.Zero, Byte.Misc, false],
    [Byte.Zero, Byte.Invalid, false],
  ])('bytes of kind %s are covered by %s: %s', (old, current, covered) => {
    for (const comparison of ['explored', 'within'] as const) {
      expect(covers(withSlots(bytes(old)), withSlots(bytes(current)), comparison)).toBe(covered);
    }
    expect(covers(withSlots(bytes(old)), withSlots(bytes(current)), 'same')).toBe(old === current);
  });

  it('keep a pointer from being taken for bytes', () => {
    for (const comparison of ALL) {
      expect(covers(withSlots(bytes(Byte.Misc)), withSlots(spill(CONTEXT)), comparison)).toBe(false);
    }
  });

  it('that hold the same number in more or fewer bytes are the same only where the rest is', () => {
    const number = pointer(Kind.Scalar, { scalar: RANGE });
    const half = new Slot(0x55ff, number, 4);
    const quarter = new Slot(0x555f, number, 2);
    const extended = new Slot(0x55af, number, 2);
    for (const comparison of ['explored', 'within'] as const) {
      expect(covers(withSlots(half), withSlots(quarter), comparison)).toBe(false);
      expect(covers(withSlots(half), withSlots(extended), comparison)).toBe(true);
      expect(covers(withSlots(quarter), withSlots(half), comparison)).toBe(true);
    }
    for (const other of [quarter, extended]) {
      expect(covers(withSlots(half), withSlots(other), 'same')).toBe(false);
    }
  });

  it('may hold a number where bytes were, and bytes where any number was', () => {
    const spilled = (scalar: Scalar): VerifierState => withSlots(spill(pointer(Kind.Scalar, { scalar })));
    const [misc, zero] = [withSlots(bytes(Byte.Misc)), withSlots(bytes(Byte.Zero))];
    const unwritten = withSlots(new Slot(0x5554, undefined, 0));
    for (const comparison of ['explored', 'within'] as const) {
      const is = (old: VerifierState, now: VerifierState): boolean => covers(old, now, comparison);
      expect(is(spilled(UNKNOWN), misc)).toBe(true);
      expect(is(spilled(UNKNOWN), unwritten)).toBe(false);
      expect(is(spilled(RANGE), misc)).toBe(false);
      expect(is(spilled(RANGE), zero)).toBe(true);
      expect(is(spilled(Scalar.of(1)), zero)).toBe(false);
      expect(is(zero, spilled(Scalar.of(0)))).toBe(true);
      expect(is(zero, spilled(Scalar.of(1)))).toBe(false);
      expect(is(zero, spilled(Scalar.constant(1n << 63n)))).toBe(false);
    }
  });

  it('count as far as their bytes were read', () => {
    const after = (old: Slot, live: number, current: Slot): boolean => {
      const demands = demandsOf(withSlots(old), (state) => {
        read(state, 0, live);
        markPrecise(state.top.stack.origins[0], state.latest);
      });
      return demands.areMet(withSlots(current));
    };
    const low = new Slot(0x0001, undefined, 0);
    const rest = new Slot(0x5554, undefined, 0);
    expect(after(low, 0b1111_1110, rest)).toBe(true);
    expect(after(low, 0b0000_0001, rest)).toBe(false);
    expect(after(bytes(Byte.Zero), 0b1000_0000, new Slot(0x9555, undefined, 0))).toBe(true);
    expect(after(bytes(Byte.Zero), 0b1000_0000, new Slot(0x5aaa, undefined, 0))).toBe(false);
    // A number of whose bytes none was read is not looked at.
    const half = new Slot(0x55ff, pointer(Kind.Scalar, { scalar: RANGE }), 4);
    expect(after(half, 0xf0, bytes(Byte.Misc))).toBe(true);
    expect(after(half, 0x08, bytes(Byte.Misc))).toBe(false);
  });
});

describe('frames', () => {
  const callback: CallbackFrame = { helper: 164, map: MAP, limit: 4, element: 5, enteredAt: 0 };
  const rounds: Rounds = { invocation: 3, count: 2, charged: 10 };
  interface Parts {
    readonly start?: number;
    readonly callsite?: number;
    readonly callback?: CallbackFrame;
    readonly rounds?: Rounds | undefined;
  }
  const nested = (parts: Parts = {}): VerifierState => {
    const state = VerifierState.initial();
    state.setRounds('rounds' in parts ? parts.rounds : rounds);
    const regs = new Array<Value>(11).fill(pointer(Kind.NotInit));
    regs[6] = pointer(Kind.MapKey, { map: MAP, ref: 5 });
    const origins = new Array<Origin | undefined>(11).fill(undefined);
    const { start = 20, callsite = 4 } = parts;
    state.frames.push(
      new Frame(
        start,
        callsite,
        parts.callback ?? callback,
        undefined,
        regs,
        origins,
        new StackState(),
        {},
        {},
      ),
    );
    return state;
  };
  const changes: Record<string, Parts> = {
    start: { start: 21 },
    callsite: { callsite: 5 },
    'map of the callback': { callback: { ...callback, map: OTHER_MAP } },
    'element of the callback': { callback: { ...callback, element: 50 } },
    'rounds that are left': { rounds: { ...rounds, count: 1 } },
    'rounds that are paid for': { rounds: { ...rounds, charged: 9 } },
  };

  it.each(Object.entries(changes))('differ in %s', (_, parts) => {
    for (const comparison of ALL) {
      expect(covers(nested(), nested(), comparison)).toBe(true);
      expect(covers(nested(), nested(parts), comparison)).toBe(false);
    }
  });

  it('may have fewer rounds left', () => {
    const later = nested({ rounds: { ...rounds, count: 3 } });
    expect(covers(nested(), later, 'explored')).toBe(true);
    expect(covers(nested(), later, 'same')).toBe(false);
  });
});

describe('what is handed on to a path that ends', () => {
  const number = pointer(Kind.Scalar, { scalar: RANGE });

  /** Marks at a checkpoint of the path that ends at `current`. */
  const inherit = (
    demands: Demands,
    current: VerifierState,
  ): { checkpoint: Checkpoint; returned: Scalar[] } => {
    const checkpoint = new Checkpoint(current.steps, undefined);
    current.latest = checkpoint;
    const returned: Scalar[] = [];
    demands.inherit(current, (scalar) => returned.push(scalar));
    return { checkpoint, returned };
  };

  it('is what mattered of registers and of bytes of the stack', () => {
    const old = withRegisters(number, number);
    for (const index of [0, 1]) old.writableStack(0).set(index, spill(number), made());
    const demands = demandsOf(old, (after) => {
      const { origins, stack } = after.top;
      markPrecise(origins[6], after.latest);
      read(after, 0, 0b1010);
      markReturned(stack.origins[0], after.latest);
      // What is needed exactly is among what the old state returned.
      read(after, 1, ALL_BYTES);
      markPrecise(stack.origins[1], after.latest);
      markReturned(stack.origins[1], after.latest);
    });
    const current = withRegisters(number, number);
    for (const index of [0, 1]) current.writableStack(0).set(index, spill(number), made());
    const { checkpoint, returned } = inherit(demands, current);
    const { origins, stack } = current.top;
    const [first, second] = stack.origins;
    expect([origins[6], origins[7], first, second].map((origin) => checkpoint.isPrecise(origin))).toEqual([
      true,
      false,
      false,
      true,
    ]);
    expect([first, second].map((origin) => checkpoint.isReturned(origin))).toEqual([true, false]);
    expect([0, 1].map((index) => checkpoint.liveBytes(0, index))).toEqual([0b1010, ALL_BYTES]);
    expect(returned).toEqual([RANGE]);
  });

  it.each([
    [0xf0, true],
    [0x0f, false],
  ])('of zeroes in the upper half, where %i is read, is the number that has them: %s', (live, isPrecise) => {
    const old = withSlots(new Slot(0xaa55, undefined, 0));
    const current = withSlots(spill(pointer(Kind.Scalar, { scalar: Scalar.of(0) })));
    const { checkpoint } = inherit(
      demandsOf(old, (after) => read(after, 0, live)),
      current,
    );
    expect(checkpoint.isPrecise(current.top.stack.origins[0])).toBe(isPrecise);
  });

  it('is all that may be returned of a number that another state has in fewer bytes', () => {
    const old = withSlots(new Slot(0x55ff, number, 4));
    const demands = demandsOf(old, (after) => {
      read(after, 0, 0x0f);
      markReturned(after.top.stack.origins[0], after.latest);
    });
    const { returned } = inherit(demands, withSlots(new Slot(0x555f, number, 2)));
    expect(returned).toEqual([Scalar.ofBytes(4)]);
  });

  it('decides what counts: not a number that was not precise, nor a slot that was not read', () => {
    const old = withRegisters(number);
    const other = withRegisters(pointer(Kind.Scalar, { scalar: Scalar.signed(-5n, 1000n) }));
    expect(covers(old, other, 'explored')).toBe(false);
    expect(demandsOf(old, () => undefined).areMet(other)).toBe(true);
    expect(covers(old, other, 'within')).toBe(false);
    const stack = withSlots(spill(CONTEXT));
    expect(covers(stack, withSlots(), 'explored')).toBe(false);
    expect(demandsOf(stack, () => undefined).areMet(withSlots())).toBe(true);
    expect(covers(stack, withSlots(), 'within')).toBe(false);
  });

  it('is what each state demands, though they share what they demand alike', () => {
    const pool = new DemandPool();
    const states = [0x5555, 0x5556, 0x5565].map((types) => withSlots(new Slot(types, undefined, 0)));
    const demands = [0xff, 0x03].flatMap((live) =>
      states.map((state) => {
        const after = state.fork();
        const marks = new Checkpoint(state.steps, undefined);
        after.latest = marks;
        read(after, 0, live);
        return new Demands(passed(state, 0), marks, pool);
      }),
    );
    // The first has bytes that are not tracked, the others a zero in the first of them, and in the third.
    const met = (types: number): readonly boolean[] =>
      demands.map((each) => each.areMet(withSlots(new Slot(types, undefined, 0))));
    expect(met(0x5559)).toEqual([true, false, false, true, false, true]);
    expect(met(0x5554)).toEqual([false, false, false, false, false, false]);
    expect(met(0x5556)).toEqual([true, true, false, true, true, true]);
    expect(met(0x5565)).toEqual([true, false, true, true, false, true]);
  });

  it('counts for registers that are read before they are written', () => {
    const old = withRegisters(number);
    const dead = 0x3ff & ~(1 << 6);
    const other = withRegisters(CONTEXT);
    expect(demandsOf(old, markEverything, dead).areMet(other)).toBe(true);
    expect(coversWhole(passed(old, dead), other, Comparison.Same)).toBe(true);
    expect(covers(old, other, 'explored')).toBe(false);
  });
});
