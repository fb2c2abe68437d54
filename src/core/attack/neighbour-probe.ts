import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { Neighbour } from '../contract/attack.js';
import { PS_PER_NS, type Picoseconds, type SteeredClock } from '../contract/clock.js';
import type { ControlClient } from '../contract/transport.js';
import { XdpbedError } from '../diagnostic.js';
import type { CommandTurns } from '../offload/command-turns.js';
import type { BpfReply, BpfRequest, ControlProtocol } from '../offload/protocol/control-protocol.js';

const ENTRIES = 16;
const VALUE_SIZE = 8;
/** What its map is pinned as, where there are pins. */
const PIN_NAME = 'neighbour';
/** A multiple of nothing, so that asking does not keep step with the attacker. */
const ASKING_PERIOD: Picoseconds = 97_300 * PS_PER_NS;

export interface NeighbourProbeOptions {
  /** `alice.eth0` */
  readonly node: string;
  /** What it speaks. */
  readonly protocol: ControlProtocol;
  readonly control: ControlClient;
  readonly turns: CommandTurns;
  /** Undefined where the run's time is the machine's. */
  readonly clock: SteeredClock | undefined;
  readonly turn: () => Promise<void>;
}

/** The honest guest beside an attacker: keeps an array on the device, pinned where that is possible, reads it, and notices when something is wrong. */
export class NeighbourProbe implements Neighbour {
  readonly #options: NeighbourProbeOptions;
  #handle = 0;
  #asked = 0;
  /** What was wrong, in words; the first few. */
  readonly untouched: string[] = [];
  readonly served: string[] = [];
  /** Picoseconds that were waited for, in virtual time. */
  readonly #alone: Picoseconds[] = [];
  readonly #disturbed: Picoseconds[] = [];

  constructor(options: NeighbourProbeOptions) {
    this.#options = options;
  }

  /** Creates the map and fills it; throws when an honest guest is refused that, since nothing then shows anything. */
  async begin(): Promise<void> {
    const created = await this.#send({
      kind: 'create-map',
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: VALUE_SIZE,
      maxEntries: ENTRIES,
      mapFlags: 0,
    });
    if (created.kind !== 'handle') throw this.#refused('a map');
    this.#handle = created.handle;
    for (let index = 0; index < ENTRIES; index++) {
      const request = { kind: 'update-elem', handle: this.#handle, flags: 0n } as const;
      const done = await this.#send({ ...request, key: keyOf(index), value: valueOf(index) });
      if (done.kind !== 'done') throw this.#refused('an element');
    }
    if (!this.#options.protocol.requests.has('pin')) return;
    const pinned = await this.#send({ kind: 'pin', handle: this.#handle, name: PIN_NAME });
    if (pinned.kind !== 'done') throw this.#refused('a pin');
  }

  async ask(before?: Promise<unknown>): Promise<void> {
    let over = false;
    void before?.finally(() => (over = true)).catch(() => {});
    await this.#ask();
    if (over) note(this.served, `${this.#options.node} was answered only after what it should not wait for`);
  }

  async askInTime(alone: boolean, duration: Picoseconds, onTurn?: () => void): Promise<void> {
    const { clock, turns, turn } = this.#options;
    if (clock === undefined) {
      throw new XdpbedError(
        'host-unsupported',
        'latencies in virtual time need a fabric whose time is virtual',
        {
          hint: 'fabric model has it',
        },
      );
    }
    const latencies = alone ? this.#alone : this.#disturbed;
    const under: Promise<void>[] = [];
    const begin = clock.now();
    // Not up to the end: what is asked last is to be answered in time, too.
    for (let due = begin; due < begin + 0.9 * duration; due += ASKING_PERIOD) {
      clock.at(Math.round(due), () => {
        const asked = clock.now();
        under.push(this.#ask().then(() => void latencies.push(clock.now() - asked)));
      });
    }
    await turns.pass(clock, duration, turn, onTurn);
    await Promise.all(under);
  }

  /** Nanoseconds, p99; undefined when nothing was asked in virtual time. */
  get latency(): { readonly alone: number; readonly disturbed: number } | undefined {
    if (this.#alone.length === 0 || this.#disturbed.length === 0) return undefined;
    return { alone: p99(this.#alone) / PS_PER_NS, disturbed: p99(this.#disturbed) / PS_PER_NS };
  }

  async #ask(): Promise<void> {
    const index = this.#asked++ % ENTRIES;
    let reply: BpfReply;
    try {
      reply = await this.#send({
        kind: 'lookup-elem',
        handle: this.#handle,
        key: keyOf(index),
        valueSize: VALUE_SIZE,
      });
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      return note(this.served, `${this.#options.node} got no answer: ${error.message}`);
    }
    if (reply.kind !== 'value') {
      note(this.untouched, `${this.#options.node} cannot read its map any more`);
    } else if (Buffer.compare(reply.value, valueOf(index)) !== 0) {
      const found = Buffer.from(reply.value).toString('hex');
      note(this.untouched, `${this.#options.node} finds ${found} in its element ${index}`);
    }
  }

  async #send(request: BpfRequest): Promise<BpfReply> {
    const { protocol, control } = this.#options;
    const bytes = protocol.encodeRequest(request);
    const written = await control.send([bytes], protocol.replyBytes(request));
    const decoded = protocol.decodeReply(request, bytes, written);
    return decoded.ok ? decoded.reply : { kind: 'error' };
  }

  #refused(what: string): XdpbedError {
    return new XdpbedError('plugin-failed', `${this.#options.node} was refused ${what} before any attack`);
  }
}

/** Words that are kept. */
const MAX_NOTES = 4;

function note(notes: string[], what: string): void {
  if (notes.length < MAX_NOTES && !notes.includes(what)) notes.push(what);
}

function keyOf(index: number): Uint8Array {
  return Uint8Array.of(index, 0, 0, 0);
}

function valueOf(index: number): Uint8Array {
  return Uint8Array.from(Buffer.from(`alice #${(index % ENTRIES).toString(16)}`));
}

function p99(latencies: readonly Picoseconds[]): Picoseconds {
  const sorted = [...latencies].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(0.99 * sorted.length) - 1)]!;
}
