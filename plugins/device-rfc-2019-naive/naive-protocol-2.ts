import { EACCES, EBADF, EBUSY, EINVAL, ENOENT, EOPNOTSUPP, EPERM } from '../../src/bpf/errno.js';
import { decodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { DeviceInspection, NicDeviceOptions } from '../../src/core/contract/device.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import type { Attachment } from '../../src/core/contract/hook-place.js';
import { BPF_OFFLOAD } from '../../src/core/offload/protocol/bpf-offload/bpf-offload.js';
import type { BpfReply, BpfRequest } from '../../src/core/offload/protocol/control-protocol.js';
import { translateHandles } from '../../src/core/offload/program-handles.js';
import { CONTROL_HEADER_BYTES } from '../../src/virtio/index.js';
import type { MapDescription, ObjectDescription, PretendProcess } from './pretend-process.js';

type CreateMap = Extract<BpfRequest, { kind: 'create-map' }>;
type LoadProgram = Extract<BpfRequest, { kind: 'load-program' }>;
type UpdateLink = Extract<BpfRequest, { kind: 'update-link' }>;

/** Commands whose bytes it reads itself; docs/spec/bpf-offload.md. */
const MAP_LOOKUP_BATCH = 7;
const MAP_UPDATE_BATCH = 8;
const MAP_RECORDS = 11;
const SYSCALL = 27;

/** `struct virtio_net_bpf_map_batch` and `virtio_net_bpf_syscall`, in bytes. */
const BATCH_BYTES = 28;
const SYSCALL_BYTES = 16;
/** `struct virtio_net_bpf_result`, of which the ack is the first byte. */
const RESULT_BYTES = 16;
/** `sizeof(union bpf_attr)` of the headers that it was built with. */
const ATTR_BYTES = 144;
/** Bytes beyond its buffer at which a real process would have been killed. */
const GUARD_BYTES = 64 * 1024;

const BPF_MAP_CREATE = 0;
const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;

const NO_LIMITS = {
  maxInsns: Infinity,
  maxKeyBytes: Infinity,
  maxValueBytes: Infinity,
  maxBatch: Infinity,
  maxBtfBytes: Infinity,
};

interface NaiveLink {
  program: ObjectDescription;
  attachment: Attachment | undefined;
}

/** What guests share in the process: names that are nobody's in particular. */
export class NaiveNames {
  readonly pins = new Map<string, { readonly object: ObjectDescription; readonly owner: string }>();
}

/**
 * Protocol 2 as who wrote RFC 2019's handler might have written it, in the same pretend process: what a command names is
 * believed, lengths are added up and not compared, and each kind of object is looked after in a way of its own. Deliberately
 * weak: it is what attacks are tried on to see that they bite. It serves what those need, and not what all of the protocol has.
 */
export class NaiveProtocol2 {
  readonly #links = new Map<ObjectDescription, NaiveLink>();
  /** The link that was last given its place. */
  #attached: NaiveLink | undefined;
  readonly #loaded = new Map<ObjectDescription, LoadedProgram>();
  readonly #frozen = new Set<MapDescription>();
  /** What maps of programs and of maps hold, by key; the backend's maps stay empty. */
  readonly #elements = new Map<MapDescription, Map<string, ObjectDescription>>();
  readonly #wrong: string[] = [];
  #made = 0;

  constructor(
    readonly options: NicDeviceOptions,
    readonly process: PretendProcess,
    readonly names: NaiveNames,
    readonly owner: string,
  ) {}

  /** Uses of objects that were freed, in words. */
  get strayUses(): readonly string[] {
    return this.#wrong;
  }

  get held(): DeviceInspection['held'] {
    const { process, owner } = this;
    const sum = (kind: 'map' | 'btf'): number =>
      process.objectsOf(owner, kind).reduce((bytes, { memoryBytes }) => bytes + memoryBytes, 0);
    const pins = [...this.names.pins.values()].filter((each) => each.owner === owner).length;
    return {
      maps: process.objectsOf(owner, 'map').length,
      programs: process.objectsOf(owner, 'program').length,
      mapMemory: sum('map'),
      btfMemory: sum('btf'),
      names: process.descriptorsOf(owner) + pins,
    };
  }

  /** Takes the program out and closes every descriptor. What keeps itself alive, and what is pinned, nobody thinks of. */
  async reset(): Promise<void> {
    if (this.#attached !== undefined) await this.#detach(this.#attached);
    this.process.closeAllOf(this.owner);
  }

  /** The guest's process ends, and the host's kernel takes back what it had. */
  async unplug(): Promise<void> {
    await this.reset();
    for (const [name, { owner }] of [...this.names.pins]) {
      if (owner === this.owner) this.names.pins.delete(name);
    }
    for (const kind of ['link', 'program', 'map', 'btf'] as const) {
      for (const object of this.process.objectsOf(this.owner, kind)) this.process.free(object);
    }
  }

  async handle(request: Uint8Array, room: number): Promise<Uint8Array> {
    try {
      return await this.#handle(request, room);
    } catch {
      // Whatever threw, the backend or the encoder: the guest is told of a failure.
      return this.#answer(REPORT, error(EINVAL), room);
    }
  }

  async #handle(request: Uint8Array, room: number): Promise<Uint8Array> {
    const payload = request.subarray(CONTROL_HEADER_BYTES);
    switch (request[1]) {
      case MAP_LOOKUP_BATCH:
        return this.#lookupBatch(payload, room);
      case MAP_UPDATE_BATCH:
        return this.#updateBatch(payload, room);
      case MAP_RECORDS:
        return this.#records(payload, room);
      case SYSCALL:
        return this.#syscall(payload, room);
      default: {
        // Whether an answer fits, it finds out by writing it.
        const decoded = BPF_OFFLOAD.decodeRequest(request, Infinity, NO_LIMITS);
        if (!decoded.ok) return this.#answer(REPORT, error(decoded.errno ?? EINVAL), room);
        return this.#answer(decoded.request, await this.#execute(decoded.request), room);
      }
    }
  }

  /** Writes the whole answer to where it has `room` bytes for it. */
  #answer(request: BpfRequest, reply: BpfReply, room: number): Uint8Array {
    const { heap } = this.process;
    const whole = BPF_OFFLOAD.encodeReply(request, reply, 0x7fff_ffff);
    const block = heap.allocate(room);
    heap.store(block, 0, whole, 'writing the answer');
    heap.free(block);
    return whole.subarray(0, room);
  }

  async #execute(request: BpfRequest): Promise<BpfReply> {
    const { process, names, owner } = this;
    switch (request.kind) {
      case 'create-map':
        return this.#createMap(request);
      case 'update-elem': {
        const map = process.map(request.handle);
        if (typeof map === 'number') return error(-map);
        // The one door that it has locked.
        if (this.#frozen.has(map)) return error(EPERM);
        return done(this.#update(map, request.key, request.value, request.flags));
      }
      case 'lookup-elem':
      case 'lookup-and-delete-elem': {
        const map = process.map(request.handle);
        if (typeof map === 'number') return error(-map);
        const value = this.#lookup(map, request.key);
        if (typeof value === 'number') return error(-value);
        if (request.kind === 'lookup-and-delete-elem') map.map.delete(request.key);
        return { kind: 'value', value };
      }
      case 'delete-elem': {
        const map = process.map(request.handle);
        return typeof map === 'number' ? error(-map) : done(map.map.delete(request.key));
      }
      case 'delete-batch': {
        const map = process.map(request.handle);
        if (typeof map === 'number') return error(-map);
        for (let n = 0; n < request.count; n++) {
          map.map.delete(request.keys.subarray(n * request.keySize, (n + 1) * request.keySize));
        }
        return { kind: 'count', count: request.count };
      }
      case 'freeze-map': {
        const map = process.map(request.handle);
        if (typeof map === 'number') return error(-map);
        this.#frozen.add(map);
        return DONE;
      }
      case 'load-btf':
        // Who reads it is to see whether it can.
        return this.#open('btf', request.bytes.length, () => {});
      case 'load-program':
        return this.#loadProgram(request);
      case 'create-link':
        return this.#createLink(request.program);
      case 'update-link':
        return this.#updateLink(request);
      case 'detach-link': {
        const link = this.#link(request.link);
        if (link === undefined) return error(EBADF);
        await this.#detach(link);
        return DONE;
      }
      case 'pin': {
        const object = process.description(request.handle);
        if (object === undefined || object.kind === 'file') return error(EBADF);
        if (names.pins.has(request.name)) return error(EBUSY);
        object.references++;
        names.pins.set(request.name, { object, owner });
        return DONE;
      }
      case 'unpin': {
        const pin = names.pins.get(request.name);
        if (pin === undefined) return error(ENOENT);
        names.pins.delete(request.name);
        process.release(pin.object);
        return DONE;
      }
      case 'open-pinned':
        return this.#reopen(names.pins.get(request.name)?.object);
      case 'next-pinned': {
        const next = [...names.pins.keys()].sort().find((name) => name > request.after);
        return next === undefined ? error(ENOENT) : { kind: 'name', name: next };
      }
      case 'open-by-id':
        return this.#reopen(process.byId(request.object, request.id));
      case 'next-id': {
        const id = process.idAfter(request.object, request.after);
        return id === undefined ? error(ENOENT) : { kind: 'id', id };
      }
      case 'get-info': {
        const object = process.description(request.handle);
        if (object === undefined || object.kind === 'file') return error(EBADF);
        // As much of it as tells which object it is.
        return {
          kind: 'info',
          info: { kind: 'btf', id: process.idOf(object), name: '', size: object.memoryBytes },
        };
      }
      case 'close':
        return done(process.close(request.handle, owner));
      default:
        return error(EOPNOTSUPP);
    }
  }

  #createMap(request: CreateMap): BpfReply {
    const { process, owner } = this;
    const { mapBackend } = this.options.party;
    const inner = request.inner === undefined ? undefined : process.map(request.inner);
    if (typeof inner === 'number') return error(-inner);
    const attributes: MapAttributes = {
      type: request.mapType,
      keySize: request.keySize,
      valueSize: request.valueSize,
      maxEntries: request.maxEntries,
      flags: request.mapFlags,
      ...(inner === undefined ? {} : { inner: inner.attributes }),
    };
    const name = `map ${++this.#made} by protocol 2`;
    // Types of key and value are for whoever shows the map: nobody looks at them here.
    const map = mapBackend.create(attributes, { name: `${owner}/${name}`, innerTemplate: inner?.map });
    if (typeof map === 'number') return error(-map);
    const memoryBytes = mapBackend.memoryCost(attributes);
    const handle = process.open({ kind: 'map', name, owner, map, attributes, memoryBytes, references: 1 });
    return { kind: 'handle', handle };
  }

  #update(map: MapDescription, key: Uint8Array, value: Uint8Array, flags: bigint): number {
    const { type } = map.attributes;
    if (!HOLDS_OBJECTS.has(type)) return map.map.update(key, value, flags);
    const fd = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    const object = this.process.description(fd);
    if (object === undefined || object.kind === 'file') return -EBADF;
    const elements = this.#elements.get(map) ?? new Map<string, ObjectDescription>();
    this.#elements.set(map, elements);
    // A program is kept, whatever keeps the array. A map is not: its descriptor is there, after all.
    if (type === BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY) object.references++;
    elements.set(hex(key), object);
    return 0;
  }

  #lookup(map: MapDescription, key: Uint8Array): Uint8Array | number {
    if (!HOLDS_OBJECTS.has(map.attributes.type)) return map.map.lookup(key);
    const object = this.#elements.get(map)?.get(hex(key));
    if (object === undefined) return -ENOENT;
    const id = this.process.idOf(object);
    if (object.references === 0)
      this.#wrong.push(`an element of ${map.name} is ${object.name}, which was freed`);
    return bytesOfU32(id);
  }

  /** The size of the buffer is a product of 32 bits. What goes into it is as much as there is. */
  #lookupBatch(payload: Uint8Array, room: number): Uint8Array {
    const { heap } = this.process;
    const { map, keySize, valueSize, count } = batchOf(payload);
    const found = this.process.map(map);
    if (typeof found === 'number') return this.#answer(REPORT, error(-found), room);
    const out = heap.allocate(Math.imul(count, keySize + valueSize) >>> 0);
    const keys: Uint8Array[] = [];
    const values: Uint8Array[] = [];
    let at = 0;
    let key = found.map.nextKey(null);
    for (let n = 0; n < count && typeof key !== 'number'; n++) {
      const value = found.map.lookup(key);
      if (typeof value === 'number') break;
      for (const part of [key, value]) {
        heap.store(out, at, part, 'a batch of elements');
        at += part.length;
      }
      keys.push(key);
      values.push(value);
      key = found.map.nextKey(key);
    }
    heap.free(out);
    const { attributes, map: backing } = found;
    const done: BpfRequest = {
      kind: 'lookup-batch',
      handle: map,
      keySize: attributes.keySize,
      valueSize: backing.syscallValueSize,
      count: keys.length,
      cursor: undefined,
      remove: false,
    };
    const reply: BpfReply = {
      kind: 'elements',
      count: keys.length,
      keys: Buffer.concat(keys),
      values: Buffer.concat(values),
      next: undefined,
    };
    return this.#answer(done, reply, room);
  }

  /** Where values begin is a product of 32 bits, too; how many there are, the guest says. No word of being frozen. */
  #updateBatch(payload: Uint8Array, room: number): Uint8Array {
    const { heap } = this.process;
    const { map, keySize, valueSize, count } = batchOf(payload);
    const found = this.process.map(map);
    if (typeof found === 'number') return this.#answer(REPORT, error(-found), room);
    const command = heap.allocate(payload.length);
    heap.store(command, 0, payload, 'copying the command');
    const valuesAt = (BATCH_BYTES + (Math.imul(count, keySize) >>> 0)) >>> 0;
    let updated = 0;
    for (; updated < count; updated++) {
      const keyAt = BATCH_BYTES + updated * keySize;
      const valueAt = valuesAt + updated * valueSize;
      if (Math.max(keyAt, valueAt) > payload.length + GUARD_BYTES) break;
      const key = heap.load(command, keyAt, found.attributes.keySize, 'a batch of keys');
      const value = heap.load(command, valueAt, found.map.syscallValueSize, 'a batch of values');
      if (this.#update(found, key, value, 0n) !== 0) break;
    }
    heap.free(command);
    const request: BpfRequest = { kind: 'delete-batch', handle: map, keySize, count, keys: new Uint8Array() };
    return this.#answer(request, { kind: 'count', count: updated }, room);
  }

  /** What was not read yet lies in the ring; how much of it is wanted, the guest says. */
  #records(payload: Uint8Array, room: number): Uint8Array {
    const { heap } = this.process;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const found = this.process.map(view.getUint32(0, true));
    if (typeof found === 'number') return this.#answer(REPORT, error(-found), room);
    const length = Math.min(view.getUint32(4, true), Math.max(0, room - RESULT_BYTES));
    const ring = heap.allocate(found.attributes.maxEntries);
    const bytes = heap.load(ring, 0, length, 'copying records');
    heap.free(ring);
    const request: BpfRequest = { kind: 'read-btf', handle: 0, offset: 0, length };
    return this.#answer(request, { kind: 'bytes', bytes }, room);
  }

  /** bpf(2), with the guest's attributes as they come; pointers become addresses by adding where the command lies. */
  #syscall(payload: Uint8Array, room: number): Uint8Array {
    const { heap } = this.process;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const [cmd, attrSize, outLength] = [0, 4, 12].map((at) => view.getUint32(at, true)) as [
      number,
      number,
      number,
    ];
    const command = heap.allocate(payload.length);
    const attr = heap.allocate(ATTR_BYTES);
    try {
      heap.store(command, 0, payload, 'copying the command');
      const attributes = payload.subarray(SYSCALL_BYTES, SYSCALL_BYTES + attrSize);
      heap.store(attr, 0, attributes, 'copying the attributes');
      const u32 = (at: number): number => heap.u32(attr, at, 'an attribute');
      if (cmd === BPF_MAP_CREATE) {
        const sizes = { keySize: u32(4), valueSize: u32(8), maxEntries: u32(12), mapFlags: u32(16) };
        const request: CreateMap = { kind: 'create-map', mapType: u32(0), ...sizes };
        return this.#answer(request, this.#createMap(request), room);
      }
      const found = this.process.map(u32(0));
      if (typeof found === 'number') return this.#answer(REPORT, error(-found), room);
      const key = heap.load(command, u32(8), found.attributes.keySize, 'bpf(2) copying the key');
      switch (cmd) {
        case BPF_MAP_LOOKUP_ELEM: {
          const value = found.map.lookup(key);
          if (typeof value === 'number') return this.#answer(REPORT, error(-value), room);
          const request: BpfRequest = { kind: 'lookup-elem', handle: 0, key, valueSize: value.length };
          return this.#answer(request, { kind: 'value', value }, room);
        }
        case BPF_MAP_UPDATE_ELEM: {
          const size = Math.max(outLength, found.map.syscallValueSize);
          const value = heap.load(command, u32(16), Math.min(size, GUARD_BYTES), 'bpf(2) copying the value');
          const status = this.#update(found, key, value.subarray(0, found.map.syscallValueSize), 0n);
          return this.#answer(CLOSE, done(status), room);
        }
        case BPF_MAP_DELETE_ELEM:
          return this.#answer(CLOSE, done(found.map.delete(key)), room);
        default:
          return this.#answer(REPORT, error(EINVAL), room);
      }
    } finally {
      heap.free(attr);
      heap.free(command);
    }
  }

  #open(kind: 'program' | 'link' | 'btf', memoryBytes: number, close: () => void): BpfReply {
    const { process, owner } = this;
    const name = `${kind} ${++this.#made} by protocol 2`;
    return {
      kind: 'handle',
      handle: process.open({ kind, name, owner, memoryBytes, references: 1, close }),
    };
  }

  /** A descriptor of one's own for an object, whoever it belongs to. */
  #reopen(object: ObjectDescription | undefined): BpfReply {
    if (object === undefined) return error(ENOENT);
    object.references++;
    return { kind: 'handle', handle: this.process.open(object) };
  }

  async #loadProgram({ insns, gplCompatible }: LoadProgram): Promise<BpfReply> {
    const { party, world } = this.options;
    const maps = new Map<number, MapDescription>();
    const translated = translateHandles(decodeInsns(insns), (fd) => {
      const found = this.process.map(fd);
      // The host's parties have memories of their own: a program on another's map there can be none here.
      if (typeof found === 'number' || found.owner !== this.owner) return undefined;
      maps.set(fd, found);
      return fd;
    });
    if (!translated.ok) return error(EBADF);
    const program: Program = {
      name: this.owner,
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible,
      insns: translated.insns,
    };
    const verification = await party.verifier.verify({
      program,
      maps: new Map([...maps].map(([fd, { attributes, name }]) => [fd, { ...attributes, name }])),
    });
    if (!verification.accepted) return error(EACCES);
    const loaded = await party.executor.load(program, {
      maps: new Map([...maps].map(([fd, { map }]) => [fd, map])),
      world,
      contained: verification.contained,
      facts: verification.facts,
      properties: verification.properties,
      countWork: party.countWork,
    });
    for (const map of maps.values()) map.references++;
    const reply = this.#open('program', 0, () => {
      loaded.close();
      for (const map of maps.values()) this.process.release(map);
    });
    if (reply.kind === 'handle') this.#loaded.set(this.#object(reply.handle)!, loaded);
    return reply;
  }

  #object(fd: number): ObjectDescription | undefined {
    const found = this.process.description(fd);
    return found === undefined || found.kind === 'file' ? undefined : found;
  }

  #link(fd: number): NaiveLink | undefined {
    const object = this.#object(fd);
    return object === undefined ? undefined : this.#links.get(object);
  }

  async #createLink(fd: number): Promise<BpfReply> {
    const program = this.#object(fd);
    const loaded = program === undefined ? undefined : this.#loaded.get(program);
    if (program === undefined || loaded === undefined) return error(EBADF);
    if (this.#attached?.attachment !== undefined) return error(EBUSY);
    const attachment = await this.options.place.attach(loaded);
    program.references++;
    const reply = this.#open('link', 0, () => {});
    const description = reply.kind === 'handle' ? this.#object(reply.handle)! : undefined;
    if (description === undefined) return reply;
    this.#attached = { program, attachment };
    this.#links.set(description, this.#attached);
    return reply;
  }

  /** What was attached is done with: it is freed. That a PROG_ARRAY may hold it, the link does not know. */
  async #updateLink({ link: fd, program: programFd }: UpdateLink): Promise<BpfReply> {
    const link = this.#link(fd);
    const program = this.#object(programFd);
    const loaded = program === undefined ? undefined : this.#loaded.get(program);
    if (link?.attachment === undefined || program === undefined || loaded === undefined) return error(EBADF);
    await link.attachment.replace(loaded);
    const before = link.program;
    program.references++;
    link.program = program;
    if (before !== program) this.process.free(before);
    return DONE;
  }

  async #detach(link: NaiveLink): Promise<void> {
    const { attachment } = link;
    if (attachment === undefined) return;
    link.attachment = undefined;
    await attachment.detach();
    this.process.release(link.program);
  }
}

/** Types whose elements are objects. */
const HOLDS_OBJECTS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
]);

/** Requests that stand for any whose answer is an error, or nothing but an ack. */
const REPORT: BpfRequest = { kind: 'get-report' };
const CLOSE: BpfRequest = { kind: 'close', handle: 0 };
const DONE: BpfReply = { kind: 'done' };

function error(errno: number): BpfReply {
  return { kind: 'error', errno };
}

function done(status: number): BpfReply {
  return status === 0 ? DONE : error(-status);
}

function batchOf(payload: Uint8Array): { map: number; keySize: number; valueSize: number; count: number } {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const [map, keySize, valueSize, count] = [0, 4, 8, 12].map((at) => view.getUint32(at, true));
  return { map: map!, keySize: keySize!, valueSize: valueSize!, count: count! };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function bytesOfU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
