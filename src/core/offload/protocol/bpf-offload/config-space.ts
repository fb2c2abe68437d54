import {
  decodeNetConfig,
  encodeNetConfig,
  VIRTIO_NET_CONFIG_BPF_OFFSET,
  type NetConfig,
} from '../../../../virtio/net-config.js';
import type { DeviceCapabilities } from '../capabilities.js';
import { decodeCapabilities } from './driver-side.js';
import { capabilityData } from './encode-reply.js';

/** Configuration space of a device that offers VIRTIO_NET_F_BPF_OFFLOAD. */
export interface BpfNetConfig {
  readonly net: NetConfig;
  readonly capabilities: DeviceCapabilities;
}

/**
 * `struct virtio_net_config`, zeros up to byte 256, `struct virtio_net_bpf_capabilities`.
 * @throws XdpbedError `virtio-violation` as `encodeNetConfig`
 */
export function encodeBpfNetConfig({ net, capabilities }: BpfNetConfig): Uint8Array {
  const structure = capabilityData(capabilities);
  const bytes = new Uint8Array(VIRTIO_NET_CONFIG_BPF_OFFSET + structure.length);
  bytes.set(encodeNetConfig(net));
  bytes.set(structure, VIRTIO_NET_CONFIG_BPF_OFFSET);
  return bytes;
}

/** Undefined when it does not hold both, or says that its structure is shorter than what a driver needs of it. */
export function decodeBpfNetConfig(bytes: Uint8Array): BpfNetConfig | undefined {
  const net = decodeNetConfig(bytes);
  const capabilities = decodeCapabilities(bytes.subarray(VIRTIO_NET_CONFIG_BPF_OFFSET));
  return net === undefined || capabilities === undefined ? undefined : { net, capabilities };
}
