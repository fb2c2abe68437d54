import type { Picoseconds } from '../../../src/core/contract/clock.js';
import { messageBytes, type FrameMaker } from './exchange-frames.js';
import type { Socket, SocketHost } from './socket.js';

/** Bytes of a socket's buffers, each way (net.core.rmem_default and wmem_default). */
const BUFFER_BYTES = 212_992;
/** Bytes that an skb with a short message counts for there, beside those of the message in whole pages of a cache. */
const SKB_BYTES = 768;

/** UDP: a frame for each message; what finds no room in the receiver's buffer is lost. */
export class UdpSocket implements Socket {
  onReady: (() => void) | undefined;
  /** When those that were sent and are not known to have left will have. */
  #leaving: Picoseconds[] = [];
  /** How many of these, from the front, have left as far as is known. */
  #left = 0;
  #waits = false;
  #received: number[] = [];
  #held = 0;
  /** Messages that found no room. */
  dropped = 0;

  constructor(
    readonly host: SocketHost,
    readonly frames: FrameMaker,
  ) {}

  canWrite(bytes: number): boolean {
    const { now } = this.host.timing;
    const most = Math.max(1, Math.floor(BUFFER_BYTES / accounted(bytes)));
    if (this.#leaving.length - this.#left < most) return true;
    while (this.#leaving[this.#left]! <= now) this.#left++;
    if (this.#left > most) {
      this.#leaving = this.#leaving.slice(this.#left);
      this.#left = 0;
    }
    const under = this.#leaving.length - this.#left;
    if (under < most) return true;
    if (!this.#waits) {
      this.#waits = true;
      // Woken when half of it has left (sock_writeable).
      this.host.whenSent(this.#leaving[this.#left + (under >> 1)]!, () => {
        this.#waits = false;
        this.onReady?.();
      });
    }
    return false;
  }

  write(bytes: number): void {
    const { host } = this;
    host.timing.charge(host.timing.costs['socket-send']);
    this.#leaving.push(host.transmit([this.frames.message(bytes)]));
  }

  get canRead(): boolean {
    return this.#received.length > 0;
  }

  read(): number {
    const bytes = this.#received.shift() ?? 0;
    this.#held -= accounted(bytes);
    return bytes;
  }

  receive(frame: Uint8Array): void {
    const bytes = messageBytes(frame);
    if (this.#held + accounted(bytes) > BUFFER_BYTES) {
      this.dropped++;
      return;
    }
    this.#held += accounted(bytes);
    this.#received.push(bytes);
    this.onReady?.();
  }
}

/** What a message counts for in a buffer (sk_buff.truesize): 768 bytes with a short one, 2304 with one of a whole frame. */
function accounted(bytes: number): number {
  return SKB_BYTES + Math.floor(bytes / 256) * 256 + (bytes >= 1024 ? 256 : 0);
}
