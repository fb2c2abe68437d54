import type { Duplex } from 'node:stream';
import { Type, type Static, type TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { DIAGNOSTIC_CODES, messageOf, XdpbedError, type DiagnosticCode } from '../../core/diagnostic.js';
import {
  AGENT_PROTOCOL,
  AgentMessageReader,
  encodeAgentMessage,
  FROM_GUEST,
  type AgentMethod,
  type AgentMethods,
} from './agent-messages.js';
import { printableLine, printableText } from './printable-text.js';

const Text = (maxLength: number) => Type.String({ maxLength });
const Id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

const Hello = Type.Object({
  hello: Type.Object({ protocol: Type.Integer(), kernel: Text(200), node: Text(100) }),
});
export type GuestGreeting = Static<typeof Hello>['hello'];

const Answer = Type.Union([
  Type.Object({ id: Id, part: Type.Unknown() }),
  Type.Object({ id: Id, result: Type.Unknown() }),
  Type.Object({ id: Id, error: Type.Object({ code: Text(100), message: Text(16_384) }) }),
]);

/** One part of an answer: what the schema of the request let through. */
export interface AnswerPart {
  readonly part: unknown;
  readonly attached: Uint8Array;
}

export interface AskOptions {
  readonly attached?: Uint8Array | undefined;
  /** Milliseconds for all of the answer. */
  readonly within: number;
  /** Takes parts of the answer as they come; without it there may be none. A throw is the guest's fault. */
  readonly onPart?: ((part: AnswerPart) => void) | undefined;
}

/** Milliseconds for somebody else to say why an agent hung up. */
const HANG_UP_GRACE = 500;

interface Waiting {
  readonly schema: TSchema;
  readonly onPart: AskOptions['onPart'];
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/**
 * The host's end of the conversation with a guest's agent. The guest is hostile: what it sends is bounded, has to be of
 * the shape that was asked for, and to come in time; the first time that it is not, the guest counts as failed, and
 * everything that waits for it is rejected.
 */
export class AgentClient {
  /** Settles when the agent is there. */
  readonly hello: Promise<GuestGreeting>;
  readonly #stream: Duplex;
  readonly #label: string;
  readonly #reader = new AgentMessageReader(FROM_GUEST);
  readonly #waiting = new Map<number, Waiting>();
  readonly #onFailed: (error: XdpbedError) => void;
  #greet!: { readonly resolve: (hello: GuestGreeting) => void; readonly reject: (error: Error) => void };
  #greeted = false;
  #lastId = 0;
  #failed: XdpbedError | undefined;

  /**
   * @param explain adds to a message what the guest said last on its console
   * @param onFailed called once, when the agent cannot be worked with any more
   */
  constructor(
    stream: Duplex,
    label: string,
    readonly explain: (message: string) => string,
    onFailed: (error: XdpbedError) => void = () => {},
  ) {
    this.#stream = stream;
    this.#label = label;
    this.#onFailed = onFailed;
    this.hello = new Promise((resolve, reject) => (this.#greet = { resolve, reject }));
    // Whoever waits for it is told; nobody has to.
    this.hello.catch(() => {});
    stream.on('data', (bytes: Uint8Array) => this.#received(bytes));
    stream.on('error', (error) => this.fail(`the connection to its agent failed: ${error.message}`));
    // Who watches its process knows better why, and will say so in a moment.
    const hungUp = (): void => void setTimeout(() => this.fail('its agent hung up'), HANG_UP_GRACE).unref();
    stream.once('end', hungUp);
    stream.once('close', hungUp);
  }

  /**
   * Asks the agent for something. Rejects with what the agent said when that could not be done, and with
   * `guest-failed` when the guest is not to be spoken with.
   */
  ask<Method extends AgentMethod, Schema extends TSchema>(
    method: Method,
    params: AgentMethods[Method],
    schema: Schema,
    options: AskOptions,
  ): Promise<Static<Schema>> {
    return this.start(method, params, schema, options).answer;
  }

  /** As `ask`, with the number of the request, by which it can be cancelled. */
  start<Method extends AgentMethod, Schema extends TSchema>(
    method: Method,
    params: AgentMethods[Method],
    schema: Schema,
    options: AskOptions,
  ): { readonly id: number; readonly answer: Promise<Static<Schema>> } {
    const id = ++this.#lastId;
    const answer = new Promise<Static<Schema>>((resolve, reject) => {
      if (this.#failed !== undefined) return reject(this.#failed);
      const timer = setTimeout(() => {
        this.fail(`it did not answer ${method} within ${options.within} ms`);
      }, options.within);
      this.#waiting.set(id, {
        schema,
        onPart: options.onPart,
        resolve,
        reject,
        timer,
      });
      this.#stream.write(encodeAgentMessage({ id, method, params }, options.attached));
    });
    return { id, answer };
  }

  /** The guest is not to be spoken with any more. Later calls do nothing. */
  fail(reason: string): void {
    if (this.#failed !== undefined) return;
    const error = new XdpbedError('guest-failed', this.explain(`${this.#label}: ${reason}`));
    this.#failed = error;
    this.#greet.reject(error);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
    this.#stream.destroy();
    this.#onFailed(error);
  }

  #received(bytes: Uint8Array): void {
    if (this.#failed !== undefined) return;
    this.#reader.push(bytes);
    try {
      for (;;) {
        const message = this.#reader.next();
        if (message === undefined) return;
        this.#handle(message.json, message.attached);
        if (this.#failed !== undefined) return;
      }
    } catch (error) {
      this.fail(`what its agent sent makes no sense: ${printableLine(messageOf(error))}`);
    }
  }

  #handle(json: unknown, attached: Uint8Array): void {
    if (!this.#greeted) {
      if (!Value.Check(Hello, json)) throw new Error('it did not say hello');
      const { protocol, kernel, node } = json.hello;
      if (protocol !== AGENT_PROTOCOL)
        throw new Error(`it speaks protocol ${protocol}, not ${AGENT_PROTOCOL}`);
      this.#greeted = true;
      this.#greet.resolve({ protocol, kernel: printableLine(kernel), node: printableLine(node) });
      return;
    }
    if (!Value.Check(Answer, json)) throw new Error('it is no answer');
    const waiting = this.#waiting.get(json.id);
    if (waiting === undefined) throw new Error('it answers what nobody asked');
    if ('part' in json) {
      if (waiting.onPart === undefined) throw new Error('it answers in parts');
      waiting.onPart({ part: json.part, attached });
      return;
    }
    if ('error' in json) {
      this.#settle(json.id, waiting);
      const { code, message } = json.error;
      waiting.reject(new XdpbedError(codeOf(code), `${this.#label}: ${printableText(message)}`));
      return;
    }
    if (!Value.Check(waiting.schema, json.result))
      throw new Error('the answer is not of the shape asked for');
    this.#settle(json.id, waiting);
    waiting.resolve(json.result);
  }

  #settle(id: number, { timer }: Waiting): void {
    clearTimeout(timer);
    this.#waiting.delete(id);
  }
}

/** A guest may name any of our codes, but it cannot make its failure one that the command line takes for its own. */
function codeOf(code: string): DiagnosticCode {
  const known = Object.hasOwn(DIAGNOSTIC_CODES, code) ? (code as DiagnosticCode) : 'guest-failed';
  return known === 'interrupted' || known === 'leftovers' ? 'guest-failed' : known;
}
