import { VIRTIO_NET_CTRL_EBPF } from '../../../../virtio/control.js';
import { VIRTIO_NET_F_XDP_OFFLOAD } from '../../../../virtio/features.js';
import type { ControlProtocol } from '../control-protocol.js';
import { decodeRequest } from './decode-request.js';
import { decodeReply, encodeRequest } from './driver-side.js';
import { encodeRefusal, encodeReply } from './encode-reply.js';
import { requestName } from './request-name.js';
import { replyBytes } from './wire.js';

/** RFC 2019's commands of class VIRTIO_NET_CTRL_EBPF; their layout is in wire.ts. */
export const RFC_2019: ControlProtocol = {
  name: 'rfc-2019',
  feature: VIRTIO_NET_F_XDP_OFFLOAD,
  controlClass: VIRTIO_NET_CTRL_EBPF,
  decodeRequest,
  encodeReply,
  encodeRefusal,
  encodeRequest,
  replyBytes,
  decodeReply,
  requestName,
};
