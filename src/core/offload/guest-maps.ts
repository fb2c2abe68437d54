import { E2BIG, EBADF, EBUSY, EEXIST, EMSGSIZE, ENOENT, EOPNOTSUPP, errnoName } from '../../bpf/errno.js';
import { MapBtfExtractor, type MapBtf } from '../../bpf/btf/map-btf.js';
import { BPF_F_ZERO_SEED, BPF_MAP_TYPE, mapTypeName, type MapAttributes } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { BpfScope, CommandContext } from './bpf-scope.js';
import { MAX_READ_BYTES } from './protocol/control-protocol.js';
import type { BtfObject, MapObject, ObjectReference, ProgramObject } from './device-object.js';
import { explainMapRefusal } from './map-refusal.js';
import type { MapBackend } from '../contract/map-backend.js';
import type { PolicyRequest, ProgramOfGuest } from '../contract/policy.js';
import type { Going, Named } from './object-table.js';
import type {
  CreateMap,
  DeleteBatch,
  ElementsRequest,
  FreezeMap,
  LookupBatch,
  ReadRecords,
  UpdateBatch,
  UpdateElem,
} from './protocol/control-protocol.js';
import type { Charge } from './quota-accounts.js';
import {
  DONE,
  failed,
  malformed,
  unknownHandle,
  unsupported,
  type Outcome,
  type Refusal,
} from './refusal.js';

/** What an operation on a map may end in without anything being wrong. */
const ORDINARY_ERRNOS: ReadonlySet<number> = new Set([ENOENT, EEXIST, E2BIG]);
const T = BPF_MAP_TYPE;
/** Elements of a map that are objects: as many as a device has of them; closing one lets go of all of them in one go. */
const MAX_HELD_ELEMENTS = 4096;
/** Bytes of the host's memory that an element that is an object takes beside the map's own and its key in hex, measured: 220 to 235. */
const HELD_ELEMENT_BYTES = 248;
const RECORD_MAPS: ReadonlySet<number> = new Set([T.BPF_MAP_TYPE_RINGBUF, T.BPF_MAP_TYPE_PERF_EVENT_ARRAY]);
const HANDLE_BYTES = 4;
/**
 * Bits of prefixes of an LPM_TRIE that one batch goes through at most. A trie may be as deep as its keys are long, and what is one
 * step for other maps is up to 2048 there: 4096 elements would hold the host for half a second, these for 1 ms.
 */
const MAX_TRIE_BITS = 8192;
/**
 * Elements that are objects of which one batch may consist: each takes 1 to 4 µs, to find and to keep, where others take less
 * than one. These take 1 to 2 ms.
 */
const MAX_HELD_IN_BATCH = 512;
/** Bytes of `struct bpf_lpm_trie_key_u8` in front of the prefix. */
const TRIE_PREFIX_LENGTH_BYTES = 4;
/** Bytes of BTF that one map may keep: making and reading them takes 1 to 2 ms at most. */
const MAX_MAP_BTF_BYTES = 16 * 1024;
/** Bytes that are tidied up at once: 0.1 to 0.4 ms, which is so many steps of the object table's. */
const TIDY_BYTES = 1024 * 1024;
const TIDY_STEPS = 512;
/** Records of one answer: making it takes 1 to 2 ms at most. */
const MAX_RECORDS = 4096;
/** Bytes of a record beside its data, on the wire. */
const RECORD_HEADER_BYTES = 12;

type MapOperation =
  | 'map-lookup'
  | 'map-update'
  | 'map-delete'
  | 'map-next-key'
  | 'map-free'
  | 'map-freeze'
  | 'map-read-records';

/** What policies are told of an operation beside the map. */
type MapDetails = Pick<Extract<PolicyRequest, { operation: MapOperation }>, 'elements' | 'programs'>;

/** One guest's maps on the host: what a request says of key and value is what the map has, and policies agree, before anything is done. */
export class GuestMaps {
  readonly #scope: BpfScope;
  #mapsMade = 0;

  constructor(scope: BpfScope) {
    this.#scope = scope;
  }

