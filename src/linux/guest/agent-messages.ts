import { entryFromText, entryToText, type MapEntryText } from '../../bpf/map-entry-text.js';
import type { ExchangePlan, Placement, ProgramPlan, RequestTimes } from '../../core/contract/plan.js';
import { ByteQueue } from '../../virtio/index.js';

/**
 * What host and guest agent say to each other over a virtio-serial port of its own. A message, little-endian:
 * ```
 * +0 bytes of JSON u32 · +4 attached bytes u32 · +8 JSON, UTF-8, then the attached bytes
 * ```
 * The agent says {@link AgentHello} once it is there. The host asks with {@link AgentRequest}; the agent answers each,
 * by its id, with any number of parts and then a result or an error. Bytes that may be many are attached, so that the
 * JSON stays small: what hostile JSON makes of memory is many times its size.
 */
export const AGENT_PROTOCOL = 2;
/** Name of the agent's port (virtio-serial ports have names, /sys/class/virtio-ports/…/name). */
export const AGENT_PORT = 'xdpbed.agent';
/** Name of the port that carries the control channel of the nic with this number, from 0. */
export const controlPort = (nic: number): string => `xdpbed.control.${nic}`;

export interface MessageLimits {
  readonly json: number;
  readonly attached: number;
}
/** What a guest may send. */
export const FROM_GUEST: MessageLimits = { json: 64 * 1024, attached: 4 * 1024 * 1024 };
/** What a guest takes: an object file of 16 MiB, and presets. */
export const FROM_HOST: MessageLimits = { json: 64 * 1024 * 1024, attached: 16 * 1024 * 1024 };

export interface AgentHello {
  readonly hello: {
    readonly protocol: number;
    /** As `uname -r` says it. */
    readonly kernel: string;
    readonly node: string;
  };
}

/** How the agent has to bring up one nic. */
export interface NicSettings {
  /** Of the guest and the nic in the plan. */
  readonly guest: string;
  readonly name: string;
  /** Which of the guest's nics, from 0. */
  readonly index: number;
  readonly mac: string;
  /** What the plan says that it is; the agent refuses to work with another. */
  readonly ifindex: number;
  /** Queue pairs to use; undefined: what the driver takes by itself. */
  readonly queues: number | undefined;
  /** Sends to the device what a well-behaved driver would refuse. */
  readonly hostile: boolean;
  /** As GuestNicPlan.driverHelpers. */
  readonly driverHelpers?: readonly string[] | undefined;
  /** Negotiated feature bits of the control channel as a decimal number: what the device understands. */
  readonly features: string;
}

/** Everything that the host may ask for, by name: what it gives. */
export interface AgentMethods {
  'open-nic': { nic: NicSettings };
  /** The object file is attached. */
  install: { nic: number; program: ProgramText; placement: Placement };
  'read-maps': { nic: number };
  counters: { nic: number };
  control: { nic: number };
  /** Frames that the nic's driver has got and sent. */
  frames: { nic: number };
  'send-requests': { nic: number; order: RequestsText };
  /** Ends an order of requests early. */
  cancel: { request: number };
  /** Gives the nic an address and serves streams or requests there, one sort at a time. */
  'serve-exchange': { nic: number; exchange: ServedExchange };
  /** What was received since, and when that was. */
  'exchange-counts': { nic: number };
  /** Ends it, and takes the address away. */
  'end-exchange': { nic: number };
  'close-nic': { nic: number };
}

/** An exchange with who is on the other side of it. Addresses are dotted IPv4, in a network of two (RFC 3021). */
export interface ServedExchange extends ExchangePlan {
  readonly address: string;
  readonly peer: string;
  readonly peerMac: string;
}

/** What a guest says of an exchange that it serves: of all streams together. */
export interface ServedCounts {
  /** Milliseconds by the guest's own clock. */
  readonly at: number;
  readonly messages: number;
  readonly bytes: number;
}

export type RequestsText = RequestTimes &
  (
    | { readonly kind: 'lookup'; readonly map: string }
    | { readonly kind: 'load'; readonly program: ProgramText; readonly placement: Placement }
  );

export type AgentMethod = keyof AgentMethods;

export type AgentRequest = {
  [Method in AgentMethod]: {
    readonly id: number;
    readonly method: Method;
    readonly params: AgentMethods[Method];
  };
}[AgentMethod];

/** A ProgramPlan as JSON has it. */
export type ProgramText = Omit<ProgramPlan, 'presets'> & {
  readonly presets: Readonly<Record<string, readonly MapEntryText[]>>;
};

export function programToText(program: ProgramPlan): ProgramText {
  return { ...program, presets: eachPreset(program.presets, entryToText) };
}

export function programFromText(text: ProgramText): ProgramPlan {
  return { ...text, presets: eachPreset(text.presets, entryFromText) };
}

function eachPreset<From, To>(
  presets: Readonly<Record<string, readonly From[]>>,
  turn: (preset: From) => To,
): Record<string, To[]> {
  return Object.fromEntries(Object.entries(presets).map(([map, elements]) => [map, elements.map(turn)]));
}

const HEADER_BYTES = 8;

export function encodeAgentMessage(message: object, attached: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = Buffer.from(JSON.stringify(message));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUint32LE(json.length, 0);
  header.writeUint32LE(attached.length, 4);
  return Buffer.concat([header, json, attached]);
}

export interface AgentMessage {
  /** Whatever the other side has put there. */
  readonly json: unknown;
  readonly attached: Uint8Array;
}

/** Cuts a stream into messages. Holds one message and one piece of the stream at most. */
export class AgentMessageReader {
  readonly #input = new ByteQueue();

  constructor(readonly limits: MessageLimits) {}

  push(bytes: Uint8Array): void {
    this.#input.push(bytes);
  }

  /** The next message; undefined until it has come whole. Throws an Error for what is none. */
  next(): AgentMessage | undefined {
    const input = this.#input;
    if (input.length < HEADER_BYTES) return undefined;
    const header = input.peek(HEADER_BYTES);
    const json = header.readUint32LE(0);
    const attached = header.readUint32LE(4);
    if (json > this.limits.json || attached > this.limits.attached) {
      throw new Error(`a message of ${json} and ${attached} bytes, more than there may be`);
    }
    if (input.length < HEADER_BYTES + json + attached) return undefined;
    input.skip(HEADER_BYTES);
    const text = Buffer.from(input.take(json)).toString();
    return { json: JSON.parse(text) as unknown, attached: input.take(attached) };
  }
}
