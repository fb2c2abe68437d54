import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { Frame, type CallbackFrame, type Rounds } from './frame.js';
import {
  ALL_BYTES,
  liveBytes,
  markLive,
  markPrecise,
  Origin,
  OriginKind,
  PRECISE,
  RETURNED,
} from './origin.js';
import { COMPARISONS, Comparison, covers, inheritMarks, markEverything } from './pruning.js';
import { Scalar, UNKNOWN } from './scalar/scalar.js';
import { Byte, Slot, byteMask } from './slot.js';
import { StackState } from './stack-state.js';
import { CONTEXT, Kind, pointer, type KnownMap, Value } from './value.js';
import { type HeldLock, VerifierState } from './verifier-state.js';

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
const ALL = [Comparison.Explored, Comparison.Same, Comparison.Within];

const marked = (marks: number, live = 0): Origin => {
  const origin = new Origin(0, 0, undefined, undefined, OriginKind.Slot);
  origin.marks = marks;
  markLive(origin, live);
  return origin;
};
const marksOf = (origin: Origin): readonly [marks: number, live: number] => [
  origin.marks & (PRECISE | RETURNED),
  liveBytes(origin),
];

/** A state with these values in R6 and up, all of which mattered later. */
function withRegisters(...values: readonly Value[]): VerifierState {
  const state = VerifierState.initial();
  const frame = state.writable();
  values.forEach((value, index) => {
    frame.regs[6 + index] = value;
    frame.origins[6 + index] = marked(PRECISE);
  });
  return state;
}

function withSlots(...slots: readonly Slot[]): VerifierState {
  const state = VerifierState.initial();
  const stack = state.writableStack(0);
  slots.forEach((slot, index) => stack.set(index, slot, marked(PRECISE, ALL_BYTES)));
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
    expect(covers(held([1, 2], 1), held([1, 2], 1), Comparison.Explored)).toBe(true);
    // The record that was 1 is now 2, so that the one that was 2 cannot be it as well.
    expect(covers(held([1, 2], 1), held([2, 3], 2), Comparison.Explored)).toBe(false);
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

  it('is known of a stored state and of a second path', () => {
    expect(holding(held).checkpoint([0]).lock).toBe(held);
    expect(holding(held).fork().lock).toBe(held);
  });
});

describe('ids', () => {
  const number = (id: number, off = 0): Value =>
    new Value(Kind.Scalar, Scalar.signed(0n, 1n << 40n), id, off, 0, false, 0, undefined, 0, undefined);
  const known = (value: number): Value =>
    new Value(Kind.Scalar, Scalar.of(value), 0, 0, 0, false, 0, undefined, 0, undefined);
  const is = (old: readonly Value[], current: readonly Value[]): boolean =>
    covers(withRegisters(...old), withRegisters(...current), Comparison.Explored);

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
  });

  it('of one number alone mean nothing', () => {
    expect(is([number(1)], [number(0)])).toBe(true);
    expect(is([number(0), number(0)], [number(3), number(3)])).toBe(true);
  });
});

