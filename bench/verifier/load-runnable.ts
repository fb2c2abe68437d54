import {
  loadCase,
  type GeneratedCase,
  type LoadCaseOptions,
  type LoadedCase,
} from '../../src/conformance/program-generator/index.js';
import { XdpbedError } from '../../src/core/diagnostic.js';

/** A case ready to run; undefined if it calls a helper that verifiers know and the executor does not have. */
export async function loadRunnable(
  generated: GeneratedCase,
  options: LoadCaseOptions,
): Promise<LoadedCase | undefined> {
  try {
    return await loadCase(generated, options);
  } catch (error) {
    if (error instanceof XdpbedError && error.code === 'executor-unsupported') return undefined;
    throw error;
  }
}
