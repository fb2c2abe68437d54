import { closeSync } from 'node:fs';
import { EAGAIN, EINTR, ENOBUFS, errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

/** rtnetlink(7); include/uapi/linux/{netlink,rtnetlink,neighbour}.h. */
const AF_NETLINK = 16;
const AF_BRIDGE = 7;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const NETLINK_ROUTE = 0;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
/** NLM_F_REQUEST | NLM_F_DUMP */
const DUMP_REQUEST = 0x301;
/** RTNLGRP_NEIGH as a bit of `nl_groups`. */
const NEIGHBOUR_GROUP = 1 << 2;
const NUD_PERMANENT = 0x80;
const NDA_LLADDR = 2;
const NDA_VLAN = 5;
const NDA_MASTER = 9;
/** `struct nlmsghdr`: +0 len u32 · +4 type u16 · +6 flags u16 · +8 seq u32 · +12 pid u32. */
const HEADER_SIZE = 16;
/** `struct ndmsg`: +0 family u8 · +4 ifindex s32 · +8 state u16 · +10 flags u8 · +11 type u8. */
const NDMSG_SIZE = 12;
/** `struct nlattr`: +0 len u16 · +2 type u16. */
const ATTRIBUTE_SIZE = 4;
/** Two bits above the number of an attribute are flags. */
const ATTRIBUTE_TYPE = 0x3fff;
const MAC_SIZE = 6;
/** What the kernel puts into one answer of a dump at most. */
const ANSWER_SIZE = 65_536;

/** What became of an address that a bridge knows. */
export interface FdbChange {
  /** ifindex of the bridge. */
  readonly bridge: number;
  /** ifindex of the port behind which the address is. */
  readonly port: number;
  /** 12 lower-case hex digits. */
  readonly address: string;
  /** 0 for an entry of a bridge that does not filter VLANs; others mean something only where it does. */
  readonly vlan: number;
  /** The address is the host's own: frames to it go no further. */
  readonly local: boolean;
  /** The bridge has forgotten it. */
  readonly gone: boolean;
}

/**
 * The entries of forwarding databases in a message of the kernel, in its order; others are passed over, and so is whatever
 * is cut off. `end` is set when the message says that there are no more, or that there was an error.
 */
export function parseFdbMessage(bytes: Uint8Array): {
  readonly changes: FdbChange[];
  readonly end: boolean;
} {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const changes: FdbChange[] = [];
  for (let at = 0; at + HEADER_SIZE <= bytes.length;) {
    const length = view.getUint32(at, true);
    const type = view.getUint16(at + 4, true);
    if (length < HEADER_SIZE || at + length > bytes.length) break;
    if (type === NLMSG_DONE || type === NLMSG_ERROR) return { changes, end: true };
    if (type === RTM_NEWNEIGH || type === RTM_DELNEIGH) {
      const body = new DataView(bytes.buffer, bytes.byteOffset + at + HEADER_SIZE, length - HEADER_SIZE);
      const change = parseNeighbour(body, type === RTM_DELNEIGH);
      if (change !== undefined) changes.push(change);
    }
    at += aligned(length);
  }
  return { changes, end: false };
}

function parseNeighbour(view: DataView, gone: boolean): FdbChange | undefined {
  if (view.byteLength < NDMSG_SIZE || view.getUint8(0) !== AF_BRIDGE) return undefined;
  let address = '';
  let vlan = 0;
  let bridge = 0;
  for (let at = NDMSG_SIZE; at + ATTRIBUTE_SIZE <= view.byteLength;) {
    const length = view.getUint16(at, true);
    const type = view.getUint16(at + 2, true) & ATTRIBUTE_TYPE;
    if (length < ATTRIBUTE_SIZE || at + length > view.byteLength) return undefined;
    const payload = at + ATTRIBUTE_SIZE;
    const size = length - ATTRIBUTE_SIZE;
    if (type === NDA_LLADDR && size === MAC_SIZE) {
      address = Buffer.from(view.buffer, view.byteOffset + payload, MAC_SIZE).toString('hex');
    } else if (type === NDA_VLAN && size === 2) vlan = view.getUint16(payload, true);
    else if (type === NDA_MASTER && size === 4) bridge = view.getUint32(payload, true);
    at += aligned(length);
  }
  // Without a master it is an entry of a device's own, such as the multicast addresses that it listens to.
  if (address === '' || bridge === 0) return undefined;
  const local = (view.getUint16(8, true) & NUD_PERMANENT) !== 0;
  return { bridge, port: view.getInt32(4, true), address, vlan, local, gone };
}

const aligned = (length: number): number => (length + 3) & ~3;

/**
 * What the bridges of a network namespace know, and every change of it, as the kernel tells it (rtnetlink). Unlike the
 * output of bridge(8), it says when something was lost.
 */
export class FdbWatch {
  readonly #buffer = new Uint8Array(ANSWER_SIZE);
  #fd: number | undefined;

  private constructor(
    fd: number,
    readonly namespace: NetworkNamespace,
  ) {
    this.#fd = fd;
  }

  /** From now on changes are kept for {@link next}. Throws `host-unsupported` with the kernel's reason. */
  static open(namespace: NetworkNamespace): FdbWatch {
    return new FdbWatch(openRouteSocket(namespace, NEIGHBOUR_GROUP), namespace);
  }

  /**
   * The changes of one message: none if nothing has changed, `lost` if there was no room for all: then only
   * {@link dump} says what there is.
   */
  next(): FdbChange[] | 'lost' | 'none' {
    if (this.#fd === undefined) return 'none';
    const read = libc().read(this.#fd, this.#buffer);
    if (read === -EAGAIN || read === -EINTR) return 'none';
    if (read === -ENOBUFS) return 'lost';
    if (read < 0) throw problem('read', read);
    return parseFdbMessage(this.#buffer.subarray(0, read)).changes;
  }

  /**
   * All that there is now, `limit` entries and those of the last message at most. Changes since then, and perhaps some
   * before, are still to come by {@link next}.
   */
  dump(limit: number): FdbChange[] {
    const fd = openRouteSocket(this.namespace, 0);
    try {
      const request = new Uint8Array(HEADER_SIZE + NDMSG_SIZE);
      const view = new DataView(request.buffer);
      view.setUint32(0, request.length, true);
      view.setUint16(4, RTM_GETNEIGH, true);
      view.setUint16(6, DUMP_REQUEST, true);
      view.setUint8(HEADER_SIZE, AF_BRIDGE);
      const sent = libc().sendto(fd, request, 0);
      if (sent < 0) throw problem('asked', sent);
      const found: FdbChange[] = [];
      while (found.length < limit) {
        // The kernel writes the next part of its answer while this one is read.
        const read = libc().read(fd, this.#buffer);
        if (read === -EINTR) continue;
        if (read < 0) throw problem('read', read);
        const { changes, end } = parseFdbMessage(this.#buffer.subarray(0, read));
        found.push(...changes);
        if (end) break;
      }
      return found;
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** A socket of rtnetlink's in a namespace, which does not block; `groups` are RTNLGRP_… as bits of `nl_groups`. */
export function openRouteSocket(namespace: NetworkNamespace, groups: number): number {
  const fd = namespace.run(() => libc().socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (fd < 0) throw problem('made', fd);
  // struct sockaddr_nl: +0 family u16 · +4 pid u32 (0: the kernel chooses) · +8 groups u32
  const address = new Uint8Array(12);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups, true);
  const bound = libc().bind(fd, address);
  if (bound < 0) {
    closeSync(fd);
    throw problem('bound', bound);
  }
  return fd;
}

function problem(what: string, errno: number): XdpbedError {
  return new XdpbedError(
    'host-unsupported',
    `the socket of rtnetlink for bridges cannot be ${what}: ${errnoName(errno)}`,
  );
}