describe('packet ranges', () => {
  const packet = (range: number): Value => pointer(Kind.Packet, { range });
  it('may be wider in the current state, unless it has to be the same', () => {
    for (const [comparison, wider] of [
      [Comparison.Explored, true],
      [Comparison.Within, true],
      [Comparison.Same, false],
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
    for (const comparison of [Comparison.Explored, Comparison.Within]) {
      expect(covers(withSlots(bytes(old)), withSlots(bytes(current)), comparison)).toBe(covered);
    }
    expect(covers(withSlots(bytes(old)), withSlots(bytes(current)), Comparison.Same)).toBe(old === current);
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
    for (const comparison of [Comparison.Explored, Comparison.Within]) {
      expect(covers(withSlots(half), withSlots(quarter), comparison)).toBe(false);
      expect(covers(withSlots(half), withSlots(extended), comparison)).toBe(true);
      expect(covers(withSlots(quarter), withSlots(half), comparison)).toBe(true);
    }
    for (const other of [quarter, extended]) {
      expect(covers(withSlots(half), withSlots(other), Comparison.Same)).toBe(false);
    }
  });

  it('may hold a number where bytes were, and bytes where any number was', () => {
    const spilled = (scalar: Scalar): VerifierState => withSlots(spill(pointer(Kind.Scalar, { scalar })));
    const [misc, zero] = [withSlots(bytes(Byte.Misc)), withSlots(bytes(Byte.Zero))];
    const unwritten = withSlots(new Slot(0x5554, undefined, 0));
    for (const comparison of [Comparison.Explored, Comparison.Within]) {
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
    const old = withSlots(new Slot(0x0001, undefined, 0));
    const { origins } = old.writableStack(0);
    const current = withSlots(new Slot(0x5554, undefined, 0));
    const zeroes = withSlots(bytes(Byte.Zero));
    zeroes.writableStack(0).origins[0] = marked(0, 0b1000_0000);
    origins[0] = marked(0, 0b1111_1110);
    expect(covers(old, current, Comparison.Explored)).toBe(true);
    origins[0] = marked(0, 0b0000_0001);
    expect(covers(old, current, Comparison.Explored)).toBe(false);
    expect(covers(zeroes, withSlots(new Slot(0x9555, undefined, 0)), Comparison.Explored)).toBe(true);
    expect(covers(zeroes, withSlots(new Slot(0x5aaa, undefined, 0)), Comparison.Explored)).toBe(false);
    // A number of whose bytes none was read is not looked at.
    const half = withSlots(new Slot(0x55ff, pointer(Kind.Scalar, { scalar: RANGE }), 4));
    half.writableStack(0).origins[0] = marked(PRECISE, 0xf0);
    expect(covers(half, withSlots(bytes(Byte.Misc)), Comparison.Explored)).toBe(true);
    half.writableStack(0).origins[0] = marked(PRECISE, 0x08);
    expect(covers(half, withSlots(bytes(Byte.Misc)), Comparison.Explored)).toBe(false);
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
    expect(covers(nested(), later, Comparison.Explored)).toBe(true);
    expect(covers(nested(), later, Comparison.Same)).toBe(false);
  });
});

describe('marks', () => {
  const number = pointer(Kind.Scalar, { scalar: RANGE });

  it('of a state that a path ends at pass to what the path holds, in registers and on the stack', () => {
    const old = withRegisters(number);
    old.writableStack(0).set(0, spill(number), marked(RETURNED, 0b1010));
    // What is needed exactly is among what the old state returned.
    old.writableStack(0).set(1, spill(number), marked(PRECISE | RETURNED, ALL_BYTES));
    const current = withRegisters(number);
    const register = marked(0);
    const slot = marked(0);
    current.writable().origins[6] = register;
    const exact = marked(0);
    current.writableStack(0).set(0, spill(number), slot);
    current.writableStack(0).set(1, spill(number), exact);
    const returned: Scalar[] = [];
    inheritMarks(old, current, (scalar) => returned.push(scalar));
    expect(marksOf(register)).toEqual([PRECISE, 0]);
    expect(marksOf(slot)).toEqual([RETURNED, 0b1010]);
    expect(marksOf(exact)).toEqual([PRECISE, ALL_BYTES]);
    expect(returned).toEqual([RANGE]);
  });

  it('of zeroes pass to the number that has them', () => {
    const zero = pointer(Kind.Scalar, { scalar: Scalar.of(0) });
    const old = withSlots(new Slot(0xaa55, undefined, 0));
    const inherit = (live: number): Origin => {
      old.writableStack(0).origins[0] = marked(0, live);
      const current = withSlots(spill(zero));
      const origin = marked(0);
      current.writableStack(0).origins[0] = origin;
      inheritMarks(old, current, () => undefined);
      return origin;
    };
    expect(marksOf(inherit(0xf0))).toEqual([PRECISE, 0xf0]);
    expect(marksOf(inherit(0x0f))).toEqual([0, 0x0f]);
  });

  it('tell all that may be returned of a number that another state has in fewer bytes', () => {
    const old = withSlots(new Slot(0x55ff, number, 4));
    old.writableStack(0).origins[0] = marked(RETURNED, 0x0f);
    const returned: Scalar[] = [];
    inheritMarks(old, withSlots(new Slot(0x555f, number, 2)), (scalar) => returned.push(scalar));
    expect(returned).toEqual([Scalar.ofBytes(4)]);
  });

  it('of a slot go back to what wrote the bytes, and no further', () => {
    const before = marked(0);
    const source = new Origin(1, 1, undefined, undefined, OriginKind.Value);
    // Four bytes of a register, and then one behind them.
    const half = new Origin(2, 2, source, before, OriginKind.Slot, 0x0f);
    const more = new Origin(3, 3, half, undefined, OriginKind.Slot, 0x10);
    markLive(more, 0b0011_0011);
    expect([more, half, before].map(liveBytes)).toEqual([0b0011_0011, 0b0010_0011, 0b0010_0000]);
    markLive(more, 0xff);
    expect([more, half, before].map(liveBytes)).toEqual([0xff, 0xef, 0xe0]);
    // The number is that of the register; what the slot held before it is none of its business.
    markPrecise(more);
    expect([more, half, source, before].map(({ marks }) => marks & PRECISE)).toEqual([1, 1, 1, 0]);
    expect(liveBytes(source)).toBe(0);
  });

  it('are all set where nobody knows what will matter', () => {
    const state = withRegisters(number);
    const register = marked(0);
    const slot = marked(0);
    state.writable().origins[6] = register;
    state.writableStack(0).set(0, spill(number), slot);
    markEverything(state);
    expect(marksOf(register)).toEqual([PRECISE, 0]);
    expect(marksOf(slot)).toEqual([PRECISE, ALL_BYTES]);
  });

  it('decide what counts: a number that was not precise, a slot that was not read', () => {
    const old = withRegisters(number);
    const other = withRegisters(pointer(Kind.Scalar, { scalar: Scalar.signed(-5n, 1000n) }));
    expect(covers(old, other, Comparison.Explored)).toBe(false);
    old.writable().origins[6] = marked(0);
    expect(covers(old, other, Comparison.Explored)).toBe(true);
    expect(covers(old, other, Comparison.Within)).toBe(false);
    const stack = withSlots(spill(CONTEXT));
    expect(covers(stack, withSlots(), Comparison.Explored)).toBe(false);
    stack.writableStack(0).set(0, spill(CONTEXT), marked(PRECISE));
    expect(covers(stack, withSlots(), Comparison.Explored)).toBe(true);
    expect(covers(stack, withSlots(), Comparison.Within)).toBe(false);
  });
});
