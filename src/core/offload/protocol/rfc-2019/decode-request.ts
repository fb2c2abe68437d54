import {
  decodeControlCommand,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_EBPF_MAP,
  VIRTIO_NET_CTRL_EBPF_PROG,
} from '../../../../virtio/control.js';
import type { RequestLimits, Rfc2019Request } from '../control-protocol.js';
import {
  EBPF_INSN_BYTES,
  EBPF_MAP_HEADER_BYTES,
  EBPF_PROG_HEADER_BYTES,
  elementBufferBytes,
  MAP_HEADER,
  replyBytes,
  VIRTIO_NET_BPF_CMD_CREATE_MAP,
  VIRTIO_NET_BPF_CMD_DELETE_ELEM,
  VIRTIO_NET_BPF_CMD_FREE_MAP,
  VIRTIO_NET_BPF_CMD_GET_FIRST,
  VIRTIO_NET_BPF_CMD_GET_NEXT,
  VIRTIO_NET_BPF_CMD_LOOKUP_ELEM,
  VIRTIO_NET_BPF_CMD_SET_OFFLOAD,
  VIRTIO_NET_BPF_CMD_UNSET_OFFLOAD,
  VIRTIO_NET_BPF_CMD_UPDATE_ELEM,
} from './wire.js';

/** Update flags, bpf(2). */
const BPF_EXIST = 2n;

/** Why a device refuses to look further at a command. Stable names; `detail` has the numbers. */
export const EBPF_DECODE_REASONS = {
  'header-truncated': 'class, command or the payload header is not all there',
  'class-unknown': 'the class is not VIRTIO_NET_CTRL_EBPF',
  'command-unknown': 'the command is neither VIRTIO_NET_CTRL_EBPF_PROG nor _MAP',
  'sub-command-unknown': 'cmd is not one of the sub-commands',
  'length-not-multiple-of-8': 'len is zero or not a multiple of 8 bytes',
  'program-too-long': 'the program has more instructions than the device takes',
  'gpl-flag-invalid': 'gpl_compatible is neither 0 nor 1',
  'key-size-zero': 'an element command has a key_size of 0',
  'value-size-zero': 'an element command has a value_size of 0',
  'key-size-over-limit': 'key_size exceeds what the device takes',
  'value-size-over-limit': 'value_size exceeds what the device takes',
  'buf-len-mismatch': 'buf_len is not what the sub-command, key_size and value_size call for',
  'payload-truncated': 'fewer bytes are there than len or buf_len announces',
  'trailing-bytes': 'more bytes are there than len or buf_len announces',
  'flags-unknown': 'flags has a value that the sub-command does not define',
  'unused-field-set': 'a field that the sub-command has no use for is not zero',
  'writable-length-mismatch': 'the device-writable bytes are not exactly what the answer needs',
} as const;

export type EbpfDecodeReason = keyof typeof EBPF_DECODE_REASONS;

type Result =
  | { readonly ok: true; readonly request: Rfc2019Request }
  | { readonly ok: false; readonly reason: EbpfDecodeReason; readonly detail: string };

/**
 * Decodes the device-readable bytes of a chain. Total: any bytes give a request or a reason, every field is checked
 * against every other, and nothing is allocated beyond copies of what is there. Arithmetic is on numbers far below
 * 2^53, so no sum wraps (RFC defect 4).
 *
 * @param readable already copied from the guest, so nothing changes between check and use (RFC defect 3)
 * @param room device-writable bytes of the chain, which have to be exactly what the answer takes; undefined: unchecked
 */
export function decodeRequest(readable: Uint8Array, room: number | undefined, limits: RequestLimits): Result {
  const control = decodeControlCommand(readable);
  if (control === undefined) {
    return refuse('header-truncated', `${readable.length} bytes do not hold class and command`);
  }
  if (control.class !== VIRTIO_NET_CTRL_EBPF) {
    return refuse('class-unknown', `class ${control.class} is not ${VIRTIO_NET_CTRL_EBPF}`);
  }
  let result: Result;
  if (control.command === VIRTIO_NET_CTRL_EBPF_PROG) {
    result = decodeProgramPayload(control.payload, limits);
  } else if (control.command === VIRTIO_NET_CTRL_EBPF_MAP) {
    result = decodeMapPayload(control.payload, limits);
  } else {
    return refuse('command-unknown', `command ${control.command} of class EBPF`);
  }
  if (!result.ok) return result;
  const needed = replyBytes(result.request);
  if (room === undefined || room === needed) return result;
  return refuse(
    'writable-length-mismatch',
    `${room} writable bytes, the answer to ${result.request.kind} takes ${needed}`,
  );
}

