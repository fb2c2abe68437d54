import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, XdpbedError } from '../../src/core/diagnostic.js';
import type {
  ControlChannel,
  ControlChannelOptions,
  ControlChannelStatistics,
  ControlClient,
  ControlServer,
  Transport,
} from '../../src/core/contract/transport.js';
import { SerialControlDevice, SerialControlDriver } from '../../src/virtio/index.js';

/** Bytes of a socket's path that fit into `struct sockaddr_un`, without the terminating NUL. */
const MAX_SOCKET_PATH = 107;

/**
 * Role `transport` over byte streams (`serial-messages.ts` has the layout). This side listens on a socket in a folder
 * that only its user may enter, QEMU connects it to a port of the guest (`-chardev socket,path=…,server=off`).
 *
 * That way round, the channel is there before the guest is and outlives it, the end of the stream says that the guest
 * is gone, and a device can be tried without QEMU by whoever may connect.
 */
export class VirtioSerialTransport implements Transport {
  readonly name = 'virtio-serial';

  async open({ label, folder: parent = tmpdir }: ControlChannelOptions): Promise<VirtioSerialChannel> {
    // 0700, as mkdtemp makes it.
    const folder = await mkdtemp(join(parent(), 'xdpbed-channel-'));
    const path = join(folder, 'control.sock');
    const device = new SerialControlDevice(label);
    const server = createServer((socket) => device.attach(socket));
    try {
      await listen(server, path);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
    return new VirtioSerialChannel(label, device, server, folder, path);
  }
}

export class VirtioSerialChannel implements ControlChannel {
  readonly server: ControlServer;
  readonly #label: string;
  readonly #device: SerialControlDevice;
  readonly #listener: Server;
  readonly #folder: string;
  #closing: Promise<void> | undefined;

  constructor(
    label: string,
    device: SerialControlDevice,
    listener: Server,
    folder: string,
    /** Path of the socket, for one driver at a time; the folder it is in holds nothing else. */
    readonly address: string,
  ) {
    this.#label = label;
    this.#device = device;
    this.#listener = listener;
    this.#folder = folder;
    this.server = {
      serve: async (handler) => {
        const stop = device.serve(handler);
        return async () => stop();
      },
    };
  }

  /** A driver in this process, where no guest is connected: two at the same time there cannot be. */
  async connect(): Promise<ControlClient> {
    const socket = connect(this.address);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) =>
        reject(new XdpbedError('virtio-violation', `${this.#label}: ${error.message}`, { cause: error })),
      );
    });
    return new SerialControlDriver(this.#label, socket);
  }

  get statistics(): ControlChannelStatistics {
    return { ...this.#device.statistics, violations: this.#device.status.violations };
  }

  onBroken(handler: (reason: string) => void): void {
    this.#device.status.onBroken(handler);
  }

  break(reason: string): void {
    this.#device.status.break(reason);
  }

  reset(): void {
    this.#device.reset();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#device.close();
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function listen(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new XdpbedError('host-unsupported', `the path ${path} is too long for a socket`, {
      hint: 'set TMPDIR to a folder with a shorter path',
    });
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new XdpbedError('host-unsupported', `no socket can be opened: ${messageOf(error)}`, { cause: error }),
      ),
    );
    server.listen({ path, backlog: 1 }, resolve);
  });
}
