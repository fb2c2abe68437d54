import { release } from 'node:os';
import type { Duplex } from 'node:stream';
import { LocalGuestDriver } from '../core/offload/local-guest-driver.js';
import type { HookPlace } from '../core/contract/hook-place.js';
import type { Party } from '../core/contract/party.js';
import type { GuestMapContent, InstallRequest } from '../core/contract/guest-driver.js';
import { messageOf, XdpbedError } from '../core/diagnostic.js';
import {
  AGENT_PROTOCOL,
  AgentMessageReader,
  encodeAgentMessage,
  FROM_GUEST,
  FROM_HOST,
  programFromText,
  type AgentRequest,
  type NicSettings,
  type ProgramText,
  type RequestsText,
  type ServedCounts,
  type ServedExchange,
} from '../linux/guest/agent-messages.js';
import { SerialControlDriver } from '../virtio/index.js';

/** Bytes of entries in one part of an answer. */
const PART_BYTES = 1024 * 1024;
/** Characters of a reason that are told; the log of a verifier may be long. */
const MAX_REASON = 8192;

/** Frames since the nic is up, those included that a program in the driver has dropped. */
export interface FrameCounts {
  readonly received: number;
  readonly transmitted: number;
}

/** Streams or requests that a guest serves at one of its nics. */
export interface ExchangeService {
  counts(): ServedCounts;
  /** The nic has no address any more. */
  close(): Promise<void>;
}

/** What the agent works with: in a guest its kernel, in tests whatever they make. */
export interface AgentSurroundings {
  readonly party: Party;
  /** Brings a nic up; what comes back is its driver's receive path. */
  bringUp(nic: NicSettings): Promise<HookPlace>;
  /** What the driver of a nic that is up counted. */
  frames(nic: NicSettings): FrameCounts;
  /** Serves streams or requests at a nic that is up. */
  serveExchange(nic: NicSettings, exchange: ServedExchange): Promise<ExchangeService>;
  /** The stream that the control channel of a nic goes by. */
  openControl(nic: number): Promise<Duplex>;
}

/** Does in the guest what the host asks for, over one stream: see agent-messages.ts. */
export class GuestAgent {
  readonly #stream: Duplex;
  readonly #surroundings: AgentSurroundings;
  readonly #reader = new AgentMessageReader(FROM_HOST);
  readonly #settings = new Map<number, NicSettings>();
  readonly #nics = new Map<number, LocalGuestDriver>();
  /** Control channels stay open: as long as a read of it waits, a port cannot be opened anew. */
  readonly #controls = new Map<number, SerialControlDriver>();
  readonly #exchanges = new Map<number, ExchangeService>();
  readonly #cancellable = new Map<number, AbortController>();

  constructor(stream: Duplex, surroundings: AgentSurroundings) {
    this.#stream = stream;
    this.#surroundings = surroundings;
  }

  /** Says hello, and answers until the host hangs up. Rejects when that sends what makes no sense. */
  async run(): Promise<void> {
    await this.#send({ hello: { protocol: AGENT_PROTOCOL, kernel: release(), node: process.version } });
    for await (const bytes of this.#stream as AsyncIterable<Uint8Array>) {
      this.#reader.push(bytes);
      for (let message = this.#reader.next(); message !== undefined; message = this.#reader.next()) {
        // Several may be under way: an order of requests takes as long as it says.
        void this.#answer(message.json as AgentRequest, message.attached);
      }
    }
  }

  async #answer(request: AgentRequest, attached: Uint8Array): Promise<void> {
    const { id } = request;
    try {
      const result = (await this.#carryOut(request, attached)) ?? null;
      await this.#send({ id, result });
    } catch (error) {
      const code = error instanceof XdpbedError ? error.code : 'internal-error';
      await this.#send({ id, error: { code, message: shortened(messageOf(error)) } });
    }
  }

  async #carryOut(request: AgentRequest, attached: Uint8Array): Promise<object | void> {
    switch (request.method) {
      case 'open-nic':
        return this.#openNic(request.params.nic);
      case 'install': {
        const { nic, program, placement } = request.params;
        const answer = await this.#nic(nic).install(installRequest(program, placement, attached));
        return answer.attached ? answer : { attached: false, reason: shortened(answer.reason) };
      }
      case 'read-maps':
        for (const map of await this.#nic(request.params.nic).readMaps())
          await this.#sendMap(request.id, map);
        return;
      case 'counters':
        return this.#nic(request.params.nic).counters();
      case 'control':
        return this.#nic(request.params.nic).control();
      case 'frames':
        // Throws for a nic that is not open.
        this.#nic(request.params.nic);
        return this.#surroundings.frames(this.#settings.get(request.params.nic)!);
      case 'send-requests':
        return this.#sendRequests(request.id, request.params.nic, request.params.order, attached);
      case 'cancel':
        this.#cancellable.get(request.params.request)?.abort();
        return;
      case 'serve-exchange':
        return this.#serveExchange(request.params.nic, request.params.exchange);
      case 'exchange-counts': {
        const exchange = this.#exchanges.get(request.params.nic);
        if (exchange === undefined) throw new XdpbedError('internal-error', 'no exchange is served');
        return exchange.counts();
      }
      case 'end-exchange':
        return this.#endExchange(request.params.nic);
      case 'close-nic':
        return this.#closeNic(request.params.nic);
    }
  }