function decodeProgramPayload(payload: Uint8Array, limits: RequestLimits): Result {
  if (payload.length < EBPF_PROG_HEADER_BYTES) {
    return refuse(
      'header-truncated',
      `${payload.length} of the ${EBPF_PROG_HEADER_BYTES} bytes of the program header`,
    );
  }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const length = view.getUint32(0, true);
  const subCommand = view.getUint16(4, true);
  const gplCompatible = view.getUint16(6, true);
  const present = payload.length - EBPF_PROG_HEADER_BYTES;

  if (subCommand === VIRTIO_NET_BPF_CMD_UNSET_OFFLOAD) {
    if (length !== 0) return refuse('unused-field-set', `UNSET_OFFLOAD with a len of ${length}`);
    if (gplCompatible !== 0) {
      return refuse('unused-field-set', `UNSET_OFFLOAD with gpl_compatible ${gplCompatible}`);
    }
    if (present > 0) return refuse('trailing-bytes', `${present} bytes after UNSET_OFFLOAD`);
    return { ok: true, request: { kind: 'unset-offload' } };
  }
  if (subCommand !== VIRTIO_NET_BPF_CMD_SET_OFFLOAD) {
    return refuse('sub-command-unknown', `program sub-command ${subCommand}`);
  }
  if (length === 0 || length % EBPF_INSN_BYTES !== 0) {
    return refuse('length-not-multiple-of-8', `a program of ${length} bytes`);
  }
  if (length > limits.maxInsns * EBPF_INSN_BYTES) {
    return refuse(
      'program-too-long',
      `${length / EBPF_INSN_BYTES} insns exceed the limit of ${limits.maxInsns}`,
    );
  }
  const mismatch = compareLength('len', length, present);
  if (mismatch !== undefined) return mismatch;
  if (gplCompatible > 1) {
    return refuse('gpl-flag-invalid', `gpl_compatible ${gplCompatible} is neither 0 nor 1`);
  }
  const insns = payload.slice(EBPF_PROG_HEADER_BYTES);
  return { ok: true, request: { kind: 'set-offload', insns, gplCompatible: gplCompatible === 1 } };
}

