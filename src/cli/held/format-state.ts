import { printable } from '../../core/printable.js';
import { XdpbedError } from '../../core/diagnostic.js';
import type { Printed } from '../../report/printed.js';
import type { UpDocument } from '../../report/status-schema.js';
import type { HeldState } from './holder-messages.js';

const PS_PER_SECOND = 1e12;

/** Throws `usage` for a format that none of these verbs has. */
export function checkFormat(format: string): asserts format is 'table' | 'json' {
  if (format === 'table' || format === 'json') return;
  throw new XdpbedError('usage', `--format '${format}' is not one of table, json`);
}

/** What `up` prints. */
export function formatState(state: HeldState, format: 'table' | 'json'): string {
  if (format === 'table') return `${describeState(state).join('\n')}\n`;
  const document: Printed<UpDocument> = { schema: 'xdpbed.up/1', ...state };
  return `${JSON.stringify(document, null, 2)}\n`;
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
    ...state.offloads.map(describeOffload),
    `  log   ${state.log}`,
  ].map(printable);
}

function describeProgram({
  site,
  node,
  program,
  attached,
  reason,
  verdicts,
}: HeldState['programs'][number]): string {
  if (!attached) return `  ✗ ${program} at ${site} of ${node}: ${reason ?? 'not attached'}`;
  const seen = Object.entries(verdicts).filter(([, frames]) => frames > 0);
  const counts = seen.length === 0 ? 'no frame yet' : seen.map((each) => each.join(' ')).join(', ');
  return `  ✓ ${program} at ${site} of ${node}: ${counts}`;
}

/** `tap0  of g0.eth0, XDP_OFFLOAD|RFC_2019: tag 0123456789abcdef, 24 insns, loaded at 1.250 s; 1 map, 4 KiB` */
function describeOffload({
  tap,
  guest,
  nic,
  capabilities,
  program,
  maps,
  mapMemory,
}: HeldState['offloads'][number]): string {
  const { names } = capabilities;
  const loaded = program === undefined ? [] : [`loaded at ${(program.loaded / PS_PER_SECOND).toFixed(3)} s`];
  const what =
    program === undefined
      ? 'no program'
      : [`tag ${program.tag}`, `${program.insns} insns`, ...loaded].join(', ');
  const held =
    maps.length === 0
      ? ''
      : `; ${maps.length} ${maps.length === 1 ? 'map' : 'maps'}, ${Math.ceil(mapMemory / 1024)} KiB`;
  return `  ${tap.padEnd(4)}  of ${guest}.${nic}, ${names.join('|')}: ${what}${held}`;
}
