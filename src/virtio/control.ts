/**
 * Commands on the control virtqueue (virtio 1.3, 5.1.6.5), in their common form.
 *
 * ```
 *   device-readable                              device-writable
 *   0      1        2                            0                       capacity - 1   capacity
 *   | u8   | u8     | u8[]                  |    | u8[]                  | u8           |
 *   | class| command| command-specific data |    | result, where there is| ack          |
 * ```
 *
 * How the parts are spread over descriptors means nothing (virtio 1.3, 2.7.4). The result exists only for
 * the commands of RFC 2019; for them this project puts the ack **last**. virtio 1.3 has since given
 * its own commands with a result (VIRTIO_NET_CTRL_STATS) the ack first; for a command without a result
 * there is no difference. {@link joinResponse} and {@link splitResponse} are the only place that knows.
 */

import { XdpbedError } from '../core/diagnostic.js';
import { VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN } from './net-config.js';

/** Acks, one byte. */
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;

/** Bytes of class and command. */
export const CONTROL_HEADER_BYTES = 2;
/** Bytes of the ack. */
export const CONTROL_ACK_BYTES = 1;

// Classes, each followed by its commands.
export const VIRTIO_NET_CTRL_RX = 0;
export const VIRTIO_NET_CTRL_RX_PROMISC = 0;
export const VIRTIO_NET_CTRL_RX_ALLMULTI = 1;
export const VIRTIO_NET_CTRL_RX_ALLUNI = 2;
export const VIRTIO_NET_CTRL_RX_NOMULTI = 3;
export const VIRTIO_NET_CTRL_RX_NOUNI = 4;
export const VIRTIO_NET_CTRL_RX_NOBCAST = 5;

export const VIRTIO_NET_CTRL_MAC = 1;
export const VIRTIO_NET_CTRL_MAC_TABLE_SET = 0;
export const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1;

export const VIRTIO_NET_CTRL_VLAN = 2;
export const VIRTIO_NET_CTRL_VLAN_ADD = 0;
export const VIRTIO_NET_CTRL_VLAN_DEL = 1;

export const VIRTIO_NET_CTRL_ANNOUNCE = 3;
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0;

export const VIRTIO_NET_CTRL_MQ = 4;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
export const VIRTIO_NET_CTRL_MQ_RSS_CONFIG = 1;
export const VIRTIO_NET_CTRL_MQ_HASH_CONFIG = 2;

export const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5;
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0;

/**
 * RFC 2019. virtio 1.2 has since given class 6 to VIRTIO_NET_CTRL_NOTF_COAL; here it means EBPF because
 * VIRTIO_NET_F_XDP_OFFLOAD and the coalescing features exclude each other (features.ts).
 */
export const VIRTIO_NET_CTRL_EBPF = 6;
export const VIRTIO_NET_CTRL_EBPF_PROG = 1;
export const VIRTIO_NET_CTRL_EBPF_MAP = 2;

/**
 * Of VIRTIO_NET_F_BPF_OFFLOAD, docs/spec/bpf-offload.md. A proposal of this project: virtio hands out classes from below, 8 was
 * the last in 1.3.
 */
export const VIRTIO_NET_CTRL_BPF = 240;

const CLASSES: ReadonlyMap<
  number,
  { readonly name: string; readonly commands: ReadonlyMap<number, string> }
> = new Map([
  describe(VIRTIO_NET_CTRL_RX, 'RX', ['PROMISC', 'ALLMULTI', 'ALLUNI', 'NOMULTI', 'NOUNI', 'NOBCAST']),
  describe(VIRTIO_NET_CTRL_MAC, 'MAC', ['TABLE_SET', 'ADDR_SET']),
  describe(VIRTIO_NET_CTRL_VLAN, 'VLAN', ['ADD', 'DEL']),
  describe(VIRTIO_NET_CTRL_ANNOUNCE, 'ANNOUNCE', ['ACK']),
  describe(VIRTIO_NET_CTRL_MQ, 'MQ', ['VQ_PAIRS_SET', 'RSS_CONFIG', 'HASH_CONFIG']),
  describe(VIRTIO_NET_CTRL_GUEST_OFFLOADS, 'GUEST_OFFLOADS', ['SET']),
  describe(VIRTIO_NET_CTRL_EBPF, 'EBPF', [undefined, 'PROG', 'MAP']),
]);

/** A command before its class gives the payload a meaning. */
export interface ControlCommand {
  readonly class: number;
  readonly command: number;
  /** command-specific data */
  readonly payload: Uint8Array;
}

/** The spec's name without `VIRTIO_NET_CTRL_`, e.g. `MQ_VQ_PAIRS_SET`; numbers where there is none. */
export function controlCommandName(controlClass: number, command: number): string {
  const known = CLASSES.get(controlClass);
  if (known === undefined) return `class ${controlClass} command ${command}`;
  return known.commands.get(command) ?? `${known.name} command ${command}`;
}

