import type { ControlChannelOptions, Transport } from '../../src/core/contract/transport.js';
import { ControlLinkChannel, PACKED_QUEUE } from '../../src/virtio/index.js';

/** Role `transport` over the control virtqueue of a device whose queues are packed: see {@link ControlLink}. */
export class PackedVirtqueueTransport implements Transport {
  readonly name = 'virtqueue-packed';

  async open(options: ControlChannelOptions): Promise<ControlLinkChannel> {
    return new ControlLinkChannel(options, PACKED_QUEUE);
  }
}
