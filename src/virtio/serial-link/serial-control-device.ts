import type { Duplex } from 'node:stream';
import { messageOf } from '../../core/diagnostic.js';
import type { ControlHandler } from '../net-link/control-link.js';
import { LinkStatus } from '../net-link/link-status.js';
import { Stretch } from '../stretch.js';
import { ByteQueue } from './byte-queue.js';
import {
  decodeSerialHeader,
  encodeSerialMessage,
  HELLO_PREFIX,
  MAX_BROKEN_REASON_BYTES,
  MAX_SERIAL_BYTES,
  SERIAL_HEADER_BYTES,
  SERIAL_KIND,
  type SerialKind,
} from './serial-messages.js';

/** Messages that are looked at before others get their turn of the event loop. */
const MESSAGES_PER_TURN = 64;

/** How long a driver that is refused may take to go. */
const REFUSED_LINGER_MS = 1000;

export interface SerialControlDeviceOptions {
  /**
   * Milliseconds that a driver has to greet, to finish a message that it has begun, and to take the answers that wait
   * for it; then it is hung up on, so that another may have its place. Default: any, as for a guest that boots, or is
   * stopped for a while.
   */
  readonly stallMs?: number | undefined;
  /** Milliseconds by which it gives way to others: see `Stretch`. Default: the machine's clock. */
  readonly now?: (() => number) | undefined;
}

/**
 * The device's end of a control channel over a byte stream. What arrives there has been written by a hostile guest:
 * a message that breaks a rule takes the channel down, until it is reset, and nothing throws.
 *
 * One command is carried out at a time. While one is, and while the guest does not take its answers, nothing is read,
 * so that this side holds one message, one piece of the stream and one answer at most.
 */
export class SerialControlDevice {
  /** A kick is a command that came, an interrupt an answer that went. */
  readonly statistics = { commands: 0, kicks: 0, interrupts: 0, suppressedNotifications: 0 };
  readonly status: LinkStatus;

  #handler: ControlHandler | undefined;
  #stream: Duplex | undefined;
  readonly #input = new ByteQueue();
  #epoch = 1;
  /** A HELLO that names the epoch has come: commands follow. */
  #greeted = false;
  #nextCommand = 1;
  /** A command is under way. */
  #serving = false;
  /** The guest has to take answers first. */
  #clogged = false;
  /** What was carried out since the last turn of the event loop. */
  readonly #stretch: Stretch;
  /** Ends with the turn of the event loop in which it was asked for. */
  #turn: NodeJS.Immediate | undefined;
  /** There is more to look at, in the next turn. */
  #outOfTurn = false;
  /** What there is of the last driver's on the device, once it has sent commands. */
  #driverGone: (() => void) | undefined;
  #commanded = false;
  readonly #stallMs: number | undefined;
  #stalled: NodeJS.Timeout | undefined;

