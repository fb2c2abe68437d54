import { CoverageFrontier, type JumpOperands } from './coverage-frontier.js';
import type { Property } from './property.js';
import type { SentPacket } from './sent-packet.js';
import type { SearchTarget } from './sequence-search.js';
import type { Step, Subject } from './subject.js';
import { EventLoopTurns } from '../clock/event-loop-turns.js';

/** A property that did not hold after a packet. */
export interface Violation {
  /** The packet's place in the sequence. */
  readonly index: number;
  readonly property: Property;
  readonly text: string;
  readonly step: Step;
}

/** Looks for a sequence after which one of several properties does not hold. */
export class PropertyTarget implements SearchTarget {
  readonly #frontier: CoverageFrontier;
  readonly #turns: EventLoopTurns;
  /** All of them at first; then the one that was found, so that making it small does not lead to another. */
  #properties: readonly Property[];

  constructor(
    readonly subject: Subject,
    properties: readonly Property[],
    /** Ends a long sequence, on which everything holds then. */
    signal?: AbortSignal,
  ) {
    this.#turns = new EventLoopTurns(signal);
    this.#properties = properties;
    this.#frontier = new CoverageFrontier([subject.coverage]);
  }

  async shows(packets: readonly SentPacket[]): Promise<boolean> {
    return (await this.violation(packets)) !== undefined;
  }

  hasAdvanced(): boolean {
    return this.#frontier.hasAdvanced();
  }

  comparisons(): readonly JumpOperands[] {
    return this.#frontier.comparisons();
  }

  /** From now on only this one is looked at. */
  keepTo(property: Property): void {
    this.#properties = [property];
  }

  /** The first on a sequence. `toTheEnd`: whatever the signal says. */
  async violation(packets: readonly SentPacket[], toTheEnd = false): Promise<Violation | undefined> {
    await this.subject.restart();
    for (const [index, packet] of packets.entries()) {
      if (this.#turns.isDue && !(await this.#turns.goOn()) && !toTheEnd) return undefined;
      const step = this.subject.send(packet);
      for (const property of this.#properties) {
        const text = property.violation(step, this.subject);
        if (text !== undefined) return { index, property, text, step };
      }
    }
    return undefined;
  }
}
