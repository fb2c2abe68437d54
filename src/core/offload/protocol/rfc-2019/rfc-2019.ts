import { encodeErrorResponse, VIRTIO_NET_CTRL_EBPF } from '../../../../virtio/control.js';
import { VIRTIO_NET_F_XDP_OFFLOAD } from '../../../../virtio/features.js';
import { XdpbedError } from '../../../diagnostic.js';
import {
  DEFAULT_REQUEST_LIMITS,
  type BpfRequest,
  type ControlProtocol,
  type Rfc2019Request,
} from '../control-protocol.js';
import { decodeRequest } from './decode-request.js';
import { decodeReply, encodeRequest } from './driver-side.js';
import { encodeRefusal, encodeReply } from './encode-reply.js';
import { REQUEST_NAMES } from './request-name.js';
import { replyBytes } from './wire.js';

/** RFC 2019's commands of class VIRTIO_NET_CTRL_EBPF; their layout is in wire.ts. */
export const RFC_2019: ControlProtocol = {
  name: 'rfc-2019',
  feature: VIRTIO_NET_F_XDP_OFFLOAD,
  controlClass: VIRTIO_NET_CTRL_EBPF,
  limits: DEFAULT_REQUEST_LIMITS,
  requests: new Set(Object.keys(REQUEST_NAMES) as Rfc2019Request['kind'][]),
  decodeRequest,
  encodeReply: (request, reply) => encodeReply(ofRfc2019(request), reply),
  encodeRefusal: ({ errno = 0 }, room, unread) =>
    (unread === undefined ? undefined : encodeRefusal(unread, room, errno)) ?? encodeErrorResponse(room),
  encodeRequest: (request) => encodeRequest(ofRfc2019(request)),
  replyBytes: (request) => replyBytes(ofRfc2019(request)),
  decodeReply: (request, sent, written) => decodeReply(ofRfc2019(request), sent, written),
  requestName: (request) => REQUEST_NAMES[ofRfc2019(request).kind],
};

function ofRfc2019(request: BpfRequest): Rfc2019Request {
  if (request.kind in REQUEST_NAMES) return request as Rfc2019Request;
  throw new XdpbedError('virtio-violation', `RFC 2019 has no request ${request.kind}`);
}
