import { VIRTIO_NET_CTRL_BPF } from '../../../../virtio/control.js';
import { VIRTIO_NET_F_BPF_OFFLOAD } from '../../../../virtio/features.js';
import { DEFAULT_REQUEST_LIMITS, type BpfRequest, type ControlProtocol } from '../control-protocol.js';
import { decodeRequest } from './decode-request.js';
import { decodeReply, encodeRequest, replyBytes } from './driver-side.js';
import { capabilityData, encodeRefusal, encodeReply } from './encode-reply.js';
import { COMMAND_OF, commandName } from './wire.js';

/** The commands of class VIRTIO_NET_CTRL_BPF; their layout is in wire.ts, what they mean in docs/spec/bpf-offload.md. */
export const BPF_OFFLOAD: ControlProtocol = {
  name: 'bpf-offload',
  feature: VIRTIO_NET_F_BPF_OFFLOAD,
  controlClass: VIRTIO_NET_CTRL_BPF,
  // Longer than what the RFC's QEMU loads: policies say what is too long, and verifying has limits of its own.
  limits: { ...DEFAULT_REQUEST_LIMITS, maxInsns: 65_536 },
  requests: new Set(Object.keys(COMMAND_OF) as BpfRequest['kind'][]),
  decodeRequest,
  encodeReply,
  encodeConfiguration: capabilityData,
  encodeRefusal,
  encodeRequest,
  replyBytes,
  // Answers of this protocol repeat nothing of what was sent.
  decodeReply: (request, _sent, written) => decodeReply(request, written),
  requestName: (request) => commandName(COMMAND_OF[request.kind as keyof typeof COMMAND_OF]),
};
