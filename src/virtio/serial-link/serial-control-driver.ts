import type { Duplex } from 'node:stream';
import { XdpbedError } from '../../core/diagnostic.js';
import { ByteQueue } from './byte-queue.js';
import {
  decodeSerialHeader,
  encodeSerialMessage,
  MAX_BROKEN_REASON_BYTES,
  MAX_SERIAL_BYTES,
  SERIAL_HEADER_BYTES,
  SERIAL_KIND,
  type SerialHeader,
} from './serial-messages.js';

interface Command {
  readonly bytes: (number: number) => Uint8Array;
  readonly room: number;
  readonly resolve: (response: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The driver's end of a control channel over a byte stream: in a guest over its virtio-serial port, or in this
 * process. One command is under way at a time, as on a control queue that Linux drives.
 */
export class SerialControlDriver {
  readonly #stream: Duplex;
  readonly #input = new ByteQueue();
  readonly #queued: Command[] = [];
  #waiting: { readonly number: number; readonly command: Command } | undefined;
  /** What both sides are at: `greeting` until the device has said which epoch it is. */
  #state: 'greeting' | 'ready' | 'broken' | 'closed' = 'greeting';
  #epoch = 0;
  #nextNumber = 1;
  /** Why it is broken or closed. */
  #reason = '';

  constructor(
    /** Used in messages: `guest0.eth0`. */
    readonly label: string,
    stream: Duplex,
  ) {
    this.#stream = stream;
    stream.on('data', (bytes: Uint8Array) => this.#received(bytes));
    stream.on('error', (error) => this.#end(`the channel failed: ${error.message}`));
    stream.on('end', () => this.#end('the device is gone'));
    stream.on('close', () => this.#end('the device is gone'));
    this.#greet();
  }

  /**
   * Sends a command and waits for what the device writes. Rejects with `virtio-violation` when the channel is down or
   * goes down meanwhile, and for a command or a room of more than {@link MAX_SERIAL_BYTES}.
   */
  send(parts: readonly Uint8Array[], room: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#state === 'closed') return reject(this.#error(this.#reason));
      const length = parts.reduce((sum, part) => sum + part.length, 0);
      if (length > MAX_SERIAL_BYTES || room > MAX_SERIAL_BYTES) {
        const size = `a command of ${length} bytes with room for ${room}`;
        return reject(this.#error(`${size} is more than the ${MAX_SERIAL_BYTES} that the channel carries`));
      }
      const bytes = (number: number): Uint8Array =>
        encodeSerialMessage(SERIAL_KIND.COMMAND, number, parts, room);
      this.#queued.push({ bytes, room, resolve, reject });
      // The device may have been reset since; it tells nobody who does not ask.
      if (this.#state === 'broken') this.#greet();
      else this.#sendNext();
    });
  }

  /** What is under way is rejected; the stream is closed. */
  close(): void {
    this.#end('the channel is closed');
  }

  #greet(): void {
    this.#state = 'greeting';
    this.#stream.write(encodeSerialMessage(SERIAL_KIND.HELLO, this.#epoch));
  }

  #sendNext(): void {
    if (this.#state !== 'ready' || this.#waiting !== undefined) return;
    const command = this.#queued.shift();
    if (command === undefined) return;
    const number = this.#nextNumber;
    this.#nextNumber = (number + 1) >>> 0;
    this.#waiting = { number, command };
    this.#stream.write(command.bytes(number));
  }

  #received(bytes: Uint8Array): void {
    if (this.#state === 'closed') return;
    const input = this.#input;
    input.push(bytes);
    for (;;) {
      if (input.length < SERIAL_HEADER_BYTES) return;
      const header = decodeSerialHeader(input.peek(SERIAL_HEADER_BYTES));
      if (header === undefined || header.length > this.#longest(header)) {
        this.#end('the device broke a rule of the channel');
        return;
      }
      if (input.length < SERIAL_HEADER_BYTES + header.length) return;
      input.skip(SERIAL_HEADER_BYTES);
      this.#handle(header, input.take(header.length));
    }
  }

  /** Bytes that a message may have; below 0: there must be none of its kind now. */
  #longest({ kind, number }: SerialHeader): number {
    switch (kind) {
      case SERIAL_KIND.RESET:
        return 0;
      case SERIAL_KIND.BROKEN:
        return MAX_BROKEN_REASON_BYTES;
      case SERIAL_KIND.ANSWER:
        return number === this.#waiting?.number ? this.#waiting.command.room : -1;
      default:
        return -1;
    }
  }

  #handle({ kind, number }: SerialHeader, bytes: Uint8Array): void {
    if (kind === SERIAL_KIND.ANSWER) {
      const { command } = this.#waiting!;
      this.#waiting = undefined;
      command.resolve(bytes);
      this.#sendNext();
      return;
    }
    if (kind === SERIAL_KIND.BROKEN) {
      this.#reason = `the link is broken: ${Buffer.from(bytes).toString()}`;
      this.#state = 'broken';
      this.#rejectAll(this.#reason);
      return;
    }
    // It was on its way when this side said HELLO to it.
    if (this.#state === 'ready' && number === this.#epoch) return;
    // While greeting, nothing that waits here has been seen by the device.
    if (this.#state === 'ready') this.#rejectAll('the link was reset');
    this.#epoch = number;
    this.#nextNumber = 1;
    this.#greet();
    this.#state = 'ready';
    this.#sendNext();
  }

  #end(reason: string): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#reason = reason;
    this.#rejectAll(reason);
    this.#stream.destroy();
  }

  #rejectAll(reason: string): void {
    const waiting = this.#waiting === undefined ? [] : [this.#waiting.command];
    this.#waiting = undefined;
    for (const { reject } of [...waiting, ...this.#queued.splice(0)]) reject(this.#error(reason));
  }

  #error(reason: string): XdpbedError {
    return new XdpbedError('virtio-violation', `${this.label}: ${reason}`);
  }
}