function decodeMapPayload(payload: Uint8Array, limits: RequestLimits): Result {
  if (payload.length < EBPF_MAP_HEADER_BYTES) {
    return refuse(
      'header-truncated',
      `${payload.length} of the ${EBPF_MAP_HEADER_BYTES} bytes of the map header`,
    );
  }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const bufLen = view.getUint32(MAP_HEADER.bufLen, true);
  const subCommand = view.getUint32(MAP_HEADER.cmd, true);
  const mapType = view.getUint32(MAP_HEADER.mapType, true);
  const keySize = view.getUint32(MAP_HEADER.keySize, true);
  const valueSize = view.getUint32(MAP_HEADER.valueSize, true);
  const maxEntries = view.getUint32(MAP_HEADER.maxEntries, true);
  const mapFlags = view.getUint32(MAP_HEADER.mapFlags, true);
  const handle = view.getUint32(MAP_HEADER.mapFd, true);
  const flags = view.getBigUint64(MAP_HEADER.flags, true);
  const present = payload.length - EBPF_MAP_HEADER_BYTES;

  if (subCommand < VIRTIO_NET_BPF_CMD_CREATE_MAP || subCommand > VIRTIO_NET_BPF_CMD_GET_NEXT) {
    return refuse('sub-command-unknown', `map sub-command ${subCommand}`);
  }
  if (keySize > limits.maxKeyBytes) {
    return refuse('key-size-over-limit', `key_size ${keySize} exceeds the limit of ${limits.maxKeyBytes}`);
  }
  if (valueSize > limits.maxValueBytes) {
    return refuse(
      'value-size-over-limit',
      `value_size ${valueSize} exceeds the limit of ${limits.maxValueBytes}`,
    );
  }

  const isElement =
    subCommand !== VIRTIO_NET_BPF_CMD_CREATE_MAP && subCommand !== VIRTIO_NET_BPF_CMD_FREE_MAP;
  if (isElement) {
    if (keySize === 0) return refuse('key-size-zero', 'an element command with a key_size of 0');
    if (valueSize === 0) return refuse('value-size-zero', 'an element command with a value_size of 0');
  }
  const expected = isElement ? elementBufferBytes(keySize, valueSize) : 0;
  if (bufLen !== expected) {
    return refuse(
      'buf-len-mismatch',
      `buf_len ${bufLen}, sub-command ${subCommand} with key_size ${keySize} and value_size ${valueSize} takes ${expected}`,
    );
  }
  const mismatch = compareLength('buf_len', bufLen, present);
  if (mismatch !== undefined) return mismatch;

  if (subCommand === VIRTIO_NET_BPF_CMD_UPDATE_ELEM) {
    if (flags > BPF_EXIST) return refuse('flags-unknown', `update flags ${flags}`);
  } else if (flags !== 0n) {
    return refuse('flags-unknown', `flags ${flags}, sub-command ${subCommand} defines none`);
  }
  const isCreate = subCommand === VIRTIO_NET_BPF_CMD_CREATE_MAP;
  const isFree = subCommand === VIRTIO_NET_BPF_CMD_FREE_MAP;
  const unused = isCreate ? handle : mapType | maxEntries | mapFlags | (isFree ? keySize | valueSize : 0);
  if (unused !== 0) {
    const fields = { map_type: mapType, max_entries: maxEntries, map_flags: mapFlags };
    const named = isCreate
      ? { map_fd: handle }
      : isFree
        ? { ...fields, key_size: keySize, value_size: valueSize }
        : fields;
    const [name, value] = Object.entries(named).find(([, each]) => each !== 0)!;
    return refuse('unused-field-set', `${name} ${value}, sub-command ${subCommand} has no use for it`);
  }

  const buffer = payload.subarray(EBPF_MAP_HEADER_BYTES);
  const key = buffer.slice(0, keySize);
  switch (subCommand) {
    case VIRTIO_NET_BPF_CMD_CREATE_MAP:
      return accept({ kind: 'create-map', mapType, keySize, valueSize, maxEntries, mapFlags });
    case VIRTIO_NET_BPF_CMD_FREE_MAP:
      return accept({ kind: 'free-map', handle });
    case VIRTIO_NET_BPF_CMD_UPDATE_ELEM:
      return accept({
        kind: 'update-elem',
        handle,
        key,
        value: buffer.slice(keySize, keySize + valueSize),
        flags,
      });
    case VIRTIO_NET_BPF_CMD_LOOKUP_ELEM:
      return accept({ kind: 'lookup-elem', handle, key, valueSize });
    case VIRTIO_NET_BPF_CMD_DELETE_ELEM:
      return accept({ kind: 'delete-elem', handle, key, valueSize });
    case VIRTIO_NET_BPF_CMD_GET_FIRST:
      return accept({ kind: 'get-first', handle, keySize, valueSize });
    default:
      return accept({ kind: 'get-next', handle, key, valueSize });
  }
}

function compareLength(
  field: 'len' | 'buf_len',
  announced: number,
  present: number,
): Extract<Result, { ok: false }> | undefined {
  if (present < announced)
    return refuse('payload-truncated', `${field} ${announced}, ${present} bytes are there`);
  if (present > announced)
    return refuse('trailing-bytes', `${field} ${announced}, ${present} bytes are there`);
  return undefined;
}

function accept(request: Rfc2019Request): Result {
  return { ok: true, request };
}

function refuse<Reason extends string>(
  reason: Reason,
  detail: string,
): { readonly ok: false; readonly reason: Reason; readonly detail: string } {
  return { ok: false, reason, detail };
}
