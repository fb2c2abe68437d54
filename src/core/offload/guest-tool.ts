import { E2BIG, ENOENT, EOPNOTSUPP } from '../../bpf/errno.js';
import { Btf } from '../../bpf/btf/btf.js';
import { untypedToJson, valueToJson, type BtfJson } from '../../bpf/btf/format-value.js';
import { mapTypeName } from '../../bpf/map-spec.js';
import type { MapRecord } from '../../bpf/runtime/bpf-map.js';
import type { GuestView } from '../contract/guest-driver.js';
import { VIEWS, type ViewName } from '../contract/plan.js';
import { messageOf } from '../diagnostic.js';
import type { DeviceClient } from './device-client.js';
import { failure, success, type GuestResult } from './guest-map.js';
import type { BpfReply, BpfRequest } from './protocol/control-protocol.js';
import type {
  BtfInfo,
  LinkInfo,
  MapInfo,
  ObjectInfo,
  ObjectKind,
  ProgramInfo,
} from './protocol/object-info.js';

/** Bytes of BTF that are read at once. */
const BTF_BYTES = 64 * 1024;
/** Elements that a dump has at most, of all maps together. */
const MAX_DUMPED = 4096;
/** Characters of JSON that they take at most, and bytes of BTF that is read for it. */
const MAX_DUMPED_TEXT = 4 * 1024 * 1024;
/** Objects of a kind that are listed at most: as many as a device holds. */
const MAX_LISTED = 4096;

/** An element as its BTF types say it, or as what has none: as presets and cases have it written. */
export interface DumpedElement {
  readonly key: BtfJson;
  readonly value: BtfJson;
}

/**
 * What a guest's user asks with `ip link` and `bpftool`: which program the host runs for the nic, what is loaded, what is in
 * the maps. It knows nothing but what the device says: objects are listed by id, opened, and described by the BTF that the
 * device holds for them. For devices that understand class VIRTIO_NET_CTRL_BPF.
 *
 * Nor does it believe what the device says: what it asks for and keeps is bounded, whatever sizes and counts it is told.
 */
export class GuestTool {
  readonly #device: DeviceClient;

  constructor(device: DeviceClient) {
    this.#device = device;
  }

  /** `ip link show`: the link by which a program is attached; undefined when none is. */
  async link(): Promise<GuestResult<{ readonly link: LinkInfo; readonly program: ProgramInfo } | undefined>> {
    const links = await this.#list<LinkInfo>('link');
    if (!links.ok) return links;
    const link = links.value.find(({ program }) => program !== 0);
    if (link === undefined) return success(undefined);
    const program = await this.#describe<ProgramInfo>('program', link.program);
    return program.ok ? success({ link, program: program.value }) : program;
  }

  /** `bpftool prog show` */
  programs(): Promise<GuestResult<ProgramInfo[]>> {
    return this.#list('program');
  }

  /** `bpftool map show` */
  maps(): Promise<GuestResult<MapInfo[]>> {
    return this.#list('map');
  }

