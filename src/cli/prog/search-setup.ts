import type { MapInitialEntry } from '../../bpf/map-spec.js';
import { EventLoopTurns } from '../../core/clock/event-loop-turns.js';
import type { PacketInput } from '../../core/program-test/program-session.js';
import { PacketGenerator } from '../../core/program-fuzz/packet-generator.js';
import { programConstants } from '../../core/program-fuzz/program-constants.js';
import { RandomSource } from '../../core/program-fuzz/random-source.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import type { SearchOptions } from '../../core/program-fuzz/sequence-search.js';
import { randomStream } from '../../core/run/random.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { CliContext } from '../cli-context.js';
import { readFrames } from '../../core/program-test/capture-input.js';
import { wholeNumber } from './whole-number.js';

/** Options of the verbs that look for packets. */
export interface SearchCommandOptions {
  readonly packets: string;
  readonly seconds?: string;
  readonly seed: string;
  readonly pcap?: readonly string[];
  readonly ifindex: string;
}

/** Bytes of a generated packet at most, where the program takes as many. */
const LONGEST_GENERATED = 1514;
/** Keys of maps that packets are given, at most. */
const MOST_TOKENS = 256;

/** What the command line says of a search, read and checked. */
export interface SearchInput {
  readonly seed: number;
  readonly ifindex: number;
  /** How many to generate. */
  readonly packets: number;
  readonly milliseconds: number | undefined;
  /** To begin with. */
  readonly captures: readonly { readonly file: string; readonly packets: readonly SentPacket[] }[];
}

/** Throws `usage`, and what reading a capture throws. */
export async function readSearchInput(options: SearchCommandOptions): Promise<SearchInput> {
  const { packets, seconds, seed, pcap = [], ifindex } = options;
  const numbers = {
    seed: wholeNumber('--seed', seed, 0),
    ifindex: wholeNumber('--ifindex', ifindex, 0),
    packets: wholeNumber('--packets', packets, 0),
    milliseconds: seconds === undefined ? undefined : 1000 * wholeNumber('--seconds', seconds),
  };
  const captures: SearchInput['captures'][number][] = [];
  for (const file of pcap) {
    const turns = new EventLoopTurns();
    const packets: SentPacket[] = [];
    for (const { data, timestampNs } of await readFrames(file)) {
      packets.push({ data, input: { ingressIfindex: numbers.ifindex, now: timestampNs } });
      const turn = turns.next();
      if (turn !== undefined) await turn;
    }
    captures.push({ file, packets });
  }
  return { ...numbers, captures };
}

export interface SearchSetup {
  /** Programs whose constants packets are made with. */
  readonly programs: readonly ProgramSpec[];
  /** What maps hold: their keys are tried in packets. */
  readonly elements: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
  /** Sequences to begin with, of cases. */
  readonly sequences?: readonly (readonly SentPacket[])[] | undefined;
  /** Bytes that every program takes. */
  readonly longest: number;
}

/** What `searchSequences` is asked for. */
export function setUpSearch(
  { terminal, interruption }: CliContext,
  { seed, ifindex, packets, milliseconds, captures }: SearchInput,
  { programs, elements, sequences = [], longest }: SearchSetup,
): SearchOptions {
  const random = new RandomSource(randomStream(BigInt(seed), 'packets'));
  const input: PacketInput = { ingressIfindex: ifindex };
  const seeds: (readonly SentPacket[])[] = sequences.map((sequence) =>
    sequence.filter(({ data }) => data.length <= longest),
  );
  for (const { file, packets: captured } of captures) {
    const whole = captured.filter(({ data }) => data.length <= longest);
    if (whole.length < captured.length) {
      const left = captured.length - whole.length;
      terminal.err(
        `${file}: ${left} packets have more than the ${longest} bytes that the program takes, and are left out\n`,
      );
    }
    seeds.push(whole);
  }
  const constants = programConstants(programs.flatMap(({ insns }) => insns));
  const tokens = [...(elements ?? [])]
    .flatMap(([, each]) => each.map(({ key }) => key))
    .slice(0, MOST_TOKENS);
  const generator = new PacketGenerator(random, {
    constants,
    tokens: tokens.flatMap(tokensOf),
    longest: Math.min(longest, LONGEST_GENERATED),
  });
  return {
    generator,
    random,
    input,
    seeds: seeds.filter((packets) => packets.length > 0),
    packets,
    milliseconds,
    signal: interruption(),
  };
}

/** A key as it may lie in a packet: as it is, the other way round, and without the prefix length that a trie's begins with. */
function tokensOf(key: Uint8Array): Uint8Array[] {
  const tokens = [key, key.slice().reverse()];
  if (key.length > 4) tokens.push(key.subarray(4));
  return tokens;
}

/** `12000 packets in 3100 sequences (seed 1)`. */
export function describeSearch(packets: number, sequences: number, { seed }: SearchInput): string {
  return `${packets} packets in ${sequences} sequences (seed ${seed})`;
}
