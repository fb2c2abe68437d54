import { ENOSPC, EOPNOTSUPP } from '../../../../bpf/errno.js';
import { decodeControlCommand, VIRTIO_NET_CTRL_BPF } from '../../../../virtio/control.js';
import {
  MAX_READ_BYTES,
  type BpfRequest,
  type DecodedRequest,
  type RequestLimits,
} from '../control-protocol.js';
import { OBJECT_KINDS } from '../object-info.js';
import { refuse, type BpfDecoded, type Refused } from './decode-reasons.js';
import { readLe32, readLe64 } from './little-endian.js';
import { dataBytes } from './reply-size.js';
import { decodeSyscall } from './syscall.js';
import {
  BATCH_REMOVE,
  BPF_COMMAND,
  BTF_LOAD,
  BTF_READ,
  commandName,
  decodeName,
  HANDLE,
  LINK_CREATE,
  LINK_UPDATE,
  LINK_UPDATE_REPLACE,
  MAP_BATCH,
  MAP_CREATE,
  MAP_ELEM,
  MAP_RECORDS,
  MAX_BATCH_BYTES,
  MAX_CURSOR_BYTES,
  OBJECT_ID,
  OBJECT_NAME,
  PIN,
  PIN_NAME,
  PIN_NAME_TEXT,
  PROG_FLAG,
  PROG_LOAD,
  RESULT,
} from './wire.js';

/** Update flags, bpf(2). */
const BPF_EXIST = 2n;
const INSN_BYTES = 8;
const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 16;
const ELEM = MAP_ELEM.offsets;

/**
 * Decodes the device-readable bytes of a chain. Total: any bytes give a request or a reason; every length is compared
 * with what is there, exactly, before anything is copied. Sums are of numbers below 2^32 and products of a checked
 * number, far below 2^53, so none wraps.
 *
 * @param readable already copied from the guest, so nothing changes between check and use
 * @param room device-writable bytes of the chain; a command whose answer does not fit is not carried out
 */
export function decodeRequest(
  readable: Uint8Array,
  room: number,
  limits: RequestLimits,
): DecodedRequest & BpfDecoded {
  const control = decodeControlCommand(readable);
  if (control === undefined) {
    return refuse('header-truncated', `${readable.length} bytes do not hold class and command`);
  }
  if (control.class !== VIRTIO_NET_CTRL_BPF) {
    return refuse('class-unknown', `class ${control.class} is not ${VIRTIO_NET_CTRL_BPF}`);
  }
  const decoded = decodePayload(control.command, control.payload, limits);
  if (!decoded.ok) return decoded;
  const needed = RESULT.size + dataBytes(decoded.request);
  if (room >= needed) return decoded;
  const detail = `${room} writable bytes, the answer to ${commandName(control.command)} takes ${needed}`;
  return refuse('room-too-small', detail, ENOSPC);
}