  create(request: CreateMap, { id }: CommandContext): Outcome {
    const { options, limits, objects } = this.#scope;
    const { party } = options;
    const plain: MapAttributes = {
      type: request.mapType,
      keySize: request.keySize,
      valueSize: request.valueSize,
      maxEntries: request.maxEntries,
      flags: request.mapFlags,
    };
    if (!limits.mapTypes.includes(plain.type)) {
      const offered = limits.mapTypes.map(mapTypeName).join(', ');
      return unsupported(`${mapTypeName(plain.type)} is not among the types of this device: ${offered}`);
    }
    if ((plain.flags & BPF_F_ZERO_SEED) !== 0) {
      return unsupported(
        'BPF_F_ZERO_SEED: keys can be chosen that all collide, and each look-up then holds the host',
      );
    }
    if (!objects.hasRoom) return this.#scope.tableFull();
    const uses: ObjectReference[] = [];
    let charge: Charge | undefined;
    let map: BpfMap | undefined;
    let added: Named<MapObject> | undefined;
    try {
      const inner = this.#innerOf(request, uses);
      if (inner !== undefined && 'ok' in inner) return inner;
      const btf = this.#btfOf(request, uses);
      if (btf !== undefined && 'ok' in btf) return btf;
      const attributes: MapAttributes = {
        ...plain,
        ...(btf === undefined ? {} : { btf: btf.types }),
        ...(inner === undefined ? {} : { inner: inner.attributes }),
      };
      if (holdsObjects(attributes) && attributes.maxEntries > MAX_HELD_ELEMENTS) {
        return failed(
          E2BIG,
          `${attributes.maxEntries} entries of ${mapTypeName(attributes.type)}, the device has ${MAX_HELD_ELEMENTS} at most`,
        );
      }
      const memoryBytes = party.mapBackend.memoryCost(attributes) + heldElementBytes(attributes);
      const denial = this.#scope.rule(id, { operation: 'map-create', map: attributes, memoryBytes });
      if (denial !== undefined) return denial;
      const btfMemory = btf?.types.bytes.length ?? 0;
      const btfDenial =
        btfMemory === 0 ? undefined : this.#scope.rule(id, { operation: 'btf-load', bytes: btfMemory });
      if (btfDenial !== undefined) return btfDenial;
      const charged = this.#scope.charge({
        maps: 1,
        mapMemory: memoryBytes,
        entries: attributes.maxEntries,
        btfMemory,
      });
      if ('ok' in charged) return charged;
      charge = charged;
      const name = `${this.#scope.label}/map${++this.#mapsMade}`;
      const created = party.mapBackend.create(attributes, { name, innerTemplate: inner?.map });
      if (typeof created === 'number') {
        const reason = explainMapRefusal(party.mapBackend, attributes, created);
        return failed(-created, `the map cannot be created: ${reason}`);
      }
      map = created;
      const mostBytes = created.syscallValueSize > request.valueSize ? this.#maxValueBytes : Infinity;
      if (created.syscallValueSize > mostBytes) {
        const cpus = `of all CPUs together ${created.syscallValueSize} bytes`;
        return failed(E2BIG, `a value takes ${cpus}, a command at most ${mostBytes}`);
      }
      const elements: MapObject['elements'] = new Map();
      added = objects.add<MapObject>('map', {
        charge,
        uses,
        make: (id) => ({
          kind: 'map',
          id,
          name: request.name ?? '',
          map: created,
          attributes,
          memoryBytes,
          inner,
          frozen: false,
          btf: btf === undefined ? undefined : { object: btf.object, ...btf.ids },
          frags: undefined,
          elements,
        }),
        unnamed: (object) => (plain.type === T.BPF_MAP_TYPE_PROG_ARRAY ? clearPrograms(object) : undefined),
        close: () => {
          created.close();
          return tidy(party.mapBackend);
        },
        holds: () => elements.values(),
      });
    } finally {
      if (added === undefined) {
        map?.close();
        charge?.release();
        for (const use of uses) use.release();
      }
    }
    return added === undefined
      ? this.#scope.tableFull()
      : { ok: true, reply: { kind: 'handle', handle: added.handle } };
  }

  /** Whatever is asked about elements of one map. */
  elements(request: ElementsRequest, context: CommandContext): Outcome {
    switch (request.kind) {
      case 'update-elem':
        return this.#withElement(request, 'map-update', request.value.length, context, (object) =>
          this.#update(object, request),
        );
      case 'lookup-elem':
        return this.#withElement(request, 'map-lookup', request.valueSize, context, (object) =>
          value(this.#lookup(object, request.key)),
        );
      case 'lookup-and-delete-elem':
        return this.#withElement(request, 'map-delete', request.valueSize, context, (object) => {
          if (holdsObjects(object.attributes))
            return unsupported('its elements are maps or programs: look up, then delete');
          return value(object.map.lookupAndDelete(request.key));
        });
      case 'delete-elem':
        // bpf(2) has no value here.
        return this.#withElement(request, 'map-delete', request.valueSize || undefined, context, (object) =>
          done(this.#delete(object, request.key)),
        );
      case 'get-first':
        return this.#withElement(request, 'map-next-key', request.valueSize, context, ({ map }) =>
          nextKey(map, null),
        );
      case 'get-next':
        return this.#withElement(request, 'map-next-key', request.valueSize, context, ({ map }) =>
          nextKey(map, request.key),
        );
      case 'lookup-batch':
        return this.#withElement(
          request,
          request.remove ? 'map-delete' : 'map-lookup',
          request.valueSize,
          context,
          (object) => this.#lookupBatch(object, request),
        );
      case 'update-batch':
        return this.#withElement(request, 'map-update', request.valueSize, context, (object) =>
          this.#updateBatch(object, request),
        );
      case 'delete-batch':
        return this.#withElement(request, 'map-delete', undefined, context, (object) =>
          this.#deleteBatch(object, request),
        );
    }
  }

  freeze(request: FreezeMap, context: CommandContext): Outcome {
    return this.withMap(request.handle, 'map-freeze', context, (object) => {
      // kernel/bpf/syscall.c map_freeze
      if (object.frozen) return failed(EBUSY, 'the map is frozen already');
      // It has to let go of its programs with its last name, and could not.
      if (object.attributes.type === T.BPF_MAP_TYPE_PROG_ARRAY)
        return unsupported('a PROG_ARRAY is not frozen');
      const status = object.map.freeze();
      if (status === 0) object.frozen = true;
      return done(status);
    });
  }

  /** Finds the map, asks the policies, does it. */
  withMap(
    handle: number,
    operation: MapOperation,
    { id }: CommandContext,
    act: (object: MapObject) => Outcome,
    check?: (object: MapObject) => Refusal | undefined,
    details?: (object: MapObject) => MapDetails,
  ): Outcome {
    const object = this.#scope.objects.find('map', handle);
    if (object === undefined) return unknownHandle(handle, 'map');
    const refusal =
      check?.(object) ??
      this.#scope.rule(id, {
        operation,
        map: object.attributes,
        ...details?.(object),
      });
    return refusal ?? act(object);
  }

  readRecords(request: ReadRecords, context: CommandContext): Outcome {
    return this.withMap(
      request.handle,
      'map-read-records',
      context,
      ({ map }) => {
        const { bytes } = request;
        const next = map.nextRecordBytes!();
        const needed = next === undefined ? 0 : RECORD_HEADER_BYTES + next;
        if (needed <= bytes) {
          const records = map.drainRecords!({
            bytes,
            records: MAX_RECORDS,
            recordBytes: RECORD_HEADER_BYTES,
          });
          return { ok: true, reply: { kind: 'records', records } };
        }
        const problem = `${bytes} bytes do not hold the next record, which takes ${needed}`;
        if (needed <= MAX_READ_BYTES) return failed(EMSGSIZE, problem);
        // No command can ever return it: it is lost, so that it does not bar the way of those behind it.
        map.skipRecord!();
        return failed(EMSGSIZE, `${problem}, more than any answer: it is lost`);
      },
      ({ attributes, map }) =>
        RECORD_MAPS.has(attributes.type) &&
        map.drainRecords !== undefined &&
        map.nextRecordBytes !== undefined &&
        map.skipRecord !== undefined
          ? undefined
          : unsupported(`${mapTypeName(attributes.type)} has no records`),
    );
  }

  /** Bytes of a value that a command carries. */
  get #maxValueBytes(): number {
    return this.#scope.options.capabilities?.().maxValueBytes ?? Infinity;
  }

  #innerOf(request: CreateMap, uses: ObjectReference[]): MapObject | Refusal | undefined {
    const wants =
      request.mapType === T.BPF_MAP_TYPE_ARRAY_OF_MAPS || request.mapType === T.BPF_MAP_TYPE_HASH_OF_MAPS;
    if (request.inner === undefined) {
      return wants
        ? malformed(`${mapTypeName(request.mapType)} needs a map whose like it holds`, EBADF)
        : undefined;
    }
    if (!wants) return malformed(`${mapTypeName(request.mapType)} holds no maps`);
    const inner = this.#scope.objects.hold('map', request.inner);
    if (inner === undefined) return unknownHandle(request.inner, 'map');
    uses.push(inner);
    const { attributes } = inner.object;
    // Of these there are no kinds in kinds: kernel/bpf/map_in_map.c bpf_map_meta_alloc.
    return holdsObjects(attributes)
      ? malformed(`${mapTypeName(attributes.type)} cannot be in another map`)
      : inner.object;
  }

  #btfOf(
    request: CreateMap,
    uses: ObjectReference[],
  ):
    | {
        readonly types: MapBtf;
        readonly object: BtfObject;
        readonly ids: { keyType: number; valueType: number };
      }
    | Refusal
    | undefined {
    if (request.btf === undefined) return undefined;
    const { handle, keyType, valueType } = request.btf;
    const held = this.#scope.objects.hold('btf', handle);
    if (held === undefined) return unknownHandle(handle, 'BTF');
    uses.push(held);
    try {
      const btf = this.#scope.btfOf(held.object.bytes);
      const keySize = keyType === 0 ? request.keySize : btf.sizeOf(keyType);
      const valueSize = btf.sizeOf(valueType);
      // kernel/bpf/syscall.c map_check_btf
      if (keySize !== request.keySize || valueSize !== request.valueSize) {
        return malformed(
          `types ${keyType} and ${valueType} take ${keySize ?? 'no'} and ${valueSize ?? 'no'} bytes, the map ${request.keySize} and ${request.valueSize}`,
        );
      }
      const types = new MapBtfExtractor(btf, MAX_MAP_BTF_BYTES).extract(keyType, valueType);
      return { types, object: held.object, ids: { keyType, valueType } };
    } catch (error) {
      if (error instanceof XdpbedError) return malformed(`BTF of the map: ${messageOf(error)}`);
      throw error;
    }
  }

  /** As withMap, and what the request says of key and value is what the map has. */
  #withElement(
    request: { readonly handle: number } & (
      | { readonly key: Uint8Array }
      | { readonly keySize: number; readonly key?: undefined; readonly count?: number }
    ),
    operation: MapOperation,
    valueSize: number | undefined,
    context: CommandContext,
    act: (object: MapObject) => Outcome,
  ): Outcome {
    const keySize = request.key === undefined ? request.keySize : request.key.length;
    const check = ({ map, attributes }: MapObject): Refusal | undefined => {
      if (keySize !== attributes.keySize) {
        return malformed(`key_size ${keySize}, the map has keys of ${attributes.keySize} bytes`);
      }
      if (
        valueSize !== undefined &&
        valueSize !== map.syscallValueSize &&
        !(operation === 'map-next-key' && valueSize === 0)
      ) {
        return malformed(`value_size ${valueSize}, the map has values of ${map.syscallValueSize} bytes`);
      }
      return undefined;
    };
    const { count, value, values } = request as {
      readonly count?: number;
      readonly value?: Uint8Array;
      readonly values?: Uint8Array;
    };
    const details = ({ attributes }: MapObject): MapDetails => {
      const isPrograms = attributes.type === T.BPF_MAP_TYPE_PROG_ARRAY;
      const handles = isPrograms ? (value ?? values) : undefined;
      return { elements: count, programs: handles && this.#programsIn(handles) };
    };
    return this.withMap(request.handle, operation, context, act, check, details);
  }

  /** The programs that values of a map of programs name, each once. */
  #programsIn(values: Uint8Array): ProgramOfGuest[] {
    const programs = new Set<ProgramObject>();
    for (let at = 0; at + HANDLE_BYTES <= values.length; at += HANDLE_BYTES) {
      const program = this.#scope.objects.find('program', handleIn(values.subarray(at)));
      if (program !== undefined) programs.add(program);
    }
    return [...programs].map(({ summary, properties }) => ({ summary, properties }));
  }

  #lookup(object: MapObject, key: Uint8Array): Uint8Array | number {
    if (!holdsObjects(object.attributes)) return object.map.lookup(key);
    // Which object it is the guest sees by its id, as in the kernel.
    const element = object.elements.get(hex(key));
    return element === undefined ? -ENOENT : littleEndian(element.object.id);
  }

  #update(
    object: MapObject,
    { key, value: bytes, flags }: Pick<UpdateElem, 'key' | 'value' | 'flags'>,
  ): Outcome {
    if (!holdsObjects(object.attributes)) return done(object.map.update(key, bytes, flags));
    if (flags !== 0n)
      return malformed(`update flags ${flags}: elements that are maps or programs take BPF_ANY`);
    const handle = handleIn(bytes);
    const isPrograms = object.attributes.type === T.BPF_MAP_TYPE_PROG_ARRAY;
    const kind = isPrograms ? 'program' : 'map';
    const element = this.#scope.objects.hold(kind, handle);
    if (element === undefined) return unknownHandle(handle, kind);
    let status: number | undefined;
    if (isPrograms && element.object.kind === 'program') {
      const mixed = mixesFrags(object, element.object.frags);
      if (mixed !== undefined) {
        element.release();
        return mixed;
      }
      status = object.map.setProgram?.(
        new DataView(key.buffer, key.byteOffset, 4).getUint32(0, true),
        element.object.program.id,
      );
    } else if (element.object.kind === 'map') {
      status = object.map.setInnerMap?.(key, element.object.map);
    }
    if (status !== 0) {
      element.release();
      return status === undefined
        ? failed(EOPNOTSUPP, 'the map backend holds no such elements')
        : done(status);
    }
    if (element.object.kind === 'program') object.frags = element.object.frags;
    const name = hex(key);
    const previous = object.elements.get(name);
    object.elements.set(name, element);
    previous?.release();
    return DONE;
  }

  #delete(object: MapObject, key: Uint8Array): number {
    const status = object.map.delete(key);
    if (status === 0 && holdsObjects(object.attributes)) {
      const name = hex(key);
      const element = object.elements.get(name);
      object.elements.delete(name);
      element?.release();
    }
    return status;
  }

  #lookupBatch(object: MapObject, request: LookupBatch): Outcome {
    if (holdsObjects(object.attributes)) return unsupported('its elements are maps or programs');
    const count = Math.min(request.count, mostInBatch(object));
    const batch = object.map.lookupBatch(request.cursor ?? null, count);
    if (typeof batch === 'number') return mapErrno(batch);
    const { entries, next } = batch;
    const { keySize, valueSize } = request;
    const keys = new Uint8Array(entries.length * keySize);
    const values = new Uint8Array(entries.length * valueSize);
    entries.forEach((entry, index) => {
      keys.set(entry.key, index * keySize);
      values.set(entry.value, index * valueSize);
    });
    if (request.remove) {
      for (const { key } of entries) {
        const status = object.map.delete(key);
        // A map that lets go of one of its elements lets go of any: this is the first, and nothing is lost.
        if (status !== 0 && status !== -ENOENT) return mapErrno(status);
      }
    }
    return {
      ok: true,
      reply: { kind: 'elements', count: entries.length, keys, values, next: next ?? undefined },
    };
  }

  #updateBatch(object: MapObject, request: UpdateBatch): Outcome {
    const { count, keySize, valueSize, keys, values, flags } = request;
    if (count > mostInBatch(object)) return tooMany(object, count);
    for (let index = 0; index < count; index++) {
      const key = keys.subarray(index * keySize, (index + 1) * keySize);
      const bytes = values.subarray(index * valueSize, (index + 1) * valueSize);
      const outcome = this.#update(object, { key, value: bytes, flags });
      if (!outcome.ok) return { ...outcome, count: index };
    }
    return { ok: true, reply: { kind: 'count', count } };
  }

  #deleteBatch(object: MapObject, { count, keySize, keys }: DeleteBatch): Outcome {
    if (count > mostInBatch(object)) return tooMany(object, count);
    for (let index = 0; index < count; index++) {
      const outcome = done(this.#delete(object, keys.subarray(index * keySize, (index + 1) * keySize)));
      if (!outcome.ok) return { ...outcome, count: index };
    }
    return { ok: true, reply: { kind: 'count', count } };
  }
}

