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

import { XdpbedError } from '../core/diagnostic.js';
import {
  CONTROL_ACK_BYTES,
  decodeControlCommand,
  encodeControlCommand,
  joinResponse,
  splitResponse,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_EBPF_MAP,
  VIRTIO_NET_CTRL_EBPF_PROG,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from './control.js';

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

/** Update flags, bpf(2). */
const BPF_EXIST = 2n;
const MAX_U32 = 0xffff_ffff;
/** The largest errno of Linux (MAX_ERRNO). */
const MAX_ERRNO = 4095n;

/** What a device takes at most. The defaults are {@link DEFAULT_EBPF_LIMITS}. */
export interface EbpfLimits {
  /** Instructions of a program. */
  readonly maxInsns: number;
  /** Bytes of a key. */
  readonly maxKeyBytes: number;
  /** Bytes of a value. */
  readonly maxValueBytes: number;
}

export const DEFAULT_EBPF_LIMITS: EbpfLimits = {
  // What the RFC's QEMU loads at most.
  maxInsns: 4096,
  // A key has to fit on the BPF stack.
  maxKeyBytes: 512,
  maxValueBytes: 65536,
};

/** A command that names an element of a map. `handle` is the device's, from CREATE_MAP. */
interface ElementCommand {
  /** u32, `map_fd` on the wire. */
  readonly handle: number;
  /** `key_size` is its length. */
  readonly key: Uint8Array;
  /** Bytes: what the driver believes the map's value size to be. The device compares. */
  readonly valueSize: number;
}

export interface SetOffload {
  readonly kind: 'set-offload';
  /** The program: a multiple of 8 bytes, at least one instruction. Map handles are in place of map fds. */
  readonly insns: Uint8Array;
  /** The program's licence allows GPL-only helpers. */
  readonly gplCompatible: boolean;
}

export interface UnsetOffload {
  readonly kind: 'unset-offload';
}

export interface CreateMap {
  readonly kind: 'create-map';
  /** BPF_MAP_TYPE_* */
  readonly mapType: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_* of map creation. */
  readonly mapFlags: number;
}

export interface FreeMap {
  readonly kind: 'free-map';
  readonly handle: number;
}

export interface UpdateElem {
  readonly kind: 'update-elem';
  readonly handle: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** BPF_ANY 0, BPF_NOEXIST 1 or BPF_EXIST 2. */
  readonly flags: bigint;
}

export interface LookupElem extends ElementCommand {
  readonly kind: 'lookup-elem';
}

export interface DeleteElem extends ElementCommand {
  readonly kind: 'delete-elem';
}

export interface GetFirst {
  readonly kind: 'get-first';
  readonly handle: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
}

export interface GetNext extends ElementCommand {
  readonly kind: 'get-next';
}

export type EbpfMapCommand = CreateMap | FreeMap | UpdateElem | LookupElem | DeleteElem | GetFirst | GetNext;

export type EbpfCommand = SetOffload | UnsetOffload | EbpfMapCommand;

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

export type EbpfDecodeResult =
  | { readonly ok: true; readonly command: EbpfCommand }
  | { readonly ok: false; readonly reason: EbpfDecodeReason; readonly detail: string };

export interface EbpfDecodeOptions extends Partial<EbpfLimits> {
  /** Device-writable bytes of the chain, which have to be exactly {@link ebpfResponseBytes}; unchecked if absent. */
  readonly writableBytes?: number;
}

/** `buf_len` of an element command, in bytes. */
export function ebpfElementBufferBytes(keySize: number, valueSize: number): number {
  return keySize + Math.max(keySize, valueSize);
}

/** Device-writable bytes that the answer to a command takes, the ack included. */
export function ebpfResponseBytes(command: EbpfCommand): number {
  switch (command.kind) {
    case 'create-map':
      return EBPF_MAP_HEADER_BYTES + CONTROL_ACK_BYTES;
    case 'lookup-elem':
    case 'get-next':
    case 'get-first':
      return (
        EBPF_MAP_HEADER_BYTES +
        ebpfElementBufferBytes(keySizeOf(command), command.valueSize) +
        CONTROL_ACK_BYTES
      );
    case 'set-offload':
    case 'unset-offload':
    case 'free-map':
    case 'update-elem':
    case 'delete-elem':
      return CONTROL_ACK_BYTES;
  }
}

/**
 * The device-readable bytes of a command, class and command included: the driver's side.
 * @throws XdpbedError `virtio-violation` for a command that a strict device would refuse whatever its limits
 */
export function encodeEbpfCommand(command: EbpfCommand): Uint8Array {
  const isProgram = command.kind === 'set-offload' || command.kind === 'unset-offload';
  const bytes = encodeControlCommand({
    class: VIRTIO_NET_CTRL_EBPF,
    command: isProgram ? VIRTIO_NET_CTRL_EBPF_PROG : VIRTIO_NET_CTRL_EBPF_MAP,
    payload: isProgram ? encodeProgramPayload(command) : encodeMapPayload(command),
  });
  // The decoder is the one place that knows the rules; what it refuses, a driver must not send.
  const decoded = decodeEbpfCommand(bytes, {
    maxInsns: Infinity,
    maxKeyBytes: Infinity,
    maxValueBytes: Infinity,
  });
  if (!decoded.ok) {
    throw new XdpbedError('virtio-violation', `${command.kind}: ${decoded.detail}`);
  }
  return bytes;
}

/**
 * Decodes the device-readable bytes of a chain: the device's side. Total: any bytes give a command or a
 * reason, every field is checked against every other, and nothing is allocated beyond copies of what is
 * there. Arithmetic is on numbers far below 2^53, so no sum wraps (RFC defect 4).
 *
 * @param readable as {@link DescriptorChain.readable}: already copied from the guest, so nothing changes
 *   between check and use (RFC defect 3)
 */
export function decodeEbpfCommand(readable: Uint8Array, options: EbpfDecodeOptions = {}): EbpfDecodeResult {
  const control = decodeControlCommand(readable);
  if (control === undefined) {
    return refuse('header-truncated', `${readable.length} bytes do not hold class and command`);
  }
  if (control.class !== VIRTIO_NET_CTRL_EBPF) {
    return refuse('class-unknown', `class ${control.class} is not ${VIRTIO_NET_CTRL_EBPF}`);
  }
  const limits = { ...DEFAULT_EBPF_LIMITS, ...options };
  let result: EbpfDecodeResult;
  if (control.command === VIRTIO_NET_CTRL_EBPF_PROG) {
    result = decodeProgramPayload(control.payload, limits);
  } else if (control.command === VIRTIO_NET_CTRL_EBPF_MAP) {
    result = decodeMapPayload(control.payload, limits);
  } else {
    return refuse('command-unknown', `command ${control.command} of class EBPF`);
  }
  if (!result.ok || options.writableBytes === undefined) return result;
  const needed = ebpfResponseBytes(result.command);
  if (options.writableBytes === needed) return result;
  return refuse(
    'writable-length-mismatch',
    `${options.writableBytes} writable bytes, the answer to ${result.command.kind} takes ${needed}`,
  );
}

/** What came of a command. Which kinds of success go with which command: {@link encodeEbpfResponse}. */
export type EbpfResult =
  /** SET_OFFLOAD, UNSET_OFFLOAD, FREE_MAP, UPDATE_ELEM, DELETE_ELEM */
  | { readonly kind: 'done' }
  /** CREATE_MAP */
  | { readonly kind: 'handle'; readonly handle: number }
  /** LOOKUP_ELEM: `value_size` bytes */
  | { readonly kind: 'value'; readonly value: Uint8Array }
  /** GET_FIRST, GET_NEXT: `key_size` bytes */
  | { readonly kind: 'key'; readonly key: Uint8Array }
  /**
   * VIRTIO_NET_ERR. `errno` (1 to 4095, as in Linux: 2 is ENOENT) reaches the driver only for the commands
   * whose answer has a header.
   */
  | { readonly kind: 'error'; readonly errno?: number };

/**
 * The device-writable bytes of the answer, {@link ebpfResponseBytes} in all: the device's side. For a
 * command that could not be decoded there is `encodeErrorResponse`.
 * @throws XdpbedError `virtio-violation` when the result does not belong to the command or has a wrong size
 */
export function encodeEbpfResponse(command: EbpfCommand, result: EbpfResult): Uint8Array {
  const payload = new Uint8Array(ebpfResponseBytes(command) - CONTROL_ACK_BYTES);
  if (result.kind === 'error') {
    if (result.errno !== undefined && payload.length > 0) {
      if (!Number.isInteger(result.errno) || !isErrno(BigInt(result.errno))) {
        throw new XdpbedError('virtio-violation', `errno ${result.errno} is not from 1 to ${MAX_ERRNO}`);
      }
      new DataView(payload.buffer).setBigUint64(32, BigInt(result.errno), true);
    }
    return joinResponse(payload, VIRTIO_NET_ERR);
  }

  if (expectedResult(command) !== result.kind) {
    throw new XdpbedError('virtio-violation', `${command.kind} cannot end in '${result.kind}'`);
  }
  if (result.kind !== 'done') {
    payload.set(encodeMapPayload(command as EbpfMapCommand));
    if (result.kind === 'handle') {
      new DataView(payload.buffer).setUint32(28, requireU32('map_fd', result.handle), true);
    } else {
      const element = command as LookupElem | GetFirst | GetNext;
      const keySize = keySizeOf(element);
      const bytes = result.kind === 'value' ? result.value : result.key;
      const expected = result.kind === 'value' ? element.valueSize : keySize;
      if (bytes.length !== expected) {
        throw new XdpbedError(
          'virtio-violation',
          `${command.kind} ends in a ${result.kind} of ${expected} bytes, not ${bytes.length}`,
        );
      }
      payload.set(bytes, EBPF_MAP_HEADER_BYTES + keySize);
    }
  }
  return joinResponse(payload, VIRTIO_NET_OK);
}

/** Why a driver does not believe an answer. */
export const EBPF_RESPONSE_REASONS = {
  'response-length-mismatch': 'the device wrote fewer or more bytes than the answer takes',
  'ack-unknown': 'the ack is neither VIRTIO_NET_OK nor VIRTIO_NET_ERR',
  'header-mismatch': 'the header that came back is not that of the request',
} as const;

export type EbpfResponseReason = keyof typeof EBPF_RESPONSE_REASONS;

export type EbpfResponseResult =
  | { readonly ok: true; readonly result: EbpfResult }
  | { readonly ok: false; readonly reason: EbpfResponseReason; readonly detail: string };

/**
 * Decodes the answer to `command`: the driver's side. Total, and as distrustful as the device's: an answer
 * that does not repeat the request's header is no answer.
 * @param written the device-writable bytes that the device wrote (`used.len` of them)
 */
export function decodeEbpfResponse(command: EbpfCommand, written: Uint8Array): EbpfResponseResult {
  const expectedBytes = ebpfResponseBytes(command);
  const response = splitResponse(written);
  if (response === undefined || written.length !== expectedBytes) {
    return refuse(
      'response-length-mismatch',
      `${written.length} bytes written, the answer to ${command.kind} takes ${expectedBytes}`,
    );
  }
  const { result, ack } = response;
  const view = new DataView(result.buffer, result.byteOffset, result.length);
  if (ack === VIRTIO_NET_ERR) {
    const errno = result.length > 0 ? view.getBigUint64(32, true) : 0n;
    return {
      ok: true,
      result: isErrno(errno) ? { kind: 'error', errno: Number(errno) } : { kind: 'error' },
    };
  }
  if (ack !== VIRTIO_NET_OK) return refuse('ack-unknown', `ack ${ack} is neither 0 nor 1`);

  const kind = expectedResult(command);
  if (kind === 'done') return { ok: true, result: { kind } };
  const sent = encodeMapPayload(command as EbpfMapCommand);
  for (let offset = 0; offset < EBPF_MAP_HEADER_BYTES; offset++) {
    const isHandle = kind === 'handle' && offset >= 28 && offset < 32;
    if (!isHandle && result[offset] !== sent[offset]) {
      return refuse('header-mismatch', `byte ${offset} of the header differs from the request`);
    }
  }
  if (kind === 'handle') return { ok: true, result: { kind, handle: view.getUint32(28, true) } };
  const element = command as LookupElem | GetFirst | GetNext;
  const at = EBPF_MAP_HEADER_BYTES + keySizeOf(element);
  return kind === 'value'
    ? { ok: true, result: { kind, value: result.slice(at, at + element.valueSize) } }
    : { ok: true, result: { kind, key: result.slice(at, at + keySizeOf(element)) } };
}

function decodeProgramPayload(payload: Uint8Array, limits: EbpfLimits): EbpfDecodeResult {
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
    return { ok: true, command: { kind: 'unset-offload' } };
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
  return { ok: true, command: { kind: 'set-offload', insns, gplCompatible: gplCompatible === 1 } };
}

function decodeMapPayload(payload: Uint8Array, limits: EbpfLimits): EbpfDecodeResult {
  if (payload.length < EBPF_MAP_HEADER_BYTES) {
    return refuse(
      'header-truncated',
      `${payload.length} of the ${EBPF_MAP_HEADER_BYTES} bytes of the map header`,
    );
  }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const bufLen = view.getUint32(0, true);
  const subCommand = view.getUint32(4, true);
  const mapType = view.getUint32(8, true);
  const keySize = view.getUint32(12, true);
  const valueSize = view.getUint32(16, true);
  const maxEntries = view.getUint32(20, true);
  const mapFlags = view.getUint32(24, true);
  const handle = view.getUint32(28, true);
  const flags = view.getBigUint64(32, true);
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
  const expected = isElement ? ebpfElementBufferBytes(keySize, valueSize) : 0;
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
  for (const [name, value, used] of [
    ['map_type', mapType, isCreate],
    ['max_entries', maxEntries, isCreate],
    ['map_flags', mapFlags, isCreate],
    ['map_fd', handle, !isCreate],
    ['key_size', keySize, !isFree],
    ['value_size', valueSize, !isFree],
  ] as const) {
    if (!used && value !== 0) {
      return refuse('unused-field-set', `${name} ${value}, sub-command ${subCommand} has no use for it`);
    }
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

function encodeProgramPayload(command: SetOffload | UnsetOffload): Uint8Array {
  const insns = command.kind === 'set-offload' ? command.insns : new Uint8Array(0);
  const payload = new Uint8Array(EBPF_PROG_HEADER_BYTES + insns.length);
  const view = new DataView(payload.buffer);
  view.setUint32(0, insns.length, true);
  if (command.kind === 'set-offload') {
    view.setUint16(4, VIRTIO_NET_BPF_CMD_SET_OFFLOAD, true);
    view.setUint16(6, command.gplCompatible ? 1 : 0, true);
  } else {
    view.setUint16(4, VIRTIO_NET_BPF_CMD_UNSET_OFFLOAD, true);
  }
  payload.set(insns, EBPF_PROG_HEADER_BYTES);
  return payload;
}

const MAP_SUB_COMMANDS: Readonly<Record<EbpfMapCommand['kind'], number>> = {
  'create-map': VIRTIO_NET_BPF_CMD_CREATE_MAP,
  'free-map': VIRTIO_NET_BPF_CMD_FREE_MAP,
  'update-elem': VIRTIO_NET_BPF_CMD_UPDATE_ELEM,
  'lookup-elem': VIRTIO_NET_BPF_CMD_LOOKUP_ELEM,
  'delete-elem': VIRTIO_NET_BPF_CMD_DELETE_ELEM,
  'get-first': VIRTIO_NET_BPF_CMD_GET_FIRST,
  'get-next': VIRTIO_NET_BPF_CMD_GET_NEXT,
};

function encodeMapPayload(command: EbpfMapCommand): Uint8Array {
  const keySize = command.kind === 'free-map' ? 0 : keySizeOf(command);
  const valueSize =
    command.kind === 'free-map'
      ? 0
      : command.kind === 'update-elem'
        ? command.value.length
        : requireU32('value_size', command.valueSize);
  const isElement = command.kind !== 'create-map' && command.kind !== 'free-map';
  const bufLen = isElement
    ? requireU32('buf_len', ebpfElementBufferBytes(requireU32('key_size', keySize), valueSize))
    : 0;

  const payload = new Uint8Array(EBPF_MAP_HEADER_BYTES + bufLen);
  const view = new DataView(payload.buffer);
  view.setUint32(0, bufLen, true);
  view.setUint32(4, MAP_SUB_COMMANDS[command.kind], true);
  view.setUint32(12, requireU32('key_size', keySize), true);
  view.setUint32(16, valueSize, true);
  if (command.kind === 'create-map') {
    view.setUint32(8, requireU32('map_type', command.mapType), true);
    view.setUint32(20, requireU32('max_entries', command.maxEntries), true);
    view.setUint32(24, requireU32('map_flags', command.mapFlags), true);
  } else {
    view.setUint32(28, requireU32('map_fd', command.handle), true);
  }
  if (isElement && command.kind !== 'get-first') payload.set(command.key, EBPF_MAP_HEADER_BYTES);
  if (command.kind === 'update-elem') {
    view.setBigUint64(32, command.flags, true);
    payload.set(command.value, EBPF_MAP_HEADER_BYTES + keySize);
  }
  return payload;
}

function expectedResult(command: EbpfCommand): Exclude<EbpfResult['kind'], 'error'> {
  switch (command.kind) {
    case 'create-map':
      return 'handle';
    case 'lookup-elem':
      return 'value';
    case 'get-first':
    case 'get-next':
      return 'key';
    case 'set-offload':
    case 'unset-offload':
    case 'free-map':
    case 'update-elem':
    case 'delete-elem':
      return 'done';
  }
}

function keySizeOf(command: Exclude<EbpfMapCommand, FreeMap>): number {
  return 'key' in command ? command.key.length : command.keySize;
}

function compareLength(
  field: 'len' | 'buf_len',
  announced: number,
  present: number,
): Extract<EbpfDecodeResult, { ok: false }> | undefined {
  if (present < announced)
    return refuse('payload-truncated', `${field} ${announced}, ${present} bytes are there`);
  if (present > announced)
    return refuse('trailing-bytes', `${field} ${announced}, ${present} bytes are there`);
  return undefined;
}

function isErrno(value: bigint): boolean {
  return value >= 1n && value <= MAX_ERRNO;
}

function requireU32(field: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= MAX_U32) return value;
  throw new XdpbedError('virtio-violation', `${field} ${value} is not an integer from 0 to ${MAX_U32}`);
}

function accept(command: EbpfCommand): EbpfDecodeResult {
  return { ok: true, command };
}

function refuse<Reason extends string>(
  reason: Reason,
  detail: string,
): { readonly ok: false; readonly reason: Reason; readonly detail: string } {
  return { ok: false, reason, detail };
}
