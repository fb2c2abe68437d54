import { createHash } from 'node:crypto';
import { encodeInsns, isLddw, type Insn } from './insn.js';
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from './opcodes.js';

/** Bytes of a tag (BPF_TAG_SIZE). */
export const PROGRAM_TAG_BYTES = 8;

/**
 * What `bpftool prog show` names a program by, as kernels up to 6.17 make it: the first 8 bytes of SHA-1 over the insns, the
 * maps' numbers in them taken for 0 (kernel/bpf/core.c bpf_prog_calc_tag). The same program has the same tag whichever
 * maps it was given.
 */
export function programTag(insns: readonly Insn[]): Uint8Array {
  const plain: Insn[] = [];
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    const isMap = isLddw(insn) && (insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE);
    plain.push(isMap ? { ...insn, imm: 0 } : insn);
    if (!isLddw(insn)) continue;
    const second = insns[++index];
    if (second !== undefined) plain.push(isMap ? { ...second, imm: 0 } : second);
  }
  return new Uint8Array(
    createHash('sha1').update(encodeInsns(plain)).digest().subarray(0, PROGRAM_TAG_BYTES),
  );
}
