/**
 * The commands of class VIRTIO_NET_CTRL_EBPF (RFC 2019, "XDP offload"): programs and maps of the guest that
 * are to live on the host.
 *
 * All fields are little-endian. (The RFC used the guest's native order and converted nothing; a device cannot
 * know it, so this project fixes one, as virtio 1.0 did for everything else.)
 *
 * ```
 *   VIRTIO_NET_CTRL_EBPF_PROG, device-readable payload: 8 + len bytes
 *   0      4      6                8                8 + len
 *   | u32  | u16  | u16            | u8 insns[len] |
 *   | len  | cmd  | gpl_compatible | 8 bytes each  |
 *
 *   VIRTIO_NET_CTRL_EBPF_MAP, device-readable payload: 40 + buf_len bytes
 *   0        4     8         12        16          20           24         28      32      40           40 + buf_len
 *   | u32    | u32 | u32     | u32     | u32       | u32        | u32      | u32   | u64   | u8[buf_len] |
 *   | buf_len| cmd | map_type| key_size| value_size| max_entries| map_flags| map_fd| flags | buf         |
 *
 *   buf of an element command: buf_len = key_size + max(key_size, value_size); of the others: buf_len = 0
 *   0         key_size                            buf_len
 *   | key     | value, or a key as the result     |
 * ```
 *
 * Results come back in device-*writable* memory (the RFC wrote them over the device-readable payload, which
 * virtio 1.3, 2.7.5.1 forbids):
 *
 * ```
 *   CREATE_MAP, LOOKUP_ELEM, GET_FIRST, GET_NEXT, device-writable: 40 + buf_len + 1 bytes
 *   0                 40                   40 + buf_len   41 + buf_len
 *   | header as above | buf, with result   | u8 ack       |
 *
 *   all other commands, device-writable: 1 byte
 *   0        1
 *   | u8 ack |
 * ```
 *
 * A header that comes back repeats the request's, with `map_fd` filled in by CREATE_MAP. With VIRTIO_NET_ERR
 * everything before the ack is zero but `flags`, which may carry an errno: the RFC's single ack byte cannot
 * tell a guest "no further key" from "not allowed", and BPF_MAP_GET_NEXT_KEY needs that.
 *
 * Fields that a command has no use for must be zero, as bpf(2) demands of its own attributes: what is
 * ignored today could not be given a meaning tomorrow. The handle that travels in `map_fd` is the device's
 * own name for a map and never a file descriptor (RFC defect 1).
 */

import { CONTROL_ACK_BYTES } from '../../../../virtio/control.js';
import { keySizeOf, type MapRequest, type Rfc2019Request } from '../control-protocol.js';

/** `cmd` of VIRTIO_NET_CTRL_EBPF_PROG. */
export const VIRTIO_NET_BPF_CMD_SET_OFFLOAD = 1;
export const VIRTIO_NET_BPF_CMD_UNSET_OFFLOAD = 2;

/** `cmd` of VIRTIO_NET_CTRL_EBPF_MAP. */
export const VIRTIO_NET_BPF_CMD_CREATE_MAP = 1;
export const VIRTIO_NET_BPF_CMD_FREE_MAP = 2;
export const VIRTIO_NET_BPF_CMD_UPDATE_ELEM = 3;
export const VIRTIO_NET_BPF_CMD_LOOKUP_ELEM = 4;
export const VIRTIO_NET_BPF_CMD_DELETE_ELEM = 5;
export const VIRTIO_NET_BPF_CMD_GET_FIRST = 6;
export const VIRTIO_NET_BPF_CMD_GET_NEXT = 7;

/** Bytes. */
export const EBPF_PROG_HEADER_BYTES = 8;
export const EBPF_MAP_HEADER_BYTES = 40;
export const EBPF_INSN_BYTES = 8;

/** Offsets in the map header, in bytes. */
export const MAP_HEADER = {
  bufLen: 0,
  cmd: 4,
  mapType: 8,
  keySize: 12,
  valueSize: 16,
  maxEntries: 20,
  mapFlags: 24,
  mapFd: 28,
  flags: 32,
} as const;

export const MAP_SUB_COMMANDS: Readonly<Record<MapRequest['kind'], number>> = {
  'create-map': VIRTIO_NET_BPF_CMD_CREATE_MAP,
  'free-map': VIRTIO_NET_BPF_CMD_FREE_MAP,
  'update-elem': VIRTIO_NET_BPF_CMD_UPDATE_ELEM,
  'lookup-elem': VIRTIO_NET_BPF_CMD_LOOKUP_ELEM,
  'delete-elem': VIRTIO_NET_BPF_CMD_DELETE_ELEM,
  'get-first': VIRTIO_NET_BPF_CMD_GET_FIRST,
  'get-next': VIRTIO_NET_BPF_CMD_GET_NEXT,
};

/** The largest errno of Linux (MAX_ERRNO). */
export const MAX_ERRNO = 4095;

/** `buf_len` of an element command, in bytes. */
export function elementBufferBytes(keySize: number, valueSize: number): number {
  return keySize + Math.max(keySize, valueSize);
}

/** Device-writable bytes that the answer to a command takes, the ack included. */
export function replyBytes(request: Rfc2019Request): number {
  switch (request.kind) {
    case 'create-map':
      return EBPF_MAP_HEADER_BYTES + CONTROL_ACK_BYTES;
    case 'lookup-elem':
    case 'get-next':
    case 'get-first':
      return (
        EBPF_MAP_HEADER_BYTES + elementBufferBytes(keySizeOf(request), request.valueSize) + CONTROL_ACK_BYTES
      );
    default:
      return CONTROL_ACK_BYTES;
  }
}

/** Writes the header of a map request; `view` begins with it and is zero. */
export function writeMapHeader(view: DataView, request: MapRequest): void {
  view.setUint32(MAP_HEADER.cmd, MAP_SUB_COMMANDS[request.kind], true);
  if (request.kind === 'free-map') {
    view.setUint32(MAP_HEADER.mapFd, request.handle, true);
    return;
  }
  const keySize = keySizeOf(request);
  const valueSize = request.kind === 'update-elem' ? request.value.length : request.valueSize;
  view.setUint32(MAP_HEADER.keySize, keySize, true);
  view.setUint32(MAP_HEADER.valueSize, valueSize, true);
  if (request.kind === 'create-map') {
    view.setUint32(MAP_HEADER.mapType, request.mapType, true);
    view.setUint32(MAP_HEADER.maxEntries, request.maxEntries, true);
    view.setUint32(MAP_HEADER.mapFlags, request.mapFlags, true);
    return;
  }
  view.setUint32(MAP_HEADER.bufLen, elementBufferBytes(keySize, valueSize), true);
  view.setUint32(MAP_HEADER.mapFd, request.handle, true);
  if (request.kind === 'update-elem') view.setBigUint64(MAP_HEADER.flags, request.flags, true);
}