function decodePayload(command: number, payload: Uint8Array, limits: RequestLimits): BpfDecoded {
  switch (command) {
    case BPF_COMMAND.CAPABILITIES:
      return exactly(payload, 0) ?? accept({ kind: 'get-capabilities' });
    case BPF_COMMAND.REPORT:
      return exactly(payload, 0) ?? accept({ kind: 'get-report' });
    case BPF_COMMAND.MAP_CREATE:
      return decodeMapCreate(payload, limits);
    case BPF_COMMAND.MAP_LOOKUP:
    case BPF_COMMAND.MAP_UPDATE:
    case BPF_COMMAND.MAP_DELETE:
    case BPF_COMMAND.MAP_LOOKUP_AND_DELETE:
    case BPF_COMMAND.MAP_NEXT_KEY:
      return decodeMapElem(command, payload, limits);
    case BPF_COMMAND.MAP_LOOKUP_BATCH:
    case BPF_COMMAND.MAP_UPDATE_BATCH:
    case BPF_COMMAND.MAP_DELETE_BATCH:
      return decodeMapBatch(command, payload, limits);
    case BPF_COMMAND.MAP_FREEZE:
    case BPF_COMMAND.INFO:
    case BPF_COMMAND.CLOSE:
    case BPF_COMMAND.LINK_DETACH: {
      const problem = exactly(payload, HANDLE.size);
      if (problem !== undefined) return problem;
      const { handle } = HANDLE.read(payload);
      if (command === BPF_COMMAND.MAP_FREEZE) return accept({ kind: 'freeze-map', handle });
      if (command === BPF_COMMAND.INFO) return accept({ kind: 'get-info', handle });
      if (command === BPF_COMMAND.CLOSE) return accept({ kind: 'close', handle });
      return accept({ kind: 'detach-link', link: handle });
    }
    case BPF_COMMAND.MAP_RECORDS: {
      const problem = exactly(payload, MAP_RECORDS.size);
      if (problem !== undefined) return problem;
      const { map, length } = MAP_RECORDS.read(payload);
      return (
        overLimit('length', length, MAX_READ_BYTES) ??
        accept({ kind: 'read-records', handle: map, bytes: length })
      );
    }
    case BPF_COMMAND.BTF_LOAD: {
      if (payload.length < BTF_LOAD.size) return truncated(payload, BTF_LOAD);
      const { length } = BTF_LOAD.read(payload);
      return (
        overLimit('length', length, limits.maxBtfBytes) ??
        exactly(payload, BTF_LOAD.size + length) ??
        accept({ kind: 'load-btf', bytes: payload.slice(BTF_LOAD.size) })
      );
    }
    case BPF_COMMAND.BTF_READ: {
      const problem = exactly(payload, BTF_READ.size);
      if (problem !== undefined) return problem;
      const { btf, offset, length } = BTF_READ.read(payload);
      return (
        overLimit('length', length, MAX_READ_BYTES) ??
        accept({ kind: 'read-btf', handle: btf, offset, length })
      );
    }
    case BPF_COMMAND.PROG_LOAD:
      return decodeProgLoad(payload, limits);
    case BPF_COMMAND.LINK_CREATE: {
      const problem = exactly(payload, LINK_CREATE.size);
      if (problem !== undefined) return problem;
      const { program, hook_point } = LINK_CREATE.read(payload);
      return accept({ kind: 'create-link', program, hook: hook_point });
    }
    case BPF_COMMAND.LINK_UPDATE: {
      const problem = exactly(payload, LINK_UPDATE.size);
      if (problem !== undefined) return problem;
      const { link, program, expected, flags } = LINK_UPDATE.read(payload);
      if (flags > LINK_UPDATE_REPLACE) return refuse('flags-unknown', `flags ${flags}`);
      if (flags === 0 && expected !== 0)
        return refuse('field-invalid', `expected ${expected} without its flag`);
      return accept({ kind: 'update-link', link, program, ...(flags === 0 ? {} : { expected }) });
    }
    case BPF_COMMAND.PIN: {
      const problem = exactly(payload, PIN.size);
      if (problem !== undefined) return problem;
      const { handle, name: field } = PIN.read(payload);
      const name = decodeName(field, PIN_NAME_TEXT);
      return name === undefined ? invalidName() : accept({ kind: 'pin', handle, name });
    }
    case BPF_COMMAND.UNPIN:
    case BPF_COMMAND.OPEN_PINNED:
    case BPF_COMMAND.NEXT_PINNED: {
      const problem = exactly(payload, PIN_NAME.size);
      if (problem !== undefined) return problem;
      const { name: field } = PIN_NAME.read(payload);
      // Before the first name is the empty one, which names no pin.
      if (command === BPF_COMMAND.NEXT_PINNED && field.every((byte) => byte === 0)) {
        return accept({ kind: 'next-pinned', after: '' });
      }
      const name = decodeName(field, PIN_NAME_TEXT);
      if (name === undefined) return invalidName();
      if (command === BPF_COMMAND.UNPIN) return accept({ kind: 'unpin', name });
      return accept(
        command === BPF_COMMAND.OPEN_PINNED
          ? { kind: 'open-pinned', name }
          : { kind: 'next-pinned', after: name },
      );
    }
    case BPF_COMMAND.OPEN_ID:
    case BPF_COMMAND.NEXT_ID: {
      const problem = exactly(payload, OBJECT_ID.size);
      if (problem !== undefined) return problem;
      const { kind, id } = OBJECT_ID.read(payload);
      const object = OBJECT_KINDS[kind];
      if (object === undefined) return refuse('field-invalid', `kind ${kind} of an object`);
      return accept(
        command === BPF_COMMAND.OPEN_ID
          ? { kind: 'open-by-id', object, id }
          : { kind: 'next-id', object, after: id },
      );
    }
    case BPF_COMMAND.SYSCALL: {
      const decoded = decodeSyscall(payload);
      if (!decoded.ok) return decoded;
      return overLimits(decoded.request, limits) ?? decoded;
    }
    default:
      return refuse('command-unknown', `command ${command} of class BPF`, EOPNOTSUPP);
  }
}

