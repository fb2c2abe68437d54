import { VIRTIO_NET_CONFIG_BPF_OFFSET } from '../../../../virtio/net-config.js';
import type { ControlClient } from '../../../contract/transport.js';
import type { DeviceCapabilities } from '../capabilities.js';
import { decodeCapabilities } from './driver-side.js';
import { CAPABILITIES } from './wire.js';

/** Undefined where there is no configuration space, or in it no structure that is as long as a driver needs it. */
export function readCapabilities(control: Pick<ControlClient, 'readConfig'>): DeviceCapabilities | undefined {
  const bytes = control.readConfig?.(VIRTIO_NET_CONFIG_BPF_OFFSET, CAPABILITIES.size);
  return bytes === undefined ? undefined : decodeCapabilities(bytes);
}
