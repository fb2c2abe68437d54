import {
  CONTROL_HEADER_BYTES,
  VIRTIO_NET_CTRL_BPF,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from '../../../../virtio/control.js';
import type { MapRecord } from '../../../../bpf/runtime/bpf-map.js';
import { XdpbedError } from '../../../diagnostic.js';
import { freshViewable } from '../../../fresh-bytes.js';
import type { VerdictCounts } from '../../../contract/result.js';
import type { DeviceCapabilities } from '../capabilities.js';
import { expectedReply, type BpfReply, type BpfRequest, type DecodedReply } from '../control-protocol.js';
import { OBJECT_KINDS, type DeviceReport, type ObjectInfo } from '../object-info.js';
import { readLe32, writeLe32, writeLe64 } from './little-endian.js';
import { cursorRoom, dataBytes } from './reply-size.js';
import {
  BATCH_REMOVE,
  type BpfCommand,
  BTF_INFO,
  BTF_LOAD,
  BTF_READ,
  CAPABILITIES,
  COMMAND_OF,
  COUNT,
  decodeName,
  ELEMENTS,
  encodeName,
  HANDLE,
  LINK_CREATE,
  LINK_INFO,
  LINK_UPDATE,
  LINK_UPDATE_REPLACE,
  MAP_BATCH,
  MAP_CREATE,
  MAP_ELEM,
  MAP_INFO,
  MAP_INFO_FROZEN,
  MAP_RECORDS,
  MAX_EXTACK_BYTES,
  OBJECT_ID,
  OBJECT_INFO,
  OBJECT_NAME,
  OBJECT_NAME_BYTES,
  PIN,
  PIN_NAME,
  PIN_NAME_BYTES,
  PIN_NAME_TEXT,
  PROG_FLAG,
  PROG_INFO,
  PROG_LOAD,
  RECORD,
  REPORT,
  RESULT,
  VERDICTS,
} from './wire.js';

const MAX_ERRNO = 4095;
const INSN_BYTES = 8;
/** Ids of maps that a driver has room for in the answer to INFO. */
const MAP_IDS = 64;
const AT = RESULT.offsets;
const ELEM = MAP_ELEM.offsets;
const NOTHING = new Uint8Array();

/**
 * The device-readable bytes of a command, class and command included: the driver's side.
 * @throws XdpbedError `virtio-violation` for a request that the protocol has no command for, or whose fields do not fit
 */
export function encodeRequest(request: BpfRequest): Uint8Array {
  const command = (COMMAND_OF as Partial<Record<BpfRequest['kind'], BpfCommand>>)[request.kind];
  if (command === undefined) {
    throw new XdpbedError('virtio-violation', `${request.kind} is no request of this protocol`);
  }
  switch (request.kind) {
    case 'lookup-elem':
    case 'lookup-and-delete-elem':
    case 'delete-elem':
    case 'get-next':
      return element(command, request.handle, request.key.length, request.valueSize, 0n, request.key);
    case 'get-first':
      return element(command, request.handle, request.keySize, request.valueSize, 0n);
    case 'update-elem': {
      const { handle, key, value, flags } = request;
      return element(command, handle, key.length, value.length, flags, key, value);
    }
    default: {
      const payload = payloadOf(request);
      const bytes = room(command, payload.length);
      bytes.set(payload, CONTROL_HEADER_BYTES);
      return bytes;
    }
  }
}

/** Room for a command with so many bytes behind class and command; a driver makes views of it. */
function room(command: BpfCommand, payloadBytes: number): Uint8Array {
  const bytes = freshViewable(CONTROL_HEADER_BYTES + payloadBytes);
  bytes[0] = VIRTIO_NET_CTRL_BPF;
  bytes[1] = command;
  return bytes;
}

/** A command about one element: what there are most of, so that it is written where it is sent from. */
function element(
  command: BpfCommand,
  map: number,
  keySize: number,
  valueSize: number,
  flags: bigint,
  key: Uint8Array = NOTHING,
  value: Uint8Array = NOTHING,
): Uint8Array {
  const bytes = room(command, MAP_ELEM.size + key.length + value.length);
  writeLe32(bytes, CONTROL_HEADER_BYTES + ELEM.map, map, 'map');
  writeLe32(bytes, CONTROL_HEADER_BYTES + ELEM.key_size, keySize, 'key_size');
  writeLe32(bytes, CONTROL_HEADER_BYTES + ELEM.value_size, valueSize, 'value_size');
  writeLe64(bytes, CONTROL_HEADER_BYTES + ELEM.flags, flags, 'flags');
  bytes.set(key, CONTROL_HEADER_BYTES + MAP_ELEM.size);
  if (value.length > 0) bytes.set(value, CONTROL_HEADER_BYTES + MAP_ELEM.size + key.length);
  return bytes;
}

/** Device-writable bytes that a driver offers: for the data, and for as much text as there may be. */
export function replyBytes(request: BpfRequest): number {
  const more = request.kind === 'get-info' ? 4 * MAP_IDS : 0;
  // Of a look-up it is known what it can end in, and there are many of them.
  const extack = request.kind === 'lookup-elem' || request.kind === 'get-next' ? 256 : MAX_EXTACK_BYTES;
  return RESULT.size + dataBytes(request) + more + extack;
}

function payloadOf(request: BpfRequest): Uint8Array {
  switch (request.kind) {
    case 'get-capabilities':
    case 'get-report':
      return new Uint8Array();
    case 'create-map':
      return MAP_CREATE.encode({
        map_type: request.mapType,
        key_size: request.keySize,
        value_size: request.valueSize,
        max_entries: request.maxEntries,
        map_flags: request.mapFlags,
        inner_map: request.inner ?? 0,
        btf: request.btf?.handle ?? 0,
        btf_key_type_id: request.btf?.keyType ?? 0,
        btf_value_type_id: request.btf?.valueType ?? 0,
        name: nameField(request.name ?? '', OBJECT_NAME_BYTES, OBJECT_NAME),
      });
    case 'lookup-batch':
    case 'update-batch':
    case 'delete-batch': {
      const isLookup = request.kind === 'lookup-batch';
      const parts = isLookup
        ? [request.cursor ?? new Uint8Array()]
        : request.kind === 'update-batch'
          ? [request.keys, request.values]
          : [request.keys];
      const header = {
        map: request.handle,
        key_size: request.keySize,
        value_size: request.kind === 'delete-batch' ? 0 : request.valueSize,
        count: request.count,
        cursor_length: isLookup ? parts[0]!.length : 0,
        flags: isLookup
          ? request.remove
            ? BATCH_REMOVE
            : 0n
          : request.kind === 'update-batch'
            ? request.flags
            : 0n,
      };
      if (!isLookup) {
        const { count, keySize, keys } = request;
        const values = request.kind === 'update-batch' ? request.values.length : 0;
        if (keys.length !== count * keySize || values !== count * header.value_size) {
          throw new XdpbedError(
            'virtio-violation',
            `${keys.length} bytes of keys and ${values} of values for ${count} elements`,
          );
        }
      }
      return behind(MAP_BATCH.encode(header), ...parts);
    }
    case 'freeze-map':
    case 'get-info':
    case 'close':
      return HANDLE.encode({ handle: request.handle });
    case 'detach-link':
      return HANDLE.encode({ handle: request.link });
    case 'read-records':
      return MAP_RECORDS.encode({ map: request.handle, length: request.bytes });
    case 'load-btf':
      return behind(BTF_LOAD.encode({ length: request.bytes.length }), request.bytes);
    case 'read-btf':
      return BTF_READ.encode({ btf: request.handle, offset: request.offset, length: request.length });
    case 'load-program': {
      const { debug } = request;
      const header = {
        insn_count: request.insns.length / INSN_BYTES,
        flags:
          (request.gplCompatible ? PROG_FLAG.GPL_COMPATIBLE : 0) | (request.frags ? PROG_FLAG.HAS_FRAGS : 0),
        btf: debug?.btf ?? 0,
        func_info_count: (debug?.functions.length ?? 0) / 8,
        line_info_count: (debug?.lines.length ?? 0) / 16,
        name: nameField(request.name, OBJECT_NAME_BYTES, OBJECT_NAME),
      };
      return behind(
        PROG_LOAD.encode(header),
        request.insns,
        ...(debug === undefined ? [] : [debug.functions, debug.lines]),
      );
    }
    case 'create-link':
      return LINK_CREATE.encode({ program: request.program, hook_point: request.hook });
    case 'update-link': {
      const { link, program, expected } = request;
      const flags = expected === undefined ? 0 : LINK_UPDATE_REPLACE;
      return LINK_UPDATE.encode({ link, program, expected: expected ?? 0, flags });
    }
    case 'pin':
      return PIN.encode({
        handle: request.handle,
        name: nameField(request.name, PIN_NAME_BYTES, PIN_NAME_TEXT),
      });
    case 'unpin':
    case 'open-pinned':
      return PIN_NAME.encode({ name: nameField(request.name, PIN_NAME_BYTES, PIN_NAME_TEXT) });
    case 'next-pinned':
      return PIN_NAME.encode({
        name:
          request.after === ''
            ? new Uint8Array(PIN_NAME_BYTES)
            : nameField(request.after, PIN_NAME_BYTES, PIN_NAME_TEXT),
      });
    case 'open-by-id':
    case 'next-id':
      return OBJECT_ID.encode({
        kind: OBJECT_KINDS.indexOf(request.object),
        id: request.kind === 'open-by-id' ? request.id : request.after,
      });
    default:
      throw new XdpbedError('virtio-violation', `${request.kind} is no request of this protocol`);
  }
}

function behind(...parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function nameField(name: string, bytes: number, characters: RegExp): Uint8Array {
  const field = characters.test(name) ? encodeName(name, bytes) : undefined;
  if (field === undefined)
    throw new XdpbedError('virtio-violation', `'${name}' is no name of at most ${bytes - 1} bytes`);
  return field;
}

/** Why a driver does not believe an answer. */
export const BPF_RESPONSE_REASONS = {
  'response-length-mismatch': 'the device wrote fewer or more bytes than the answer says',
  'ack-unknown': 'the ack is neither VIRTIO_NET_OK nor VIRTIO_NET_ERR',
  'errno-invalid': 'an errno is there with VIRTIO_NET_OK, or is none',
  'data-invalid': 'the data is not what the request calls for',
} as const;
export type BpfResponseReason = keyof typeof BPF_RESPONSE_REASONS;

/**
 * Decodes the answer to a request: the driver's side. Total, and as distrustful as the device's.
 * @param written the device-writable bytes that the device wrote (`used.len` of them)
 */
export function decodeReply(request: BpfRequest, written: Uint8Array): DecodedReply {
  if (written.length === 1 && written[0] === VIRTIO_NET_ERR) return { ok: true, reply: { kind: 'error' } };
  if (written.length < RESULT.size) {
    return refuse(
      'response-length-mismatch',
      `${written.length} of the ${RESULT.size} bytes of ${RESULT.name}`,
    );
  }
  const ack = written[AT.ack]!;
  const errno = readLe32(written, AT.errno);
  const dataLength = readLe32(written, AT.data_length);
  const extackLength = readLe32(written, AT.extack_length);
  if (written.length !== RESULT.size + dataLength + extackLength) {
    return refuse(
      'response-length-mismatch',
      `${written.length} bytes written, ${dataLength} of data and ${extackLength} of text were announced`,
    );
  }
  // Of its own, so that what is kept of an answer does not keep more than that.
  const data = written.slice(RESULT.size, RESULT.size + dataLength);
  if (ack === VIRTIO_NET_ERR) {
    if (errno > MAX_ERRNO) return refuse('errno-invalid', `errno ${errno}`);
    const text = new TextDecoder().decode(written.subarray(RESULT.size + dataLength));
    const isBatch = request.kind === 'update-batch' || request.kind === 'delete-batch';
    if (data.length !== 0 && !(isBatch && data.length === COUNT.size)) {
      return refuse('data-invalid', `${data.length} bytes of data with VIRTIO_NET_ERR`);
    }
    const count = data.length === 0 ? undefined : COUNT.read(data).count;
    if (count !== undefined && isBatch && count >= request.count)
      return refuse('data-invalid', `count ${count}`);
    return {
      ok: true,
      reply: {
        kind: 'error',
        ...(errno === 0 ? {} : { errno }),
        ...(text === '' ? {} : { message: text }),
        ...(count === undefined ? {} : { count }),
      },
    };
  }
  if (ack !== VIRTIO_NET_OK) return refuse('ack-unknown', `ack ${ack} is neither 0 nor 1`);
  if (errno !== 0) return refuse('errno-invalid', `errno ${errno} with VIRTIO_NET_OK`);
  const reply = replyOf(request, data);
  if (reply === undefined) return refuse('data-invalid', `${data.length} bytes of data for ${request.kind}`);
  return { ok: true, reply };
}

function replyOf(request: BpfRequest, data: Uint8Array): BpfReply | undefined {
  const kind = expectedReply(request);
  switch (kind) {
    case 'done':
      return data.length === 0 ? { kind } : undefined;
    case 'handle':
      return data.length === HANDLE.size ? { kind, handle: HANDLE.read(data).handle } : undefined;
    case 'id':
      return data.length === HANDLE.size ? { kind, id: HANDLE.read(data).handle } : undefined;
    case 'value':
      return data.length === dataBytes(request) ? { kind, value: data } : undefined;
    case 'key':
      return data.length === dataBytes(request) ? { kind, key: data } : undefined;
    case 'count': {
      const isBatch = request.kind === 'update-batch' || request.kind === 'delete-batch';
      if (!isBatch || data.length !== COUNT.size) return undefined;
      const { count } = COUNT.read(data);
      return count === request.count ? { kind, count } : undefined;
    }
    case 'elements': {
      if (request.kind !== 'lookup-batch' || data.length < ELEMENTS.size) return undefined;
      const { keySize, valueSize } = request;
      const { count, next_length: nextLength } = ELEMENTS.read(data);
      const length = ELEMENTS.size + nextLength + count * (keySize + valueSize);
      if (count > request.count || nextLength > cursorRoom(keySize) || data.length !== length)
        return undefined;
      const next = ELEMENTS.size + nextLength;
      const keys = next + count * keySize;
      return {
        kind,
        count,
        next: nextLength === 0 ? undefined : data.slice(ELEMENTS.size, next),
        keys: data.subarray(next, keys),
        values: data.subarray(keys),
      };
    }
    case 'records': {
      if (data.length > dataBytes(request)) return undefined;
      const records: MapRecord[] = [];
      let at = 0;
      while (at < data.length) {
        if (data.length - at < RECORD.size) return undefined;
        const { cpu, lost, length } = RECORD.read(data, at);
        at += RECORD.size;
        if (length > data.length - at) return undefined;
        records.push({ cpu, lost, data: data.slice(at, at + length) });
        at += length;
      }
      return { kind, records };
    }
    case 'bytes':
      return data.length <= dataBytes(request) ? { kind, bytes: data } : undefined;
    case 'name': {
      const name = data.length === PIN_NAME.size ? decodeName(data, PIN_NAME_TEXT) : undefined;
      return name === undefined ? undefined : { kind, name };
    }
    case 'info': {
      const info = infoOf(data);
      return info === undefined ? undefined : { kind, info };
    }
    case 'capabilities': {
      const capabilities = decodeCapabilities(data);
      return capabilities === undefined ? undefined : { kind, capabilities };
    }
    case 'report': {
      if (data.length !== REPORT.size + VERDICTS.size) return undefined;
      return { kind, report: reportOf(data) };
    }
  }
}

function infoOf(data: Uint8Array): ObjectInfo | undefined {
  if (data.length < OBJECT_INFO.size) return undefined;
  const common = OBJECT_INFO.read(data);
  const name = decodeName(common.name, OBJECT_NAME);
  const kind = OBJECT_KINDS[common.kind];
  if (name === undefined || kind === undefined) return undefined;
  const rest = data.subarray(OBJECT_INFO.size);
  const { id } = common;
  switch (kind) {
    case 'map': {
      if (rest.length !== MAP_INFO.size) return undefined;
      const map = MAP_INFO.read(rest);
      return {
        kind,
        id,
        name,
        type: map.map_type,
        keySize: map.key_size,
        valueSize: map.value_size,
        maxEntries: map.max_entries,
        flags: map.map_flags,
        frozen: (map.flags2 & MAP_INFO_FROZEN) !== 0,
        memoryBytes: Number(map.memory),
        btf: map.btf_id,
        keyType: map.btf_key_type_id,
        valueType: map.btf_value_type_id,
      };
    }
    case 'program': {
      if (rest.length < PROG_INFO.size || rest.length % 4 !== PROG_INFO.size % 4) return undefined;
      const program = PROG_INFO.read(rest);
      const view = new DataView(rest.buffer, rest.byteOffset, rest.length);
      const maps: number[] = [];
      for (let at = PROG_INFO.size; at < rest.length; at += 4) maps.push(view.getUint32(at, true));
      return {
        kind,
        id,
        name,
        tag: program.tag,
        insnCount: program.insn_count,
        gplCompatible: (program.flags & PROG_FLAG.GPL_COMPATIBLE) !== 0,
        loadTime: program.load_time,
        verifiedInsns: program.verified_insns,
        btf: program.btf_id,
        maps,
      };
    }
    case 'link': {
      if (rest.length !== LINK_INFO.size + VERDICTS.size) return undefined;
      const link = LINK_INFO.read(rest);
      return {
        kind,
        id,
        name,
        program: link.prog_id,
        hook: link.hook_point,
        verdicts: verdictsOf(rest, LINK_INFO.size),
      };
    }
    case 'btf':
      return rest.length === BTF_INFO.size ? { kind, id, name, size: BTF_INFO.read(rest).length } : undefined;
  }
}

function verdictsOf(data: Uint8Array, at: number): VerdictCounts {
  const { aborted, drop, pass, tx, redirect } = VERDICTS.read(data, at);
  return {
    XDP_ABORTED: Number(aborted),
    XDP_DROP: Number(drop),
    XDP_PASS: Number(pass),
    XDP_TX: Number(tx),
    XDP_REDIRECT: Number(redirect),
  };
}

function reportOf(data: Uint8Array): DeviceReport {
  const report = REPORT.read(data);
  return {
    commands: Number(report.commands),
    errors: Number(report.errors),
    usage: {
      maps: Number(report.maps),
      mapMemory: Number(report.map_memory),
      entries: Number(report.entries),
      programs: Number(report.programs),
      insns: Number(report.insns),
      btfMemory: Number(report.btf_memory),
    },
    verdicts: verdictsOf(data, REPORT.size),
  };
}

/** What lies in config space or is the answer to CAPABILITIES; a device of a later version may have more behind it. */
export function decodeCapabilities(data: Uint8Array): DeviceCapabilities | undefined {
  if (data.length < CAPABILITIES.size) return undefined;
  const fields = CAPABILITIES.read(data);
  if (fields.length < CAPABILITIES.size) return undefined;
  let helpers = 0n;
  for (let at = fields.helpers.length - 1; at >= 0; at--)
    helpers = (helpers << 8n) | BigInt(fields.helpers[at]!);
  return {
    maxInsns: fields.max_insns,
    maxObjects: fields.max_objects,
    maxKeyBytes: fields.max_key_size,
    maxValueBytes: fields.max_value_size,
    maxBatch: fields.max_batch,
    maxBtfBytes: fields.max_btf_size,
    cpus: fields.cpus,
    granted: {
      maps: fields.granted_maps,
      programs: fields.granted_programs,
      mapMemory: fields.granted_map_memory,
    },
    commands: fields.commands,
    mapTypes: fields.map_types,
    hookPoints: fields.hook_points,
    programFeatures: fields.program_features,
    helpers,
  };
}

function refuse(reason: BpfResponseReason, detail: string): DecodedReply {
  return { ok: false, reason, detail };
}
