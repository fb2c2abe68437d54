import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { HostileGuest } from '../../src/core/contract/attack.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import type {
  BpfReply,
  BpfRequest,
  ControlProtocol,
} from '../../src/core/offload/protocol/control-protocol.js';
import { RFC_2019 } from '../../src/core/offload/protocol/rfc-2019/rfc-2019.js';
import { VIRTIO_NET_CTRL_EBPF, VIRTIO_NET_CTRL_EBPF_MAP, VIRTIO_NET_OK } from '../../src/virtio/index.js';
import { RawRing } from './raw-ring.js';

/** Turns of the event loop that an answer is waited for; one that loads a program takes its time. */
const PATIENCE_MS = 20_000;

/** Fields of the map header, u32 each, in order; the last two are `flags`. */
const MAP_FIELDS = [
  'bufLen',
  'cmd',
  'mapType',
  'keySize',
  'valueSize',
  'maxEntries',
  'mapFlags',
  'mapFd',
  'flags',
] as const;
export type MapFields = Partial<Record<(typeof MAP_FIELDS)[number], number>>;
export const MAP_HEADER_BYTES = 40;
/** Class and command come before it. */
export const MAP_PAYLOAD = 2;

/** An answer to a command of the raw ring. */
export interface RawAnswer {
  /** What lies in the device-writable memory. */
  readonly bytes: Uint8Array;
  /** Where the command lies. */
  readonly command: number;
}

/** A hostile guest that speaks a protocol, or nearly. */
export class Attacker {
  #raw: RawRing | undefined;

  constructor(
    readonly guest: HostileGuest,
    readonly protocol: ControlProtocol = RFC_2019,
  ) {}

