import { XdpbedError } from '../core/diagnostic.js';
import { OP_LDDW } from './opcodes.js';

/**
 * One 8-byte instruction slot (RFC 9669 section 3):
 *
 * ```
 *   byte 0     byte 1            bytes 2-3         bytes 4-7
 *   +--------+---------+--------+----------------+--------------------------+
 *   | opcode | dst_reg | src_reg|  offset (s16)  |        imm (s32)         |
 *   +--------+---------+--------+----------------+--------------------------+
 *             bits 0-3  bits 4-7   (little-endian)
 * ```
 *
 * `lddw` takes two slots; the second has opcode 0 and carries the upper 32 bits in imm. Programs are arrays
 * of slots, not of instructions, so that an index is the kernel log's insn number and jump offsets need no
 * translation.
 */
export interface Insn {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  /** Signed 16-bit offset: bytes for memory access, slots for jumps. */
  readonly off: number;
  /** Signed 32-bit immediate. */
  readonly imm: number;
}

/** Bytes of one slot. */
export const INSN_SIZE = 8;

/** Decodes little-endian slots. Throws `insn-invalid` when the length is not a multiple of 8 bytes. */
export function decodeInsns(bytes: Uint8Array): Insn[] {
  if (bytes.length % INSN_SIZE !== 0) {
    throw new XdpbedError('insn-invalid', `${bytes.length} bytes are not a whole number of 8-byte insns`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const insns: Insn[] = [];
  for (let at = 0; at < bytes.length; at += INSN_SIZE) {
    const registers = view.getUint8(at + 1);
    insns.push({
      opcode: view.getUint8(at),
      dst: registers & 0x0f,
      src: registers >> 4,
      off: view.getInt16(at + 2, true),
      imm: view.getInt32(at + 4, true),
    });
  }
  return insns;
}

/** Encodes slots, little-endian. */
export function encodeInsns(insns: readonly Insn[]): Uint8Array {
  const bytes = new Uint8Array(insns.length * INSN_SIZE);
  const view = new DataView(bytes.buffer);
  insns.forEach((insn, index) => {
    const at = index * INSN_SIZE;
    view.setUint8(at, insn.opcode);
    view.setUint8(at + 1, (insn.dst & 0x0f) | ((insn.src & 0x0f) << 4));
    view.setInt16(at + 2, insn.off, true);
    view.setInt32(at + 4, insn.imm, true);
  });
  return bytes;
}

export function isLddw(insn: Insn | undefined): boolean {
  return insn?.opcode === OP_LDDW;
}

/** The 64-bit immediate of the `lddw` at `index`. */
export function lddwImmediate(insns: readonly Insn[], index: number): bigint {
  const low = BigInt.asUintN(32, BigInt(insns[index]!.imm));
  const high = BigInt.asUintN(32, BigInt(insns[index + 1]?.imm ?? 0));
  return (high << 32n) | low;
}