function decodeMapCreate(payload: Uint8Array, limits: RequestLimits): BpfDecoded {
  const problem = exactly(payload, MAP_CREATE.size);
  if (problem !== undefined) return problem;
  const fields = MAP_CREATE.read(payload);
  const name = decodeName(fields.name, OBJECT_NAME);
  if (name === undefined) return invalidName();
  if (fields.btf === 0 && (fields.btf_key_type_id !== 0 || fields.btf_value_type_id !== 0)) {
    return refuse('field-invalid', 'a type id without btf');
  }
  const request: BpfRequest = {
    kind: 'create-map',
    mapType: fields.map_type,
    keySize: fields.key_size,
    valueSize: fields.value_size,
    maxEntries: fields.max_entries,
    mapFlags: fields.map_flags,
    name,
    ...(fields.inner_map === 0 ? {} : { inner: fields.inner_map }),
    ...(fields.btf === 0
      ? {}
      : {
          btf: { handle: fields.btf, keyType: fields.btf_key_type_id, valueType: fields.btf_value_type_id },
        }),
  };
  return overLimits(request, limits) ?? accept(request);
}

function decodeMapElem(command: number, payload: Uint8Array, limits: RequestLimits): BpfDecoded {
  if (payload.length < MAP_ELEM.size) return truncated(payload, MAP_ELEM);
  const handle = readLe32(payload, ELEM.map);
  const keySize = readLe32(payload, ELEM.key_size);
  const valueSize = readLe32(payload, ELEM.value_size);
  const flags = readLe64(payload, ELEM.flags);
  const over =
    overLimit('key_size', keySize, limits.maxKeyBytes) ??
    overLimit('value_size', valueSize, limits.maxValueBytes);
  if (over !== undefined) return over;
  const isUpdate = command === BPF_COMMAND.MAP_UPDATE;
  // Of nothing but a structure, MAP_NEXT_KEY asks for the first key.
  const isFirst = command === BPF_COMMAND.MAP_NEXT_KEY && payload.length === MAP_ELEM.size;
  const length = MAP_ELEM.size + (isFirst ? 0 : keySize) + (isUpdate ? valueSize : 0);
  const problem = exactly(payload, length);
  if (problem !== undefined) return problem;
  if (flags > (isUpdate ? BPF_EXIST : 0n)) return refuse('flags-unknown', `flags ${flags}`);
  if (isFirst) return accept({ kind: 'get-first', handle, keySize, valueSize });
  const key = payload.slice(MAP_ELEM.size, MAP_ELEM.size + keySize);
  switch (command) {
    case BPF_COMMAND.MAP_LOOKUP:
      return accept({ kind: 'lookup-elem', handle, key, valueSize });
    case BPF_COMMAND.MAP_UPDATE:
      return accept({
        kind: 'update-elem',
        handle,
        key,
        value: payload.slice(MAP_ELEM.size + keySize),
        flags,
      });
    case BPF_COMMAND.MAP_DELETE:
      return accept({ kind: 'delete-elem', handle, key, valueSize });
    case BPF_COMMAND.MAP_LOOKUP_AND_DELETE:
      return accept({ kind: 'lookup-and-delete-elem', handle, key, valueSize });
    default:
      return accept({ kind: 'get-next', handle, key, valueSize });
  }
}

