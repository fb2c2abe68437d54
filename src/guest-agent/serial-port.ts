import { close, open, read, readdirSync, readFileSync, write } from 'node:fs';
import { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { XdpbedError } from '../core/diagnostic.js';

const PIECE = 64 * 1024;
/** Milliseconds between looks for a port, and until it has to be there. */
const LOOK_EVERY = 2;
const THERE_WITHIN = 10_000;

/**
 * A virtio-serial port as a stream. It blocks, so each direction takes a thread of Node's pool (UV_THREADPOOL_SIZE).
 * Its end says that the host has hung up. Nothing is read before something was written.
 */
export class SerialPort extends Duplex {
  readonly #fd: number;
  /** The host is there: before that, a read would say that it has hung up, while a write waits for it. */
  #written = false;
  #wantsToRead = false;

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  /** The port of this name, as soon as the host has told the kernel of it. */
  static async open(name: string): Promise<SerialPort> {
    const deadline = performance.now() + THERE_WITHIN;
    for (;;) {
      const device = findPort(name);
      if (device !== undefined) {
        return new SerialPort(await promisify(open)(`/dev/${device}`, 'r+'));
      }
      if (performance.now() > deadline)
        throw new XdpbedError('guest-failed', `there is no serial port ${name}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
    }
  }

  override _read(): void {
    this.#wantsToRead = true;
    if (!this.#written) return;
    const piece = Buffer.allocUnsafe(PIECE);
    read(this.#fd, piece, 0, PIECE, null, (error, length) => {
      if (error !== null) this.destroy(error);
      else this.push(length === 0 ? null : piece.subarray(0, length));
    });
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    write(this.#fd, bytes, 0, bytes.length, null, (error, length) => {
      if (error === null && !this.#written) {
        this.#written = true;
        if (this.#wantsToRead) this._read();
      }
      if (error !== null || length === bytes.length) done(error);
      else this._write(bytes.subarray(length), _encoding, done);
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    close(this.#fd, () => done(error));
  }
}

/** The device of a port, by the name that the host has given it. */
function findPort(name: string): string | undefined {
  const folder = '/sys/class/virtio-ports';
  try {
    return readdirSync(folder).find((port) => readFileSync(`${folder}/${port}/name`, 'utf8').trim() === name);
  } catch {
    // The class comes with the driver, a port's name a moment after the port.
    return undefined;
  }
}
