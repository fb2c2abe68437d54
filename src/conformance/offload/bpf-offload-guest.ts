import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { BPF_OFFLOAD } from '../../core/offload/protocol/bpf-offload/bpf-offload.js';
import type { BpfReply, BpfRequest, CreateMap } from '../../core/offload/protocol/control-protocol.js';
import type { ObjectInfo } from '../../core/offload/protocol/object-info.js';
import { OffloadRig, type OffloadRigOptions } from './offload-rig.js';

type ReplyOf<K extends BpfReply['kind']> = Extract<BpfReply, { kind: K }>;
type InfoOf<K extends ObjectInfo['kind']> = Extract<ObjectInfo, { kind: K }>;

/** A guest that speaks the protocol of docs/spec/bpf-offload.md with a device of its own, request by request. */
export class BpfOffloadGuest extends OffloadRig {
  constructor(options: OffloadRigOptions) {
    super({ ...options, protocol: BPF_OFFLOAD });
  }

  /**
   * What a request ended in.
   * @throws RangeError when it ended in something else
   */
  async expect<K extends BpfReply['kind']>(kind: K, request: BpfRequest): Promise<ReplyOf<K>> {
    const reply = await this.send(request);
    if (reply.kind === kind) return reply as ReplyOf<K>;
    const why = reply.kind === 'error' ? `errno ${reply.errno}: ${reply.message}` : reply.kind;
    throw new RangeError(`${request.kind} ended in ${why}`);
  }

  /** The handle that a request ended in. */
  async handle(request: BpfRequest): Promise<number> {
    return (await this.expect('handle', request)).handle;
  }

  /** The errno that a request ended in; undefined when it succeeded. */
  async errno(request: BpfRequest): Promise<number | undefined> {
    const reply = await this.send(request);
    return reply.kind === 'error' ? (reply.errno ?? 0) : undefined;
  }

  /** MAP_CREATE; by default an array of four values of 8 bytes. */
  async map(attributes: Partial<Omit<CreateMap, 'kind'>> = {}): Promise<number> {
    return this.handle({ ...ARRAY, ...attributes });
  }

  /** PROG_LOAD. */
  async program(insns: Uint8Array, { name = '', frags = false } = {}): Promise<number> {
    return this.handle({ kind: 'load-program', name, insns, gplCompatible: true, frags });
  }

  /** LINK_CREATE at hook point RX. */
  async link(program: number): Promise<number> {
    return this.handle({ kind: 'create-link', program, hook: 0 });
  }

  async close(handle: number): Promise<void> {
    await this.expect('done', { kind: 'close', handle });
  }

  async info<K extends ObjectInfo['kind']>(kind: K, handle: number): Promise<InfoOf<K>> {
    const { info } = await this.expect('info', { kind: 'get-info', handle });
    if (info.kind === kind) return info as InfoOf<K>;
    throw new RangeError(`handle ${handle} is of a ${info.kind}`);
  }
}

const ARRAY: CreateMap = {
  kind: 'create-map',
  mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 4,
  mapFlags: 0,
  name: '',
};
