import { describe, expect, it } from 'vitest';
import { AddressSpace } from './address-space.js';
import {
  MAX_GIVEN_RANDOM,
  PRNG_INCREMENT,
  PRNG_MULTIPLIER,
  RUN_STATE,
  RUN_STATE_SIZE,
  RunState,
} from './run-state.js';

function setUp() {
  const space = new AddressSpace(1 << 17);
  return { space, state: new RunState(space) };
}

describe('RunState', () => {
  it('lies where no program may reach it', () => {
    const { space, state } = setUp();
    expect(space.regionAt(state.address)).toMatchObject({ kind: 'run-state', size: RUN_STATE_SIZE });
    expect(space.accessFault(state.address, 8, true)).toMatch(/not accessible/);
  });

  it('holds each field where RUN_STATE says', () => {
    const { space, state } = setUp();
    state.context = 0xf000_0010;
    state.cpu = 3;
    state.now = 0x1_0000_0002n;
    const u32 = (offset: number): number => space.view.getUint32(state.address + offset, true);
    expect([u32(RUN_STATE.context), u32(RUN_STATE.cpu)]).toEqual([0xf000_0010, 3]);
    expect([u32(RUN_STATE.now), u32(RUN_STATE.now + 4)]).toEqual([2, 1]);
    expect([state.context, state.cpu, state.now]).toEqual([0xf000_0010, 3, 0x1_0000_0002n]);
  });

  it('passes arguments in halves and whole', () => {
    const { space, state } = setUp();
    for (let n = 1; n <= 5; n++) state.setArg(n, -n, n);
    for (let n = 1; n <= 5; n++) {
      expect([state.argLow(n), state.argHigh(n)]).toEqual([-n, n]);
      expect(state.arg(n)).toBe((BigInt(n) << 32n) | BigInt(2 ** 32 - n));
      expect(space.view.getInt32(state.address + RUN_STATE.r1 + 8 * (n - 1), true)).toBe(-n);
    }
  });

  it('extends results as their kind asks', () => {
    const { space, state } = setUp();
    const r0 = (): bigint => space.view.getBigUint64(state.address + RUN_STATE.r0, true);
    state.setResult(-22);
    expect([r0(), state.resultLow, state.resultHigh]).toEqual([BigInt.asUintN(64, -22n), -22, -1]);
    state.setResult(5);
    expect(r0()).toBe(5n);
    state.setResultUnsigned(0xffff_0000);
    expect(r0()).toBe(0xffff_0000n);
    state.setResult64(-1n);
    expect(r0()).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('draws the upper halves of a 64-bit LCG', () => {
    const { state } = setUp();
    state.seed(42n);
    let expected = 42n ^ 0x9e3779b97f4a7c15n;
    for (let i = 0; i < 10; i++) {
      expected = BigInt.asUintN(64, expected * PRNG_MULTIPLIER + PRNG_INCREMENT);
      expect(state.nextRandom()).toBe(Number(expected >> 32n));
    }
  });

  it.each([[[0]], [[7, 0xffffffff]], [[3, 3, 0x80000000, 1]]])(
    'returns the random numbers %j when they are given, and goes on from the last',
    (numbers) => {
      const state = new RunState(new AddressSpace());
      state.giveRandom(numbers);
      expect(numbers.map(() => state.nextRandom())).toEqual(numbers);
      // A generator whose upper half is the last number, and whose lower half is 0.
      const next = (BigInt(numbers.at(-1)!) << 32n) * PRNG_MULTIPLIER + PRNG_INCREMENT;
      expect(state.nextRandom()).toBe(Number(BigInt.asUintN(64, next) >> 32n));
    },
  );

  it('forgets numbers that are left when others are given, and takes no more than fit', () => {
    const { state } = setUp();
    const most = Array.from({ length: MAX_GIVEN_RANDOM }, (_, i) => i);
    state.giveRandom(most);
    expect(most.map(() => state.nextRandom())).toEqual(most);
    state.giveRandom([1, 2, 3]);
    expect(state.nextRandom()).toBe(1);
    state.giveRandom([]);
    state.seed(42n);
    const drawn = state.nextRandom();
    expect(drawn).not.toBe(2);
    state.seed(42n);
    expect(state.nextRandom()).toBe(drawn);
    expect(() => state.giveRandom([...most, 0])).toThrow(/65 random numbers are given, of 64 at most/);
  });

  it('has its generator in a snapshot', () => {
    const { space, state } = setUp();
    state.giveRandom([5]);
    const snapshot = space.snapshot();
    const drawn = [state.nextRandom(), state.nextRandom()];
    space.restore(snapshot);
    expect([state.nextRandom(), state.nextRandom()]).toEqual(drawn);
  });
});
