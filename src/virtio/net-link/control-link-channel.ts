import { XdpbedError } from '../../core/diagnostic.js';
import { queueFormat, type QueueFormat } from '../queue-format.js';
import {
  ControlLink,
  type ControlHandler,
  type ControlLinkOptions,
  type UnguardedControlHandler,
} from './control-link.js';

/** A {@link ControlLink} in the shape of a control channel (role `transport`), for transports that are virtqueues. */
export class ControlLinkChannel {
  readonly link: ControlLink;
  readonly server: {
    serve(handler: ControlHandler): Promise<() => Promise<void>>;
    serveUnguarded(handler: UnguardedControlHandler): Promise<() => Promise<void>>;
    configure(space: Uint8Array): void;
  };
  /** Device-specific configuration space: read-only to the driver, and kept by a reset. */
  #config = new Uint8Array(0);

  /**
   * @param format what the control queue has to be: all queues of a device are of the one that was negotiated
   * @throws XdpbedError `host-unsupported` when that is another
   */
  constructor(options: ControlLinkOptions, format: QueueFormat) {
    const negotiated = queueFormat(options.features);
    if (negotiated !== format) {
      const without = negotiated.name === 'packed' ? 'is' : 'is not';
      throw new XdpbedError(
        'host-unsupported',
        `${options.label}: VIRTIO_F_RING_PACKED ${without} negotiated, and the transport's queue is ${format.name}`,
      );
    }
    const link = new ControlLink(options);
    this.link = link;
    this.server = {
      serve: async (handler) => {
        const stop = link.serve(handler);
        return async () => stop();
      },
      serveUnguarded: async (handler) => {
        const stop = link.serveUnguarded(handler);
        return async () => stop();
      },
      configure: (space) => void (this.#config = space.slice()),
    };
  }

  async connect(): Promise<{
    send(parts: readonly Uint8Array[], room: number): Promise<Uint8Array>;
    readConfig(offset: number, length: number): Uint8Array;
  }> {
    return {
      send: (parts, room) => this.link.send(parts, room),
      readConfig: (offset, length) => this.#config.slice(offset, offset + length),
    };
  }

  /** A split queue as a guest has it that keeps to no rule; undefined for a packed one. */
  get ring() {
    const { link } = this;
    const layout = link.splitLayout;
    if (layout === undefined) return undefined;
    return {
      memory: link.memory,
      layout,
      buffers: link.layout.buffers,
      kick: () => link.kicked(),
      get isDown() {
        return link.status.isDown;
      },
    };
  }

  get statistics(): ControlLink['statistics'] & { readonly violations: number } {
    return { ...this.link.statistics, violations: this.link.status.violations };
  }

  onBroken(handler: (reason: string) => void): void {
    this.link.status.onBroken(handler);
  }

  break(reason: string): void {
    this.link.status.break(reason);
  }

  reset(): void {
    this.link.reset();
  }

  async close(): Promise<void> {
    this.link.close();
  }
}
