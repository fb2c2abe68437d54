import { describe, expect, it } from 'vitest';
import { runForTest } from './testing-terminal.js';

/** Programs as bytes by hand, from RFC 9669: opcode, registers, offset (2), imm (4). */
const MOV_R0_42 = 'b7 00 00 00 2a 00 00 00';
const EXIT = '95 00 00 00 00 00 00 00';

describe('xdpbed conformance', () => {
  it('prints R0 in hex', async () => {
    expect(await runForTest(['conformance'], `${MOV_R0_42} ${EXIT}\n`)).toEqual({
      exit: 0,
      out: '2a\n',
      err: '',
    });
  });

  it('R1 points to the memory and R2 is its length', async () => {
    // r0 = *(u8 *)(r1 +1); r0 <<= 8; r0 |= r2; exit
    const program = `71 10 01 00 00 00 00 00  67 00 00 00 08 00 00 00  4f 20 00 00 00 00 00 00 ${EXIT}`;
    expect((await runForTest(['conformance', 'aa bb cc'], program)).out).toBe('bb03\n');
  });

  it('helper 5 returns its first argument', async () => {
    // r1 = 7; call 5; exit
    const program = `b7 01 00 00 07 00 00 00  85 00 00 00 05 00 00 00 ${EXIT}`;
    expect((await runForTest(['conformance'], program)).out).toBe('7\n');
  });

  it('a negative R0 is 64 bits of hex', async () => {
    expect((await runForTest(['conformance'], `b7 00 00 00 ff ff ff ff ${EXIT}`)).out).toBe(
      'ffffffffffffffff\n',
    );
  });

  it.each([
    ['no program', ''],
    ['no hex', 'zz'],
    ['half an insn', 'b7 00 00 00'],
    ['an unused encoding', `ff 00 00 00 00 00 00 00 ${EXIT}`],
    ['a read beyond the memory', `79 10 00 00 00 00 00 00 ${EXIT}`],
  ])('%s is an error', async (_, program) => {
    const result = await runForTest(['conformance', '01'], program);
    expect(result.exit).not.toBe(0);
    expect(result.out).toBe('');
    expect(result.err).not.toBe('');
  });
});
