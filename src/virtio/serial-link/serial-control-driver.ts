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

export interface SerialControlDriverOptions {
  /** Commands that may be on their way at once; default 1, as on a control queue that Linux drives. */
  readonly window?: number | undefined;
  /** Called when the device was reset: what this driver had on it is gone. */
  readonly onReset?: (() => void) | undefined;
  /** Called once, when the device has said which epoch it is at. */
  readonly onGreeted?: (() => void) | undefined;
}

/** HELLOs that wait to be read by the device, which asks for each by a RESET: more are a device that means no good. */
const MAX_UNSENT_GREETINGS = 256;

interface Command {
  readonly parts: readonly Uint8Array[];
  readonly room: number;
  readonly resolve: (response: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The driver's end of a control channel over a byte stream: in a guest over its virtio-serial port, or in this
 * process.
 */
export class SerialControlDriver {
  readonly #stream: Duplex;
  readonly #input = new ByteQueue();
  readonly #queued: Command[] = [];
  /** Commands that were sent and are not answered, in their order. */
  readonly #sent: { readonly number: number; readonly command: Command }[] = [];
  /** What both sides are at: `greeting` until the device has said which epoch it is. */
  #state: 'greeting' | 'ready' | 'broken' | 'closed' = 'greeting';
  #epoch = 0;
  #nextNumber = 1;
  /** Why it is broken or closed. */
  #reason = '';
  readonly #window: number;
  readonly #onReset: (() => void) | undefined;
  readonly #onGreeted: (() => void) | undefined;
  #unsentGreetings = 0;
  /** What is written goes out when whoever is at work has written all that it has to. */
  #corked = false;

  constructor(
    /** Used in messages: `guest0.eth0`. */
    readonly label: string,
    stream: Duplex,
    { window = 1, onReset, onGreeted }: SerialControlDriverOptions = {},
  ) {
    this.#stream = stream;
    this.#window = window;
    this.#onReset = onReset;
    this.#onGreeted = onGreeted;
    stream.on('data', (bytes: Uint8Array) => this.#received(bytes));
    stream.on('error', (error) => this.#end(`the channel failed: ${error.message}`));
    stream.on('end', () => this.#end('the device is gone'));
    stream.on('close', () => this.#end('the device is gone'));
    this.#greet();
  }

  /** The device has said which epoch it is at: before that, it has seen no command of this driver's. */
  get greeted(): boolean {
    return this.#epoch !== 0;
  }

  /** There is no channel any more, and with this driver there will be none. */
  get closed(): boolean {
    return this.#state === 'closed';
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
      this.#queued.push({ parts, room, resolve, reject });
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
    if (this.#unsentGreetings === MAX_UNSENT_GREETINGS) {
      this.#end('the device asks for one greeting after another, and reads none');
      return;
    }
    this.#unsentGreetings++;
    this.#stream.write(
      encodeSerialMessage(SERIAL_KIND.HELLO, this.#epoch),
      () => void this.#unsentGreetings--,
    );
  }

  #sendNext(): void {
    while (this.#state === 'ready' && this.#sent.length < this.#window) {
      const command = this.#queued.shift();
      if (command === undefined) return;
      const number = this.#nextNumber;
      this.#nextNumber = (number + 1) >>> 0;
      this.#sent.push({ number, command });
      if (this.#window > 1) this.#cork();
      this.#stream.write(encodeSerialMessage(SERIAL_KIND.COMMAND, number, command.parts, command.room));
    }
  }

  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#stream.cork();
    process.nextTick(() => {
      this.#corked = false;
      this.#stream.uncork();
    });
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
        return number === this.#sent[0]?.number ? this.#sent[0].command.room : -1;
      default:
        return -1;
    }
  }

  #handle({ kind, number }: SerialHeader, bytes: Uint8Array): void {
    if (kind === SERIAL_KIND.ANSWER) {
      this.#sent.shift()!.command.resolve(bytes);
      this.#sendNext();
      return;
    }
    if (kind === SERIAL_KIND.BROKEN && number === 0) {
      this.#end(`the device does not serve this driver: ${Buffer.from(bytes).toString()}`);
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
    const told = !this.greeted ? this.#onGreeted : number === this.#epoch ? undefined : this.#onReset;
    if (this.#state === 'ready') this.#rejectAll('the link was reset');
    this.#epoch = number;
    this.#nextNumber = 1;
    this.#greet();
    // It has ended itself.
    if (this.closed) return;
    this.#state = 'ready';
    told?.();
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
    const sent = this.#sent.splice(0).map(({ command }) => command);
    for (const { reject } of [...sent, ...this.#queued.splice(0)]) reject(this.#error(reason));
  }

  #error(reason: string): XdpbedError {
    return new XdpbedError('virtio-violation', `${this.label}: ${reason}`);
  }
}
