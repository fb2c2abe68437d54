import { connect, type Socket } from 'node:net';
import { SerialControlDriver } from '../../virtio/index.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { ControlClient } from '../contract/transport.js';

/** Commands that are on their way at once unless it is said otherwise: a control queue of QEMU's holds as many. */
const DEFAULT_WINDOW = 64;
const DEFAULT_PATIENCE_MS = 2000;
/** Between two attempts to connect: the first pause, which doubles up to the last. */
const FIRST_PAUSE_MS = 5;
const LAST_PAUSE_MS = 200;

export interface ControlSocketClientOptions {
  /** Used in messages; default: the socket's path. */
  readonly label?: string | undefined;
  /** Commands that may be on their way at once; default 64. */
  readonly window?: number | undefined;
  /**
   * Milliseconds for which a command waits for a channel: for a device that is not there yet or is coming back, and for a
   * driver that has the channel now and may be about to leave it. Default 2000; 0: not at all.
   */
  readonly patienceMs?: number | undefined;
  /**
   * Called when the device was reset, also because there is a new connection: maps and programs that this driver had on
   * it are gone, and handles mean nothing any more.
   */
  readonly onReset?: (() => void) | undefined;
}

/**
 * The driver's end of a control channel over a unix socket, in whatever process.
 *
 * A connection that is lost is made anew by the next command. Commands that were on their way are rejected and not sent
 * again: the device may have carried them out. A device resets when its driver is gone, so that nothing of what was
 * there is left after it ({@link ControlSocketClientOptions.onReset}).
 */
export class ControlSocketClient implements ControlClient {
  readonly #path: string;
  readonly #label: string;
  readonly #window: number;
  readonly #patienceMs: number;
  readonly #onReset: () => void;
  /** The connection that there is, or that is being made. */
  #connection: Promise<SerialControlDriver> | undefined;
  #driver: SerialControlDriver | undefined;
  /** There was a connection over which the device answered. */
  #known = false;
  #closed = false;

  private constructor(path: string, options: ControlSocketClientOptions) {
    this.#path = path;
    this.#label = options.label ?? path;
    this.#window = options.window ?? DEFAULT_WINDOW;
    this.#patienceMs = options.patienceMs ?? DEFAULT_PATIENCE_MS;
    this.#onReset = options.onReset ?? (() => {});
  }

  /**
   * Connects to the socket, which the device listens on.
   * @throws XdpbedError `host-unsupported` when nobody does, after `patienceMs`
   */
  static async connect(path: string, options: ControlSocketClientOptions = {}): Promise<ControlSocketClient> {
    const client = new ControlSocketClient(path, options);
    await client.#connected(performance.now() + client.#patienceMs);
    return client;
  }

  /** As ControlClient has it. */
  send(parts: readonly Uint8Array[], room: number): Promise<Uint8Array> {
    const driver = this.#driver;
    if (driver?.greeted === true && !driver.closed) return driver.send(parts, room);
    return this.#sendOver(parts, room);
  }

  /** Ends the connection; what is on its way is rejected, and so is whatever is sent later. */
  close(): void {
    this.#closed = true;
    this.#driver?.close();
  }

  async #sendOver(parts: readonly Uint8Array[], room: number): Promise<Uint8Array> {
    const until = performance.now() + this.#patienceMs;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LAST_PAUSE_MS)) {
      const driver = await this.#connected(until);
      try {
        return await driver.send(parts, room);
      } catch (error) {
        // A device that never answered over this connection has not seen the command: another driver has its ear.
        if (driver.greeted || !driver.closed || this.#closed || performance.now() + pause > until)
          throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** A connection that has not ended, made anew where it has. */
  async #connected(until: number): Promise<SerialControlDriver> {
    if (this.#closed) throw this.#error('the channel is closed');
    if (this.#connection !== undefined && this.#driver?.closed !== true) return this.#connection;
    const connection = this.#connect(until);
    this.#driver = undefined;
    this.#connection = connection;
    try {
      return await connection;
    } catch (error) {
      if (this.#connection === connection) this.#connection = undefined;
      throw error;
    }
  }

  async #connect(until: number): Promise<SerialControlDriver> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LAST_PAUSE_MS)) {
      let socket: Socket;
      try {
        socket = await open(this.#path);
      } catch (error) {
        if (this.#closed || performance.now() + pause > until) {
          throw new XdpbedError(
            'host-unsupported',
            `${this.#label}: no device listens: ${messageOf(error)}`,
            {
              cause: error,
            },
          );
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
        continue;
      }
      if (this.#closed) {
        socket.destroy();
        throw this.#error('the channel is closed');
      }
      const driver = new SerialControlDriver(this.#label, socket, {
        window: this.#window,
        onReset: this.#onReset,
        onGreeted: () => {
          if (this.#known) this.#onReset();
          this.#known = true;
        },
      });
      this.#driver = driver;
      return driver;
    }
  }

  #error(reason: string): XdpbedError {
    return new XdpbedError('virtio-violation', `${this.#label}: ${reason}`);
  }
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}