function decodeMapBatch(command: number, payload: Uint8Array, limits: RequestLimits): BpfDecoded {
  if (payload.length < MAP_BATCH.size) return truncated(payload, MAP_BATCH);
  const fields = MAP_BATCH.read(payload);
  const {
    map: handle,
    key_size: keySize,
    value_size: valueSize,
    count,
    cursor_length: cursorLength,
    flags,
  } = fields;
  const isLookup = command === BPF_COMMAND.MAP_LOOKUP_BATCH;
  const isUpdate = command === BPF_COMMAND.MAP_UPDATE_BATCH;
  if (!isLookup && cursorLength !== 0) {
    return refuse('field-invalid', `cursor_length ${cursorLength}, only a look-up has a cursor`);
  }
  if (count === 0) return refuse('field-invalid', 'a batch of no elements');
  const over =
    overLimit('key_size', keySize, limits.maxKeyBytes) ??
    overLimit('value_size', valueSize, limits.maxValueBytes) ??
    overLimit('count', count, limits.maxBatch) ??
    overLimit('cursor_length', cursorLength, MAX_CURSOR_BYTES) ??
    overLimit('bytes of elements', count * (keySize + valueSize), MAX_BATCH_BYTES);
  if (over !== undefined) return over;
  const valueBytes = isUpdate ? count * valueSize : 0;
  const length = MAP_BATCH.size + (isLookup ? cursorLength : count * keySize) + valueBytes;
  const problem = exactly(payload, length);
  if (problem !== undefined) return problem;
  if (flags > (isLookup ? BATCH_REMOVE : isUpdate ? BPF_EXIST : 0n))
    return refuse('flags-unknown', `flags ${flags}`);
  const rest = payload.slice(MAP_BATCH.size);
  if (isLookup) {
    const cursor = cursorLength === 0 ? undefined : rest;
    const remove = flags === BATCH_REMOVE;
    return accept({ kind: 'lookup-batch', handle, keySize, valueSize, count, cursor, remove });
  }
  const keys = rest.subarray(0, count * keySize);
  if (!isUpdate) {
    if (valueSize !== 0)
      return refuse('field-invalid', `value_size ${valueSize}, MAP_DELETE_BATCH has no values`);
    return accept({ kind: 'delete-batch', handle, keySize, count, keys });
  }
  const values = rest.subarray(keys.length);
  return accept({ kind: 'update-batch', handle, keySize, valueSize, count, keys, values, flags });
}

function decodeProgLoad(payload: Uint8Array, limits: RequestLimits): BpfDecoded {
  if (payload.length < PROG_LOAD.size) return truncated(payload, PROG_LOAD);
  const fields = PROG_LOAD.read(payload);
  const { insn_count: insnCount, flags, btf, func_info_count: functions, line_info_count: lines } = fields;
  if (insnCount === 0) return refuse('field-invalid', 'a program of no insns');
  const over =
    overLimit('insn_count', insnCount, limits.maxInsns) ??
    overLimit('func_info_count', functions, insnCount) ??
    overLimit('line_info_count', lines, insnCount);
  if (over !== undefined) return over;
  const insnBytes = insnCount * INSN_BYTES;
  const functionBytes = functions * FUNC_INFO_BYTES;
  const problem = exactly(payload, PROG_LOAD.size + insnBytes + functionBytes + lines * LINE_INFO_BYTES);
  if (problem !== undefined) return problem;
  if ((flags & ~(PROG_FLAG.GPL_COMPATIBLE | PROG_FLAG.HAS_FRAGS)) !== 0) {
    return refuse('flags-unknown', `flags ${flags}`);
  }
  if (btf === 0 && functions + lines > 0)
    return refuse('field-invalid', 'records of debug information without btf');
  const name = decodeName(fields.name, OBJECT_NAME);
  if (name === undefined) return invalidName();
  const rest = payload.slice(PROG_LOAD.size);
  return accept({
    kind: 'load-program',
    name,
    insns: rest.subarray(0, insnBytes),
    gplCompatible: (flags & PROG_FLAG.GPL_COMPATIBLE) !== 0,
    frags: (flags & PROG_FLAG.HAS_FRAGS) !== 0,
    ...(btf === 0
      ? {}
      : {
          debug: {
            btf,
            functions: rest.subarray(insnBytes, insnBytes + functionBytes),
            lines: rest.subarray(insnBytes + functionBytes),
          },
        }),
  });
}

