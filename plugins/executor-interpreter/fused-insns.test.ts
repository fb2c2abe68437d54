import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { InterpreterExecutor } from './interpreter-executor.js';
import type { InterpretedProgram } from './interpreted-program.js';
import { INSN } from './machine-layout.js';
import { OP_SEQUENCES, type SequencedInsn } from './op.js';
import { ProgramDebugger } from './program-debugger.js';

const insns = (text: string) => assemble(text, { maps: new Map() });

const executor = new InterpreterExecutor(new BpfRuntime({ memoryBytes: 1 << 20 }));

function load(text: string, insnLimit?: number): InterpretedProgram {
  return executor.loadNow(
    { name: 'test', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns: insns(text) },
    { maps: new Map(), world: { trace() {} }, insnLimit },
  );
}

describe('insns that run at once', () => {
  it.each([
    [
      'a sum that is above',
      'r3 = r1\nr3 += 14\nif r3 > r2 goto +1\nr3 = 0\nr0 = r3\nexit',
      90n,
      100n,
      104n,
      5,
    ],
    ['a sum that is not', 'r3 = r1\nr3 += 14\nif r3 > r2 goto +1\nr3 = 0\nr0 = r3\nexit', 80n, 94n, 0n, 6],
    ['a carry', 'r3 = r1\nr3 += r2\nr0 = r3\nexit', 0xffff_ffffn, 1n, 0x1_0000_0000n, 4],
    ['a register added to itself', 'r3 = 5\nr3 = r1\nr3 += r3\nr0 = r3\nexit', 21n, 0n, 42n, 5],
    [
      'another register added to',
      'r3 = 5\nr4 = 7\nr3 = r1\nr4 += r2\nr0 = r3\nr0 += r4\nexit',
      1n,
      2n,
      10n,
      7,
    ],
    ['a jump to the second', 'r3 = 1\ngoto +1\nr3 = r1\nr3 += 2\nr0 = r3\nexit', 90n, 0n, 3n, 5],
    [
      'a jump to the third',
      'r0 = 1\nr3 = 9\ngoto +2\nr3 = r1\nr3 += 2\nif r3 > 8 goto +1\nr0 = 2\nexit',
      0n,
      0n,
      1n,
      5,
    ],
    ['an addition and a jump', 'r1 += r2\nif r1 > 6 goto +1\nr1 = 0\nr0 = r1\nexit', 3n, 4n, 7n, 4],
    [
      'negative numbers',
      'r1 += -1\nif r1 > 6 goto +1\nr1 = 0\nr0 = r1\nexit',
      0n,
      0n,
      0xffff_ffff_ffff_ffffn,
      4,
    ],
  ])('do what they do one by one: %s', (_, text, r1, r2, r0, count) => {
    const loaded = load(text);
    expect(loaded.call(r1, r2)).toEqual({ r0 });
    expect(loaded.executedInsns).toBe(count);
    const debugging = new ProgramDebugger(loaded);
    debugging.startCall(r1, r2);
    let steps = 0;
    for (; debugging.state?.state === 'paused'; steps++) debugging.step();
    expect(steps).toBe(count);
    expect(debugging.state).toEqual({ state: 'exited', r0 });
  });

  it('end where the limit is', () => {
    const loop = load('r2 = 1000\nr3 = 0\nagain: r3 += 1\nif r2 > r3 goto again\nr0 = 1\nexit', 100);
    const reason = expect.stringMatching(/limit of 100 insns/) as string;
    expect(loop.call(0n, 0n)).toMatchObject({ fault: { reason } });
    expect(loop.executedInsns).toBeLessThan(110);
    const above = load('r2 = 1000\nr3 = 1000\nagain: r3 += -1\nif r3 > 0 goto again\nr0 = 1\nexit', 2004);
    expect(above.call(0n, 0n)).toEqual({ r0: 1n });
    expect(above.executedInsns).toBe(2004);
  });
});

