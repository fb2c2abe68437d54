import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { parseProperty, type Property } from '../../core/program-fuzz/property.js';
import { PropertyTarget, type Violation } from '../../core/program-fuzz/property-target.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import { searchSequences } from '../../core/program-fuzz/sequence-search.js';
import { shrinkSequence } from '../../core/program-fuzz/shrink-sequence.js';
import { Subject } from '../../core/program-fuzz/subject.js';
import { coverageTotals, sourceCoverage } from '../../core/coverage/source-coverage.js';
import type { CliContext } from '../cli-context.js';
import { readMapFile } from './map-file.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { describeSearch, setUpSearch, type SearchCommandOptions } from './search-setup.js';
import { renderSequence, writeSequence } from './sequence-report.js';

interface FuzzOptions extends ProgramOptions, SearchCommandOptions {
  readonly expect?: readonly string[];
  readonly maps?: string;
  readonly verifier: string;
  readonly out?: string;
}

/** `xdpbed prog fuzz`: looks for packets after which a property of a program does not hold, guided by its coverage. */
export async function fuzzProgram(
  context: CliContext,
  path: string,
  options: FuzzOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const { object, spec } = await openProgram(path, options);
  const elements = options.maps === undefined ? undefined : await readMapFile(options.maps, object.maps);
  const properties = (options.expect ?? ['no-abort']).map((text) => parseProperty(text, object.maps));
  const subject = await Subject.open(context.registry, {
    object,
    spec,
    verifiers: options.verifier.split(','),
    initial: elements,
  });
  if (!(subject instanceof Subject)) {
    terminal.err(renderVerification(subject.programName, subject, { complexity: false }));
    return EXIT.CHECK_FAILED;
  }
  try {
    const target = new PropertyTarget(subject, properties, context.interruption());
    const search = await setUpSearch(context, options, {
      programs: object.programs,
      elements,
      longest: subject.longestPacket,
    });
    const { found, packets, sequences, interrupted } = await searchSequences(target, search);
    const ran = describeSearch(packets, sequences, options.seed);
    if (found === undefined) {
      const so = interrupted ? 'interrupted; holds so far' : 'holds';
      const reached = coverageText(subject);
      for (const { text } of properties) terminal.out(`${text}: ${so} on ${ran}${reached}\n`);
      return interrupted ? EXIT.INTERRUPTED : EXIT.OK;
    }
    const { property } = (await target.violation(found, true))!;
    target.keepTo(property);
    const smallest = await shrinkSequence(found, (each) => target.shows(each), search.signal);
    const violation = (await target.violation(smallest, true))!;
    terminal.out(`${renderViolation(violation, smallest, ran, options)}\n`);
    if (options.out !== undefined) await writeSequence(options.out, smallest);
    return search.signal?.aborted === true ? EXIT.INTERRUPTED : EXIT.CHECK_FAILED;
  } finally {
    await subject.close();
  }
}

/** How far the packets came. */
function coverageText({ coverage: { coverage } }: Subject): string {
  const files = sourceCoverage(coverage);
  if (files.length === 0) return '';
  const { lines, branches } = coverageTotals(files);
  return `; lines ${lines.hit} of ${lines.found}, branches ${branches.hit} of ${branches.found} reached`;
}

function renderViolation(
  { property, text, index }: Violation,
  packets: readonly SentPacket[],
  ran: string,
  options: FuzzOptions,
): string {
  const what = packets.length === 1 ? 'this packet' : `these ${packets.length} packets, one after the other`;
  return [
    `${property.text}: does not hold after ${what}, found after ${ran}`,
    ...renderSequence(packets, (at) => (at === index ? [text] : [])),
    '',
    'as a case:',
    ...renderCase(property, text, packets, options),
  ].join('\n');
}

/** For the list of cases of a cases file. Comments say what is left to be filled in. */
function renderCase(
  property: Property,
  text: string,
  packets: readonly SentPacket[],
  { seed, maps }: FuzzOptions,
): string[] {
  const others = property.verdicts?.slice(1) ?? [];
  const verdict = property.verdicts?.[0] ?? 'XDP_PASS';
  const hint =
    others.length > 0 ? ` # or ${others.join(', ')}` : property.verdicts ? '' : ' # and what else is right';
  const expect = `expect: { verdict: ${verdict} }${hint}`;
  const head = [
    `- name: ${JSON.stringify(`${property.text} (found with seed ${seed})`)} # ${text}`,
    ...(maps === undefined ? [] : [`  # maps: as in ${maps}`]),
  ];
  const sent = ({ data, input }: SentPacket): string[] => [
    `packet: { hex: '${Buffer.from(data).toString('hex')}' }`,
    `context: { ingress-ifindex: ${input.ingressIfindex ?? 0} }`,
    `time: ${input.now ?? 0n}`,
  ];
  const [only] = packets;
  if (packets.length === 1) return [...head, ...[...sent(only!), expect].map((line) => `  ${line}`)];
  const steps = packets.flatMap((packet, index) => {
    const lines = [...sent(packet), ...(index === packets.length - 1 ? [expect] : [])];
    return lines.map((line, at) => `    ${at === 0 ? '- ' : '  '}${line}`);
  });
  return [...head, '  steps:', ...steps];
}
