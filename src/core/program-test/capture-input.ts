import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { EventLoopTurns } from '../clock/event-loop-turns.js';
import { XdpbedError, messageOf } from '../diagnostic.js';
import {
  CaptureInMemory,
  ethernetFrame,
  openCapture,
  type CaptureBytes,
  type CapturedPacket,
} from '../../packet/index.js';

/**
 * The Ethernet frames of a capture, all of which must be sound. Throws `file-unreadable` or `pcap-invalid`. Gives way to
 * the event loop: a capture may have millions.
 */
export async function readFrames(path: string): Promise<CapturedPacket[]> {
  const stream = FrameStream.open(path);
  const turns = new EventLoopTurns();
  const packets: CapturedPacket[] = [];
  try {
    for (const packet of stream.frames()) {
      packets.push(packet);
      const turn = turns.next();
      if (turn !== undefined) await turn;
    }
  } finally {
    stream.close();
  }
  if (stream.damage !== undefined) throw stream.damage;
  return packets;
}

/** The Ethernet frames of a capture, read as they are asked for: a file of any length takes the memory of a small one. */
export class FrameStream {
  /** Why the file cannot be read on, once that is so: it was cut off or spoilt, or holds what is no Ethernet frame. */
  damage: XdpbedError | undefined;
  readonly #frames: Generator<CapturedPacket>;
  #first: IteratorResult<CapturedPacket, void> | undefined;

  private constructor(
    readonly path: string,
    readonly close: () => void,
    frames: Generator<CapturedPacket>,
  ) {
    this.#frames = frames;
  }

  /** Throws `file-unreadable`, and `pcap-invalid` where not even the first frame can be read for want of a sound header. */
  static open(path: string): FrameStream {
    const bytes = openBytes(path);
    try {
      const reader = inFile(path, () => openCapture(bytes.source));
      const met = { otherLink: false };
      const frames = function* (): Generator<CapturedPacket> {
        let number = 0;
        for (const packet of reader.packets()) {
          met.otherLink = true;
          const frame = ethernetFrame(packet, reader.interfaces, ++number);
          met.otherLink = false;
          yield frame;
        }
      };
      const stream = new FrameStream(path, () => bytes.close(), frames());
      // A capture of something else is told before anything is run.
      stream.#first = stream.#next();
      if (met.otherLink) throw stream.damage!;
      return stream;
    } catch (error) {
      bytes.close();
      throw error;
    }
  }

  /** To be called once. Ends where the file does, or is damaged. */
  *frames(): Generator<CapturedPacket> {
    for (let next = this.#first ?? this.#next(); next.done !== true; next = this.#next()) {
      this.#first = undefined;
      yield next.value;
    }
  }

  #next(): IteratorResult<CapturedPacket, void> {
    try {
      return this.#frames.next() as IteratorResult<CapturedPacket, void>;
    } catch (error) {
      if (!(error instanceof XdpbedError) || error.code !== 'pcap-invalid') throw error;
      this.damage = named(this.path, error);
      return { done: true, value: undefined };
    }
  }
}

interface OpenBytes {
  readonly source: CaptureBytes;
  close(): void;
}

/** A regular file by windows; of a pipe, all that comes. */
function openBytes(path: string): OpenBytes {
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    const stat = fstatSync(file);
    if (!stat.isFile()) {
      const source = new CaptureInMemory(readFileSync(file));
      closeSync(file);
      return { source, close: () => undefined };
    }
    const descriptor = file;
    return { source: new CaptureFile(path, file, stat.size), close: () => closeSync(descriptor) };
  } catch (cause) {
    if (file !== undefined) closeSync(file);
    throw new XdpbedError('file-unreadable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Bytes of the part of a file that is in memory at a time; more than any packet has. */
const WINDOW_BYTES = 1 << 20;

/** A capture of which a window is in memory. Packets are copies. */
class CaptureFile implements CaptureBytes {
  readonly view: DataView;
  readonly #window: Uint8Array;
  /** What the window holds: `#filled` bytes from `#start` on. */
  #start = 0;
  #filled = 0;

  constructor(
    readonly path: string,
    readonly file: number,
    readonly length: number,
  ) {
    this.#window = new Uint8Array(Math.min(WINDOW_BYTES, length));
    this.view = new DataView(this.#window.buffer);
  }

  place(offset: number, length: number): number {
    if (offset < this.#start || offset + length > this.#start + this.#filled) this.#load(offset, length);
    return offset - this.#start;
  }

  bytes(offset: number, length: number): Uint8Array {
    const at = this.place(offset, length);
    return this.#window.slice(at, at + length);
  }

  #load(offset: number, length: number): void {
    this.#start = offset;
    this.#filled = 0;
    const wanted = Math.min(this.#window.length, this.length - offset);
    while (this.#filled < wanted) {
      const read = readSync(
        this.file,
        this.#window,
        this.#filled,
        wanted - this.#filled,
        offset + this.#filled,
      );
      if (read === 0) break;
      this.#filled += read;
    }
    if (this.#filled < length)
      throw new XdpbedError('file-unreadable', `${this.path} became shorter while it was read`);
  }
}

function inFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof XdpbedError ? named(path, error) : error;
  }
}

/** The same error, with the file's name. */
function named(path: string, error: XdpbedError): XdpbedError {
  const at = error.at !== undefined && 'offset' in error.at ? { ...error.at, file: path } : error.at;
  return new XdpbedError(error.code, error.message, { at, hint: error.hint, cause: error });
}
