import { hasFeature } from '../../../virtio/features.js';
import { BPF_OFFLOAD } from './bpf-offload/bpf-offload.js';
import type { ControlProtocol } from './control-protocol.js';
import { RFC_2019 } from './rfc-2019/rfc-2019.js';

/** What driver and device that agreed on these feature bits speak; RFC 2019's where they agreed on no protocol of offloading. */
export function protocolOf(features: bigint): ControlProtocol {
  return hasFeature(features, BPF_OFFLOAD.feature) ? BPF_OFFLOAD : RFC_2019;
}