/**
 * Programs that reach one another by tail calls are all for frames in several buffers, or none is: one that is not could
 * otherwise get such a frame (kernel/bpf/core.c __bpf_prog_map_compatible). Which it is, the first program says.
 */
export function mixesFrags({ frags, attributes }: MapObject, ofProgram: boolean): Refusal | undefined {
  if (attributes.type !== T.BPF_MAP_TYPE_PROG_ARRAY || frags === undefined || frags === ofProgram)
    return undefined;
  return malformed(`programs of this PROG_ARRAY are ${frags ? '' : 'not '}for frames in several buffers`);
}

/** Elements of one batch, where the type of the map limits them further than the device does. */
function mostInBatch({ attributes }: MapObject): number {
  const { type, keySize } = attributes;
  if (holdsObjects(attributes)) return MAX_HELD_IN_BATCH;
  if (type !== T.BPF_MAP_TYPE_LPM_TRIE) return Infinity;
  return Math.max(1, Math.floor(MAX_TRIE_BITS / (8 * (keySize - TRIE_PREFIX_LENGTH_BYTES))));
}

function tooMany(object: MapObject, count: number): Refusal {
  const type = mapTypeName(object.attributes.type);
  const problem = `a batch of ${count}, of this ${type} ${mostInBatch(object)} elements at most`;
  return { ...failed(E2BIG, problem), count: 0 };
}

