import type { ControlChannelOptions, Transport } from '../../src/core/contract/transport.js';
import { ControlLinkChannel, SPLIT_QUEUE } from '../../src/virtio/index.js';

/** Role `transport` over the control virtqueue of a device whose queues are split: see {@link ControlLink}. */
export class VirtqueueTransport implements Transport {
  readonly name = 'virtqueue';

  async open(options: ControlChannelOptions): Promise<ControlLinkChannel> {
    return new ControlLinkChannel(options, SPLIT_QUEUE);
  }
}