/** What the device takes at most, of a request that its encoding does not already limit. */
function overLimits(request: BpfRequest, limits: RequestLimits): Refused | undefined {
  switch (request.kind) {
    case 'create-map':
      return (
        overLimit('key_size', request.keySize, limits.maxKeyBytes) ??
        overLimit('value_size', request.valueSize, limits.maxValueBytes)
      );
    case 'load-program': {
      const { insns, debug } = request;
      const insnCount = insns.length / INSN_BYTES;
      return (
        overLimit('insn_cnt', insnCount, limits.maxInsns) ??
        overLimit('func_info_cnt', (debug?.functions.length ?? 0) / FUNC_INFO_BYTES, insnCount) ??
        overLimit('line_info_cnt', (debug?.lines.length ?? 0) / LINE_INFO_BYTES, insnCount)
      );
    }
    case 'load-btf':
      return overLimit('btf_size', request.bytes.length, limits.maxBtfBytes);
    case 'lookup-elem':
    case 'lookup-and-delete-elem':
    case 'delete-elem':
    case 'get-next':
      return (
        overLimit('bytes of the key', request.key.length, limits.maxKeyBytes) ??
        overLimit('bytes of the value', request.valueSize, limits.maxValueBytes)
      );
    case 'get-first':
      return overLimit('bytes of the key', request.keySize, limits.maxKeyBytes);
    case 'update-elem':
      return (
        overLimit('bytes of the key', request.key.length, limits.maxKeyBytes) ??
        overLimit('bytes of the value', request.value.length, limits.maxValueBytes)
      );
    case 'lookup-batch':
    case 'update-batch':
    case 'delete-batch': {
      const valueSize = request.kind === 'delete-batch' ? 0 : request.valueSize;
      const cursor = request.kind === 'lookup-batch' ? request.cursor : undefined;
      return (
        overLimit('bytes of a key', request.keySize, limits.maxKeyBytes) ??
        overLimit('bytes of a value', valueSize, limits.maxValueBytes) ??
        overLimit('count', request.count, limits.maxBatch) ??
        overLimit('bytes of the cursor', cursor?.length ?? 0, MAX_CURSOR_BYTES) ??
        overLimit('bytes of elements', request.count * (request.keySize + valueSize), MAX_BATCH_BYTES)
      );
    }
    default:
      return undefined;
  }
}

function overLimit(field: string, value: number, limit: number): Refused | undefined {
  return value <= limit ? undefined : refuse('over-limit', `${field} ${value} exceeds the limit of ${limit}`);
}

function exactly(payload: Uint8Array, length: number): Refused | undefined {
  if (payload.length === length) return undefined;
  const detail = `${payload.length} bytes, the command takes ${length}`;
  return refuse(payload.length < length ? 'payload-truncated' : 'trailing-bytes', detail);
}

function truncated(payload: Uint8Array, layout: { readonly name: string; readonly size: number }): Refused {
  return refuse('header-truncated', `${payload.length} of the ${layout.size} bytes of ${layout.name}`);
}

function invalidName(): Refused {
  return refuse(
    'name-invalid',
    'a name is not NUL-terminated and NUL-padded text of letters, digits, _, . and -',
  );
}

function accept(request: BpfRequest): BpfDecoded {
  return { ok: true, request };
}
