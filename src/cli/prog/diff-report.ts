import type { ProgramSpec } from '../../bpf/program.js';
import type { ProgramRejection } from '../../core/offload/load-program.js';
import type { ValueDifference } from '../../core/program-fuzz/compare-maps.js';
import type { Difference } from '../../core/program-fuzz/program-comparison.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import type { ProgDiffDocument } from '../../report/prog-diff-schema.js';
import { describeSearch, type SearchInput } from './search-setup.js';
import { packetToJson, rejectionToJson, renderSequence } from './sequence-report.js';

/** One program in both objects. */
export interface ProgramPair {
  readonly before: ProgramSpec;
  readonly after: ProgramSpec;
}

/** What came of one pair. */
export interface PairResult {
  readonly pair: ProgramPair;
  /** What is not compared, and why. */
  readonly notes: readonly string[];
  readonly packets: number;
  readonly sequences: number;
  /** The smallest sequence that tells them apart, and how. */
  readonly found?: { readonly packets: readonly SentPacket[]; readonly difference: Difference };
  readonly rejection?: { readonly object: 'old' | 'new'; readonly rejection: ProgramRejection };
  /** The search, or making small what it had found, was not through. */
  readonly interrupted: boolean;
}

export function outcomeOf({ found, rejection }: PairResult): 'same' | 'different' | 'rejected' {
  return found !== undefined ? 'different' : rejection !== undefined ? 'rejected' : 'same';
}

/** Differences that are told of one packet, and of the maps. */
const MOST_LINES = 8;

/** What is to be read of a pair; the verifier's no is on stderr. */
export function renderDiff(
  { pair, notes, packets, sequences, ...result }: PairResult,
  input: SearchInput,
): string {
  const { found, rejection, interrupted } = result;
  const { name } = pair.before;
  const ran = describeSearch(packets, sequences, input);
  const lines = [...notes];
  if (found !== undefined) lines.push(...differenceLines(name, found.packets, found.difference, ran));
  if (found !== undefined && interrupted) lines.push('interrupted: there may be a smaller one');
  if (found === undefined && rejection === undefined)
    lines.push(`${name}: ${interrupted ? 'interrupted; the same so far' : 'the same'} on ${ran}`);
  return lines.map((line) => `${line}\n`).join('');
}

function differenceLines(
  name: string,
  packets: readonly SentPacket[],
  { packets: differences, maps, mapsCut }: Difference,
  ran: string,
): string[] {
  const what = packets.length === 1 ? 'this packet' : `these ${packets.length} packets, one after the other,`;
  const told = (
    all: readonly ValueDifference[],
    line: (each: ValueDifference) => string,
    cut = false,
  ): string[] => [
    ...all.slice(0, MOST_LINES).map(line),
    ...(cut || all.length > MOST_LINES ? ['… and more'] : []),
  ];
  const inMaps = told(maps, (each) => `${each.what} is ${each.old}, now ${each.new}`, mapsCut);
  return [
    `${name}: ${what} tell${packets.length === 1 ? 's' : ''} them apart, found after ${ran}`,
    ...renderSequence(packets, (index) =>
      told(differences[index]!, (each) => `${each.what}: ${each.old}, now ${each.new}`),
    ),
    ...(inMaps.length === 0 ? [] : ['then in maps:', ...inMaps.map((line) => `  ${line}`)]),
  ];
}

/** What came of all pairs, as far as it went. */
export interface DiffResult {
  /** Paths of the objects. */
  readonly old: string;
  readonly new: string;
  readonly seed: number;
  /** Programs that only one of them has. */
  readonly notes: readonly string[];
  readonly results: readonly PairResult[];
  /** The program that was under way when it was interrupted. */
  readonly unfinished: string | undefined;
}

export function diffDocument({ notes, results, seed, unfinished, ...paths }: DiffResult): ProgDiffDocument {
  return {
    schema: 'xdpbed.prog-diff/1',
    ...paths,
    seed: String(seed),
    notCompared: [...notes],
    programs: results.map(pairToJson),
    ...(unfinished === undefined ? {} : { interrupted: unfinished }),
  };
}

function pairToJson(result: PairResult): ProgDiffDocument['programs'][number] {
  const { pair, notes, packets, sequences, found, rejection } = result;
  return {
    program: pair.before.name,
    newProgram: pair.after.name,
    result: outcomeOf(result),
    notCompared: [...notes],
    packets,
    sequences,
    ...(found === undefined
      ? {}
      : {
          difference: {
            packets: found.packets.map((packet, index) => ({
              ...packetToJson(packet),
              differences: [...found.difference.packets[index]!],
            })),
            maps: [...found.difference.maps],
            mapsCut: found.difference.mapsCut,
          },
        }),
    ...(rejection === undefined
      ? {}
      : {
          rejection: { object: rejection.object, ...rejectionToJson(rejection.rejection) },
        }),
  };
}
