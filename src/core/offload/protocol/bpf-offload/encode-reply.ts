import { CONTROL_ACK_BYTES, VIRTIO_NET_ERR, VIRTIO_NET_OK } from '../../../../virtio/control.js';
import { XdpbedError } from '../../../diagnostic.js';
import type { VerdictCounts } from '../../../contract/result.js';
import type { DeviceCapabilities } from '../capabilities.js';
import { expectedReply, type BpfReply, type BpfRequest, type ErrorReply } from '../control-protocol.js';
import { OBJECT_KINDS, type DeviceReport, type ObjectInfo } from '../object-info.js';
import { writeLe32 } from './little-endian.js';
import { cursorRoom, dataBytes } from './reply-size.js';
import {
  BTF_INFO,
  CAPABILITIES,
  COUNT,
  ELEMENTS,
  encodeName,
  HANDLE,
  LINK_INFO,
  MAP_INFO,
  MAP_INFO_FROZEN,
  MAX_EXTACK_BYTES,
  OBJECT_INFO,
  OBJECT_NAME_BYTES,
  PIN_NAME,
  PIN_NAME_BYTES,
  PROG_FLAG,
  PROG_INFO,
  RECORD,
  REPORT,
  RESULT,
  VERDICTS,
} from './wire.js';

const MAX_ERRNO = 4095;
const MAX_LE32 = 0xffff_ffff;
const NOTHING = new Uint8Array();
const AT = RESULT.offsets;
const UTF8 = new TextEncoder();

/**
 * The device-writable bytes of the answer: the device's side.
 * @param room at least what `decodeRequest` asked for
 * @throws XdpbedError `virtio-violation` when the reply does not belong to the request or has a wrong size
 */
export function encodeReply(request: BpfRequest, reply: BpfReply, room: number): Uint8Array {
  if (reply.kind === 'error') return encodeRefusal(reply, room);
  if (expectedReply(request) !== reply.kind) throw mismatch(`${request.kind} cannot end in '${reply.kind}'`);
  const data = dataOf(request, reply, room - RESULT.size);
  return encode(VIRTIO_NET_OK, 0, data, NOTHING);
}

/** An answer without what was asked for; one ack byte where there is no room for more, nothing where there is none. */
export function encodeRefusal(refusal: ErrorReply, room: number): Uint8Array {
  if (room < CONTROL_ACK_BYTES) return NOTHING;
  if (room < RESULT.size) return Uint8Array.of(VIRTIO_NET_ERR);
  const { errno = 0, message = '', count } = refusal;
  if (errno < 0 || errno > MAX_ERRNO) throw mismatch(`errno ${errno} is not from 0 to ${MAX_ERRNO}`);
  const data = count === undefined || room < RESULT.size + COUNT.size ? NOTHING : COUNT.encode({ count });
  const left = room - RESULT.size - data.length;
  return encode(VIRTIO_NET_ERR, errno, data, cutText(message, Math.min(left, MAX_EXTACK_BYTES)));
}

function encode(ack: number, errno: number, data: Uint8Array, extack: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(RESULT.size + data.length + extack.length);
  bytes[AT.ack] = ack;
  writeLe32(bytes, AT.errno, errno, 'errno');
  writeLe32(bytes, AT.data_length, data.length, 'data_length');
  writeLe32(bytes, AT.extack_length, extack.length, 'extack_length');
  bytes.set(data, RESULT.size);
  if (extack.length > 0) bytes.set(extack, RESULT.size + data.length);
  return bytes;
}

function dataOf(request: BpfRequest, reply: Exclude<BpfReply, ErrorReply>, room: number): Uint8Array {
  switch (reply.kind) {
    case 'done':
      return NOTHING;
    case 'handle':
      return HANDLE.encode({ handle: reply.handle });
    case 'value':
      return sized(request, reply.value, dataBytes(request));
    case 'key':
      return sized(request, reply.key, dataBytes(request));
    case 'elements': {
      if (request.kind !== 'lookup-batch') throw mismatch(`${request.kind} has no elements`);
      const { count, keys, values, next = NOTHING } = reply;
      if (
        count > request.count ||
        next.length > cursorRoom(request.keySize) ||
        keys.length !== count * request.keySize ||
        values.length !== count * request.valueSize
      ) {
        throw mismatch(`${count} elements, ${keys.length} bytes of keys, ${values.length} of values`);
      }
      const bytes = ELEMENTS.encode(
        { count, next_length: next.length },
        next.length + keys.length + values.length,
      );
      let at = ELEMENTS.size;
      for (const part of [next, keys, values]) {
        bytes.set(part, at);
        at += part.length;
      }
      return bytes;
    }
    case 'count':
      return COUNT.encode({ count: reply.count });
    case 'records': {
      const length = reply.records.reduce((sum, { data }) => sum + RECORD.size + data.length, 0);
      if (length > dataBytes(request)) throw mismatch(`${length} bytes of records`);
      const bytes = new Uint8Array(length);
      let at = 0;
      for (const { cpu, lost, data } of reply.records) {
        RECORD.write({ cpu, lost, length: data.length }, bytes, at);
        bytes.set(data, at + RECORD.size);
        at += RECORD.size + data.length;
      }
      return bytes;
    }
    case 'bytes':
      if (reply.bytes.length > dataBytes(request)) throw mismatch(`${reply.bytes.length} bytes`);
      return reply.bytes;
    case 'name': {
      const name = encodeName(reply.name, PIN_NAME_BYTES);
      if (name === undefined) throw mismatch(`'${reply.name}' is no name of a pin`);
      return PIN_NAME.encode({ name });
    }
    case 'id':
      return HANDLE.encode({ handle: reply.id });
    case 'info':
      return infoData(reply.info, room);
    case 'capabilities':
      return capabilityData(reply.capabilities);
    case 'report':
      return reportData(reply.report);
  }
}

