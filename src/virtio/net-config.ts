/**
 * Configuration space of a network device (virtio 1.3, 5.1.4) and what its queues are numbered (5.1.2).
 *
 * ```
 *   0        6       8                    10     12
 *   | u8[6]  | u16   | u16                | u16  |      little-endian; speed, duplex and the RSS fields,
 *   | mac    | status| max_virtqueue_pairs| mtu  | ...  which follow, are not modelled
 * ```
 */

import { XdpbedError } from '../core/diagnostic.js';
import {
  type FeatureSet,
  hasFeature,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_RSS,
} from './features.js';

/** Bytes that are modelled. */
export const VIRTIO_NET_CONFIG_BYTES = 12;

/**
 * Where what VIRTIO_NET_F_BPF_OFFLOAD adds begins, docs/spec/bpf-offload.md. virtio's own fields grow upwards from the start (28 bytes
 * in 1.3); what is between is 0.
 */
export const VIRTIO_NET_CONFIG_BPF_OFFSET = 256;

/** In `status`: the link is up. */
export const VIRTIO_NET_S_LINK_UP = 1;
/** In `status`: the driver is to announce itself and then to send VIRTIO_NET_CTRL_ANNOUNCE_ACK. */
export const VIRTIO_NET_S_ANNOUNCE = 2;

export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN = 1;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 0x8000;

/** Bytes: the least and the most that a device may advertise as `mtu`. */
export const VIRTIO_NET_MTU_MIN = 68;
export const VIRTIO_NET_MTU_MAX = 65535;

export interface NetConfig {
  /** Six bytes; valid with VIRTIO_NET_F_MAC. */
  readonly mac: Uint8Array;
  /** VIRTIO_NET_S_*; exists with VIRTIO_NET_F_STATUS. */
  readonly status: number;
  /** Exists with VIRTIO_NET_F_MQ or VIRTIO_NET_F_RSS. */
  readonly maxVirtqueuePairs: number;
  /** Bytes; exists with VIRTIO_NET_F_MTU. */
  readonly mtu: number;
}

/**
 * @param added what the device has from byte {@link VIRTIO_NET_CONFIG_BPF_OFFSET} on, behind zeros
 * @throws XdpbedError `virtio-violation` when the MAC address has not six bytes or a value is out of range
 */
export function encodeNetConfig(config: NetConfig, added?: Uint8Array): Uint8Array {
  const { mac, status, maxVirtqueuePairs, mtu } = config;
  if (mac.length !== 6) {
    throw new XdpbedError('virtio-violation', `a MAC address of ${mac.length} bytes, not 6`);
  }
  const bytes = new Uint8Array(
    added === undefined ? VIRTIO_NET_CONFIG_BYTES : VIRTIO_NET_CONFIG_BPF_OFFSET + added.length,
  );
  bytes.set(mac);
  const view = new DataView(bytes.buffer);
  view.setUint16(6, within('status', status, 0, 0xffff), true);
  view.setUint16(
    8,
    within(
      'max_virtqueue_pairs',
      maxVirtqueuePairs,
      VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN,
      VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX,
    ),
    true,
  );
  view.setUint16(10, within('mtu', mtu, VIRTIO_NET_MTU_MIN, VIRTIO_NET_MTU_MAX), true);
  if (added !== undefined) bytes.set(added, VIRTIO_NET_CONFIG_BPF_OFFSET);
  return bytes;
}

/** The configuration at the start of `bytes`, or `undefined` when there are fewer than 12. Judges no value. */
export function decodeNetConfig(bytes: Uint8Array): NetConfig | undefined {
  if (bytes.length < VIRTIO_NET_CONFIG_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, VIRTIO_NET_CONFIG_BYTES);
  return {
    mac: Uint8Array.from(bytes.subarray(0, 6)),
    status: view.getUint16(6, true),
    maxVirtqueuePairs: view.getUint16(8, true),
    mtu: view.getUint16(10, true),
  };
}

/** Virtqueue indices of a device. */
export interface NetQueueNumbers {
  /** Pairs of receive and transmit queues. */
  readonly pairs: number;
  /** `receive[i]` is the index of receiveq(i+1): 0, 2, 4, … */
  readonly receive: readonly number[];
  /** `transmit[i]` is the index of transmitq(i+1): 1, 3, 5, … */
  readonly transmit: readonly number[];
  /** Index of controlq, which comes last; absent without VIRTIO_NET_F_CTRL_VQ. */
  readonly control: number | undefined;
  /** Queues in all. */
  readonly count: number;
}

/**
 * Numbers the queues (virtio 1.3, 5.1.2). controlq comes after *all* pairs that the device has, not after
 * those in use; without MQ and RSS there is one pair, whatever `max_virtqueue_pairs` says.
 */
export function netQueueNumbers(negotiated: FeatureSet, maxVirtqueuePairs: number): NetQueueNumbers {
  const multiqueue = hasFeature(negotiated, VIRTIO_NET_F_MQ) || hasFeature(negotiated, VIRTIO_NET_F_RSS);
  const pairs = multiqueue ? maxVirtqueuePairs : 1;
  const control = hasFeature(negotiated, VIRTIO_NET_F_CTRL_VQ) ? 2 * pairs : undefined;
  return {
    pairs,
    receive: Array.from({ length: pairs }, (_, pair) => 2 * pair),
    transmit: Array.from({ length: pairs }, (_, pair) => 2 * pair + 1),
    control,
    count: 2 * pairs + (control === undefined ? 0 : 1),
  };
}

function within(field: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new XdpbedError('virtio-violation', `${field} ${value} is not an integer from ${min} to ${max}`);
}
