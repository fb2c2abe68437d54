import { chmod, chown, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SerialControlDevice, SerialControlDriver } from '../../virtio/index.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type {
  ControlChannel,
  ControlChannelOptions,
  ControlChannelStatistics,
  ControlClient,
  ControlServer,
} from '../contract/transport.js';

/** Bytes of a socket's path that fit into `struct sockaddr_un`, without the terminating NUL. */
const MAX_SOCKET_PATH = 107;

/** Connections that are being told why they are refused; beyond that, the one that has had longest is hung up on. */
const MAX_REFUSED = 8;

/**
 * Connections that wait to be accepted (listen(2)). Anybody whom the socket's mode admits can queue; who is refused takes well
 * under a millisecond, and a driver that finds the queue full would have its connect(2) fail (EAGAIN).
 */
const BACKLOG = 511;

export interface ControlSocketOptions {
  /**
   * Path of the socket, in a folder that is there. What is left there by a process that is gone is replaced. Default:
   * `control.sock` in a folder of its own that only this user may enter.
   */
  readonly path?: string | undefined;
  /** Who may connect to the socket, apart from who may enter its folder; default 0o600. */
  readonly mode?: number | undefined;
  /** Uid that the socket is given to, which takes root; default: this process's. */
  readonly owner?: number | undefined;
  /** Why whoever is at the other end is not let in, if it is not. */
  readonly admit?: ((socket: Socket) => string | undefined) | undefined;
  /** See SerialControlDeviceOptions. */
  readonly stallMs?: number | undefined;
  /** Commands that the driver in this process has on their way at once; default 1. */
  readonly window?: number | undefined;
}

/**
 * A control channel over a unix socket (messages: `serial-messages.ts`). The device's end listens, so that the channel is
 * there before its driver is and outlives it; the end of the stream says that the driver is gone.
 */
export class ControlSocketChannel implements ControlChannel {
  readonly server: ControlServer;
  readonly #label: string;
  readonly #device: SerialControlDevice;
  readonly #listener: Server;
  readonly #window: number | undefined;
  /** What goes with the channel. */
  readonly #files: readonly string[];
  #closing: Promise<void> | undefined;

  private constructor(
    label: string,
    device: SerialControlDevice,
    listener: Server,
    files: readonly string[],
    /** Path of the socket, for one driver at a time. */
    readonly address: string,
    window: number | undefined,
  ) {
    this.#label = label;
    this.#device = device;
    this.#listener = listener;
    this.#files = files;
    this.#window = window;
    this.server = {
      serve: async (handler, driverGone) => {
        const stop = device.serve(handler, driverGone);
        return async () => stop();
      },
    };
  }

  /** @throws XdpbedError `host-unsupported` when there can be no such socket */
  static async open(
    { label, folder: parent = tmpdir }: Pick<ControlChannelOptions, 'label' | 'folder'>,
    { path, mode = 0o600, owner, admit, stallMs, window }: ControlSocketOptions = {},
  ): Promise<ControlSocketChannel> {
    const device = new SerialControlDevice(label, { stallMs });
    const refused = new RefusedConnections();
    const listener = createServer((socket) => {
      const refusal = admit?.(socket);
      if (refusal !== undefined) SerialControlDevice.refuse(socket, refusal);
      else if (device.attach(socket)) return;
      refused.add(socket);
    });
    const address = path ?? join(await makeFolder(join(parent(), 'xdpbed-channel-')), 'control.sock');
    const folder = path === undefined ? join(address, '..') : undefined;
    // Elsewhere it is made where nobody else is and moved from there, so that it has its mode from the beginning.
    const nursery = path === undefined ? undefined : await makeFolder(`${path}.`);
    const made = nursery === undefined ? address : join(nursery, 's');
    try {
      checkPath(address);
      checkPath(made);
      if (path !== undefined) await checkFree(path);
      await listen(listener, made);
      await chmod(made, mode);
      if (owner !== undefined) await chown(made, owner, process.getgid?.() ?? 0);
      if (nursery !== undefined) await rename(made, address);
    } catch (error) {
      listener.close();
      for (const each of [folder, nursery]) {
        if (each !== undefined) await rm(each, { recursive: true, force: true });
      }
      if (error instanceof XdpbedError) throw error;
      throw unsupported(error);
    }
    if (nursery !== undefined) await rm(nursery, { recursive: true, force: true });
    return new ControlSocketChannel(label, device, listener, [folder ?? address], address, window);
  }

  /** A driver in this process, where no other is connected: two at the same time there cannot be. */
  async connect(): Promise<ControlClient & { close(): void }> {
    const socket = connect(this.address);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) =>
        reject(new XdpbedError('virtio-violation', `${this.#label}: ${error.message}`, { cause: error })),
      );
    });
    return new SerialControlDriver(this.#label, socket, { window: this.#window });
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
    // While somebody listens there, nobody puts another socket in its place.
    for (const file of this.#files) await rm(file, { recursive: true, force: true });
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
  }
}

/**
 * Those that are refused, while they are being told. No connection is turned away for them: whoever is refused over and over
 * again, and takes its time to go, takes the place of others like it and never the driver's.
 */
class RefusedConnections {
  /** In the order in which they came. */
  readonly #sockets = new Set<Socket>();

  add(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#sockets.size <= MAX_REFUSED) return;
    const [oldest] = this.#sockets;
    this.#sockets.delete(oldest!);
    oldest!.destroy();
  }
}

/** 0700, as mkdtemp makes it. */
async function makeFolder(prefix: string): Promise<string> {
  try {
    return await mkdtemp(prefix);
  } catch (error) {
    throw unsupported(error);
  }
}

function checkPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH) return;
  throw new XdpbedError('host-unsupported', `the path ${path} is too long for a socket`, {
    hint: 'use a folder with a shorter path; TMPDIR says where temporary ones are',
  });
}

/** There may be a socket that nobody listens on any more, and nothing else. */
async function checkFree(path: string): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (there === undefined) return;
  const isUsed =
    !there.isSocket() ||
    (await new Promise<boolean>((resolve) => {
      const socket = connect(path);
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
    }));
  if (isUsed) throw new XdpbedError('host-unsupported', `${path} is there already, and in use`);
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: BACKLOG }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function unsupported(error: unknown): XdpbedError {
  return new XdpbedError('host-unsupported', `no socket can be opened: ${messageOf(error)}`, {
    cause: error,
  });
}