function infoData(info: ObjectInfo, room: number): Uint8Array {
  const name = encodeName(info.name, OBJECT_NAME_BYTES);
  if (name === undefined) throw mismatch(`'${info.name}' is no name of an object`);
  const common = OBJECT_INFO.encode({ kind: OBJECT_KINDS.indexOf(info.kind), id: info.id, name });
  switch (info.kind) {
    case 'map':
      return join(
        common,
        MAP_INFO.encode({
          map_type: info.type,
          key_size: info.keySize,
          value_size: info.valueSize,
          max_entries: info.maxEntries,
          map_flags: info.flags,
          flags2: info.frozen ? MAP_INFO_FROZEN : 0,
          memory: BigInt(info.memoryBytes),
          btf_id: info.btf,
          btf_key_type_id: info.keyType,
          btf_value_type_id: info.valueType,
        }),
      );
    case 'program': {
      const fits = Math.max(0, Math.floor((room - common.length - PROG_INFO.size) / 4));
      const ids = info.maps.slice(0, fits);
      const maps = new Uint8Array(4 * ids.length);
      const view = new DataView(maps.buffer);
      ids.forEach((id, index) => view.setUint32(4 * index, id, true));
      return join(
        common,
        PROG_INFO.encode({
          tag: info.tag,
          insn_count: info.insnCount,
          flags: info.gplCompatible ? PROG_FLAG.GPL_COMPATIBLE : 0,
          load_time: info.loadTime,
          verified_insns: info.verifiedInsns,
          btf_id: info.btf,
          map_count: info.maps.length,
        }),
        maps,
      );
    }
    case 'link':
      return join(
        common,
        LINK_INFO.encode({ prog_id: info.program, hook_point: info.hook }),
        verdictData(info.verdicts),
      );
    case 'btf':
      return join(common, BTF_INFO.encode({ length: info.size }));
  }
}

function verdictData(verdicts: VerdictCounts): Uint8Array {
  return VERDICTS.encode({
    aborted: BigInt(verdicts.XDP_ABORTED),
    drop: BigInt(verdicts.XDP_DROP),
    pass: BigInt(verdicts.XDP_PASS),
    tx: BigInt(verdicts.XDP_TX),
    redirect: BigInt(verdicts.XDP_REDIRECT),
  });
}

function reportData({ commands, errors, usage, verdicts }: DeviceReport): Uint8Array {
  return join(
    REPORT.encode({
      commands: BigInt(commands),
      errors: BigInt(errors),
      maps: BigInt(usage.maps),
      map_memory: BigInt(usage.mapMemory),
      entries: BigInt(usage.entries),
      programs: BigInt(usage.programs),
      insns: BigInt(usage.insns),
      btf_memory: BigInt(usage.btfMemory),
    }),
    verdictData(verdicts),
  );
}

/** Also what lies in config space. */
export function capabilityData(capabilities: DeviceCapabilities): Uint8Array {
  const helpers = new Uint8Array(32);
  for (let at = 0, rest = capabilities.helpers; at < helpers.length; at++, rest >>= 8n) {
    helpers[at] = Number(rest & 0xffn);
  }
  return CAPABILITIES.encode({
    length: CAPABILITIES.size,
    max_insns: capabilities.maxInsns,
    max_objects: capabilities.maxObjects,
    max_key_size: capabilities.maxKeyBytes,
    max_value_size: capabilities.maxValueBytes,
    max_batch: capabilities.maxBatch,
    max_btf_size: capabilities.maxBtfBytes,
    cpus: capabilities.cpus,
    // A limit that the field cannot hold is as good as the highest that it can.
    granted_maps: Math.min(capabilities.granted.maps, MAX_LE32),
    granted_programs: Math.min(capabilities.granted.programs, MAX_LE32),
    granted_map_memory: capabilities.granted.mapMemory,
    commands: capabilities.commands,
    map_types: capabilities.mapTypes,
    hook_points: capabilities.hookPoints,
    program_features: capabilities.programFeatures,
    helpers,
  });
}

function sized(request: BpfRequest, bytes: Uint8Array, expected: number): Uint8Array {
  if (bytes.length === expected) return bytes;
  throw mismatch(`${request.kind} ends in ${expected} bytes, not ${bytes.length}`);
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** UTF-8 of as much of a text as fits, no character in pieces. */
function cutText(text: string, bytes: number): Uint8Array {
  const target = new Uint8Array(Math.min(bytes, 3 * text.length));
  const { written } = UTF8.encodeInto(text, target);
  return target.subarray(0, written);
}

function mismatch(message: string): XdpbedError {
  return new XdpbedError('virtio-violation', message);
}
