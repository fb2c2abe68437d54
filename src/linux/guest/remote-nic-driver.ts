import { Type, type Static } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import type { MapSpec } from '../../bpf/map-spec.js';
import { parseObjectFile } from '../../bpf/object-file.js';
import type { RemoteDriver } from '../../core/contract/fabric.js';
import type {
  ControlCounts,
  GuestMapContent,
  InstallAnswer,
  InstallRequest,
  RequestsOrder,
  RequestsReport,
} from '../../core/contract/guest-driver.js';
import { VerdictCounts } from '../../core/contract/result.js';
import { XdpbedError } from '../../core/diagnostic.js';
import type { AgentClient, AnswerPart } from './agent-client.js';
import { programToText, type NicSettings, type ServedCounts, type ServedExchange } from './agent-messages.js';
import { printableLine, printableText } from './printable-text.js';

/** Milliseconds that a guest has for an answer. A verifier under emulation takes its time, and so do large maps. */
const WITHIN = { install: 120_000, maps: 300_000, exchange: 60_000, other: 30_000 } as const;
/** Bytes of all maps together that are taken from a guest. */
const MAX_MAP_BYTES = 256 * 1024 * 1024;
const MAX_MAPS = 1024;
const MAX_SIZE = 0x7fff_ffff;

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Reason = Type.String({ maxLength: 16_384 });
const Nothing = Type.Null();

const Install = Type.Union([
  Type.Object({ attached: Type.Literal(true) }),
  Type.Object({ attached: Type.Literal(false), reason: Reason }),
]);
const Counters = Type.Union([VerdictCounts, Nothing]);
const Frames = Type.Object({ received: Count, transmitted: Count });
const Served = Type.Object({ at: Type.Number({ minimum: 0 }), messages: Count, bytes: Count });
const Control = Type.Object({
  commands: Type.Record(Type.String({ maxLength: 100 }), Count, { maxProperties: 1000 }),
  acks: Type.Object({ ok: Count, err: Count }),
});
const Microseconds = Type.Number({ minimum: 0 });
const Report = Type.Object({
  sent: Count,
  refused: Count,
  refusal: Type.Optional(Reason),
  latency: Type.Optional(
    Type.Object({ p50: Microseconds, p90: Microseconds, p99: Microseconds, max: Microseconds }),
  ),
});
const MapBegins = Type.Object({
  map: Type.Object({
    name: Type.String({ maxLength: 256 }),
    type: Type.Integer({ minimum: 0, maximum: 255 }),
    readFrom: Type.Union([Type.Literal('guest-kernel'), Type.Literal('device')]),
    keySize: Type.Integer({ minimum: 0, maximum: MAX_SIZE }),
    valueSize: Type.Integer({ minimum: 0, maximum: MAX_SIZE }),
    unreadable: Type.Optional(Reason),
  }),
});
const MapGoesOn = Type.Object({ entries: Count });

/** A guest nic whose driver is the guest's own: its agent does what the core asks for. */
export class RemoteNicDriver implements RemoteDriver {
  readonly kind = 'remote';
  readonly #agent: AgentClient;
  readonly #nic: number;
  /** Maps of the programs that it was given: it must not tell of others. */
  #maps: MapSpec[] = [];
  #closed = false;

  private constructor(agent: AgentClient, nic: number) {
    this.#agent = agent;
    this.#nic = nic;
  }

  /** Has the agent bring the nic up. Rejects when the guest has no such nic, or one of another ifindex. */
  static async open(agent: AgentClient, nic: NicSettings): Promise<RemoteNicDriver> {
    await agent.ask('open-nic', { nic }, Nothing, { within: WITHIN.other });
    return new RemoteNicDriver(agent, nic.index);
  }

  async install({ program, object, placement }: InstallRequest): Promise<InstallAnswer> {
    const answer = await this.#agent.ask(
      'install',
      { nic: this.#nic, program: programToText(program), placement },
      Install,
      { within: WITHIN.install, attached: object },
    );
    if (!answer.attached) return { attached: false, reason: printableText(answer.reason) };
    this.#knowMaps({ program, object });
    return answer;
  }

