import { describe, expect, it } from 'vitest';
import { disassemble, formatInsn } from './disassembler.js';
import { decodeInsns } from './insn.js';

/** Slots as llvm-objdump prints them, e.g. `61 12 04 00 00 00 00 00`. */
const slots = (hex: string) => decodeInsns(Uint8Array.from(Buffer.from(hex.replace(/\s/g, ''), 'hex')));

describe('formatInsn', () => {
  // Texts as in kernel/bpf/disasm.c; those of insns that kernel 6.18 accepts were compared with its verifier's log.
  it.each([
    ['61 12 04 00 00 00 00 00', 'r2 = *(u32 *)(r1 +4)'],
    ['91 12 fc ff 00 00 00 00', 'r2 = *(s8 *)(r1 -4)'],
    ['04 01 00 00 05 00 00 00', 'w1 += 5'],
    ['07 01 00 00 fb ff ff ff', 'r1 += -5'],
    ['2d 32 0c 00 00 00 00 00', 'if r2 > r3 goto pc+12'],
    ['c6 01 ff ff fe ff ff ff', 'if w1 s< 0xfffffffe goto pc-1'],
    ['45 01 00 00 10 00 00 00', 'if r1 & 0x10 goto pc+0'],
    ['db 10 00 00 00 00 00 00', 'lock *(u64 *)(r0 +0) += r1'],
    ['c3 10 08 00 40 00 00 00', 'lock *(u32 *)(r0 +8) |= r1'],
    ['db 10 00 00 01 00 00 00', 'r1 = atomic64_fetch_add((u64 *)(r0 +0), r1)'],
    ['c3 12 fc ff a1 00 00 00', 'r1 = atomic_fetch_xor((u32 *)(r2 -4), r1)'],
    ['db 1a f8 ff e1 00 00 00', 'r1 = atomic64_xchg((u64 *)(r10 -8), r1)'],
    ['c3 1a f8 ff f1 00 00 00', 'r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r1)'],
    ['db 21 08 00 00 01 00 00', 'r1 = load_acquire((u64 *)(r2 +8))'],
    ['db 21 08 00 10 01 00 00', 'store_release((u64 *)(r1 +8), r2)'],
    ['85 00 00 00 01 00 00 00', 'call bpf_map_lookup_elem#1'],
    ['85 00 00 00 e7 03 00 00', 'call unknown#999'],
    ['85 10 00 00 07 00 00 00', 'call pc+7'],
    ['85 20 00 00 07 00 00 00', 'call kernel-function#7'],
    ['05 00 fe ff 00 00 00 00', 'goto pc-2'],
    ['06 00 00 00 40 9c 00 00', 'gotol pc+40000'],
    ['e5 00 03 00 00 00 00 00', 'may_goto pc+3'],
    ['bf 21 08 00 00 00 00 00', 'r1 = (s8)r2'],
    ['bc 21 10 00 00 00 00 00', 'w1 = (s16)w2'],
    ['bf 21 20 00 00 00 00 00', 'r1 = (s32)r2'],
    ['d7 01 00 00 10 00 00 00', 'r1 = bswap16 r1'],
    ['dc 01 00 00 20 00 00 00', 'r1 = be32 r1'],
    ['d4 01 00 00 40 00 00 00', 'r1 = le64 r1'],
    ['3f 21 01 00 00 00 00 00', 'r1 s/= r2'],
    ['94 01 01 00 fd ff ff ff', 'w1 s%= -3'],
    ['c7 01 00 00 3f 00 00 00', 'r1 s>>= 63'],
    ['87 01 00 00 00 00 00 00', 'r1 = -r1'],
    ['84 01 00 00 00 00 00 00', 'w1 = -w1'],
    ['7a 0a f8 ff 05 00 00 00', '*(u64 *)(r10 -8) = 5'],
    ['6b 1a f8 ff 00 00 00 00', '*(u16 *)(r10 -8) = r1'],
    ['30 00 00 00 0c 00 00 00', 'r0 = *(u8 *)skb[12]'],
    ['48 10 00 00 02 00 00 00', 'r0 = *(u16 *)skb[r1 + 2]'],
    ['95 00 00 00 00 00 00 00', 'exit'],
    ['8d 00 00 00 00 00 00 00', '.quad 0x000000000000008d'],
    ['ff 21 03 00 78 56 34 12', '.quad 0x12345678000321ff'],
    ['18 01 00 00 44 33 22 11 00 00 00 00 88 77 66 55', 'r1 = 0x5566778811223344ll'],
    ['18 11 00 00 05 00 00 00 00 00 00 00 00 00 00 00', 'r1 = map[fd:5]'],
    ['18 21 00 00 05 00 00 00 00 00 00 00 08 00 00 00', 'r1 = map[fd:5][0]+8'],
    ['18 31 00 00 05 00 00 00 00 00 00 00 00 00 00 00', 'r1 = btf[id:5]'],
    ['18 41 00 00 05 00 00 00 00 00 00 00 00 00 00 00', 'r1 = subprog[+5]'],
    ['18 51 00 00 05 00 00 00 00 00 00 00 00 00 00 00', 'r1 = map[idx:5]'],
    ['18 61 00 00 05 00 00 00 00 00 00 00 08 00 00 00', 'r1 = map[idx:5][0]+8'],
  ])('%s is %s', (hex, text) => {
    expect(formatInsn(slots(hex), 0)).toBe(text);
  });

  it('has no text for the second slot of an lddw, but one for a stray slot', () => {
    const wide = slots('18 01 00 00 44 33 22 11 00 00 00 00 88 77 66 55');
    expect(formatInsn(wide, 1)).toBe('');
    expect(formatInsn(wide, 2)).toBe('');
    expect(formatInsn(slots('00 00 00 00 01 00 00 00'), 0)).toBe('.quad 0x0000000100000000');
  });

  it('prints an lddw without a second slot as raw slots, both of them', () => {
    const broken = slots('18 91 00 00 05 00 00 00 00 00 00 00 01 00 00 00');
    expect([0, 1].map((index) => formatInsn(broken, index))).toEqual([
      '.quad 0x0000000500009118',
      '.quad 0x0000000100000000',
    ]);
  });

  it('names maps by handle and callees by function', () => {
    const program = slots('18 11 00 00 05 00 00 00 00 00 00 00 00 00 00 00 85 10 00 00 01 00 00 00');
    expect(formatInsn(program, 0, { mapName: (handle) => (handle === 5 ? 'flows' : undefined) })).toBe(
      'r1 = map[flows]',
    );
    const functions = [{ insn: 4, name: 'parse', linkage: 'static' as const, typeId: 0 }];
    expect(formatInsn(program, 2, { functions, opcodes: true })).toBe('(85) call pc+1#parse');
  });
});

describe('disassemble', () => {
  it('lists slots, functions and source lines', () => {
    const program = slots('b7 00 00 00 02 00 00 00 95 00 00 00 00 00 00 00');
    const listing = disassemble(program, {
      functions: [{ insn: 0, name: 'pass', linkage: 'global', typeId: 0 }],
      lines: [{ insn: 0, file: 'pass.c', text: 'return XDP_PASS;', line: 4, column: 2 }],
      opcodes: true,
    });
    expect(listing).toBe('pass:\n; return XDP_PASS; @ pass.c:4\n   0: (b7) r0 = 2\n   1: (95) exit\n');
    expect(disassemble([])).toBe('');
  });
});
