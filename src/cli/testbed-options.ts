import type { Command } from 'commander';
import { XdpbedError } from '../core/diagnostic.js';
import type { ResolveOptions } from '../core/testbed/resolve-testbed.js';

/** Options of every verb that reads a testbed. */
export interface TestbedOptions {
  readonly set?: string[];
  readonly only?: string[];
  readonly seed?: string;
}

const collect = (value: string, previous: string[] = []): string[] => [...previous, value];

export function addTestbedOptions(command: Command): Command {
  return command
    .argument('<testbed>', 'testbed file, e.g. testbeds/rfc-2019.testbed.yaml')
    .option(
      '--set <path=value>',
      'set a value of the testbed, e.g. workload.config.frames=100 (may be repeated)',
      collect,
    )
    .option(
      '--only <axis=variant>',
      'only these variants of a matrix axis, comma-separated (may be repeated)',
      collect,
    )
    .option('--seed <number>', 'draw everything random from this seed');
}

export function toResolveOptions(options: TestbedOptions): ResolveOptions {
  if (options.seed !== undefined && !/^\d{1,19}$/.test(options.seed)) {
    throw new XdpbedError('usage', `--seed '${options.seed}' is not a whole number`);
  }
  return {
    set: options.set,
    only: options.only,
    seed: options.seed === undefined ? undefined : BigInt(options.seed),
  };
}
