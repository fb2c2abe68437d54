import {
  ETHERTYPE,
  internetChecksum,
  IP_PROTOCOL,
  isVlanTpid,
  UDP_HEADER_BYTES,
} from '../../packet/index.js';

/** Changes to a packet's headers, each by itself; what is good already, or is no such header, stays as it is. */
export const tidyHeaders: readonly ((packet: Uint8Array) => Uint8Array)[] = [
  tidyIp,
  tidyVersion,
  tidyTtl,
  tidyUdp,
];

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const TTL = 64;

/** Offset and EtherType of what lies behind Ethernet and its VLAN tags, if its header is whole. */
function ipAt(packet: Uint8Array): { readonly at: number; readonly version: 4 | 6 } | undefined {
  const u16 = (at: number): number => (packet[at]! << 8) | packet[at + 1]!;
  let at = 12;
  while (at + 2 <= packet.length && isVlanTpid(u16(at))) at += 4;
  if (at + 2 > packet.length) return undefined;
  const version = u16(at) === ETHERTYPE.IPV4 ? 4 : u16(at) === ETHERTYPE.IPV6 ? 6 : undefined;
  const header = version === 4 ? IPV4_HEADER : IPV6_HEADER;
  return version === undefined || at + 2 + header > packet.length ? undefined : { at: at + 2, version };
}

function changed(packet: Uint8Array, change: (copy: Uint8Array) => void): Uint8Array {
  const copy = packet.slice();
  change(copy);
  return Buffer.compare(copy, packet) === 0 ? packet : copy;
}

/** Version, header length, lengths, TTL and checksum, all of them. */
function tidyIp(packet: Uint8Array): Uint8Array {
  const ip = ipAt(packet);
  if (ip === undefined) return packet;
  const { at, version } = ip;
  const u16 = (copy: Uint8Array, offset: number, value: number): void => {
    copy[at + offset] = value >> 8;
    copy[at + offset + 1] = value & 0xff;
  };
  return changed(packet, (copy) => {
    if (version === 6) {
      copy[at] = 0x60 | (copy[at]! & 0x0f);
      u16(copy, 4, packet.length - at - IPV6_HEADER);
      if (copy[at + 7] === 0) copy[at + 7] = TTL;
      return;
    }
    if ((copy[at]! & 0x0f) < 5) copy[at] = 5;
    copy[at] = 0x40 | (copy[at]! & 0x0f);
    u16(copy, 2, packet.length - at);
    if (copy[at + 8] === 0) copy[at + 8] = TTL;
    u16(copy, 10, 0);
    const end = Math.min(at + 4 * (copy[at] & 0x0f), copy.length);
    u16(copy, 10, internetChecksum(copy, at, end));
  });
}

/** Version and header length alone: without them a packet cannot be read at all. */
function tidyVersion(packet: Uint8Array): Uint8Array {
  const ip = ipAt(packet);
  if (ip === undefined) return packet;
  return changed(packet, (copy) => {
    const low = copy[ip.at]! & 0x0f;
    copy[ip.at] = ip.version === 6 ? 0x60 | low : 0x40 | Math.max(low, 5);
  });
}

function tidyTtl(packet: Uint8Array): Uint8Array {
  const ip = ipAt(packet);
  if (ip === undefined) return packet;
  const at = ip.at + (ip.version === 6 ? 7 : 8);
  return packet[at] === 0 ? changed(packet, (copy) => void (copy[at] = TTL)) : packet;
}

function tidyUdp(packet: Uint8Array): Uint8Array {
  const ip = ipAt(packet);
  if (ip === undefined) return packet;
  const { at, version } = ip;
  const isUdp = packet[at + (version === 6 ? 6 : 9)] === IP_PROTOCOL.UDP;
  const udp = at + (version === 6 ? IPV6_HEADER : 4 * (packet[at]! & 0x0f));
  if (!isUdp || udp + UDP_HEADER_BYTES > packet.length) return packet;
  return changed(packet, (copy) => {
    const length = copy.length - udp;
    copy[udp + 4] = length >> 8;
    copy[udp + 5] = length & 0xff;
  });
}
