import type { VerifyRequest } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import type { AbstractVerifierConfig } from '../../plugins/verifier-abstract/config.js';
import type { Value } from '../../plugins/verifier-abstract/value.js';

/** Whether something holds of the registers in every state that is explored before an insn, and there is one. */
export async function inEveryState(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  at: number,
  holds: (registers: readonly Value[]) => boolean,
): Promise<boolean> {
  let states = 0;
  let others = 0;
  const observer = {
    before(pc: number, { top }: { readonly top: { readonly regs: readonly Value[] } }): void {
      if (pc !== at) return;
      states++;
      if (!holds(top.regs)) others++;
    },
  };
  await new AbstractVerifier(config, { observer }).verify(request);
  return states > 0 && others === 0;
}
