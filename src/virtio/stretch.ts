/** Bytes of commands and answers after which others get their turn: 512 KiB of elements of maps take 3 to 5 ms. */
const MOST_BYTES = 256 * 1024;
/** Milliseconds after which others get their turn. */
const MOST_MS = 2;

/**
 * What a device does for one guest in one go, before others get their turn of the event loop: so many commands, so many bytes of
 * commands and answers, so much time. The command that goes beyond is carried out whole, so that a
 * stretch is longer by one command at most.
 */
export class Stretch {
  #commands = 0;
  #bytes = 0;
  #began: number | undefined;

  /**
   * @param mostCommands in one stretch
   * @param now milliseconds of any clock; of one that stands still, where a stretch ends depends on nothing but what was asked
   *   and answered
   */
  constructor(
    readonly mostCommands: number,
    readonly now: () => number,
  ) {}

  /** Whether others have to get their turn before the next command. */
  get isOver(): boolean {
    if (this.#commands >= this.mostCommands || this.#bytes >= MOST_BYTES) return true;
    return this.#began !== undefined && this.now() - this.#began >= MOST_MS;
  }

  /** A command is about to be carried out. */
  begin(): void {
    this.#began ??= this.now();
    this.#commands++;
  }

  /** So many bytes came with it, or go as its answer. */
  add(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Others had their turn, or there is nobody who waits. */
  renew(): void {
    this.#commands = 0;
    this.#bytes = 0;
    this.#began = undefined;
  }
}