  async #openNic(nic: NicSettings): Promise<void> {
    if (this.#nics.has(nic.index)) throw new XdpbedError('internal-error', `nic ${nic.index} is open`);
    const hook = await this.#surroundings.bringUp(nic);
    let control = this.#controls.get(nic.index);
    if (control === undefined) {
      const stream = await this.#surroundings.openControl(nic.index);
      control = new SerialControlDriver(`${nic.guest}.${nic.name}`, stream);
      this.#controls.set(nic.index, control);
    }
    const driver = new LocalGuestDriver({
      guest: nic.guest,
      nic: nic.name,
      driver: { kind: 'local', control, hook, up: async () => {} },
      party: this.#surroundings.party,
      // Helpers see the guest as it is: its kernel runs them.
      world: { trace: () => {} },
      hostile: nic.hostile,
      driverHelpers: nic.driverHelpers,
      features: BigInt(nic.features),
    });
    this.#nics.set(nic.index, driver);
    this.#settings.set(nic.index, nic);
  }

  async #serveExchange(nic: number, exchange: ServedExchange): Promise<void> {
    // Throws for a nic that is not open.
    this.#nic(nic);
    await this.#endExchange(nic);
    this.#exchanges.set(nic, await this.#surroundings.serveExchange(this.#settings.get(nic)!, exchange));
  }

  async #endExchange(nic: number): Promise<void> {
    const exchange = this.#exchanges.get(nic);
    this.#exchanges.delete(nic);
    await exchange?.close();
  }

  async #closeNic(nic: number): Promise<void> {
    await this.#endExchange(nic);
    const driver = this.#nics.get(nic);
    this.#nics.delete(nic);
    await driver?.close();
  }

  async #sendRequests(id: number, nic: number, order: RequestsText, object: Uint8Array): Promise<object> {
    const ask =
      order.kind === 'lookup'
        ? { kind: order.kind, map: order.map }
        : { kind: order.kind, install: installRequest(order.program, order.placement, object) };
    const abort = new AbortController();
    this.#cancellable.set(id, abort);
    try {
      const { perSecond, warmUp, seconds } = order;
      const report = await this.#nic(nic).sendRequests({
        ask,
        perSecond,
        warmUp,
        seconds,
        signal: abort.signal,
      });
      const { refusal } = report;
      return { ...report, refusal: refusal === undefined ? undefined : shortened(refusal) };
    } finally {
      this.#cancellable.delete(id);
    }
  }

  async #sendMap(
    id: number,
    { name, type, readFrom, entries, records, unreadable: why }: GuestMapContent,
  ): Promise<void> {
    const unreadable =
      why ?? (records === undefined ? undefined : `${records.length} records, which are not told`);
    const keySize = entries[0]?.key.length ?? 0;
    const valueSize = entries[0]?.value.length ?? 0;
    const size = keySize + valueSize;
    const begin = { name, type, readFrom, unreadable };
    if (size > FROM_GUEST.attached) {
      const reason = `elements of ${size} bytes are too large to be told to the host`;
      await this.#send({ id, part: { map: { ...begin, keySize: 0, valueSize: 0, unreadable: reason } } });
      return;
    }
    await this.#send({ id, part: { map: { ...begin, keySize, valueSize } } });
    const atOnce = Math.max(1, Math.floor(PART_BYTES / Math.max(1, size)));
    for (let first = 0; first < entries.length; first += atOnce) {
      const some = entries.slice(first, first + atOnce);
      const bytes = Buffer.concat(some.flatMap(({ key, value }) => [key, value]));
      await this.#send({ id, part: { entries: some.length } }, bytes);
    }
  }

  #nic(index: number): LocalGuestDriver {
    const nic = this.#nics.get(index);
    if (nic === undefined) throw new XdpbedError('internal-error', `nic ${index} is not open`);
    return nic;
  }

  /** Settles when the host has taken it: nothing piles up here. */
  #send(message: object, attached?: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      // That the host is gone ends the loop over what it sends.
      this.#stream.write(encodeAgentMessage(message, attached), () => resolve());
    });
  }
}

function installRequest(
  program: ProgramText,
  placement: InstallRequest['placement'],
  object: Uint8Array,
): InstallRequest {
  return { program: programFromText(program), object, placement };
}

function shortened(text: string): string {
  return text.length <= MAX_REASON ? text : `${text.slice(0, MAX_REASON)} …`;
}
