import { PS_PER_MS, type Clock } from '../../src/core/contract/clock.js';
import type { ControlChannelOptions, Transport } from '../../src/core/contract/transport.js';
import { ControlLinkChannel, SPLIT_QUEUE } from '../../src/virtio/index.js';

/** Role `transport` over the control virtqueue of a device whose queues are split: see {@link ControlLink}. */
export class VirtqueueTransport implements Transport {
  readonly name = 'virtqueue';

  /** @param clock by which the device's end gives way to others. Default: the machine's. */
  constructor(readonly clock?: Clock) {}

  async open(options: ControlChannelOptions): Promise<ControlLinkChannel> {
    const { clock } = this;
    return new ControlLinkChannel({ ...options, now: clock && (() => clock.now() / PS_PER_MS) }, SPLIT_QUEUE);
  }
}
