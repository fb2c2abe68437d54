import { Kind, type Value } from './value.js';

/**
 * What each insn loads from, on the paths so far. An insn that reads the context or a socket is rewritten for the layout
 * that these have in the kernel, so that it may not read anything else on another path, nor a socket of another type:
 * kernel/bpf/verifier.c, save_aux_ptr_type and reg_type_mismatch. What rewrites programs for a hook (src/linux/hook-programs)
 * relies on it as well: it exchanges the loads that read the context.
 *
 * Stores and atomics are not among it, as none of this may be written. Of an exploration rather than of a state: paths that
 * end at a state that covers theirs would load from the same types.
 */
export class PointerTypes {
  /** By slot: what the insn loaded from first. All that is not apart from other memory counts as one, so the first will do. */
  readonly #first: (Value | undefined)[];

  constructor(slots: number) {
    this.#first = new Array<Value | undefined>(slots);
  }

  /** The insn at `pc` loads through `base`: what it loaded through on another path, if one insn may not do both. */
  load(pc: number, base: Value): Value | undefined {
    const first = (this.#first[pc] ??= base);
    return first === base || typeApart(first) === typeApart(base) ? undefined : first;
  }
}

/** Of which type the memory is, if it is read by code of its own in the kernel. */
function typeApart(base: Value): string | undefined {
  switch (base.kind) {
    case Kind.Context:
      return 'context';
    case Kind.XskSocket:
      return 'xdp_sock';
    case Kind.Socket:
      // What bpf_skc_to_* give is PTR_TO_BTF_ID, whatever the structure.
      return base.socket === 'sock' || base.socket === 'sock_common' ? base.socket : 'btf';
    default:
      return undefined;
  }
}
