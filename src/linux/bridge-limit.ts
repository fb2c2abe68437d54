import { closeSync } from 'node:fs';
import { errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { openRouteSocket } from './bridge-fdb.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

/** include/uapi/linux/{netlink,rtnetlink,if_link}.h */
const NLMSG_ERROR = 2;
const RTM_NEWLINK = 16;
/** NLM_F_REQUEST | NLM_F_ACK */
const REQUEST_WITH_ACK = 0x5;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_BR_FDB_MAX_LEARNED = 49;
/** `struct nlmsghdr`, `struct ifinfomsg`: +4 index s32. */
const HEADER_SIZE = 16;
const IFINFOMSG_SIZE = 16;

/**
 * Has a bridge learn no more than so many addresses; from others it floods. A kernel before 6.7 does not know of it and learns
 * as many as there are senders. By rtnetlink itself, since ip(8) has a word for it only from 6.7 on. Throws `host-unsupported` with
 * the kernel's reason.
 */
export function limitLearnedAddresses(namespace: NetworkNamespace, bridge: number, most: number): void {
  const limit = new Uint8Array(4);
  new DataView(limit.buffer).setUint32(0, most, true);
  const info = new Uint8Array(IFINFOMSG_SIZE);
  new DataView(info.buffer).setInt32(4, bridge, true);
  const body = [
    ...info,
    ...attribute(IFLA_LINKINFO, [
      ...attribute(IFLA_INFO_KIND, new TextEncoder().encode('bridge\0')),
      ...attribute(IFLA_INFO_DATA, attribute(IFLA_BR_FDB_MAX_LEARNED, limit)),
    ]),
  ];
  const request = new Uint8Array(HEADER_SIZE + body.length);
  const header = new DataView(request.buffer);
  header.setUint32(0, request.length, true);
  header.setUint16(4, RTM_NEWLINK, true);
  header.setUint16(6, REQUEST_WITH_ACK, true);
  request.set(body, HEADER_SIZE);

  const fd = openRouteSocket(namespace, 0);
  try {
    const sent = libc().sendto(fd, request, 0);
    if (sent < 0) throw problem(sent);
    // The kernel has answered before sendto returns: `struct nlmsgerr`, +0 error s32.
    const answer = new Uint8Array(1024);
    const read = libc().read(fd, answer);
    if (read < 0) throw problem(read);
    const view = new DataView(answer.buffer);
    if (read < HEADER_SIZE + 4 || view.getUint16(4, true) !== NLMSG_ERROR) throw problem(0);
    const error = view.getInt32(HEADER_SIZE, true);
    if (error < 0) throw problem(error);
  } finally {
    closeSync(fd);
  }
}

/** `struct nlattr`: +0 len u16 · +2 type u16, then the payload and what is missing to a multiple of 4. */
function attribute(type: number, payload: ArrayLike<number>): number[] {
  const length = 4 + payload.length;
  const padding = Array.from({ length: -length & 3 }, () => 0);
  return [length & 0xff, length >> 8, type & 0xff, type >> 8, ...Array.from(payload), ...padding];
}

function problem(errno: number): XdpbedError {
  const reason = errno === 0 ? 'the kernel’s answer is none' : errnoName(errno);
  return new XdpbedError('host-unsupported', `a bridge’s addresses cannot be limited: ${reason}`);
}
