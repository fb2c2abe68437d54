import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../plugins/verifier-abstract/config.js';
import { generateOfEachKind } from './generated-programs.js';
import { requestOf } from './judges.js';

/** Programs beyond this are more of the same. */
const MAX_INSNS = 20_000;

/** Verifies generated programs, of every kind and in both modes. */
export async function verifyPrograms(seed: number, count: number): Promise<void> {
  const config = { ...DEFAULT_CONFIG, maxProcessedInsns: MAX_INSNS, maxMilliseconds: 300_000 };
  const guest = new AbstractVerifier(config);
  const root = new AbstractVerifier({ ...config, allowPointerLeaks: true });
  for (let at = seed; at < seed + count; at++) {
    const generated = generateOfEachKind(at, { unsafePercent: 50 });
    for (const program of generated.programs) {
      const request = requestOf(program, generated);
      await guest.verify(request);
      await root.verify(request);
    }
  }
}
