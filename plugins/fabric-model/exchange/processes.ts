import type { Picoseconds } from '../../../src/core/contract/clock.js';
import type { Timing } from '../timing.js';
import type { Socket } from './socket.js';

/** Bytes that a receiver asks for at once. */
const READ_BYTES = 131_072;

/** A process with a socket: a turn is one system call that does not block. */
export interface Process {
  /** Whether it may go on; it blocks until its socket is ready else. */
  turn(): boolean;
}

/** What a system call with so many bytes costs, beside what happens below the socket. */
function charge(timing: Timing, bytes: number): void {
  timing.charge(timing.costs.syscall + bytes * timing.costs['copy-byte']);
}

/** Sends as much as it can. */
export class StreamClient implements Process {
  sent = 0;
  stopped = false;

  constructor(
    readonly timing: Timing,
    readonly socket: Socket,
    readonly size: number,
  ) {}

  turn(): boolean {
    const { timing, socket, size } = this;
    if (this.stopped || !socket.canWrite(size)) return false;
    charge(timing, size);
    timing.then(() => {
      socket.write(size);
      this.sent++;
    });
    return true;
  }
}

/** Sends a request each time that the one before is answered. */
export class RequestClient implements Process {
  answered = 0;
  lastAnswerAt: Picoseconds = 0;
  stopped = false;
  /** Told how long each took, as the process sees it: from its call to the answer. */
  onAnswer: ((took: Picoseconds) => void) | undefined;
  #asked: Picoseconds | undefined;
  /** Of the answer under way, still to come. */
  #missing = 0;

  constructor(
    readonly timing: Timing,
    readonly socket: Socket,
    readonly size: number,
  ) {}

  turn(): boolean {
    const { timing, socket, size } = this;
    if (this.#asked === undefined) {
      if (this.stopped) return false;
      this.#asked = timing.now;
      this.#missing = size;
      charge(timing, size);
      timing.then(() => socket.write(size));
      return true;
    }
    if (!socket.canRead) return false;
    const bytes = socket.read(READ_BYTES);
    timing.charge(timing.costs['socket-receive']);
    charge(timing, bytes);
    this.#missing -= bytes;
    if (this.#missing <= 0) {
      const asked = this.#asked;
      timing.then(() => {
        this.answered++;
        this.lastAnswerAt = timing.now;
        this.onAnswer?.(timing.now - asked);
        this.#asked = undefined;
      });
    }
    return true;
  }
}

/** Receives, and answers requests where they are to be. */
export class Server implements Process {
  received = 0;
  messages = 0;
  /** Of the request under way, what has come. */
  #request = 0;

  constructor(
    readonly timing: Timing,
    readonly socket: Socket,
    /** Bytes of a request and its answer; undefined: nothing is answered. */
    readonly answers: number | undefined,
  ) {}

  turn(): boolean {
    const { timing, socket, answers } = this;
    if (!socket.canRead) return false;
    const bytes = socket.read(READ_BYTES);
    timing.charge(timing.costs['socket-receive']);
    charge(timing, bytes);
    timing.then(() => {
      this.received += bytes;
      this.messages++;
      if (answers !== undefined && (this.#request += bytes) >= answers) {
        this.#request = 0;
        charge(timing, answers);
        timing.then(() => socket.write(answers));
      }
    });
    return true;
  }
}
