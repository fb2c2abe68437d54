import {
  encodeNetConfig,
  VIRTIO_NET_CONFIG_BPF_OFFSET,
  type NetConfig,
} from '../../../../virtio/net-config.js';
import type { ControlClient } from '../../../contract/transport.js';
import type { DeviceCapabilities } from '../capabilities.js';
import { decodeCapabilities } from './driver-side.js';
import { CAPABILITIES } from './wire.js';

/**
 * `struct virtio_net_config`, and at byte 256, behind zeros, what the device adds (`NicDevice.configuration`).
 * @throws XdpbedError `virtio-violation` as `encodeNetConfig`
 */
export function encodeConfigSpace(net: NetConfig, added: Uint8Array | undefined): Uint8Array {
  const fields = encodeNetConfig(net);
  if (added === undefined) return fields;
  const bytes = new Uint8Array(VIRTIO_NET_CONFIG_BPF_OFFSET + added.length);
  bytes.set(fields);
  bytes.set(added, VIRTIO_NET_CONFIG_BPF_OFFSET);
  return bytes;
}

/** Undefined where there is no configuration space, or in it no structure that is as long as a driver needs it. */
export function readCapabilities(control: Pick<ControlClient, 'readConfig'>): DeviceCapabilities | undefined {
  const bytes = control.readConfig?.(VIRTIO_NET_CONFIG_BPF_OFFSET, CAPABILITIES.size);
  return bytes === undefined ? undefined : decodeCapabilities(bytes);
}