  /**
   * `bpftool map dump id`: keys and values as their types print them, where the device has BTF of them.
   * @param room what there is left for it, and afterwards for others; what exceeds it is left out
   */
  dump(id: number, room = new DumpRoom()): Promise<GuestResult<DumpedElement[]>> {
    return this.#with('map', id, async (handle) => {
      const described = await this.#info<MapInfo>(handle);
      if (!described.ok) return described;
      const { type, keySize, valueSize, btf: btfId, keyType, valueType, maxEntries } = described.value;
      // Ring buffers, queues and stacks: no command would find anything.
      if (keySize === 0) return failure(EOPNOTSUPP, `a ${mapTypeName(type)} has no keys`);
      const { maxKeyBytes, maxValueBytes } = this.#device.protocol.limits;
      if (keySize > maxKeyBytes || valueSize > maxValueBytes) {
        const most = `${maxKeyBytes} and ${maxValueBytes}`;
        return failure(
          E2BIG,
          `keys of ${keySize} and values of ${valueSize} bytes, no more than ${most} are read`,
        );
      }
      const btf = btfId === 0 ? undefined : await this.#btf(btfId, room);
      const print = (type: number, bytes: Uint8Array): BtfJson =>
        btf === undefined || type === 0 ? untypedToJson(bytes) : valueToJson({ btf, id: type }, bytes);
      const elements: DumpedElement[] = [];
      let key = await this.#ask({ kind: 'get-first', handle, keySize, valueSize });
      for (let steps = Math.min(maxEntries, MAX_DUMPED); steps > 0 && room.isLeft; steps--) {
        if (!key.ok || key.value.kind !== 'key') break;
        const bytes = key.value.key;
        const value = await this.#ask({ kind: 'lookup-elem', handle, key: bytes, valueSize });
        if (value.ok && value.value.kind === 'value') {
          const element = { key: print(keyType, bytes), value: print(valueType, value.value.value) };
          room.take(element);
          elements.push(element);
        } else if (!value.ok && value.errno !== ENOENT) {
          return value;
        }
        key = await this.#ask({ kind: 'get-next', handle, key: bytes, valueSize });
      }
      return key.ok || key.errno === ENOENT ? success(elements) : key;
    });
  }

  /** `bpftool map event_pipe id`: what programs wrote since it was asked last. */
  events(id: number): Promise<GuestResult<readonly MapRecord[]>> {
    return this.#with('map', id, async (handle) => {
      const read = await this.#ask({ kind: 'read-records', handle, bytes: BTF_BYTES });
      if (!read.ok) return read;
      return read.value.kind === 'records' ? success(read.value.records) : NO_ANSWER;
    });
  }

  async #list<T extends ObjectInfo>(object: ObjectKind): Promise<GuestResult<T[]>> {
    const infos: T[] = [];
    let after = 0;
    while (infos.length < MAX_LISTED) {
      const next = await this.#ask({ kind: 'next-id', object, after });
      if (!next.ok) return next.errno === ENOENT ? success(infos) : next;
      if (next.value.kind !== 'id' || next.value.id <= after) return NO_ANSWER;
      after = next.value.id;
      const info = await this.#describe<T>(object, after);
      // It went meanwhile, as it does under bpftool, too.
      if (info.ok) infos.push(info.value);
      else if (info.errno !== ENOENT) return info;
    }
    return success(infos);
  }

  #describe<T extends ObjectInfo>(object: ObjectKind, id: number): Promise<GuestResult<T>> {
    return this.#with(object, id, (handle) => this.#info<T>(handle));
  }

  async #info<T extends ObjectInfo>(handle: number): Promise<GuestResult<T>> {
    const reply = await this.#ask({ kind: 'get-info', handle });
    if (!reply.ok) return reply;
    return reply.value.kind === 'info' ? success(reply.value.info as T) : NO_ANSWER;
  }

  /** Undefined when it cannot be had or makes no sense: bytes are then printed as they are. */
  async #btf(id: number, room: DumpRoom): Promise<Btf | undefined> {
    const read = await this.#with('btf', id, async (handle) => {
      const info = await this.#info<BtfInfo>(handle);
      if (!info.ok) return info;
      const { size } = info.value;
      const { maxBtfBytes } = this.#device.protocol.limits;
      if (size > maxBtfBytes)
        return failure(E2BIG, `${size} bytes of BTF, no more than ${maxBtfBytes} are read`);
      if (!room.takeText(size)) return failure(E2BIG, 'there is no room for more BTF');
      const bytes = new Uint8Array(size);
      for (let offset = 0; offset < bytes.length; offset += BTF_BYTES) {
        const length = Math.min(BTF_BYTES, bytes.length - offset);
        const part = await this.#ask({ kind: 'read-btf', handle, offset, length });
        if (!part.ok) return part;
        if (part.value.kind !== 'bytes' || part.value.bytes.length !== length) return NO_ANSWER;
        bytes.set(part.value.bytes, offset);
      }
      return success(bytes);
    });
    try {
      return read.ok ? new Btf(read.value) : undefined;
    } catch {
      return undefined;
    }
  }

  /** A handle of one's own for as long as `work` takes. */
  async #with<T>(
    object: ObjectKind,
    id: number,
    work: (handle: number) => Promise<GuestResult<T>>,
  ): Promise<GuestResult<T>> {
    const opened = await this.#ask({ kind: 'open-by-id', object, id });
    if (!opened.ok) return opened;
    if (opened.value.kind !== 'handle') return NO_ANSWER;
    const { handle } = opened.value;
    try {
      return await work(handle);
    } finally {
      await this.#ask({ kind: 'close', handle });
    }
  }

  async #ask(request: BpfRequest): Promise<GuestResult<BpfReply>> {
    if (!this.#device.protocol.requests.has(request.kind)) {
      return failure(EOPNOTSUPP, `protocol ${this.#device.protocol.name} has no request ${request.kind}`);
    }
    return this.#device.request(request);
  }
}

/** How much of maps is kept and shown: a device has as much to say as it likes. */
export class DumpRoom {
  #elements = MAX_DUMPED;
  #text = MAX_DUMPED_TEXT;

  get isLeft(): boolean {
    return this.#elements > 0 && this.#text > 0;
  }

  take(element: DumpedElement): void {
    this.#elements--;
    this.#text -= JSON.stringify(element).length;
  }