  constructor(label: string, { stallMs, now = () => performance.now() }: SerialControlDeviceOptions = {}) {
    this.#stallMs = stallMs;
    this.#stretch = new Stretch(MESSAGES_PER_TURN, now);
    this.status = new LinkStatus(label, () => {
      // Whatever comes from now on is of no epoch, until the guest says that it has heard of the next one.
      this.#greeted = false;
      this.#serving = false;
    });
    this.status.onBroken((reason) => {
      this.#tellBroken(reason);
      // What is under way is forgotten, so that there may be somebody to listen to; not now, in the middle of it.
      queueMicrotask(() => this.#process());
    });
  }

  /** There is a stream to a guest, or to a driver in this process. */
  get attached(): boolean {
    return this.#stream !== undefined;
  }

  /**
   * Takes a stream to work with, until it ends: then what is under way is forgotten, and there can be another.
   * A second one at the same time, or one for a closed channel, is told so and hung up on: false.
   */
  attach(stream: Duplex): boolean {
    if (this.#stream !== undefined || this.status.closed) {
      SerialControlDevice.refuse(
        stream,
        this.status.closed ? 'the channel is closed' : 'there is a driver already',
      );
      return false;
    }
    this.#stream = stream;
    this.#input.skip(this.#input.length);
    this.#clogged = false;
    stream.on('data', (bytes: Uint8Array) => {
      if (this.#stream !== stream) return;
      this.#input.push(bytes);
      this.#process();
    });
    stream.on('drain', () => {
      if (this.#stream !== stream) return;
      this.#clogged = false;
      if (this.#greeted) this.#unwatch();
      this.#process();
    });
    // What went wrong with a stream is told by 'close', which follows.
    stream.on('error', () => {});
    // A guest that has closed its port says so by the end of the stream; it may not be half open.
    stream.on('end', () => stream.destroy());
    stream.on('close', () => this.#detached(stream));
    this.#process();
    return true;
  }

  /** Tells a driver, whoever it is, why it is not served, and hangs up. */
  static refuse(stream: Duplex, reason: string): void {
    const bytes = Buffer.from(reason).subarray(0, MAX_BROKEN_REASON_BYTES);
    stream.on('error', () => {});
    stream.end(encodeSerialMessage(SERIAL_KIND.BROKEN, 0, [bytes]));
    // What it sends meanwhile is read and goes nowhere: a stream that is destroyed under its hands loses the message.
    stream.resume();
    const linger = setTimeout(() => stream.destroy(), REFUSED_LINGER_MS);
    stream.on('close', () => clearTimeout(linger));
  }

  /**
   * Carries out what comes. Stops when the returned function is called.
   * @param driverGone called when a driver that has sent commands is gone, or another is in its place, before any
   *   command of that is carried out
   */
  serve(handler: ControlHandler, driverGone?: () => void): () => void {
    this.#handler = handler;
    this.#driverGone = driverGone;
    this.#process();
    return () => {
      if (this.#handler !== handler) return;
      this.#handler = undefined;
      this.#driverGone = undefined;
    };
  }

  /** Device reset: what is under way is forgotten, a broken channel works again. */
  reset(): void {
    this.status.reset();
    if (this.status.closed) return;
    // It is told just now that it has to greet again.
    this.#unwatch();
    this.#beginEpoch();
    this.#process();
  }

  close(): void {
    if (this.status.closed) return;
    this.status.close();
    clearImmediate(this.#turn);
    clearTimeout(this.#stalled);
    this.#stream?.destroy();
  }

  #detached(stream: Duplex): void {
    if (this.#stream !== stream) return;
    this.#stream = undefined;
    clearTimeout(this.#stalled);
    this.#stalled = undefined;
    if (this.status.closed) return;
    // As far as the guest is concerned this is a reset, but a channel that is broken stays so.
    this.status.generation++;
    this.status.forget('the stream ended');
    this.#epoch = (this.#epoch + 1) >>> 0;
    this.#tellDriverGone();
  }

  #tellDriverGone(): void {
    if (!this.#commanded) return;
    this.#commanded = false;
    try {
      this.#driverGone?.();
    } catch {
      // It must not throw; whose failure that is, is not told to a guest.
    }
  }

  #beginEpoch(): void {
    this.#epoch = (this.#epoch + 1) >>> 0;
    this.#write(SERIAL_KIND.RESET, this.#epoch);
  }

  #tellBroken(reason: string): void {
    const bytes = Buffer.from(reason).subarray(0, MAX_BROKEN_REASON_BYTES);
    this.#write(SERIAL_KIND.BROKEN, this.#epoch, [bytes]);
  }

  #write(kind: SerialKind, number: number, parts: readonly Uint8Array[] = []): void {
    const stream = this.#stream;
    if (stream === undefined || !stream.writable) return;
    if (!stream.write(encodeSerialMessage(kind, number, parts))) this.#clogged = true;
  }

  /** Looks at what has come, as far as it may, and reads more of the stream only when there is nothing left to do. */
  #process(): void {
    const stream = this.#stream;
    // The answers to what came together go together.
    stream?.cork();
    while (this.#mayProcess() && !this.#outOfTurn) {
      this.#awaitTurn();
      this.#stretch.begin();
      const wasGreeted = this.#greeted;
      if (!this.#next()) break;
      // What it owed, it has given; a greeting that is none does not put off the end of the time for one.
      if (wasGreeted || this.#greeted) this.#unwatch();
      this.#outOfTurn = this.#stretch.isOver;
    }
    stream?.uncork();
    if (this.#mayProcess() && !this.#outOfTurn) this.#stream?.resume();
    else this.#stream?.pause();
    this.#watch();
  }

  /** Of setImmediate: microtasks, however many, come before the turn of anybody else. */
  #awaitTurn(): void {
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#stretch.renew();
      if (!this.#outOfTurn) return;
      this.#outOfTurn = false;
      this.#process();
    });
  }

  /** Has the driver hung up on when it does not do in time what it has to do next, if there is such. */
  #watch(): void {
    if (this.#stallMs === undefined || this.#stream === undefined) return;
    if (this.#serving || this.#handler === undefined) return this.#unwatch();
    const owes = this.#clogged || !this.#greeted || this.#input.length > 0;
    if (!owes) return this.#unwatch();
    this.#stalled ??= setTimeout(() => this.#stream?.destroy(), this.#stallMs);
  }

  #unwatch(): void {
    if (this.#stalled === undefined) return;
    clearTimeout(this.#stalled);
    this.#stalled = undefined;
  }

  #mayProcess(): boolean {
    return (
      this.#stream !== undefined &&
      !this.status.closed &&
      !this.#serving &&
      !this.#clogged &&
      this.#handler !== undefined
    );
  }

  /** One message; false when it has not come whole. */
  #next(): boolean {
    return this.#greeted ? this.#nextMessage() : this.#seekHello();
  }

  /** Skips whatever comes before a HELLO, and answers that. */
  #seekHello(): boolean {
    const input = this.#input;
    const at = input.peek().indexOf(HELLO_PREFIX);
    if (at < 0) {
      input.skip(Math.max(0, input.length - HELLO_PREFIX.length + 1));
      return false;
    }
    input.skip(at);
    if (input.length < SERIAL_HEADER_BYTES) return false;
    const { number, length, room } = decodeSerialHeader(input.peek(SERIAL_HEADER_BYTES))!;
    if (length !== 0 || room !== 0) {
      input.skip(HELLO_PREFIX.length);
      return true;
    }
    input.skip(SERIAL_HEADER_BYTES);
    const { brokenReason } = this.status;
    if (brokenReason !== undefined) this.#tellBroken(brokenReason);
    else if (number !== this.#epoch) this.#write(SERIAL_KIND.RESET, this.#epoch);
    else {
      this.#greeted = true;
      this.#nextCommand = 1;
    }
    return true;
  }

  #nextMessage(): boolean {
    const input = this.#input;
    if (input.length < SERIAL_HEADER_BYTES) return false;
    const header = decodeSerialHeader(input.peek(SERIAL_HEADER_BYTES));
    if (header === undefined) return this.#violate('what came is no message');
    const { kind, number, length, room } = header;
    if (kind === SERIAL_KIND.HELLO) {
      // Another driver than the one before, in a guest that was started anew: it must not get the other's answers.
      this.#greeted = false;
      this.#epoch = (this.#epoch + 1) >>> 0;
      this.#tellDriverGone();
      return true;
    }
    if (kind !== SERIAL_KIND.COMMAND) return this.#violate(`a message of kind ${kind}`);
    if (number !== this.#nextCommand) {
      return this.#violate(`command ${number} came where ${this.#nextCommand} should have`);
    }
    if (length > MAX_SERIAL_BYTES || room > MAX_SERIAL_BYTES) {
      return this.#violate(
        `a command of ${length} bytes with room for ${room}, more than ${MAX_SERIAL_BYTES}`,
      );
    }
    if (input.length < SERIAL_HEADER_BYTES + length) return false;
    input.skip(SERIAL_HEADER_BYTES);
    this.#nextCommand = (number + 1) >>> 0;
    this.#carryOut(number, input.take(length), room);
    return true;
  }

  #violate(reason: string): true {
    this.status.violate(reason);
    return true;
  }

  #carryOut(number: number, request: Uint8Array, room: number): void {
    this.statistics.commands++;
    this.statistics.kicks++;
    this.#stretch.add(request.length);
    const { generation } = this.status;
    this.#serving = true;
    this.#commanded = true;
    const failed = (error: unknown): void => {
      if (generation !== this.status.generation) return;
      this.status.violate(`the device failed: ${messageOf(error)}`);
    };
    let answer: Uint8Array | Promise<Uint8Array>;
    try {
      answer = this.#handler!(request, room);
    } catch (error) {
      failed(error);
      return;
    }
    if (answer instanceof Uint8Array) {
      this.#answer(generation, number, room, answer);
      return;
    }
    Promise.resolve(answer).then(
      (response) => {
        this.#answer(generation, number, room, response);
        this.#process();
      },
      (error: unknown) => {
        failed(error);
        this.#process();
      },
    );
  }

  #answer(generation: number, number: number, room: number, response: Uint8Array): void {
    // It comes too late: there was a reset meanwhile.
    if (generation !== this.status.generation) return;
    this.#serving = false;
    if (response.length > room) {
      this.status.violate(`the device answered ${response.length} bytes into ${room}`);
      return;
    }
    this.statistics.interrupts++;
    this.#stretch.add(response.length);
    this.#write(SERIAL_KIND.ANSWER, number, [response]);
  }
}
