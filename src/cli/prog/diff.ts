import { EXIT, type ExitCode, XdpbedError } from '../../core/diagnostic.js';
import { selectProgram } from '../../core/offload/select-program.js';
import type { MapInitialEntry } from '../../bpf/map-spec.js';
import { loadCases } from '../../core/program-test/load-cases.js';
import { parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import type { TestCase } from '../../core/program-test/test-case.js';
import { caseSequence } from '../../core/program-fuzz/case-sequences.js';
import { ProgramComparison } from '../../core/program-fuzz/program-comparison.js';
import { Subject } from '../../core/program-fuzz/subject.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import type { CliContext } from '../cli-context.js';
import { findCaseFiles } from './case-files.js';
import { diffDocument, outcomeOf, renderDiff, type PairResult, type ProgramPair } from './diff-report.js';
import { MapFile } from './map-file.js';
import { openObject, type ProgramOptions } from './prog-object.js';
import { SearchRun } from './search-run.js';
import { readSearchInput, setUpSearch, type SearchCommandOptions, type SearchInput } from './search-setup.js';
import { writeSequence } from './sequence-report.js';

interface DiffOptions extends ProgramOptions, SearchCommandOptions {
  readonly maps?: string;
  readonly cases?: readonly string[];
  readonly verifier: string;
  readonly out?: string;
  readonly format: string;
}

/** One of the two objects, with what its maps begin with. */
interface Side {
  readonly path: string;
  readonly object: ObjectSpec;
  readonly elements: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
}

/** What every pair is compared with. */
interface Comparisons {
  readonly before: Side;
  readonly after: Side;
  readonly cases: readonly TestCase[];
  readonly input: SearchInput;
}

/**
 * `xdpbed prog diff`: whether two builds of a program do the same to packets and maps, and else the smallest sequence of
 * packets that tells them apart. Interrupted, it prints what it has found so far.
 */
export async function diffPrograms(
  context: CliContext,
  oldPath: string,
  newPath: string,
  options: DiffOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const comparisons = await readSides(oldPath, newPath, options);
  const { before, after } = comparisons;
  const { pairs, notes } = pairPrograms(before, after, options);
  const isText = options.format !== 'json';
  if (isText) for (const note of notes) terminal.out(`${note}\n`);
  // From here on, an interruption ends the search and not the process.
  const signal = context.interruption();
  const results: PairResult[] = [];
  let unfinished: string | undefined;
  let interruption: Error | undefined;
  for (const pair of pairs) {
    const { name } = pair.before;
    try {
      const result = await diffPair(context, pair, comparisons, options);
      results.push(result);
      if (isText) terminal.out(renderDiff(result, comparisons.input));
      if (result.interrupted) unfinished = name;
    } catch (error) {
      if (!signal.aborted || !(error instanceof Error)) throw error;
      [unfinished, interruption] = [name, error];
    }
    if (unfinished !== undefined) break;
  }
  if (!isText) {
    const { seed } = comparisons.input;
    const document = diffDocument({ old: oldPath, new: newPath, seed, notes, results, unfinished });
    terminal.out(`${JSON.stringify(document, null, 2)}\n`);
  }
  // Of several that differ, the last.
  const found = results.findLast((result) => result.found !== undefined)?.found;
  if (found !== undefined && options.out !== undefined) await writeSequence(options.out, found.packets);
  if (interruption !== undefined) throw interruption;
  if (unfinished !== undefined) return EXIT.INTERRUPTED;
  return results.every((result) => outcomeOf(result) === 'same') ? EXIT.OK : EXIT.CHECK_FAILED;
}

/** All that is read, before there is anything to interrupt. */
async function readSides(oldPath: string, newPath: string, options: DiffOptions): Promise<Comparisons> {
  const [old, recent] = [await openObject(oldPath, options), await openObject(newPath, options)];
  const file = options.maps === undefined ? undefined : await MapFile.read(options.maps);
  const side = (path: string, object: ObjectSpec, other: ObjectSpec): Side => ({
    path,
    object,
    elements: file?.elementsFor(
      object,
      other.maps.map(({ name }) => name),
    ),
  });
  return {
    before: side(oldPath, old, recent),
    after: side(newPath, recent, old),
    cases: await readCases(oldPath, options),
    input: await readSearchInput(options),
  };
}

/** Cases as the old object understands them. */
async function readCases(
  object: string,
  { cases = [], type, map = [] }: DiffOptions,
): Promise<readonly TestCase[]> {
  const read: TestCase[] = [];
  for (const file of await findCaseFiles(cases))
    read.push(...(await loadCases(file, { object, type, sizes: parseMapSizes(map) })).cases);
  return read;
}

/** The program that is named; else all that have the same name, or the only ones of each. */
function pairPrograms(
  before: Side,
  after: Side,
  options: DiffOptions,
): { readonly pairs: readonly ProgramPair[]; readonly notes: readonly string[] } {
  const name = options.program ?? options.section;
  if (name !== undefined)
    return { pairs: [{ before: select(before, name), after: select(after, name) }], notes: [] };
  const xdp = ({ object }: Side): readonly ProgramSpec[] =>
    object.programs.filter(({ type }) => type === BPF_PROG_TYPE_XDP);
  const [old, recent] = [xdp(before), xdp(after)];
  if (old.length <= 1 && recent.length <= 1)
    return { pairs: [{ before: select(before), after: select(after) }], notes: [] };
  const pairs = old.flatMap((program): ProgramPair[] => {
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
  pair: ProgramPair,
  { before, after, cases, input }: Comparisons,
  options: DiffOptions,
): Promise<PairResult> {
  const run = new SearchRun(context);
  const opened: Subject[] = [];
  try {
    for (const [side, spec] of [
      [before, pair.before],
      [after, pair.after],
    ] as const) {
      const { object, elements, path } = side;
      const verifiers = options.verifier.split(',');
      const subject = await run.open({ object, spec, verifiers, initial: elements });
      if (subject instanceof Subject) {
        opened.push(subject);
        continue;
      }
      const explained = renderVerification(subject.programName, subject, { complexity: false });
      context.terminal.err(`${path}: ${explained}`);
      const nothing = { pair, notes: [], packets: 0, sequences: 0, interrupted: false };
      return { ...nothing, rejection: { object: side === before ? 'old' : 'new', rejection: subject } };
    }
    const [old, recent] = opened as [Subject, Subject];
    const { name } = pair.before;
    const comparison = new ProgramComparison(old, recent, context.interruption());
    const search = setUpSearch(context, input, {
      sequences: cases.filter(({ program }) => program.name === name).map(caseSequence),
      programs: [...before.object.programs, ...after.object.programs],
      elements: after.elements,
      longest: Math.min(old.longestPacket, recent.longestPacket),
    });
    const { found, packets, sequences } = await run.search(name, comparison, search);
    const result = { pair, notes: comparison.notes, packets, sequences };
    if (found === undefined) return { ...result, interrupted: run.interrupted };
    const smallest = await run.shrink(name, found, comparison);
    const difference = await comparison.differences(smallest);
    return { ...result, found: { packets: smallest, difference }, interrupted: run.interrupted };
  } finally {
    for (const subject of opened) await subject.close();
  }
}
