import { EXIT, type ExitCode, XdpbedError } from '../../core/diagnostic.js';
import { selectProgram } from '../../core/offload/select-program.js';
import type { MapElement } from '../../core/program-test/map-input.js';
import { loadCases } from '../../core/program-test/load-cases.js';
import { parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import type { TestFile } from '../../core/program-test/test-case.js';
import { caseSequence } from '../../core/program-fuzz/case-sequences.js';
import { ProgramComparison } from '../../core/program-fuzz/program-comparison.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import { searchSequences } from '../../core/program-fuzz/sequence-search.js';
import { shrinkSequence } from '../../core/program-fuzz/shrink-sequence.js';
import { Subject } from '../../core/program-fuzz/subject.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import type { CliContext } from '../cli-context.js';
import { findCaseFiles } from './case-files.js';
import { MapFile } from './map-file.js';
import { openObject, type ProgramOptions } from './prog-object.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { describeSearch, setUpSearch, type SearchCommandOptions } from './search-setup.js';
import { renderSequence, writeSequence } from './sequence-report.js';

interface DiffOptions extends ProgramOptions, SearchCommandOptions {
  readonly maps?: string;
  readonly cases?: readonly string[];
  readonly verifier: string;
  readonly out?: string;
}

/** One program in both objects. */
interface Pair {
  readonly before: ProgramSpec;
  readonly after: ProgramSpec;
}

/** One of the two objects, with what its maps begin with. */
interface Side {
  readonly path: string;
  readonly object: ObjectSpec;
  readonly elements: ReadonlyMap<string, readonly MapElement[]> | undefined;
}

/**
 * `xdpbed prog diff`: whether two builds of a program do the same to packets and maps, and else the smallest sequence of
 * packets that tells them apart.
 */
export async function diffPrograms(
  context: CliContext,
  oldPath: string,
  newPath: string,
  options: DiffOptions,
): Promise<ExitCode> {
  const [old, recent] = [await openObject(oldPath, options), await openObject(newPath, options)];
  const file = options.maps === undefined ? undefined : await MapFile.read(options.maps);
  const side = (path: string, object: ObjectSpec, other: ObjectSpec): Side => ({
    path,
    object,
    elements: file?.elementsFor(
      object.maps,
      other.maps.map(({ name }) => name),
    ),
  });
  const before = side(oldPath, old, recent);
  const after = side(newPath, recent, old);
  const { pairs, notes } = pairPrograms(before, after, options);
  for (const note of notes) context.terminal.out(`${note}\n`);
  let exit: ExitCode = EXIT.OK;
  for (const pair of pairs) {
    const end = await diffPair(context, pair, before, after, options);
    if (end === EXIT.INTERRUPTED) return end;
    if (end !== EXIT.OK) exit = end;
  }
  return exit;
}

/** The program that is named; else all that have the same name, or the only ones of each. */
function pairPrograms(
  before: Side,
  after: Side,
  options: DiffOptions,
): { readonly pairs: readonly Pair[]; readonly notes: readonly string[] } {
  const name = options.program ?? options.section;
  if (name !== undefined)
    return { pairs: [{ before: select(before, name), after: select(after, name) }], notes: [] };
  const xdp = ({ object }: Side): readonly ProgramSpec[] =>
    object.programs.filter(({ type }) => type === BPF_PROG_TYPE_XDP);
  const [old, recent] = [xdp(before), xdp(after)];
  if (old.length <= 1 && recent.length <= 1)
    return { pairs: [{ before: select(before), after: select(after) }], notes: [] };
  const pairs = old.flatMap((program): Pair[] => {
    const same = recent.find((each) => each.name === program.name);
    return same === undefined ? [] : [{ before: program, after: same }];
  });
  if (pairs.length === 0)
    throw new XdpbedError('usage', `${before.path} and ${after.path} have no program of the same name`);
  const only = (programs: readonly ProgramSpec[], { path }: Side): string[] =>
    programs
      .filter((program) => !pairs.some((pair) => pair.before === program || pair.after === program))
      .map((program) => `program ${program.name} is only in ${path}`);
  return { pairs, notes: [...only(old, before), ...only(recent, after)] };
}

function select({ path, object }: Side, name?: string): ProgramSpec {
  const selection = selectProgram(object, name);
  if ('problem' in selection)
    throw new XdpbedError('usage', `${path}: ${selection.problem}`, { hint: selection.hint });
  return selection.program;
}

async function diffPair(
  context: CliContext,
  pair: Pair,
  before: Side,
  after: Side,
  options: DiffOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const open = async ({ object, elements, path }: Side, spec: ProgramSpec): Promise<Subject | undefined> => {
    const opened = await Subject.open(context.registry, {
      object,
      spec,
      verifiers: options.verifier.split(','),
      initial: elements,
    });
    if (opened instanceof Subject) return opened;
    terminal.err(`${path}: ${renderVerification(opened.programName, opened, { complexity: false })}`);
    return undefined;
  };
  const old = await open(before, pair.before);
  const recent = old && (await open(after, pair.after));
  try {
    if (old === undefined || recent === undefined) return EXIT.CHECK_FAILED;
    const comparison = new ProgramComparison(old, recent, context.interruption());
    for (const note of comparison.notes) terminal.out(`${note}\n`);
    const cases = await casesOf(before, pair.before, options);
    const search = await setUpSearch(context, options, {
      sequences: cases,
      programs: [...before.object.programs, ...after.object.programs],
      elements: after.elements,
      longest: Math.min(old.longestPacket, recent.longestPacket),
    });
    const { found, packets, sequences, interrupted } = await searchSequences(comparison, search);
    const ran = describeSearch(packets, sequences, options.seed);
    if (found === undefined) {
      const so = interrupted ? 'interrupted; the same so far' : 'the same';
      terminal.out(`${pair.before.name}: ${so} on ${ran}\n`);
      return interrupted ? EXIT.INTERRUPTED : EXIT.OK;
    }
    const smallest = await shrinkSequence(found, (each) => comparison.shows(each), search.signal);
    terminal.out(`${await renderDifference(pair.before.name, comparison, smallest, ran)}\n`);
    if (options.out !== undefined) await writeSequence(options.out, smallest);
    return search.signal?.aborted === true ? EXIT.INTERRUPTED : EXIT.CHECK_FAILED;
  } finally {
    await old?.close();
    await recent?.close();
  }
}

/** The sequences of the cases that are for this program, as the old object understands them. */
async function casesOf(
  { path }: Side,
  program: ProgramSpec,
  { cases = [], type, map = [] }: DiffOptions,
): Promise<readonly (readonly SentPacket[])[]> {
  const files = await findCaseFiles(cases);
  const loaded: TestFile[] = [];
  for (const file of files)
    loaded.push(await loadCases(file, { object: path, type, sizes: parseMapSizes(map) }));
  return loaded
    .flatMap((file) => file.cases)
    .filter((each) => each.program.name === program.name)
    .map(caseSequence);
}

async function renderDifference(
  name: string,
  comparison: ProgramComparison,
  packets: readonly SentPacket[],
  ran: string,
): Promise<string> {
  const { packets: lines, maps } = await comparison.differences(packets);
  const what = packets.length === 1 ? 'this packet' : `these ${packets.length} packets, one after the other,`;
  return [
    `${name}: ${what} tell${packets.length === 1 ? 's' : ''} them apart, found after ${ran}`,
    ...renderSequence(packets, (index) => lines[index]!),
    ...(maps.length === 0 ? [] : ['then in maps:', ...maps.map((line) => `  ${line}`)]),
  ].join('\n');
}
