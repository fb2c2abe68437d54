import { closeSync, constants, openSync } from 'node:fs';
import { errnoName } from '../bpf/errno.js';
import { XdpbedError, messageOf } from '../core/diagnostic.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

/** include/uapi/linux/if_tun.h */
const TUNSETIFF = 0x4004_54ca;
const TUNSETIFINDEX = 0x4004_54da;
const TUNSETVNETHDRSZ = 0x4004_54d8;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const F_SETFL = 4;
/** `struct ifreq`: +0 name char[16] · +16 flags u16, 40 bytes in all. */
const IFREQ_SIZE = 40;
/** Bytes of an interface's name, the terminating NUL included. */
export const IFNAMSIZ = 16;

export interface TapOptions {
  readonly name: string;
  readonly ifindex: number;
  readonly queues: number;
  /** Frames are preceded by a `struct virtio_net_hdr_v1` of 12 bytes, as QEMU wants them. */
  readonly vnetHeader: boolean;
}

/**
 * A tap with an open file for each queue (Documentation/networking/tuntap.rst). It is not persistent: it goes when the
 * last of its files is closed, whoever closes it, the end of the process included.
 */
export class TapDevice {
  readonly name: string;
  readonly ifindex: number;
  /** File descriptors, not blocking, one for each queue. */
  readonly fds: readonly number[];
  #open = true;

  private constructor({ name, ifindex }: TapOptions, fds: readonly number[]) {
    this.name = name;
    this.ifindex = ifindex;
    this.fds = fds;
  }

  /** Throws `host-unsupported` where there can be none, with the kernel's reason. */
  static open(options: TapOptions, namespace: NetworkNamespace): TapDevice {
    const { name, ifindex, queues, vnetHeader } = options;
    const flags = IFF_TAP | IFF_NO_PI | (vnetHeader ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0);
    const fds: number[] = [];
    try {
      namespace.run(() => {
        for (let queue = 0; queue < queues; queue++) {
          const fd = openTun();
          fds.push(fd);
          // Only who makes the interface chooses its number; the other queues join it.
          if (queue === 0) control(fd, TUNSETIFINDEX, word(ifindex), `tap ${name} of index ${ifindex}`);
          const request = new Uint8Array(IFREQ_SIZE);
          request.set(new TextEncoder().encode(name).subarray(0, IFNAMSIZ - 1));
          new DataView(request.buffer).setUint16(IFNAMSIZ, flags, true);
          control(fd, TUNSETIFF, request, `tap ${name}`);
          if (vnetHeader) control(fd, TUNSETVNETHDRSZ, word(VNET_HEADER_SIZE), `tap ${name}`);
        }
      });
      return new TapDevice(options, fds);
    } catch (error) {
      for (const fd of fds) closeSync(fd);
      throw error;
    }
  }

  /** Bytes of the frame that was put into `into`, or `-errno`: EAGAIN when there is none. */
  read(queue: number, into: Uint8Array): number {
    return libc().read(this.fds[queue]!, into);
  }

  /** Bytes written, all of them, or `-errno`: EAGAIN when there is no room. */
  write(queue: number, frame: Uint8Array): number {
    return libc().write(this.fds[queue]!, frame);
  }

  /** As it was opened: another process that shares the files may have made them block. */
  setNonBlocking(): void {
    if (!this.#open) return;
    for (const fd of this.fds) libc().fcntl(fd, F_SETFL, constants.O_RDWR | constants.O_NONBLOCK);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const fd of this.fds) closeSync(fd);
  }
}

/** `struct virtio_net_hdr_v1` */
export const VNET_HEADER_SIZE = 12;

function openTun(): number {
  try {
    return openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    throw new XdpbedError('host-unsupported', `/dev/net/tun cannot be opened: ${messageOf(cause)}`, {
      cause,
      hint: 'the kernel needs CONFIG_TUN, and who runs this CAP_NET_ADMIN',
    });
  }
}

function control(fd: number, request: number, argument: Uint8Array, what: string): void {
  const result = libc().ioctl(fd, request, argument);
  if (result < 0) throw new XdpbedError('host-unsupported', `${what} cannot be made: ${errnoName(result)}`);
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
