import { closeSync } from 'node:fs';
import { ENOBUFS, errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

const AF_PACKET = 17;
const SOCK_RAW = 3;

/** A packet(7) socket that only sends, by one interface. */
export class PacketSocket {
  readonly #fd: number;
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws `host-unsupported` with the kernel's reason. */
  static open(ifindex: number, namespace: NetworkNamespace): PacketSocket {
    const fd = namespace.run(() => libc().socket(AF_PACKET, SOCK_RAW, 0));
    if (fd < 0) throw problem('made', fd);
    // struct sockaddr_ll: +0 family u16 · +2 protocol u16 (0: nothing is received) · +4 ifindex i32, 20 bytes.
    const address = new Uint8Array(20);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setInt32(4, ifindex, true);
    const bound = libc().bind(fd, address);
    if (bound < 0) {
      closeSync(fd);
      throw problem('bound', bound);
    }
    return new PacketSocket(fd);
  }

  /**
   * Sends a frame, from the destination MAC on. False when the kernel has no room for it now. Throws
   * `packet-invalid` for one that the interface does not take.
   */
  send(frame: Uint8Array): boolean {
    const sent = libc().sendto(this.#fd, frame, 0);
    if (sent === -ENOBUFS) return false;
    if (sent < 0) {
      throw new XdpbedError(
        'packet-invalid',
        `a frame of ${frame.length} bytes cannot be sent: ${errnoName(sent)}`,
      );
    }
    return true;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }
}

function problem(what: string, errno: number): XdpbedError {
  return new XdpbedError('host-unsupported', `a packet socket cannot be ${what}: ${errnoName(errno)}`, {
    hint: 'it needs CAP_NET_RAW',
  });
}
