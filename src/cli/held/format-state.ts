import { XdpbedError } from '../../core/diagnostic.js';
import type { ProgramInPlace } from '../../core/offload/nic-session.js';
import type { HeldState } from './holder-messages.js';

export const STATE_SCHEMA = 'xdpbed.up/1';

/** Throws `usage` for a format that none of these verbs has. */
export function checkFormat(format: string): asserts format is 'table' | 'json' {
  if (format === 'table' || format === 'json') return;
  throw new XdpbedError('usage', `--format '${format}' is not one of table, json`);
}

/** What `up` prints. */
export function formatState(state: HeldState, format: 'table' | 'json'): string {
  return format === 'json'
    ? `${JSON.stringify({ schema: STATE_SCHEMA, ...state }, null, 2)}\n`
    : `${describeState(state).join('\n')}\n`;
}

/** A few lines for a person; the first begins with the run's name. */
export function describeState({ name, testbed, run, pid, since, ...state }: HeldState): string[] {
  const namespaces = state.namespaces.map(({ role, name: netns, interfaces }) => {
    const links = interfaces.map((link) => `${link.name} (${link.kind}, ${link.ifindex})`);
    return `  ${role.padEnd(4)}  ${netns}: ${links.join(', ')}`;
  });
  return [
    `${name}  ${testbed}: ${run}, up since ${since}, process ${pid}`,
    ...namespaces,
    `  hook  ${state.hook}, case ${state.case}`,
    ...state.programs.map(describeProgram),
    `  log   ${state.log}`,
  ];
}

function describeProgram({ site, node, program, attached, reason, verdicts }: ProgramInPlace): string {
  if (!attached) return `  ✗ ${program} at ${site} of ${node}: ${reason ?? 'not attached'}`;
  const seen = Object.entries(verdicts).filter(([, frames]) => frames > 0);
  const counts = seen.length === 0 ? 'no frame yet' : seen.map((each) => each.join(' ')).join(', ');
  return `  ✓ ${program} at ${site} of ${node}: ${counts}`;
}
