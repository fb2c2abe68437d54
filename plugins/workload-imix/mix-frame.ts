import type { WorkloadTarget } from '../../src/core/contract/workload.js';
import {
  buildFrame,
  ETHERNET_HEADER_BYTES,
  formatIpv4Address,
  formatMac,
  internetChecksum,
  IP_PROTOCOL,
  IPV4_MIN_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  pseudoHeaderSum,
  TCP_MIN_HEADER_BYTES,
  UDP_HEADER_BYTES,
  VLAN_TAG_BYTES,
} from '../../src/packet/index.js';
import type { MixEntry } from './mix-entry.js';

/** Type, code, checksum, identifier and sequence number (RFC 792, RFC 4443 section 4.1). */
const ICMP_ECHO_BYTES = 8;
const ICMP_ECHO_REQUEST = 8;
const ICMPV6_ECHO_REQUEST = 128;

const TRANSPORT_BYTES = { udp: UDP_HEADER_BYTES, tcp: TCP_MIN_HEADER_BYTES, icmp: ICMP_ECHO_BYTES } as const;
/** From an ephemeral port to the discard service (RFC 863). */
const PORTS = { srcPort: 1024, dstPort: 9 } as const;

/** The one frame that an entry of the mix sends to a target. */
export function buildMixFrame(entry: MixEntry, senderMac: Uint8Array, target: WorkloadTarget): Uint8Array {
  const { protocol, ip, vlan } = entry;
  const ipOffset = ETHERNET_HEADER_BYTES + (vlan === undefined ? 0 : VLAN_TAG_BYTES);
  const transportOffset = ipOffset + (ip === 4 ? IPV4_MIN_HEADER_BYTES : IPV6_HEADER_BYTES);
  const frame = buildFrame({
    eth: { src: formatMac(senderMac), dst: formatMac(target.mac) },
    ...(vlan !== undefined && { vlan: [{ id: vlan }] }),
    // The protocol given here is that of entries without UDP or TCP, which go before it.
    // The sender's addresses are of the networks for benchmarks: RFC 2544 and RFC 5180.
    ...(ip === 4
      ? { ipv4: { src: '198.18.0.1', dst: formatIpv4Address(target.ipv4), protocol: IP_PROTOCOL.ICMP } }
      : { ipv6: { src: '2001:2::1', dst: targetIpv6(target), nextHeader: IP_PROTOCOL.ICMPV6 } }),
    ...(protocol === 'udp' && { udp: PORTS }),
    ...(protocol === 'tcp' && { tcp: { ...PORTS, flags: ['ACK'] } }),
    size: Math.max(entry.size, transportOffset + TRANSPORT_BYTES[protocol]),
  });
  if (protocol === 'icmp') writeEchoRequest(frame, transportOffset, ip);
  return frame;
}

/** Makes the zeros behind the IP header an echo request: identifier and sequence number 0. */
function writeEchoRequest(frame: Uint8Array, offset: number, ip: 4 | 6): void {
  frame[offset] = ip === 4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST;
  // Unlike ICMP's, the checksum of ICMPv6 covers a pseudo-header (RFC 4443 section 2.3).
  const initial =
    ip === 4 ? 0 : pseudoHeaderSum(frame, offset - 32, 32, IP_PROTOCOL.ICMPV6, frame.length - offset);
  const checksum = internetChecksum(frame, offset, frame.length, initial);
  frame[offset + 2] = checksum >> 8;
  frame[offset + 3] = checksum & 0xff;
}

/** A guest nic has no IPv6 address of its own: its IPv4 address within 2001:2:0:1::/64. */
function targetIpv6(target: WorkloadTarget): string {
  const groups = [target.ipv4.subarray(0, 2), target.ipv4.subarray(2, 4)];
  return `2001:2:0:1::${groups.map(([high, low]) => ((high! << 8) | low!).toString(16)).join(':')}`;
}
