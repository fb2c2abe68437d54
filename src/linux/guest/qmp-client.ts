import type { Duplex } from 'node:stream';
import { XdpbedError } from '../../core/diagnostic.js';
import { ByteQueue } from '../../virtio/index.js';

/** Bytes of one message of QEMU's. Nothing that is asked for here comes near. */
const MAX_MESSAGE = 256 * 1024;

export interface QmpEvent {
  /** `SHUTDOWN`, `RESET`, … */
  readonly event: string;
  readonly data: unknown;
}

/**
 * QEMU's control protocol (docs/interop/qmp-spec): JSON, a message each line. QEMU greets, is told
 * `qmp_capabilities`, and then answers commands in order; events come in between. A QEMU that its guest has taken over
 * may say anything, so messages are bounded and what makes no sense ends the conversation.
 */
export class QmpClient {
  readonly #stream: Duplex;
  readonly #input = new ByteQueue();
  readonly #pending: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  readonly #handlers: ((event: QmpEvent) => void)[] = [];
  #ended: XdpbedError | undefined;
  #greet!: () => void;
  /** Settles when QEMU takes commands. */
  readonly ready: Promise<void>;

  constructor(stream: Duplex) {
    this.#stream = stream;
    const greeted = new Promise<void>((resolve) => (this.#greet = resolve));
    this.ready = greeted.then(async () => void (await this.execute('qmp_capabilities')));
    stream.on('data', (bytes: Uint8Array) => this.#received(bytes));
    stream.on('error', (error) => this.#end(error.message));
    stream.on('close', () => this.#end('QEMU is gone'));
  }

  onEvent(handler: (event: QmpEvent) => void): void {
    this.#handlers.push(handler);
  }

  /** What QEMU returns. Rejects with `guest-failed` when it refuses, or is gone. */
  execute(command: string, words: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      this.#pending.push({ resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: words })}\n`);
    });
  }

  close(): void {
    this.#end('the conversation is over');
  }

  #received(bytes: Uint8Array): void {
    const input = this.#input;
    input.push(bytes);
    while (this.#ended === undefined) {
      const end = input.peek().indexOf(NEWLINE);
      if (end < 0) {
        if (input.length > MAX_MESSAGE) this.#end('a message without end');
        return;
      }
      const line = Buffer.from(input.take(end + 1)).toString();
      if (line.trim() === '') continue;
      let message: unknown;
      try {
        message = JSON.parse(line);
      } catch {
        this.#end('what came is no JSON');
        return;
      }
      if (typeof message !== 'object' || message === null) this.#end('what came is no message');
      else this.#handle(message as Record<string, unknown>);
    }
  }

  #handle(message: Record<string, unknown>): void {
    if ('QMP' in message) this.#greet();
    else if (typeof message['event'] === 'string') {
      for (const handler of this.#handlers) handler({ event: message['event'], data: message['data'] });
    } else {
      const waiting = this.#pending.shift();
      if (waiting === undefined) this.#end('an answer that nobody waits for');
      else if ('return' in message) waiting.resolve(message['return']);
      else {
        const { desc } = (message['error'] ?? {}) as { desc?: unknown };
        waiting.reject(new XdpbedError('guest-failed', `QEMU refused: ${String(desc).slice(0, 500)}`));
      }
    }
  }

  #end(reason: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = new XdpbedError('guest-failed', `QMP: ${reason}`);
    for (const { reject } of this.#pending.splice(0)) reject(this.#ended);
    this.#stream.destroy();
  }
}

const NEWLINE = 10;
