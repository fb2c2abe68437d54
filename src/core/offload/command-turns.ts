import type { Picoseconds, SteeredClock } from '../contract/clock.js';
import type { Device } from '../contract/device.js';

/**
 * What each byte of a command and of the room for its answer adds: 37.2 µs for a lookup of a value of 64 KiB through queue
 * and endpoint, 5.7 µs for one of 8 bytes, on a machine of two virtual cores that was busy otherwise.
 */
const PER_BYTE: Picoseconds = 240;

/** How far idle time is looked ahead; what is due within it begins that much later at most. */
const IDLE_STEP: Picoseconds = 100_000;

type Answer = Uint8Array | Promise<Uint8Array>;

interface Waiting {
  readonly nic: string;
  readonly bytes: number;
  readonly carryOut: () => Answer;
  readonly resolve: (answer: Answer) => void;
}

/**
 * Whose command the device's thread carries out next. Commands take no time, and then there is nothing to choose, unless
 * somebody lets virtual time pass for them ({@link pass}): then each takes its time, one after the other, and what comes
 * meanwhile waits.
 */
export class CommandTurns {
  /** In order of arrival. */
  readonly #waiting: Waiting[] = [];
  /** When each nic had its last turn, counted. */
  readonly #served = new Map<string, number>();
  #turns = 0;
  #last: string | undefined;
  #isTimed = false;

  /** @param cost of a command, whatever its length. */
  constructor(
    readonly service: NonNullable<Device['service']>,
    readonly cost: Picoseconds,
  ) {}

  /** Commands take time at the moment, and have to be put in with {@link take}. */
  get isTimed(): boolean {
    return this.#isTimed;
  }

  /**
   * Waits for the nic's turn, then carries its command out.
   *
   * @param bytes of the command and of the room for its answer
   */
  take(nic: string, bytes: number, carryOut: () => Answer): Promise<Uint8Array> {
    return new Promise((resolve) => {
      this.#waiting.push({ nic, bytes, carryOut, resolve });
    });
  }

  /**
   * Lets so much virtual time pass, in which commands take their time. What is then still waiting is carried out at once.
   *
   * @param turn the event loop's, after each command: who was answered goes on
   */
  async pass(
    clock: SteeredClock,
    duration: Picoseconds,
    turn: () => Promise<void>,
    onTurn: () => void = () => {},
  ): Promise<void> {
    const end = clock.now() + duration;
    this.#isTimed = true;
    try {
      // What is due now is there before anything is waited for.
      clock.runUntil(clock.now());
      while (clock.now() < end) {
        const next = this.#next();
        if (next === undefined) {
          clock.runUntil(Math.min(end, clock.now() + IDLE_STEP));
          continue;
        }
        clock.runUntil(clock.now() + this.cost + next.bytes * PER_BYTE);
        next.resolve(next.carryOut());
        await turn();
        onTurn();
      }
    } finally {
      this.#isTimed = false;
      for (const { carryOut, resolve } of this.#waiting.splice(0)) resolve(carryOut());
    }
  }

  #next(): Waiting | undefined {
    if (this.#waiting.length === 0) return undefined;
    let index = 0;
    if (this.service === 'queue') {
      index = Math.max(
        0,
        this.#waiting.findIndex(({ nic }) => nic === this.#last),
      );
    } else {
      const lastTurn = ({ nic }: Waiting): number => this.#served.get(nic) ?? 0;
      for (let i = 1; i < this.#waiting.length; i++) {
        if (lastTurn(this.#waiting[i]!) < lastTurn(this.#waiting[index]!)) index = i;
      }
    }
    const [next] = this.#waiting.splice(index, 1);
    this.#last = next!.nic;
    this.#served.set(next!.nic, ++this.#turns);
    return next;
  }
}
