import type { Insn } from '../../bpf/insn.js';
import { BPF_ALU, BPF_ALU64, BPF_K, BPF_MEMSX, BPF_MODE_MASK, BPF_MOV } from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import { XDP_MD } from '../../bpf/xdp.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import type { Rewritten } from './rewriting.js';

/** Fields of `struct xdp_md` that are numbers, with what a program shall find there. */
export interface ConstantFields {
  readonly ingress_ifindex?: number | undefined;
  readonly rx_queue_index?: number | undefined;
  readonly egress_ifindex?: number | undefined;
}

/**
 * The program with constants instead of loads of fields of its context, so that it sees e.g. the tap that a frame is for
 * instead of the NIC that it came by. Slots stay as they are. Which loads are meant is what the verifier found of them: it
 * lets no insn load from the context on one path and from elsewhere on another.
 */
export function constantContext(
  program: Program,
  fields: ConstantFields,
  facts: ProgramFacts,
): Rewritten & { readonly facts: ProgramFacts } {
  const insns = [...program.insns];
  const accesses = new Map(facts.accesses);
  for (const [slot, access] of facts.accesses) {
    if (access.region !== 'context' || access.write) continue;
    const value = constantAt(fields, access.minOffset);
    if (value === undefined) continue;
    insns[slot] = loadConstant(insns[slot]!, value);
    accesses.delete(slot);
  }
  return { ok: true, program: { ...program, insns }, facts: { ...facts, accesses } };
}

/** The number for the field at an offset of `struct xdp_md`, in bytes. */
export function constantAt(fields: ConstantFields, offset: number): number | undefined {
  switch (offset) {
    case XDP_MD.ingress_ifindex:
      return fields.ingress_ifindex;
    case XDP_MD.rx_queue_index:
      return fields.rx_queue_index;
    case XDP_MD.egress_ifindex:
      return fields.egress_ifindex;
    default:
      return undefined;
  }
}

/** Instead of a load of a u32, or, sign-extended, of an s32. */
export function loadConstant(load: Insn, value: number): Insn {
  const extendsSign = (load.opcode & BPF_MODE_MASK) === BPF_MEMSX;
  const insnClass = extendsSign ? BPF_ALU64 : BPF_ALU;
  return { opcode: insnClass | BPF_MOV | BPF_K, dst: load.dst, src: 0, off: 0, imm: value | 0 };
}