  async readMaps(): Promise<GuestMapContent[]> {
    const reader = new MapsReader(this.#maps);
    await this.#agent.ask('read-maps', { nic: this.#nic }, Nothing, {
      within: WITHIN.maps,
      onPart: (part) => reader.take(part),
    });
    return reader.maps;
  }

  async counters(): Promise<VerdictCounts | undefined> {
    const counts = await this.#agent.ask('counters', { nic: this.#nic }, Counters, { within: WITHIN.other });
    return counts ?? undefined;
  }

  /** Frames that the guest's driver says it has got and sent. */
  async frames(): Promise<{ received: number; transmitted: number }> {
    return this.#agent.ask('frames', { nic: this.#nic }, Frames, { within: WITHIN.other });
  }

  /** Has the guest give the nic an address and serve an exchange there. Rejects where the guest cannot. */
  async serveExchange(exchange: ServedExchange): Promise<void> {
    await this.#agent.ask('serve-exchange', { nic: this.#nic, exchange }, Nothing, {
      within: WITHIN.exchange,
    });
  }

  /** What the guest says it has received since. */
  async exchangeCounts(): Promise<ServedCounts> {
    const within = WITHIN.other;
    return this.#agent.ask('exchange-counts', { nic: this.#nic }, Served, { within });
  }

  async endExchange(): Promise<void> {
    await this.#agent.ask('end-exchange', { nic: this.#nic }, Nothing, { within: WITHIN.exchange });
  }

  async control(): Promise<ControlCounts> {
    const { commands, acks } = await this.#agent.ask('control', { nic: this.#nic }, Control, {
      within: WITHIN.other,
    });
    const named = Object.entries(commands).map(([name, count]) => [printableLine(name), count] as const);
    return { commands: Object.fromEntries(named), acks };
  }

  async sendRequests({ ask, signal, ...when }: RequestsOrder): Promise<RequestsReport> {
    if (ask.kind === 'load') this.#knowMaps(ask.install);
    const order =
      ask.kind === 'lookup'
        ? { ...when, ...ask }
        : {
            ...when,
            kind: ask.kind,
            program: programToText(ask.install.program),
            placement: ask.install.placement,
          };
    const { id, answer } = this.#agent.start('send-requests', { nic: this.#nic, order }, Report, {
      within: (when.warmUp + when.seconds) * 1000 + WITHIN.install,
      attached: ask.kind === 'load' ? ask.install.object : undefined,
    });
    const cancel = (): void => {
      // What becomes of it is told by the answer to the order itself.
      this.#agent.ask('cancel', { request: id }, Nothing, { within: WITHIN.other }).catch(() => {});
    };
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      return reportOf(await answer);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  #knowMaps({ program, object }: Pick<InstallRequest, 'program' | 'object'>): void {
    const { maps } = parseObjectFile(object, program.object, program);
    // The last one first: two programs may each have a map of the same name.
    this.#maps = [...maps, ...this.#maps].slice(0, MAX_MAPS);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#agent.ask('close-nic', { nic: this.#nic }, Nothing, { within: WITHIN.other });
  }
}

function reportOf({ sent, refused, refusal, latency }: Static<typeof Report>): RequestsReport {
  return {
    sent,
    refused,
    refusal: refusal === undefined ? undefined : printableText(refusal),
    latency,
  };
}

/** Puts the parts of an answer together to maps, which have to be of the program that was installed. */
class MapsReader {
  readonly maps: GuestMapContent[] = [];
  #entries: { key: Uint8Array; value: Uint8Array }[] = [];
  #sizes = { key: 0, value: 0 };
  #mostEntries = 0;
  #bytes = 0;

  constructor(readonly specs: readonly MapSpec[]) {}

  take({ part, attached }: AnswerPart): void {
    if (Value.Check(MapBegins, part)) this.#begin(part.map);
    else if (Value.Check(MapGoesOn, part)) this.#goOn(part.entries, attached);
    else throw new Error('it is no part of a map');
  }

  #begin({ name, type, readFrom, keySize, valueSize, unreadable }: Static<typeof MapBegins>['map']): void {
    const spec = this.specs.find(
      (each) => each.name === name && each.type === type && sizesFit(each, keySize, valueSize),
    );
    const found = `map ${printableLine(name)} of type ${type} with ${keySize} and ${valueSize} bytes`;
    if (spec === undefined) {
      throw new XdpbedError('guest-failed', `${found} is none of the program's`);
    }
    if (this.maps.length >= MAX_MAPS || this.maps.some((map) => map.name === name)) {
      throw new XdpbedError('guest-failed', `${found} comes too often`);
    }
    this.#entries = [];
    this.#sizes = { key: keySize, value: valueSize };
    // One of 0 entries means as many as there are CPUs.
    this.#mostEntries = Math.max(spec.maxEntries, 4096);
    this.maps.push({
      name,
      type,
      readFrom,
      entries: this.#entries,
      ...(unreadable === undefined ? {} : { unreadable: printableText(unreadable) }),
    });
  }

  #goOn(count: number, attached: Uint8Array): void {
    const { key, value } = this.#sizes;
    this.#bytes += attached.length;
    if (this.maps.length === 0 || count * (key + value) !== attached.length || key + value === 0) {
      throw new XdpbedError('guest-failed', `${count} entries in ${attached.length} bytes`);
    }
    if (this.#bytes > MAX_MAP_BYTES || this.#entries.length + count > this.#mostEntries) {
      throw new XdpbedError('guest-failed', 'more entries than its maps have');
    }
    for (let at = 0; at < attached.length; at += key + value) {
      this.#entries.push({
        key: attached.subarray(at, at + key),
        value: attached.subarray(at + key, at + key + value),
      });
    }
  }
}

/** A map that is not there twice has its own size of values; a per-CPU one, one of whole 8 bytes for each CPU. */
function sizesFit(spec: MapSpec, keySize: number, valueSize: number): boolean {
  const perCpu = (spec.valueSize + 7) & ~7;
  const fits = valueSize === spec.valueSize || (perCpu > 0 && valueSize % perCpu === 0);
  // Of a map that cannot be read there are neither.
  return (keySize === 0 && valueSize === 0) || (keySize === spec.keySize && fits);
}