/**
 * The device-readable bytes of a command.
 * @throws XdpbedError `virtio-violation` when class or command does not fit a byte
 */
export function encodeControlCommand(command: ControlCommand): Uint8Array {
  for (const value of [command.class, command.command]) {
    if (!Number.isInteger(value) || value < 0 || value > 0xff) {
      throw new XdpbedError('virtio-violation', `class and command are bytes, ${value} is not`);
    }
  }
  const bytes = new Uint8Array(CONTROL_HEADER_BYTES + command.payload.length);
  bytes[0] = command.class;
  bytes[1] = command.command;
  bytes.set(command.payload, CONTROL_HEADER_BYTES);
  return bytes;
}

/**
 * Splits the device-readable bytes; `undefined` when class or command is missing. The payload is a view of
 * `readable`, which the device has already copied from the guest.
 */
export function decodeControlCommand(readable: Uint8Array): ControlCommand | undefined {
  if (readable.length < CONTROL_HEADER_BYTES) return undefined;
  return { class: readable[0]!, command: readable[1]!, payload: readable.subarray(CONTROL_HEADER_BYTES) };
}

/**
 * The device-writable bytes: result, then ack.
 * @param ack VIRTIO_NET_OK or VIRTIO_NET_ERR
 */
export function joinResponse(result: Uint8Array, ack: number): Uint8Array {
  const bytes = new Uint8Array(result.length + CONTROL_ACK_BYTES);
  bytes.set(result);
  bytes[result.length] = ack;
  return bytes;
}

/** The inverse of {@link joinResponse}; `undefined` when there is no byte for the ack. `result` is a view. */
export function splitResponse(
  bytes: Uint8Array,
): { readonly result: Uint8Array; readonly ack: number } | undefined {
  const ack = bytes.at(-1);
  if (ack === undefined) return undefined;
  return { result: bytes.subarray(0, bytes.length - CONTROL_ACK_BYTES), ack };
}

/**
 * Bytes of the longest answer that any command has for which the ack is last: the header of VIRTIO_NET_CTRL_EBPF_MAP, a key of 512
 * bytes, a value of 64 KiB and the ack (RFC 2019).
 */
export const MAX_RESPONSE_BYTES = 40 + 512 + 65_536 + CONTROL_ACK_BYTES;

/**
 * The answer to a command of whose result nothing is known, or that has none: zeros up to the last writable byte, which is
 * the ack. The zeros are written because `used.len` counts from the first byte and must not cover bytes that were not
 * written. Empty when there is no room for an ack.
 *
 * With room for more than {@link MAX_RESPONSE_BYTES}, which no driver gives that keeps to the rules, the ack is all there is: a
 * command of two bytes must not have the device make and write a megabyte.
 */
export function encodeAck(writableBytes: number, ack: number): Uint8Array {
  if (writableBytes < CONTROL_ACK_BYTES) return new Uint8Array(0);
  const bytes = new Uint8Array(writableBytes > MAX_RESPONSE_BYTES ? CONTROL_ACK_BYTES : writableBytes);
  bytes[bytes.length - 1] = ack;
  return bytes;
}

/** {@link encodeAck} with VIRTIO_NET_ERR: a command that is refused before anything is known of its result. */
export function encodeErrorResponse(writableBytes: number): Uint8Array {
  return encodeAck(writableBytes, VIRTIO_NET_ERR);
}

/**
 * The payload of VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET (virtio 1.3, 5.1.6.5.6): one u16, the pairs to use.
 * @throws XdpbedError `virtio-violation` when `pairs` is not from 1 to 0x8000
 */
export function encodeVqPairsSet(pairs: number): Uint8Array {
  if (
    !Number.isInteger(pairs) ||
    pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN ||
    pairs > VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX
  ) {
    throw new XdpbedError(
      'virtio-violation',
      `${pairs} queue pairs are not an integer from ${VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN} to ${VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX}`,
    );
  }
  return Uint8Array.of(pairs & 0xff, pairs >> 8);
}

/** The pairs asked for; `undefined` unless the payload is exactly one u16 from 1 to `maxVirtqueuePairs`. */
export function decodeVqPairsSet(payload: Uint8Array, maxVirtqueuePairs: number): number | undefined {
  if (payload.length !== 2) return undefined;
  const pairs = payload[0]! | (payload[1]! << 8);
  return pairs >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN && pairs <= maxVirtqueuePairs ? pairs : undefined;
}

function describe(
  controlClass: number,
  suffix: string,
  commands: readonly (string | undefined)[],
): [number, { name: string; commands: Map<number, string> }] {
  const named = new Map<number, string>();
  for (const [command, commandName] of commands.entries()) {
    if (commandName !== undefined) named.set(command, `${suffix}_${commandName}`);
  }
  return [controlClass, { name: suffix, commands: named }];
}
