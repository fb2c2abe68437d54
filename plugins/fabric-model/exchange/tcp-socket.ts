import type { Picoseconds } from '../../../src/core/contract/clock.js';
import { MAX_SEGMENT, readSegment, type FrameMaker } from './exchange-frames.js';
import type { Socket, SocketHost } from './socket.js';

/** Bytes that a socket has below it, in the queueing discipline and the NIC, at most (TCP small queues). */
const SMALL_QUEUE = 128 * 1024;
/** 2^32. */
const SEQUENCE_NUMBERS = 0x1_0000_0000;

/**
 * TCP as far as a rate needs it: a window, acknowledgements for every second full segment or with what goes the other
 * way, segments as long as the driver cuts them. It starts as a connection that has been open for long. There is no
 * retransmission: a segment that is lost is noticed, and that is all.
 */
export class TcpSocket implements Socket {
  onReady: (() => void) | undefined;
  /** Bytes from the beginning: acknowledged, sent, written. */
  #acknowledged = 0;
  #sent = 0;
  #written = 0;
  /** Where the last segment ended that was not full. */
  #lastShort = 0;
  /** How far the other end has room. */
  #allowed: number;
  /** What was given to the driver and has not left: when it will have, and how much it is. */
  #leaving: { readonly time: Picoseconds; readonly bytes: number }[] = [];
  #waitsForDriver = false;

  /** Bytes from the beginning: received, read, and what was said of both. */
  #received = 0;
  #read = 0;
  #acknowledgedTo = 0;
  #allowedTo: number;
  /** A segment did not come. */
  isBroken = false;

  constructor(
    readonly host: SocketHost,
    readonly frames: FrameMaker,
    /** Bytes that each end has room for. */
    readonly window: number,
  ) {
    this.#allowed = window;
    this.#allowedTo = window;
  }

  /** A third of the buffer has to be free before a process is woken to write (sk_stream_is_writeable). */
  canWrite(): boolean {
    return this.#written - this.#acknowledged <= (this.window * 4) / 3;
  }

  write(bytes: number): void {
    this.#written += bytes;
    this.#output();
  }

  get canRead(): boolean {
    return this.#received > this.#read;
  }

  read(most: number): number {
    const bytes = Math.min(most, this.#received - this.#read);
    this.#read += bytes;
    // The window was nearly closed, and is open again.
    const left = this.#allowedTo - this.#received;
    if (left < this.window / 4 && this.#read + this.window - this.#received >= this.window / 2)
      this.#sendAcknowledgement();
    return bytes;
  }

  receive(frame: Uint8Array): void {
    const { timing } = this.host;
    timing.charge(timing.costs.tcp);
    const { seq, ack, window, length } = readSegment(frame);
    const acknowledged = from(this.#acknowledged, ack);
    // Of what was never sent it says nothing.
    if (acknowledged <= this.#sent) {
      this.#acknowledged = Math.max(this.#acknowledged, acknowledged);
      this.#allowed = Math.max(this.#allowed, acknowledged + window);
    }
    if (length > 0) this.#receiveBytes(seq, length);
    this.#output();
    if (this.canRead || this.canWrite()) this.onReady?.();
  }

  #receiveBytes(seq: number, length: number): void {
    if (from(this.#received, seq) !== this.#received) {
      this.isBroken = true;
      return;
    }
    this.#received += length;
    if (this.#received - this.#acknowledgedTo >= 2 * MAX_SEGMENT) this.#sendAcknowledgement();
  }

  /** Sends what there is, as far as the window, the driver and the small queue go. */
  #output(): void {
    const { timing, longestSegment } = this.host;
    for (;;) {
      const room = this.#allowed - this.#sent;
      let bytes = Math.min(this.#written - this.#sent, longestSegment);
      if (bytes > room) bytes = Math.floor(room / MAX_SEGMENT) * MAX_SEGMENT;
      // Nagle, as Minshall has it: one short segment is on its way at most (tcp_nagle_check).
      if (bytes < MAX_SEGMENT && this.#lastShort > this.#acknowledged) return;
      if (bytes > MAX_SEGMENT) bytes -= bytes % MAX_SEGMENT;
      if (bytes <= 0 || !this.#fits(bytes)) return;
      timing.charge(timing.costs['socket-send'] + timing.costs.tcp);
      const frames: Uint8Array[] = [];
      for (let at = 0; at < bytes; at += MAX_SEGMENT) {
        frames.push(this.#segment(this.#sent + at, Math.min(MAX_SEGMENT, bytes - at)));
      }
      this.#sent += bytes;
      if (bytes < MAX_SEGMENT) this.#lastShort = this.#sent;
      this.#leaving.push({ time: this.host.transmit(frames), bytes });
    }
  }

  /** Whether so much more may be given to the driver; if not, it is gone on with when some has left. */
  #fits(bytes: number): boolean {
    const { now } = this.host.timing;
    this.#leaving = this.#leaving.filter(({ time }) => time > now);
    const below = this.#leaving.reduce((sum, { bytes }) => sum + bytes, 0);
    if (below === 0 || below + bytes <= SMALL_QUEUE) return true;
    if (!this.#waitsForDriver) {
      this.#waitsForDriver = true;
      this.host.whenSent(this.#leaving[0]!.time, () => {
        this.#waitsForDriver = false;
        this.#output();
      });
    }
    return false;
  }

  #sendAcknowledgement(): void {
    const { timing } = this.host;
    timing.charge(timing.costs.tcp);
    this.host.transmit([this.#segment(this.#sent, 0)]);
  }

  #segment(at: number, length: number): Uint8Array {
    this.#acknowledgedTo = this.#received;
    this.#allowedTo = this.#read + this.window;
    return this.frames.segment({
      seq: at % SEQUENCE_NUMBERS,
      ack: this.#received % SEQUENCE_NUMBERS,
      window: this.#allowedTo - this.#received,
      length,
    });
  }
}

/** The number that a sequence number stands for, which is near one that is known. */
function from(near: number, sequence: number): number {
  return near + ((sequence - (near % SEQUENCE_NUMBERS)) | 0);
}
