import { isLddw, type Insn } from '../../bpf/insn.js';
import {
  BPF_PSEUDO_BTF_ID,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_IDX,
  BPF_PSEUDO_MAP_IDX_VALUE,
  BPF_PSEUDO_MAP_VALUE,
  OP_CALL,
} from '../../bpf/opcodes.js';

export type HandleTranslation =
  | { readonly ok: true; readonly insns: readonly Insn[] }
  | { readonly ok: false; readonly insn: number; readonly reason: string };

/**
 * A copy of a guest's program in which each map reference carries what `translate` made of its handle.
 *
 * Only the imm of an `lddw` with source BPF_PSEUDO_MAP_FD or BPF_PSEUDO_MAP_VALUE is replaced; the offset into
 * the value, in the second slot, stays. Everything else that names something by a number of the *host's* is
 * refused here, whatever a verifier would say to it: BTF ids (`lddw` of a kernel variable, kfunc calls) and
 * indices into an fd array, which this protocol does not carry.
 *
 * Fails on the first handle for which `translate` answers undefined.
 */
export function translateHandles(
  insns: readonly Insn[],
  translate: (handle: number) => number | undefined,
): HandleTranslation {
  const copy: Insn[] = [];
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_KFUNC_CALL) {
      return refuse(index, `a call of kfunc ${insn.imm}: a guest cannot name functions of the host's kernel`);
    }
    if (!isLddw(insn)) {
      copy.push(insn);
      continue;
    }
    switch (insn.src) {
      case BPF_PSEUDO_MAP_FD:
      case BPF_PSEUDO_MAP_VALUE: {
        const handle = translate(insn.imm >>> 0);
        if (handle === undefined) {
          return refuse(index, `handle 0x${(insn.imm >>> 0).toString(16)} names no map of this device`);
        }
        copy.push({ ...insn, imm: handle });
        break;
      }
      case BPF_PSEUDO_BTF_ID:
        return refuse(index, `BTF id ${insn.imm}: a guest cannot name variables of the host's kernel`);
      case BPF_PSEUDO_MAP_IDX:
      case BPF_PSEUDO_MAP_IDX_VALUE:
        return refuse(index, `map index ${insn.imm}: there is no fd array in this protocol`);
      default:
        copy.push(insn);
    }
    const second = insns[index + 1];
    if (second !== undefined) copy.push(second);
    index++;
  }
  return { ok: true, insns: copy };
}

function refuse(insn: number, reason: string): HandleTranslation {
  return { ok: false, insn, reason };
}
