import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { BPF_PSEUDO_FUNC } from '../../src/bpf/opcodes.js';
import { RejectSignal } from './reject-signal.js';

/**
 * A function whose address is taken, and that nothing runs, the kernel takes out of the program: what then still names it
 * names nothing. 6.18 finds that when it compiles the program, and takes it for a bug of its own ("verifier bug: No program
 * to jit", kernel/bpf/verifier.c jit_subprogs), which may end the machine where warnings do.
 */
export function checkFunctionReferences(insns: readonly Insn[], unreachable: ReadonlySet<number>): void {
  for (const [slot, insn] of insns.entries()) {
    const target = slot + insn.imm + 1;
    if (!isLddw(insn) || insn.src !== BPF_PSEUDO_FUNC) continue;
    if (unreachable.has(slot) || !unreachable.has(target)) continue;
    throw new RejectSignal({
      code: 'callback-invalid',
      insn: slot,
      reason: `the address of the function at insn ${target} is taken, and no path runs it`,
      suggestion:
        'remove the function, or call what takes it with a number of rounds that may be more than 0',
    });
  }
}
