import { describe, expect, it } from 'vitest';
import { assemble } from '../assembler.js';
import { disassemble } from '../disassembler.js';
import { fetchKept, findKeeper, keepRegister, stackUse } from './keeper.js';

const ALL_REGISTERS = 'r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n';
const stack = (off: number) => ({ kind: 'stack', off }) as const;
const register = (number: number) => ({ kind: 'register', register: number }) as const;

describe('findKeeper', () => {
  it('prefers a callee-saved register that is not mentioned, even as a source', () => {
    expect(findKeeper(assemble('r0 = 2\nexit'))).toEqual(register(9));
    expect(findKeeper(assemble('r9 = 1\nr0 = r8\nexit'))).toEqual(register(7));
    expect(findKeeper(assemble('r0 = 2\nexit'), { taken: [register(9)] })).toEqual(register(8));
  });

  it('takes 8 aligned bytes below all else where there is no register', () => {
    const keeper = (text: string, options = {}): unknown =>
      findKeeper(assemble(ALL_REGISTERS + text), options);
    expect(keeper('exit')).toEqual(stack(-8));
    expect(keeper('*(u32 *)(r10 -20) = r6\nexit')).toEqual(stack(-32));
    expect(keeper('exit', { scratchBytes: 4 })).toEqual(stack(-16));
    expect(keeper('exit', { taken: [stack(-24)] })).toEqual(stack(-32));
    // What a verifier found counts for more than what the insns look like.
    expect(keeper('r1 += -400\nexit', { stackBytes: 16 })).toEqual(stack(-24));
    expect(keeper('*(u8 *)(r10 -504) = r6\nexit')).toEqual(stack(-512));
    expect(keeper('*(u8 *)(r10 -505) = r6\nexit')).toBeUndefined();
  });

  it('saves and restores with one insn each', () => {
    const text = (keeper: ReturnType<typeof findKeeper>): string =>
      disassemble([keepRegister(keeper!, 1), fetchKept(keeper!, 2)]);
    expect(text(register(7))).toBe(disassemble(assemble('r7 = r1\nr2 = r7')));
    expect(text(stack(-24))).toBe(disassemble(assemble('*(u64 *)(r10 -24) = r1\nr2 = *(u64 *)(r10 -24)')));
  });
});

describe('stackUse', () => {
  it.each([
    ['r0 = 2', 0],
    ['*(u64 *)(r10 -8) = 1\nr1 = *(u32 *)(r10 -20)\nlock *(u64 *)(r10 -32) += r1', 32],
    ['r2 = r10\nr2 += -48\n*(u64 *)(r2 +0) = 1', 48],
    ['r2 = r10\nr2 -= 48\n*(u64 *)(r2 -8) = 1', 56],
    // A register that nothing was added to is no address on the stack.
    ['r2 = *(u64 *)(r1 -16)', 0],
    // Neither is one that is further away than a stack reaches.
    ['r2 += -4096\nr3 += 64', 0],
    ['r2 += -500\n*(u64 *)(r2 -200) = 1', 512],
  ])('of %j', (text, bytes) => {
    expect(stackUse(assemble(text))).toBe(bytes);
  });
});
