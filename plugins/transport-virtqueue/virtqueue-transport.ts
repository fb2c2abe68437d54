import type {
  ControlChannel,
  ControlChannelOptions,
  ControlChannelStatistics,
  ControlClient,
  ControlRing,
  ControlServer,
  Transport,
} from '../../src/core/contract/transport.js';
import { ControlLink } from '../../src/virtio/index.js';

/** Role `transport` over the control virtqueue: see {@link ControlLink}. */
export class VirtqueueTransport implements Transport {
  readonly name = 'virtqueue';

  async open(options: ControlChannelOptions): Promise<VirtqueueChannel> {
    return new VirtqueueChannel(new ControlLink(options));
  }
}

export class VirtqueueChannel implements ControlChannel {
  readonly server: ControlServer;

  constructor(readonly link: ControlLink) {
    this.server = {
      serve: async (handler) => {
        const stop = link.serve(handler);
        return async () => stop();
      },
      serveUnguarded: async (handler) => {
        const stop = link.serveUnguarded(handler);
        return async () => stop();
      },
    };
  }

  async connect(): Promise<ControlClient> {
    return { send: (parts, room) => this.link.send(parts, room) };
  }

  get ring(): ControlRing | undefined {
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

  get statistics(): ControlChannelStatistics {
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
