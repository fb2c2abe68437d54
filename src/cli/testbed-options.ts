import { XdpbedError } from '../core/diagnostic.js';
import type { ResolveOptions } from '../core/testbed/resolve-testbed.js';

/** Options of every verb that reads a testbed. */
export interface TestbedOptions {
  readonly fabric?: string;
  readonly set?: string[];
  readonly only?: string[];
  readonly seed?: string;
  /** Only of verbs that need not run the code of plugins. */
  readonly trust?: boolean;
}

export function toResolveOptions(options: TestbedOptions): ResolveOptions {
  if (options.seed !== undefined && !/^\d{1,19}$/.test(options.seed)) {
    throw new XdpbedError('usage', `--seed '${options.seed}' is not a whole number`);
  }
  return {
    // First, so that --set can give it a config.
    set: [
      ...(options.fabric === undefined ? [] : [`plugins.fabric={ use: ${JSON.stringify(options.fabric)} }`]),
      ...(options.set ?? []),
    ],
    only: options.only,
    seed: options.seed === undefined ? undefined : BigInt(options.seed),
  };
}
