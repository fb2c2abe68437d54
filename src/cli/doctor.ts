import { EXIT, XdpbedError, type ExitCode } from '../core/diagnostic.js';
import { describeMachine, examineMachine, type Requirement } from '../linux/index.js';
import type { CliContext } from './cli-context.js';
import { interrupted } from '../core/clock/interrupted.js';

/**
 * `xdpbed doctor`: whether fabric `linux` can work here, found out by trying, and what would help. Exit code 3 when it
 * cannot.
 */
export async function doctor(
  { terminal, interruption }: CliContext,
  options: { readonly format: string },
): Promise<ExitCode> {
  if (options.format !== 'table' && options.format !== 'json') {
    throw new XdpbedError('usage', `--format '${options.format}' is not one of table, json`);
  }
  // What it tries it takes away again, and that is not to be cut off: it takes a fraction of a second.
  const signal = interruption();
  const found = await examineMachine();
  if (signal.aborted) throw interrupted('the machine was examined');
  const works = found.every(({ optional, result }) => optional || result.status !== 'unsupported');
  if (options.format === 'json') {
    const document = { schema: 'xdpbed.doctor/1', machine: describeMachine(), works, found };
    terminal.out(`${JSON.stringify(document, null, 2)}\n`);
  } else {
    terminal.out(`${describeMachine()}\n${found.map(describe).join('\n')}\n\n`);
    terminal.out(works ? 'fabric linux works here\n' : 'fabric linux does not work here\n');
  }
  return works ? EXIT.OK : EXIT.UNSUPPORTED;
}

const MARK = { supported: '✓', inconclusive: '?', unsupported: '✗' } as const;

function describe({ name, neededFor, result, remedy, optional }: Requirement): string {
  const first = `${MARK[result.status]} ${name}`;
  if (result.status === 'supported') return first;
  const missing = result.status === 'unsupported' && remedy !== undefined ? `\n    ${remedy}` : '';
  return `${first}: ${result.reason}\n    ${optional ? 'wanted' : 'needed'} for ${neededFor}${missing}`;
}