/** Bytes of the host's memory that a map's elements take beside the map's own: of those that are objects. */
function heldElementBytes(attributes: MapAttributes): number {
  return holdsObjects(attributes) ? (HELD_ELEMENT_BYTES + 2 * attributes.keySize) * attributes.maxEntries : 0;
}

/** Whether the elements are other objects of the guest's. */
export function holdsObjects({ type }: Pick<MapAttributes, 'type'>): boolean {
  return (
    type === T.BPF_MAP_TYPE_PROG_ARRAY ||
    type === T.BPF_MAP_TYPE_ARRAY_OF_MAPS ||
    type === T.BPF_MAP_TYPE_HASH_OF_MAPS
  );
}

/**
 * A PROG_ARRAY that nobody can name any more lets go of its programs (kernel/bpf/arraymap.c prog_array_map_clear): they may
 * use it themselves, and would keep each other for ever.
 */
function* clearPrograms(object: MapObject): Going {
  for (const [name, element] of object.elements) {
    // What a map does not let go of has to stay alive.
    if (object.map.delete(Uint8Array.from(Buffer.from(name, 'hex'))) !== 0) continue;
    object.elements.delete(name);
    element.release();
    yield 1;
  }
}

/** What a map leaves behind is tidied up piece by piece, before the guest's next command finds it in its way. */
function* tidy(backend: MapBackend): Going {
  while (backend.tidy?.(TIDY_BYTES) === true) yield TIDY_STEPS;
}

/** The handle that a value is, a u32 in little-endian. */
function handleIn(value: Uint8Array): number {
  return new DataView(value.buffer, value.byteOffset, HANDLE_BYTES).getUint32(0, true);
}

function value(answer: Uint8Array | number): Outcome {
  return typeof answer === 'number'
    ? mapErrno(answer)
    : { ok: true, reply: { kind: 'value', value: answer } };
}

function nextKey(map: BpfMap, key: Uint8Array | null): Outcome {
  const next = map.nextKey(key);
  return typeof next === 'number' ? mapErrno(next) : { ok: true, reply: { kind: 'key', key: next } };
}

function done(status: number): Outcome {
  return status === 0 ? DONE : mapErrno(status);
}

function mapErrno(status: number): Refusal {
  const errno = -status;
  const kind = ORDINARY_ERRNOS.has(errno) ? 'answer' : 'failed';
  return { ok: false, kind, reason: errnoName(errno), errno };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

function littleEndian(number: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}
