import { changedRanges, describeRedirect } from '../program-test/program-session.js';
import { CoverageFrontier, type JumpOperands } from './coverage-frontier.js';
import { MapComparison, type ValueDifference } from './compare-maps.js';
import type { SearchTarget } from './sequence-search.js';
import type { SentPacket } from './sent-packet.js';
import type { Step, Subject } from './subject.js';
import { EventLoopTurns } from '../clock/event-loop-turns.js';

/** In what two programs differ on a sequence of packets. */
export interface Difference {
  /** By packet, in order; of packets to which both did the same, nothing. */
  readonly packets: readonly (readonly ValueDifference[])[];
  /** In their maps, once the sequence is through. */
  readonly maps: readonly ValueDifference[];
  /** There are more in their maps. */
  readonly mapsCut: boolean;
}

/** Of differences in maps. */
const MOST_DIFFERENCES = 100;

/** Two programs side by side on the same packets, each with maps of its own. */
export class ProgramComparison implements SearchTarget {
  readonly #maps: MapComparison;
  readonly #frontier: CoverageFrontier;
  readonly #turns: EventLoopTurns;

  constructor(
    readonly before: Subject,
    readonly after: Subject,
    /** Ends a long sequence, which then shows nothing. */
    signal?: AbortSignal,
  ) {
    this.#turns = new EventLoopTurns(signal);
    this.#maps = new MapComparison(before, after);
    this.#frontier = new CoverageFrontier([before.coverage, after.coverage]);
  }

  /** What is not compared, and why. */
  get notes(): readonly string[] {
    return this.#maps.notes;
  }

  async shows(packets: readonly SentPacket[]): Promise<boolean> {
    await this.#restart();
    for (const packet of packets) {
      if (this.#turns.isDue && !(await this.#turns.goOn())) return false;
      if (stepDifferences(this.before.send(packet), this.after.send(packet)).length > 0) return true;
    }
    return !this.#maps.areSame;
  }

  hasAdvanced(): boolean {
    return this.#frontier.hasAdvanced();
  }

  comparisons(): readonly JumpOperands[] {
    return this.#frontier.comparisons();
  }

  /** Runs a sequence and tells everything in which they differ on it. */
  async differences(packets: readonly SentPacket[]): Promise<Difference> {
    await this.#restart();
    const steps = packets.map((packet) => stepDifferences(this.before.send(packet), this.after.send(packet)));
    const { differences, cut } = this.#maps.differences(MOST_DIFFERENCES);
    return { packets: steps, maps: differences, mapsCut: cut };
  }

  async #restart(): Promise<void> {
    await this.before.restart();
    await this.after.restart();
  }
}

function stepDifferences(before: Step, after: Step): ValueDifference[] {
  const [old, recent] = [before.outcome, after.outcome];
  const differences: ValueDifference[] = [];
  const differ = (what: string, was: string, is: string): void => {
    if (was !== is) differences.push({ what, old: was, new: is });
  };
  // A number that is no verdict is one of its own, and XDP_ABORTED by name.
  if (old.returned !== recent.returned)
    differ('verdict', verdictText(old.verdict, old.returned), verdictText(recent.verdict, recent.returned));
  // Not the texts: they name insns and addresses, which move with every change of a program.
  if ((old.fault === undefined) !== (recent.fault === undefined))
    differ('fault', old.fault?.reason ?? 'none', recent.fault?.reason ?? 'none');
  if (!sameBytes(old.packet, recent.packet)) {
    differ('length of the packet', `${old.packet.length} bytes`, `${recent.packet.length} bytes`);
    for (const { start, end } of changedRanges(old.packet, recent.packet)) {
      const what = end - start === 1 ? `byte ${start}` : `bytes ${start} to ${end - 1}`;
      differ(what, hexOf(old.packet, start, end), hexOf(recent.packet, start, end));
    }
  }
  if (!sameBytes(old.metadata, recent.metadata))
    differ('metadata', hexOf(old.metadata), hexOf(recent.metadata));
  differ(
    'redirect',
    old.redirect === undefined ? 'none' : describeRedirect(old.redirect),
    recent.redirect === undefined ? 'none' : describeRedirect(recent.redirect),
  );
  for (const name of new Set([...before.records.keys(), ...after.records.keys()]))
    differ(`records in ${name}`, recordsText(before.records.get(name)), recordsText(after.records.get(name)));
  return differences;
}

function verdictText(name: string, returned: number): string {
  return returned > 4 ? `${returned} (no verdict)` : name;
}

function recordsText(records: readonly Uint8Array[] | undefined): string {
  return records === undefined ? 'none' : records.map((record) => hexOf(record)).join(' | ');
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function hexOf(bytes: Uint8Array, start = 0, end = bytes.length): string {
  const text = Buffer.from(bytes.subarray(start, end))
    .toString('hex')
    .replace(/..(?=.)/g, '$& ');
  return text === '' ? 'absent' : text;
}
