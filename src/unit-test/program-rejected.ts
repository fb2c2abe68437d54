import type { ProgramRejection } from '../core/offload/load-program.js';
import { renderVerification } from '../core/program-test/render-verification.js';
import { XdpbedError } from '../core/diagnostic.js';

/**
 * The verifier's no (`program-rejected`). The message has all of the explanation, as `xdpbed prog verify` prints it: where,
 * why, the registers that matter, how it came to that and what would help; `rejection` has it field by field.
 */
export class ProgramRejectedError extends XdpbedError {
  constructor(readonly rejection: ProgramRejection) {
    const text = renderVerification(rejection.programName, rejection, { complexity: false });
    super('program-rejected', text.trimEnd(), {
      at: rejection.insn === undefined ? undefined : { insn: rejection.insn },
      hint: rejection.suggestion,
    });
  }
}