/** Insns by op, of dst `d` and src `s`; r6 is a pointer to 64 bytes of the stack. */
const TEXTS: Readonly<Record<string, string>> = {
  MOV64: 'rD = rS',
  ADD64: 'rD += rS',
  AND64: 'rD &= rS',
  OR64: 'rD |= rS',
  LSH64: 'rD <<= rS',
  RSH64: 'rD >>= rS',
  ARSH64: 'rD s>>= rS',
  MOV32: 'wD = wS',
  ADD32: 'wD += wS',
  MUL32: 'wD *= wS',
  AND32: 'wD &= wS',
  OR32: 'wD |= wS',
  XOR32: 'wD ^= wS',
  LSH32: 'wD <<= wS',
  RSH32: 'wD >>= wS',
  LDDW: 'rD = 0x1234567887654321ll',
  JEQ64: 'if rD == rS goto end',
  JNE64: 'if rD != rS goto end',
  JGT64: 'if rD > rS goto end',
  JLT64: 'if rD < rS goto end',
  JEQ32: 'if wD == wS goto end',
  JNE32: 'if wD != wS goto end',
  JGT32: 'if wD > wS goto end',
  JLT32: 'if wD < wS goto end',
  JA: 'goto end',
  EXIT: 'exit',
  LDX8: 'rD = *(u8 *)(r6 +3)',
  LDX16: 'rD = *(u16 *)(r6 +5)',
  LDX32: 'rD = *(u32 *)(r6 +9)',
  LDX64: 'rD = *(u64 *)(r6 +17)',
  STX8: '*(u8 *)(r6 +4) = rS',
  STX16: '*(u16 *)(r6 +6) = rS',
  STX32: '*(u32 *)(r6 +10) = rS',
  STX64: '*(u64 *)(r6 +18) = rS',
  LDX32_STACK: 'rD = *(u32 *)(r10 -60)',
  LDX64_STACK: 'rD = *(u64 *)(r10 -56)',
  STX8_STACK: '*(u8 *)(r10 -55) = rS',
  STX16_STACK: '*(u16 *)(r10 -54) = rS',
  STX32_STACK: '*(u32 *)(r10 -52) = rS',
  STX64_STACK: '*(u64 *)(r10 -48) = rS',
  ATOMIC_ADD64: 'lock *(u64 *)(r6 +24) += rS',
};
const DATA = [0, 1, 2, 3, 4, 5, 7, 8, 9];
/** Numbers that jumps tell apart, and some that they do not. */
const NUMBERS = [0n, 1n, 2n, 0x1_0000_0001n, 0xffff_ffffn, 0x8000_0000n, 2n ** 63n, 2n ** 64n - 1n];
/** Calls have tests of their own. */
const fused = OP_SEQUENCES.filter((insns) => insns.length > 1).filter((insns) =>
  insns.every(({ name }) => name !== 'LOOKUP' && name !== 'UPDATE'),
);

/** A program in which a sequence lies at `start`, with registers that it may share. */
function programOf(sequence: readonly SequencedInsn[], seed: number): { text: string; start: number } {
  let state = seed;
  const pick = <T>(from: readonly T[]): T => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return from[(state >>> 8) % from.length]!;
  };
  const lines = ['r6 = r10', 'r6 += -64'];
  for (const n of DATA) lines.push(`r${n} = 0x${pick(NUMBERS).toString(16)}ll`);
  for (let at = 0; at < 64; at += 8) lines.push(`*(u64 *)(r10 ${at - 64}) = r${pick(DATA)}`);
  const start = lines.length + DATA.length;
  let before = 0;
  for (const { name, sharing } of sequence) {
    const dst = sharing === 'dst' ? before : pick(DATA);
    const src = sharing === 'src' ? before : pick(DATA);
    lines.push(TEXTS[name]!.replace(/([rw])D/, `$1${dst}`).replace(/([rw])S/, `$1${src}`));
    before = dst;
  }
  return { text: [...lines, 'r0 ^= r1', 'end:', 'exit'].join('\n'), start };
}

describe('each sequence of insns that is one op', () => {
  it.each(fused.map((sequence) => [sequence.map(({ name }) => name).join(' '), sequence] as const))(
    '%s does what its insns do one by one',
    (_, sequence) => {
      const numbers = new Set<number>();
      for (let seed = 1; seed <= 8; seed++) {
        const { text, start } = programOf(sequence, seed * 7919);
        const loaded = load(text);
        const { decoded, machine } = loaded;
        const number = decoded.space.i32[(decoded.code + INSN.size * start) >> 2]!;
        numbers.add(number);
        const names = OP_SEQUENCES[number]!.map(({ name }) => name);
        expect(names.slice(0, sequence.length)).toEqual(sequence.map(({ name }) => name));
        const outcome = (): unknown => ({
          registers: DATA.map((n) => decoded.register(n)),
          stack: Buffer.from(decoded.space.read(machine.stack.start + 448, 64)).toString('hex'),
          insns: machine.executedInsns,
        });
        expect(loaded.call(0n, 0n)).not.toHaveProperty('fault');
        const atOnce = outcome();
        const debugging = new ProgramDebugger(loaded);
        debugging.startCall(0n, 0n);
        expect(debugging.resume().state).toBe('exited');
        expect(outcome()).toEqual(atOnce);
        loaded.close();
      }
      expect(numbers).toContain(OP_SEQUENCES.indexOf(sequence));
    },
  );
});
