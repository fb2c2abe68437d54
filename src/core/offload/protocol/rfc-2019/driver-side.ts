import {
  CONTROL_HEADER_BYTES,
  splitResponse,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_EBPF_MAP,
  VIRTIO_NET_CTRL_EBPF_PROG,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from '../../../../virtio/control.js';
import { XdpbedError } from '../../../diagnostic.js';
import { freshViewable } from '../../../fresh-bytes.js';
import {
  expectedReply,
  keySizeOf,
  type BpfReply,
  type GetFirst,
  type LookupElem,
  type Rfc2019Request,
} from '../control-protocol.js';
import {
  EBPF_INSN_BYTES,
  EBPF_MAP_HEADER_BYTES,
  EBPF_PROG_HEADER_BYTES,
  elementBufferBytes,
  MAP_HEADER,
  MAX_ERRNO,
  replyBytes,
  VIRTIO_NET_BPF_CMD_SET_OFFLOAD,
  VIRTIO_NET_BPF_CMD_UNSET_OFFLOAD,
  writeMapHeader,
} from './wire.js';

const MAX_U32 = 0xffff_ffff;
/** BPF_EXIST, the last of the update flags. */
const MAX_UPDATE_FLAGS = 2n;

/**
 * The device-readable bytes of a command, class and command included: the driver's side. What a strict device would
 * refuse whatever its limits, a driver does not send.
 * @throws XdpbedError `virtio-violation`
 */
export function encodeRequest(request: Rfc2019Request): Uint8Array {
  const problem = problemOf(request);
  if (problem !== undefined) throw new XdpbedError('virtio-violation', `${request.kind}: ${problem}`);
  if (request.kind === 'set-offload' || request.kind === 'unset-offload') {
    const insns = request.kind === 'set-offload' ? request.insns : new Uint8Array();
    const { bytes, view } = command(VIRTIO_NET_CTRL_EBPF_PROG, EBPF_PROG_HEADER_BYTES + insns.length);
    view.setUint32(0, insns.length, true);
    view.setUint16(
      4,
      request.kind === 'set-offload' ? VIRTIO_NET_BPF_CMD_SET_OFFLOAD : VIRTIO_NET_BPF_CMD_UNSET_OFFLOAD,
      true,
    );
    view.setUint16(6, request.kind === 'set-offload' && request.gplCompatible ? 1 : 0, true);
    bytes.set(insns, CONTROL_HEADER_BYTES + EBPF_PROG_HEADER_BYTES);
    return bytes;
  }
  const isElement = request.kind !== 'create-map' && request.kind !== 'free-map';
  const valueSize = request.kind === 'update-elem' ? request.value.length : isElement ? request.valueSize : 0;
  const bufLen = isElement ? elementBufferBytes(keySizeOf(request), valueSize) : 0;
  const { bytes, view } = command(VIRTIO_NET_CTRL_EBPF_MAP, EBPF_MAP_HEADER_BYTES + bufLen);
  writeMapHeader(view, request);
  const buffer = CONTROL_HEADER_BYTES + EBPF_MAP_HEADER_BYTES;
  if (isElement && request.kind !== 'get-first') bytes.set(request.key, buffer);
  if (request.kind === 'update-elem') bytes.set(request.value, buffer + request.key.length);
  return bytes;
}

/** Why a driver does not believe an answer. */
export const EBPF_RESPONSE_REASONS = {
  'response-length-mismatch': 'the device wrote fewer or more bytes than the answer takes',
  'ack-unknown': 'the ack is neither VIRTIO_NET_OK nor VIRTIO_NET_ERR',
  'header-mismatch': 'the header that came back is not that of the request',
} as const;

export type EbpfResponseReason = keyof typeof EBPF_RESPONSE_REASONS;

type Result =
  | { readonly ok: true; readonly reply: BpfReply }
  | { readonly ok: false; readonly reason: EbpfResponseReason; readonly detail: string };

/**
 * Decodes the answer to a request: the driver's side. Total, and as distrustful as the device's: an answer that
 * does not repeat the request's header is no answer.
 * @param sent what `encodeRequest` made of the request
 * @param written the device-writable bytes that the device wrote (`used.len` of them)
 */
export function decodeReply(request: Rfc2019Request, sent: Uint8Array, written: Uint8Array): Result {
  const expectedBytes = replyBytes(request);
  const response = splitResponse(written);
  if (response === undefined || written.length !== expectedBytes) {
    return refuse(
      'response-length-mismatch',
      `${written.length} bytes written, the answer to ${request.kind} takes ${expectedBytes}`,
    );
  }
  const { result, ack } = response;
  const view = new DataView(result.buffer, result.byteOffset, result.length);
  if (ack === VIRTIO_NET_ERR) {
    if (result.length === 0) return { ok: true, reply: { kind: 'error' } };
    const errno = view.getUint32(MAP_HEADER.flags, true);
    const isErrno = view.getUint32(MAP_HEADER.flags + 4, true) === 0 && errno >= 1 && errno <= MAX_ERRNO;
    return { ok: true, reply: isErrno ? { kind: 'error', errno } : { kind: 'error' } };
  }
  if (ack !== VIRTIO_NET_OK) return refuse('ack-unknown', `ack ${ack} is neither 0 nor 1`);

  const kind = expectedReply(request);
  if (kind === 'done') return { ok: true, reply: { kind } };
  for (let offset = 0; offset < EBPF_MAP_HEADER_BYTES; offset++) {
    const isHandle = kind === 'handle' && offset >= MAP_HEADER.mapFd && offset < MAP_HEADER.flags;
    if (!isHandle && result[offset] !== sent[CONTROL_HEADER_BYTES + offset]) {
      return refuse('header-mismatch', `byte ${offset} of the header differs from the request`);
    }
  }
  if (kind === 'handle') return { ok: true, reply: { kind, handle: view.getUint32(MAP_HEADER.mapFd, true) } };
  const element = request as LookupElem | GetFirst;
  const keySize = keySizeOf(element);
  const at = EBPF_MAP_HEADER_BYTES + keySize;
  return kind === 'value'
    ? { ok: true, reply: { kind, value: result.slice(at, at + element.valueSize) } }
    : { ok: true, reply: { kind: 'key', key: result.slice(at, at + keySize) } };
}

/** What a strict device would find wrong with a request, as its decoder would say it. */
function problemOf(request: Rfc2019Request): string | undefined {
  switch (request.kind) {
    case 'unset-offload':
      return undefined;
    case 'set-offload': {
      const { length } = request.insns;
      return length === 0 || length % EBPF_INSN_BYTES !== 0 ? `a program of ${length} bytes` : undefined;
    }
    case 'free-map':
      return notU32('map_fd', request.handle);
    case 'create-map':
      return (
        notU32('map_type', request.mapType) ??
        notU32('key_size', request.keySize) ??
        notU32('value_size', request.valueSize) ??
        notU32('max_entries', request.maxEntries) ??
        notU32('map_flags', request.mapFlags)
      );
    default: {
      const keySize = keySizeOf(request);
      const valueSize = request.kind === 'update-elem' ? request.value.length : request.valueSize;
      if (keySize === 0) return 'an element command with a key_size of 0';
      if (valueSize === 0) return 'an element command with a value_size of 0';
      if (request.kind === 'update-elem' && (request.flags < 0n || request.flags > MAX_UPDATE_FLAGS)) {
        return `update flags ${request.flags}`;
      }
      return (
        notU32('map_fd', request.handle) ??
        notU32('key_size', keySize) ??
        notU32('value_size', valueSize) ??
        notU32('buf_len', elementBufferBytes(keySize, valueSize))
      );
    }
  }
}

function notU32(field: string, value: number): string | undefined {
  if (Number.isInteger(value) && value >= 0 && value <= MAX_U32) return undefined;
  return `${field} ${value} is not an integer from 0 to ${MAX_U32}`;
}

/** Room for a command, with class and command filled in, and a view of its payload. */
function command(number: number, payloadBytes: number): { bytes: Uint8Array; view: DataView } {
  const bytes = freshViewable(CONTROL_HEADER_BYTES + payloadBytes);
  bytes[0] = VIRTIO_NET_CTRL_EBPF;
  bytes[1] = number;
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset + CONTROL_HEADER_BYTES, payloadBytes) };
}

function refuse(reason: EbpfResponseReason, detail: string): Result {
  return { ok: false, reason, detail };
}
