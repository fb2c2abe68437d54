import {
  CONTROL_ACK_BYTES,
  decodeControlCommand,
  encodeErrorResponse,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_EBPF_MAP,
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
  type MapRequest,
  type Rfc2019Request,
} from '../control-protocol.js';
import { EBPF_MAP_HEADER_BYTES, MAP_HEADER, MAX_ERRNO, replyBytes, writeMapHeader } from './wire.js';

/**
 * The device-writable bytes of the answer: the device's side. For a command that could not be decoded there is
 * `encodeErrorResponse`.
 * @throws XdpbedError `virtio-violation` when the reply does not belong to the request or has a wrong size
 */
export function encodeReply(request: Rfc2019Request, reply: BpfReply): Uint8Array {
  const bytes = freshViewable(replyBytes(request));
  const ack = bytes.length - CONTROL_ACK_BYTES;
  if (reply.kind === 'error') {
    bytes[ack] = VIRTIO_NET_ERR;
    if (reply.errno === undefined || ack === 0) return bytes;
    if (!Number.isInteger(reply.errno) || reply.errno < 1 || reply.errno > MAX_ERRNO) {
      throw mismatch(`errno ${reply.errno} is not from 1 to ${MAX_ERRNO}`);
    }
    viewOf(bytes).setUint32(MAP_HEADER.flags, reply.errno, true);
    return bytes;
  }
  if (expectedReply(request) !== reply.kind) throw mismatch(`${request.kind} cannot end in '${reply.kind}'`);
  bytes[ack] = VIRTIO_NET_OK;
  if (reply.kind === 'done') return bytes;

  const view = viewOf(bytes);
  writeMapHeader(view, request as MapRequest);
  if (reply.kind === 'handle') {
    if (!Number.isInteger(reply.handle) || reply.handle < 0 || reply.handle > 0xffff_ffff) {
      throw mismatch(`map_fd ${reply.handle} is no u32`);
    }
    view.setUint32(MAP_HEADER.mapFd, reply.handle, true);
    return bytes;
  }
  const element = request as LookupElem | GetFirst;
  const keySize = keySizeOf(element);
  if (reply.kind !== 'value' && reply.kind !== 'key') throw mismatch(`RFC 2019 has no reply '${reply.kind}'`);
  const content = reply.kind === 'value' ? reply.value : reply.key;
  const expected = reply.kind === 'value' ? element.valueSize : keySize;
  if (content.length !== expected) {
    throw mismatch(`${request.kind} ends in a ${reply.kind} of ${expected} bytes, not ${content.length}`);
  }
  if ('key' in request) bytes.set(request.key, EBPF_MAP_HEADER_BYTES);
  bytes.set(content, EBPF_MAP_HEADER_BYTES + keySize);
  return bytes;
}

/** A map command's answer has the errno in `flags`; the others have none. */
export function encodeRefusal(readable: Uint8Array, room: number, errno: number): Uint8Array | undefined {
  const command = decodeControlCommand(readable);
  if (command?.class !== VIRTIO_NET_CTRL_EBPF || command.command !== VIRTIO_NET_CTRL_EBPF_MAP)
    return undefined;
  if (room < EBPF_MAP_HEADER_BYTES + CONTROL_ACK_BYTES) return undefined;
  if (!Number.isInteger(errno) || errno < 1 || errno > MAX_ERRNO) return undefined;
  const bytes = encodeErrorResponse(room);
  if (bytes.length === CONTROL_ACK_BYTES) return bytes;
  viewOf(bytes).setUint32(MAP_HEADER.flags, errno, true);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function mismatch(message: string): XdpbedError {
  return new XdpbedError('virtio-violation', message);
}