  /** For what is kept only when there is room for all of it: whether there was. */
  takeText(length: number): boolean {
    if (length > this.#text) return false;
    this.#text -= length;
    return true;
  }
}

const NO_ANSWER = failure(EOPNOTSUPP, 'the device answered without what was asked for');

/** What a guest's user sees of what is offloaded by a nic. */
export async function guestView(tool: GuestTool, netdev: string, view: ViewName): Promise<GuestView> {
  const command = `${VIEWS[view]}${view === 'link' ? ` dev ${netdev}` : ''}`;
  try {
    return { command, ...(await VIEWERS[view](tool, netdev)) };
  } catch (error) {
    return { command, text: messageOf(error), json: { error: messageOf(error) } };
  }
}

type Rendered = Omit<GuestView, 'command'>;

const VIEWERS: Readonly<Record<ViewName, (tool: GuestTool, netdev: string) => Promise<Rendered>>> = {
  link: async (tool, netdev) => {
    const attached = valueOf(await tool.link());
    if (attached === undefined) return { text: `${netdev}: <UP>`, json: [{ ifname: netdev }] };
    const { link, program } = attached;
    const { id, name, tag } = program;
    const { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT } = link.verdicts;
    return {
      text: [
        `${netdev}: <UP> xdpoffload`,
        `    prog/xdpoffload id ${id} name ${name} tag ${hex(tag)} link ${link.id}`,
        `    aborted ${XDP_ABORTED} drop ${XDP_DROP} pass ${XDP_PASS} tx ${XDP_TX} redirect ${XDP_REDIRECT}`,
      ].join('\n'),
      json: [
        {
          ifname: netdev,
          xdp: { mode: 3, prog: { id, name, tag: hex(tag) }, link: link.id, verdicts: link.verdicts },
        },
      ],
    };
  },
  prog: async (tool, netdev) => {
    const programs = valueOf(await tool.programs());
    return {
      text: programs
        .map(({ id, name, tag, gplCompatible, insnCount, verifiedInsns, loadTime, maps, btf }) =>
          [
            `${id}: xdp  name ${name}  tag ${hex(tag)}${gplCompatible ? '  gpl' : ''}  offloaded_to ${netdev}`,
            `\tloaded_at +${(Number(loadTime) / 1e9).toFixed(6)}s  xlated ${8 * insnCount}B  verified_insns ${verifiedInsns}`,
            `\tmap_ids ${maps.join(',') || 'none'}${btf === 0 ? '' : `  btf_id ${btf}`}`,
          ].join('\n'),
        )
        .join('\n'),
      json: programs.map(
        ({ id, name, tag, gplCompatible, insnCount, verifiedInsns, loadTime, maps, btf }) => ({
          id,
          type: 'xdp',
          name,
          tag: hex(tag),
          gpl_compatible: gplCompatible,
          dev: { ifname: netdev },
          loaded_at: Number(loadTime) / 1e9,
          bytes_xlated: 8 * insnCount,
          verified_insns: verifiedInsns,
          map_ids: [...maps],
          ...(btf === 0 ? {} : { btf_id: btf }),
        }),
      ),
    };
  },
  map: async (tool) => {
    const maps = valueOf(await tool.maps());
    const typeOf = (type: number): string => mapTypeName(type).replace('BPF_MAP_TYPE_', '').toLowerCase();
    return {
      text: maps
        .map(({ id, type, name, flags, keySize, valueSize, maxEntries, memoryBytes, frozen, btf }) =>
          [
            `${id}: ${typeOf(type)}  name ${name}  flags 0x${flags.toString(16)}${frozen ? '  frozen' : ''}`,
            `\tkey ${keySize}B  value ${valueSize}B  max_entries ${maxEntries}  memlock ${memoryBytes}B`,
            ...(btf === 0 ? [] : [`\tbtf_id ${btf}`]),
          ].join('\n'),
        )
        .join('\n'),
      json: maps.map(
        ({ id, type, name, flags, keySize, valueSize, maxEntries, memoryBytes, frozen, btf }) => ({
          id,
          type: typeOf(type),
          name,
          flags,
          bytes_key: keySize,
          bytes_value: valueSize,
          max_entries: maxEntries,
          bytes_memlock: memoryBytes,
          frozen: frozen ? 1 : 0,
          ...(btf === 0 ? {} : { btf_id: btf }),
        }),
      ),
    };
  },
  dump: async (tool) => {
    const shown: { id: number; name: string; elements: DumpedElement[]; problem?: string }[] = [];
    const room = new DumpRoom();
    for (const { id, name } of valueOf(await tool.maps())) {
      const elements = room.isLeft
        ? await tool.dump(id, room)
        : failure(E2BIG, 'left out, there is too much');
      shown.push(
        elements.ok
          ? { id, name, elements: elements.value }
          : { id, name, elements: [], problem: elements.message },
      );
    }
    return {
      text: shown
        .flatMap(({ id, name, elements, problem }) => [
          `map ${id} ${name}: ${problem ?? `${elements.length} elements`}`,
          ...elements.map((element) => `\t${JSON.stringify(element)}`),
        ])
        .join('\n'),
      json: shown,
    };
  },
};

function valueOf<T>(result: GuestResult<T>): T {
  if (result.ok) return result.value;
  throw new Error(result.message);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