  /** The control queue. Throws `host-unsupported` where it is not in this process. */
  get raw(): RawRing {
    const { ring } = this.guest;
    if (ring === undefined) {
      throw new XdpbedError(
        'host-unsupported',
        `${this.guest.node}: its control queue is not in this process`,
        {
          hint: 'transport virtqueue on fabric model has it',
        },
      );
    }
    return (this.#raw ??= new RawRing(ring));
  }

  /** After a reset, which makes the queues anew. */
  forgetRing(): void {
    this.#raw = undefined;
  }

  /** Sends what a driver could send. An answer that makes no sense counts as an error. */
  async send(request: BpfRequest): Promise<BpfReply> {
    const { protocol } = this;
    const bytes = protocol.encodeRequest(request);
    const written = await this.sendBytes(bytes, protocol.replyBytes(request));
    const decoded = protocol.decodeReply(request, bytes, written);
    return decoded.ok ? decoded.reply : { kind: 'error' };
  }

  /** Sends bytes as a command; no bytes come back when the device was reset meanwhile. */
  async sendBytes(bytes: Uint8Array, room: number): Promise<Uint8Array> {
    try {
      return await this.guest.control.send([bytes], room);
    } catch (error) {
      if (error instanceof XdpbedError && error.code === 'virtio-violation') return new Uint8Array();
      throw error;
    }
  }

  /** The same by the raw ring; undefined when there came no answer. */
  async rawCommand(bytes: Uint8Array, room: number): Promise<RawAnswer | undefined> {
    const { raw } = this;
    const command = raw.place(bytes);
    const answer = raw.place(new Uint8Array(Math.max(1, room)));
    raw.describeCommand(0, command, bytes.length, room, answer);
    raw.offer(0);
    raw.kick();
    const deadline = performance.now() + PATIENCE_MS;
    while (raw.takeUsed().length === 0) {
      if (raw.ring.isDown || performance.now() > deadline) {
        this.guest.saw('one-answer', 'a command was never answered');
        return undefined;
      }
      await this.guest.turn();
    }
    if (raw.takeUsed().length > 0) this.guest.saw('one-answer', 'a command was answered twice');
    return { bytes: raw.read(answer, room), command };
  }

  /** The handle of a new map; throws when an honest request is refused, since nothing then shows anything. */
  async createMap(
    mapType: number = BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
    { valueSize = 8, maxEntries = 4 }: { valueSize?: number; maxEntries?: number } = {},
  ): Promise<number> {
    const handle = await this.tryMap(mapType, { valueSize, maxEntries });
    this.mustWork(handle !== undefined, 'a first map');
    return handle!;
  }

  /** As `createMap`; undefined when it is refused. */
  async tryMap(
    mapType: number,
    { valueSize = 8, maxEntries = 4 }: { valueSize?: number; maxEntries?: number } = {},
  ): Promise<number | undefined> {
    const sizes = { keySize: 4, valueSize, maxEntries, mapFlags: 0 };
    const reply = await this.send({ kind: 'create-map', mapType, ...sizes });
    return reply.kind === 'handle' ? reply.handle : undefined;
  }

  update(handle: number, key: number, value: string): Promise<BpfReply> {
    return this.send({ kind: 'update-elem', handle, key: keyOf(key), value: bytesOf(value), flags: 0n });
  }

  lookup(handle: number, key: number): Promise<BpfReply> {
    return this.send({ kind: 'lookup-elem', handle, key: keyOf(key), valueSize: 8 });
  }

  /** The handle that a request ends in; undefined when it was refused. */
  async handleOf(request: BpfRequest): Promise<number | undefined> {
    const reply = await this.send(request);
    return reply.kind === 'handle' ? reply.handle : undefined;
  }

  /** As `handleOf` of what a guest may ask for; throws when it is refused. */
  async mustGet(request: BpfRequest, what: string): Promise<number> {
    const handle = await this.handleOf(request);
    this.mustWork(handle !== undefined, what);
    return handle!;
  }

  /** SET_OFFLOAD of a program as text: whether it was taken. */
  async offload(text: string, maps?: ReadonlyMap<string, number>): Promise<boolean> {
    return this.offloadBytes(encodeInsns(assemble(text, maps === undefined ? {} : { maps })));
  }

  async offloadBytes(insns: Uint8Array, length = insns.length): Promise<boolean> {
    return (await this.sendBytes(programCommand(insns, length), 1)).at(-1) === VIRTIO_NET_OK;
  }

  /** An attack that is refused from its first honest step on has shown nothing: throws `plugin-failed`. */
  mustWork(worked: boolean, what: string): void {
    if (!worked) throw new XdpbedError('plugin-failed', `${this.guest.node} was refused ${what}`);
  }

  /** Says that something was done that must be refused. */
  mustBeRefused(taken: boolean, what: string): void {
    if (taken) this.guest.saw('refused', what);
  }
}

/** A map command, field by field. */
export function mapCommand(
  fields: MapFields,
  buf: Uint8Array = new Uint8Array(),
  littleEndian = true,
): Uint8Array {
  const bytes = new Uint8Array(MAP_PAYLOAD + MAP_HEADER_BYTES + buf.length);
  bytes.set([VIRTIO_NET_CTRL_EBPF, VIRTIO_NET_CTRL_EBPF_MAP]);
  const view = new DataView(bytes.buffer, MAP_PAYLOAD);
  MAP_FIELDS.forEach((field, index) => view.setUint32(4 * index, fields[field] ?? 0, littleEndian));
  bytes.set(buf, MAP_PAYLOAD + MAP_HEADER_BYTES);
  return bytes;
}

/** SET_OFFLOAD. */
export function programCommand(insns: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(2 + 8 + insns.length);
  bytes.set([VIRTIO_NET_CTRL_EBPF, 1]);
  const view = new DataView(bytes.buffer, 2);
  view.setUint32(0, length, true);
  view.setUint16(4, 1, true);
  view.setUint16(6, 1, true);
  bytes.set(insns, 10);
  return bytes;
}

export function keyOf(index: number): Uint8Array {
  return Uint8Array.of(index & 0xff, (index >>> 8) & 0xff, (index >>> 16) & 0xff, index >>> 24);
}

/** Eight bytes. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.padEnd(8).slice(0, 8)));
}
