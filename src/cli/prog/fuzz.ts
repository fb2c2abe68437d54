import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { parseProperty, type Property } from '../../core/program-fuzz/property.js';
import { PropertyTarget, type Violation } from '../../core/program-fuzz/property-target.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import type { SearchOptions } from '../../core/program-fuzz/sequence-search.js';
import { Subject } from '../../core/program-fuzz/subject.js';
import { coverageTotals, sourceCoverage, type CoverageTotals } from '../../core/coverage/source-coverage.js';
import type { ProgFuzzDocument } from '../../report/prog-fuzz-schema.js';
import type { CliContext } from '../cli-context.js';
import { readMapFile } from './map-file.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { SearchRun } from './search-run.js';
import {
  describeSearch,
  readSearchInput,
  setUpSearch,
  type SearchCommandOptions,
  type SearchInput,
} from './search-setup.js';
import { packetToJson, rejectionToJson, renderSequence, writeSequence } from './sequence-report.js';

interface FuzzOptions extends ProgramOptions, SearchCommandOptions {
  readonly expect?: readonly string[];
  readonly maps?: string;
  readonly verifier: string;
  readonly out?: string;
  readonly format: string;
}

/** The part of the document that the search decides. */
type FuzzOutcome = Omit<ProgFuzzDocument, 'schema' | 'object' | 'program' | 'seed' | 'properties'>;

/** What the search has come to. */
interface FuzzResult {
  readonly properties: readonly Property[];
  readonly packets: number;
  readonly sequences: number;
  /** Undefined without line info. */
  readonly coverage: CoverageTotals | undefined;
  /** The smallest sequence after which a property does not hold. */
  readonly found?: { readonly packets: readonly SentPacket[]; readonly violation: Violation };
  /** The search, or making small what it had found, was not through. */
  readonly interrupted: boolean;
}

/**
 * `xdpbed prog fuzz`: looks for packets after which a property of a program does not hold, guided by its coverage.
 * Interrupted, it prints what it has found so far.
 */
export async function fuzzProgram(
  context: CliContext,
  path: string,
  options: FuzzOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const { object, spec } = await openProgram(path, options);
  const elements = options.maps === undefined ? undefined : await readMapFile(options.maps, object);
  const properties = (options.expect ?? ['no-abort']).map((text) => parseProperty(text, object.maps));
  const input = await readSearchInput(options);
  const print = (result: FuzzOutcome): void => {
    const document: ProgFuzzDocument = {
      schema: 'xdpbed.prog-fuzz/1',
      object: path,
      program: spec.name,
      seed: String(input.seed),
      properties: properties.map(({ text }) => text),
      ...result,
    };
    terminal.out(`${JSON.stringify(document, null, 2)}\n`);
  };
  const isJson = options.format === 'json';
  const run = new SearchRun(context);
  const verifiers = options.verifier.split(',');
  const subject = await run.open({ object, spec, verifiers, initial: elements });
  if (!(subject instanceof Subject)) {
    terminal.err(renderVerification(subject.programName, subject, { complexity: false }));
    const rejection = rejectionToJson(subject);
    if (isJson) print({ result: 'rejected', packets: 0, sequences: 0, rejection });
    return EXIT.CHECK_FAILED;
  }
  let result: FuzzResult;
  try {
    const search = setUpSearch(context, input, {
      programs: object.programs,
      elements,
      longest: subject.longestPacket,
    });
    result = await fuzz(run, subject, properties, search);
  } finally {
    await subject.close();
  }
  if (isJson) print(toJson(result, options));
  else terminal.out(toText(result, input, options));
  const { found, interrupted } = result;
  if (found !== undefined && options.out !== undefined) await writeSequence(options.out, found.packets);
  if (interrupted) return EXIT.INTERRUPTED;
  return found === undefined ? EXIT.OK : EXIT.CHECK_FAILED;
}

async function fuzz(
  run: SearchRun,
  subject: Subject,
  properties: readonly Property[],
  search: SearchOptions,
): Promise<FuzzResult> {
  const { name } = subject.session.loaded.program;
  const target = new PropertyTarget(subject, properties, search.signal);
  const { found, packets, sequences } = await run.search(name, target, search);
  const files = sourceCoverage(subject.coverage.coverage);
  const coverage = files.length === 0 ? undefined : coverageTotals(files);
  const result = { properties, packets, sequences, coverage };
  if (found === undefined) return { ...result, interrupted: run.interrupted };
  target.keepTo((await target.violation(found, true))!.property);
  const smallest = await run.shrink(name, found, target);
  const violation = (await target.violation(smallest, true))!;
  return { ...result, found: { packets: smallest, violation }, interrupted: run.interrupted };
}

function toText(
  { properties, packets, sequences, coverage, found, interrupted }: FuzzResult,
  input: SearchInput,
  options: FuzzOptions,
): string {
  const ran = describeSearch(packets, sequences, input);
  if (found !== undefined) {
    const lines = violationLines(found.violation, found.packets, ran, options);
    if (interrupted) lines.push('interrupted: there may be a smaller one');
    return lines.map((line) => `${line}\n`).join('');
  }
  const so = interrupted ? 'interrupted; holds so far' : 'holds';
  const reached = coverage === undefined ? '' : coverageText(coverage);
  return properties.map(({ text }) => `${text}: ${so} on ${ran}${reached}\n`).join('');
}

/** How far the packets came. */
function coverageText({ lines, branches }: CoverageTotals): string {
  return `; lines ${lines.hit} of ${lines.found}, branches ${branches.hit} of ${branches.found} reached`;
}

function toJson(
  { packets, sequences, coverage, found, interrupted }: FuzzResult,
  options: FuzzOptions,
): FuzzOutcome {
  return {
    result: found === undefined ? 'holds' : 'violated',
    packets,
    sequences,
    ...(coverage === undefined ? {} : { coverage: { lines: coverage.lines, branches: coverage.branches } }),
    ...(found === undefined ? {} : { violation: violationToJson(found.violation, found.packets, options) }),
    ...(interrupted ? { interrupted } : {}),
  };
}

function violationToJson(
  { property, text, index }: Violation,
  packets: readonly SentPacket[],
  options: FuzzOptions,
): NonNullable<ProgFuzzDocument['violation']> {
  return {
    property: property.text,
    reason: text,
    packet: index + 1,
    packets: packets.map(packetToJson),
    case: renderCase(property, text, packets, options)
      .map((line) => `${line}\n`)
      .join(''),
  };
}

function violationLines(
  { property, text, index }: Violation,
  packets: readonly SentPacket[],
  ran: string,
  options: FuzzOptions,
): string[] {
  const what = packets.length === 1 ? 'this packet' : `these ${packets.length} packets, one after the other`;
  return [
    `${property.text}: does not hold after ${what}, found after ${ran}`,
    ...renderSequence(packets, (at) => (at === index ? [text] : [])),
    '',
    'as a case:',
    ...renderCase(property, text, packets, options),
  ];
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
