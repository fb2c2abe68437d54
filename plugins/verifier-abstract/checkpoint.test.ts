import { describe, expect, it, vi } from 'vitest';
import { Checkpoint, markLive, markPrecise, markReturned } from './checkpoint.js';
import { Origin, OriginKind } from './origin.js';
import { Byte, byteMask, Slot } from './slot.js';
import { VerifierState } from './verifier-state.js';

const BYTES = new Slot(byteMask(0, 8) & (0x5555 * Byte.Misc), undefined, 0);

/** A path; what it does is put down by hand. */
class Path {
  readonly state = VerifierState.initial();

  /** An insn further on, a checkpoint. */
  checkpoint(): Checkpoint {
    this.state.steps++;
    const { state } = this;
    return (state.latest = new Checkpoint(state.steps, state.latest));
  }

  /** An insn that makes a value of others. */
  make(a?: Origin, b?: Origin, kind = OriginKind.Value, written = 0): Origin {
    return new Origin(0, ++this.state.steps, a, b, kind, written);
  }

  /** An insn that reads bytes of the first stack slot. */
  read(bytes: number): void {
    markLive(this.state.top.stack.origins[0], this.state.latest, 0, 0, bytes);
  }

  /** An insn that writes bytes of the first stack slot. */
  write(written: number, source?: Origin): void {
    const stack = this.state.writableStack(0);
    const previous = written === 0xff ? undefined : stack.origins[0];
    stack.set(0, BYTES, this.make(source, previous, OriginKind.Slot, written));
  }
}

const whereOf = (
  checkpoints: readonly Checkpoint[],
  holds: (checkpoint: Checkpoint) => boolean,
): readonly number[] => checkpoints.flatMap((each, index) => (holds(each) ? [index] : []));

describe('a number that is needed exactly', () => {
  it('is so at the checkpoints that hold it, and what it was made of at those before', () => {
    const path = new Path();
    const first = path.make();
    const at = [path.checkpoint(), path.checkpoint()];
    const sum = path.make(first);
    at.push(path.checkpoint());
    markPrecise(sum, path.state.latest);
    expect(whereOf(at, (each) => each.isPrecise(sum))).toEqual([2]);
    // The first number may lie in a register still; there it is not needed.
    expect(whereOf(at, (each) => each.isPrecise(first))).toEqual([0, 1]);
  });

  it('makes all that it was made of so, as often as it takes', () => {
    const path = new Path();
    const sources = [path.make(), path.make(), path.make()];
    const at = path.checkpoint();
    const first = path.make(sources[0], sources[1]);
    markPrecise(path.make(first, sources[2]), path.state.latest);
    expect(sources.map((each) => at.isPrecise(each))).toEqual([true, true, true]);
  });

  it('is so on its own way only, and in front of it', () => {
    const path = new Path();
    const number = path.make();
    const before = path.checkpoint();
    const other = path.state.fork();
    const on = path.checkpoint();
    const beside = new Checkpoint(other.steps, other.latest);
    markPrecise(number, on);
    expect([before, on, beside].map((each) => each.isPrecise(number))).toEqual([true, true, false]);
    // Found out again on the other way, where it is told to nobody twice.
    markPrecise(number, beside);
    expect(beside.isPrecise(number)).toBe(true);
  });

  it('is so in front of the last checkpoint, if that was let go', () => {
    const path = new Path();
    const numbers = [path.make(), path.make()];
    const at = [path.checkpoint(), path.checkpoint()];
    path.state.latest!.close();
    markPrecise(numbers[0], path.state.latest);
    markReturned(numbers[1], path.state.latest);
    expect(whereOf(at, (each) => each.isPrecise(numbers[0]))).toEqual([0]);
    expect(whereOf(at, (each) => each.isReturned(numbers[1]))).toEqual([0]);
  });

  it('is so behind a checkpoint that was let go', () => {
    const path = new Path();
    const number = path.make();
    const at = [path.checkpoint(), path.checkpoint(), path.checkpoint()];
    at[1]!.close();
    markPrecise(number, path.state.latest);
    expect(whereOf(at, (each) => each.isPrecise(number))).toEqual([0, 2]);
    expect(at[2]!.before).toBe(at[0]);
  });
});

describe('bytes of a stack slot that are read', () => {
  it('are so back to where they were written, each for itself', () => {
    const path = new Path();
    path.write(0xff);
    const at = [path.checkpoint()];
    path.write(0x0f, path.make());
    at.push(path.checkpoint());
    path.write(0x10);
    at.push(path.checkpoint());
    path.read(0b0011_0011);
    expect(at.map((each) => each.liveBytes(0, 0))).toEqual([0b0010_0000, 0b0010_0011, 0b0011_0011]);
    path.read(0xff);
    expect(at.map((each) => each.liveBytes(0, 0))).toEqual([0xe0, 0xef, 0xff]);
  });

  it('are so behind a checkpoint that was let go', () => {
    const path = new Path();
    path.write(0xff);
    const at = [path.checkpoint(), path.checkpoint(), path.checkpoint()];
    const last = at[2]!;
    last.close();
    path.read(0x01);
    expect(at.map((each) => each.liveBytes(0, 0))).toEqual([0x01, 0x01, 0]);
  });

  it('are told once to each thing that the slot held, however often they are read', () => {
    const path = new Path();
    path.write(0xff);
    path.checkpoint();
    const previous = vi.spyOn(Origin.prototype, 'previousContent', 'get');
    for (let i = 0; i < 100; i++) {
      path.write(0x01);
      path.read(0x80);
    }
    expect(previous.mock.calls.length).toBeLessThan(250);
    // Another byte is news to all of them.
    previous.mockClear();
    path.read(0x40);
    expect(previous.mock.calls.length).toBe(100);
    previous.mockRestore();
  });

  it('are no part of a number that replaced what was there', () => {
    const path = new Path();
    path.write(0xff, path.make());
    const before = path.state.top.stack.origins[0]!;
    const at = [path.checkpoint()];
    const source = path.make();
    path.write(0x0f, source);
    at.push(path.checkpoint());
    markPrecise(path.state.top.stack.origins[0], path.state.latest);
    expect(at[1]!.isPrecise(path.state.top.stack.origins[0])).toBe(true);
    expect(at[0]!.isPrecise(before)).toBe(false);
    expect(source.marks).not.toBe(0);
  });
});

describe('a return value', () => {
  it('is followed over copies, and what it was computed of is needed exactly', () => {
    const path = new Path();
    const operand = path.make();
    const second = path.make();
    const at = [path.checkpoint()];
    const sum = path.make(operand, second);
    at.push(path.checkpoint());
    const held = path.make();
    const copy = path.make(sum, held, OriginKind.Copy);
    at.push(path.checkpoint());
    markReturned(copy, path.state.latest);
    expect(whereOf(at, (each) => each.isReturned(copy))).toEqual([2]);
    expect(whereOf(at, (each) => each.isReturned(sum))).toEqual([1]);
    expect(whereOf(at, (each) => each.isPrecise(operand))).toEqual([0]);
    expect(whereOf(at, (each) => each.isPrecise(second))).toEqual([0]);
    expect(whereOf(at, (each) => each.isPrecise(sum) || each.isPrecise(held))).toEqual([]);
  });
});
