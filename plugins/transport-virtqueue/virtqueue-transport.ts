import type { LinkOptions, Transport } from '../../src/core/contract/transport.js';
import { VirtqueueLink } from './virtqueue-link.js';

/** Role `transport` over split virtqueues: see {@link VirtqueueLink}. */
export class VirtqueueTransport implements Transport {
  readonly name = 'virtqueue';

  /** Throws `virtio-violation` for a queue size that is no power of two from 1 to 32768. */
  async open(options: LinkOptions): Promise<VirtqueueLink> {
    return new VirtqueueLink(options);
  }
}
