import { EXIT, type ExitCode } from '../core/diagnostic.js';
import { prune as pruneLedgers } from '../linux/prune.js';
import type { CliContext } from './cli-context.js';

/**
 * `xdpbed prune`: removes what runs have left on the machine whose process is gone, whatever ended it. Exit code 4 when
 * something could not be removed.
 */
export async function prune({ terminal }: CliContext): Promise<ExitCode> {
  const pruned = await pruneLedgers();
  for (const { run, removed, left } of pruned) {
    for (const { kind, id } of removed) terminal.out(`${run}: ${kind} ${id} is gone\n`);
    for (const { resource, reason } of left)
      terminal.err(`${run}: ${resource.kind} ${resource.id} stays: ${reason}\n`);
  }
  if (pruned.length === 0) terminal.err('nothing is left of any run that is over\n');
  return pruned.some(({ left }) => left.length > 0) ? EXIT.LEFTOVERS : EXIT.OK;
}
