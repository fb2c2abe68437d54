/** Frames taken apart into layers. Total: any bytes give a result, none throw. */

import { onesComplementSum, pseudoHeaderSum } from './checksum.js';
import { ETHERNET_HEADER_BYTES, ETHERTYPE, type EthernetHeader, readEthernet } from './ethernet.js';
import { IP_PROTOCOL, IPV4_MIN_HEADER_BYTES, type Ipv4Header, readIpv4 } from './ipv4.js';
import { IPV6_EXTENSION, IPV6_HEADER_BYTES, type Ipv6Header, readIpv6 } from './ipv6.js';
import { readU16 } from './network-order.js';
import { readTcp, TCP_MIN_HEADER_BYTES, type TcpHeader, tcpFlagNames } from './tcp.js';
import { readUdp, UDP_HEADER_BYTES, type UdpHeader } from './udp.js';
import { isVlanTpid, readVlanTag, VLAN_TAG_BYTES, type VlanTag } from './vlan.js';

interface HeaderLayer<Kind extends string, Header> {
  readonly kind: Kind;
  /** Of the header's first byte, from the frame's start. */
  readonly offset: number;
  /** Of the header alone, options included, in bytes. */
  readonly length: number;
  readonly header: Header;
}

/** An IPv6 extension header that was walked over (RFC 8200 section 4). */
export interface Ipv6Extension {
  /** Its own type, one of `IPV6_EXTENSION`. */
  readonly type: number;
  readonly nextHeader: number;
  /** For a fragment header: in bytes. Otherwise absent. */
  readonly fragmentOffset?: number;
  readonly moreFragments?: boolean;
}

/** Bytes that are no header: `payload` of the innermost layer, `padding` behind the end of the IP packet. */
interface DataLayer<Kind extends string> {
  readonly kind: Kind;
  readonly offset: number;
  readonly length: number;
}

export type Layer =
  | HeaderLayer<'ethernet', EthernetHeader>
  | HeaderLayer<'vlan', VlanTag>
  | HeaderLayer<'ipv4', Ipv4Header>
  | HeaderLayer<'ipv6', Ipv6Header>
  | HeaderLayer<'ipv6-extension', Ipv6Extension>
  | HeaderLayer<'udp', UdpHeader>
  | HeaderLayer<'tcp', TcpHeader>
  | DataLayer<'payload'>
  | DataLayer<'padding'>;

export type LayerKind = Layer['kind'];

/** The frame, or the IP packet in it, ended too early: `kind` needs `need` bytes at `offset`, `have` are there. */
export interface MissingBytes {
  readonly kind: LayerKind;
  readonly offset: number;
  readonly need: number;
  readonly have: number;
}

/** A header contradicts its specification, so that nothing behind it can be told. */
export interface MalformedLayer {
  readonly kind: LayerKind;
  readonly offset: number;
  readonly reason: string;
}

export interface Dissection {
  /** Outermost first, without gaps: each starts where the one before it ends. */
  readonly layers: readonly Layer[];
  readonly missing?: MissingBytes;
  readonly malformed?: MalformedLayer;
}

/** The work in progress. */
class Walk {
  readonly layers: Layer[] = [];
  missing?: MissingBytes;
  malformed?: MalformedLayer;
  /** Set when the frame ends before the IP packet does; a header that is cut short says more, so it is kept apart. */
  cut?: MissingBytes;
  /** End of the current packet: the frame's, or what an IP or UDP length says when that is less. */
  end: number;

  constructor(readonly frame: Uint8Array) {
    this.end = frame.length;
  }

  /** Whether `need` bytes are there; notes it when they are not. */
  has(kind: LayerKind, offset: number, need: number): boolean {
    if (offset + need <= this.end) return true;
    this.missing = { kind, offset, need, have: this.end - offset };
    return false;
  }

  fail(kind: LayerKind, offset: number, reason: string): void {
    this.malformed = { kind, offset, reason };
  }

  /** The IP payload that starts at `start` has `length` bytes, or what is left of them. */
  enterIpPayload(start: number, length: number): void {
    const have = this.end - start;
    if (length > have) this.cut = { kind: 'payload', offset: start, need: length, have };
    else this.end = start + length;
  }
}

function walkEthernet(walk: Walk): void {
  if (!walk.has('ethernet', 0, ETHERNET_HEADER_BYTES)) return;
  const header = readEthernet(walk.frame, 0)!;
  walk.layers.push({ kind: 'ethernet', offset: 0, length: ETHERNET_HEADER_BYTES, header });

  let offset = ETHERNET_HEADER_BYTES;
  let etherType = header.etherType;
  while (isVlanTpid(etherType)) {
    if (!walk.has('vlan', offset, VLAN_TAG_BYTES)) return;
    const tag = readVlanTag(walk.frame, offset)!;
    walk.layers.push({ kind: 'vlan', offset, length: VLAN_TAG_BYTES, header: tag });
    offset += VLAN_TAG_BYTES;
    etherType = tag.etherType;
  }
  if (etherType === ETHERTYPE.IPV4) walkIpv4(walk, offset);
  else if (etherType === ETHERTYPE.IPV6) walkIpv6(walk, offset);
}

function walkIpv4(walk: Walk, offset: number): void {
  if (!walk.has('ipv4', offset, IPV4_MIN_HEADER_BYTES)) return;
  const header = readIpv4(walk.frame, offset)!;
  const length = header.headerLength;
  if (header.version !== 4) return walk.fail('ipv4', offset, `version ${header.version} is not 4`);
  if (length < IPV4_MIN_HEADER_BYTES) {
    return walk.fail('ipv4', offset, `header length ${length} is less than ${IPV4_MIN_HEADER_BYTES}`);
  }
  if (header.totalLength < length) {
    return walk.fail(
      'ipv4',
      offset,
      `total length ${header.totalLength} is less than the header's ${length}`,
    );
  }
  if (!walk.has('ipv4', offset, length)) return;
  walk.layers.push({ kind: 'ipv4', offset, length, header });
  walk.enterIpPayload(offset + length, header.totalLength - length);
  if (header.fragmentOffset === 0) walkTransport(walk, offset + length, header.protocol);
}

function walkIpv6(walk: Walk, offset: number): void {
  if (!walk.has('ipv6', offset, IPV6_HEADER_BYTES)) return;
  const header = readIpv6(walk.frame, offset)!;
  if (header.version !== 6) return walk.fail('ipv6', offset, `version ${header.version} is not 6`);
  walk.layers.push({ kind: 'ipv6', offset, length: IPV6_HEADER_BYTES, header });
  const start = offset + IPV6_HEADER_BYTES;
  walk.enterIpPayload(start, header.payloadLength);
  walkIpv6Extensions(walk, start, header.nextHeader);
}

function walkIpv6Extensions(walk: Walk, start: number, first: number): void {
  let offset = start;
  let type = first;
  // Ends: every extension header takes at least 8 bytes of the frame.
  for (;;) {
    switch (type) {
      case IPV6_EXTENSION.HOP_BY_HOP:
      case IPV6_EXTENSION.ROUTING:
      case IPV6_EXTENSION.DESTINATION_OPTIONS: {
        if (!walk.has('ipv6-extension', offset, 8)) return;
        const nextHeader = walk.frame[offset]!;
        const length = (walk.frame[offset + 1]! + 1) * 8;
        if (!walk.has('ipv6-extension', offset, length)) return;
        walk.layers.push({ kind: 'ipv6-extension', offset, length, header: { type, nextHeader } });
        offset += length;
        type = nextHeader;
        break;
      }
      case IPV6_EXTENSION.FRAGMENT: {
        if (!walk.has('ipv6-extension', offset, 8)) return;
        const nextHeader = walk.frame[offset]!;
        const fragment = readU16(walk.frame, offset + 2);
        const fragmentOffset = fragment & 0xfff8;
        const header = { type, nextHeader, fragmentOffset, moreFragments: (fragment & 1) === 1 };
        walk.layers.push({ kind: 'ipv6-extension', offset, length: 8, header });
        if (fragmentOffset !== 0) return;
        offset += 8;
        type = nextHeader;
        break;
      }
      default:
        return walkTransport(walk, offset, type);
    }
  }
}

function walkTransport(walk: Walk, offset: number, protocol: number): void {
  if (protocol === IP_PROTOCOL.UDP) {
    if (!walk.has('udp', offset, UDP_HEADER_BYTES)) return;
    const header = readUdp(walk.frame, offset)!;
    if (header.length < UDP_HEADER_BYTES) {
      return walk.fail('udp', offset, `length ${header.length} is less than ${UDP_HEADER_BYTES}`);
    }
    walk.layers.push({ kind: 'udp', offset, length: UDP_HEADER_BYTES, header });
    const have = walk.end - offset;
    if (header.length <= have) walk.end = offset + header.length;
    // A first fragment carries the length of the whole datagram, and a cut packet is reported as such.
    else if (!walk.cut && !isFragment(walk.layers)) {
      walk.fail('udp', offset, `length ${header.length} exceeds the ${have} bytes of the IP payload`);
    }
  } else if (protocol === IP_PROTOCOL.TCP) {
    if (!walk.has('tcp', offset, TCP_MIN_HEADER_BYTES)) return;
    const header = readTcp(walk.frame, offset)!;
    if (header.headerLength < TCP_MIN_HEADER_BYTES) {
      return walk.fail(
        'tcp',
        offset,
        `header length ${header.headerLength} is less than ${TCP_MIN_HEADER_BYTES}`,
      );
    }
    if (!walk.has('tcp', offset, header.headerLength)) return;
    walk.layers.push({ kind: 'tcp', offset, length: header.headerLength, header });
  }
}

function isFragment(layers: readonly Layer[]): boolean {
  return layers.some((layer) => {
    if (layer.kind === 'ipv4') return layer.header.moreFragments || layer.header.fragmentOffset > 0;
    if (layer.kind !== 'ipv6-extension') return false;
    return layer.header.moreFragments === true || (layer.header.fragmentOffset ?? 0) > 0;
  });
}

/**
 * Takes a frame (without FCS) apart: Ethernet, any number of VLAN tags, IPv4 or IPv6 with its
 * extension headers, UDP or TCP. What is not known, and everything behind a problem, is `payload`;
 * what lies behind the end that IP or UDP declares is `padding`. Lengths and versions are checked,
 * checksums are not (see {@link checkChecksums}).
 */
export function dissect(frame: Uint8Array): Dissection {
  const walk = new Walk(frame);
  walkEthernet(walk);
  const last = walk.layers.at(-1);
  const start = last === undefined ? 0 : last.offset + last.length;
  if (walk.end > start) walk.layers.push({ kind: 'payload', offset: start, length: walk.end - start });
  const padding = frame.length - walk.end;
  if (padding > 0) walk.layers.push({ kind: 'padding', offset: walk.end, length: padding });
  const missing = walk.missing ?? walk.cut;
  return {
    layers: walk.layers,
    ...(missing && { missing }),
    ...(walk.malformed && { malformed: walk.malformed }),
  };
}

/** The outermost layer of a kind. */
export function findLayer<Kind extends LayerKind>(
  dissection: Dissection,
  kind: Kind,
): Extract<Layer, { kind: Kind }> | undefined {
  return dissection.layers.find((layer): layer is Extract<Layer, { kind: Kind }> => layer.kind === kind);
}

/**
 * `ok`, `bad`; `none` for UDP's 0; `unknown` where the bytes it covers are not all there (a fragment, a
 * snapped capture).
 */
export type ChecksumState = 'ok' | 'bad' | 'none' | 'unknown';

export interface ChecksumReport {
  readonly ipv4?: ChecksumState;
  readonly udp?: ChecksumState;
  readonly tcp?: ChecksumState;
}

/**
 * Checks the checksums of a dissected frame; layers that are not there are absent. A correct sum over
 * the covered bytes, checksum included, is 0xffff (RFC 1071). With an IPv6 routing header the final
 * destination would be needed, so that case is `unknown`.
 */
export function checkChecksums(frame: Uint8Array, dissection: Dissection): ChecksumReport {
  const ipv4 = findLayer(dissection, 'ipv4');
  const ipv6 = findLayer(dissection, 'ipv6');
  const udp = findLayer(dissection, 'udp');
  const tcp = findLayer(dissection, 'tcp');
  const report: { ipv4?: ChecksumState; udp?: ChecksumState; tcp?: ChecksumState } = {};
  if (ipv4) {
    const sum = onesComplementSum(frame, ipv4.offset, ipv4.offset + ipv4.length);
    report.ipv4 = sum === 0xffff ? 'ok' : 'bad';
  }
  const transport = udp ?? tcp;
  const ip = ipv4 ?? ipv6;
  if (!transport || !ip) return report;

  const state = (): ChecksumState => {
    if (udp?.header.checksum === 0) return ipv6 ? 'bad' : 'none';
    const routed = dissection.layers.some(
      (layer) => layer.kind === 'ipv6-extension' && layer.header.type === IPV6_EXTENSION.ROUTING,
    );
    if (routed || dissection.missing || dissection.malformed || isFragment(dissection.layers))
      return 'unknown';
    const addressBytes = ipv4 ? 8 : 32;
    const addresses = ip.offset + (ipv4 ? 12 : 8);
    const payload = findLayer(dissection, 'payload');
    const end = payload ? payload.offset + payload.length : transport.offset + transport.length;
    const length = end - transport.offset;
    const protocol = udp ? IP_PROTOCOL.UDP : IP_PROTOCOL.TCP;
    const initial = pseudoHeaderSum(frame, addresses, addressBytes, protocol, length);
    return onesComplementSum(frame, transport.offset, end, initial) === 0xffff ? 'ok' : 'bad';
  };
  report[transport.kind] = state();
  return report;
}

const ETHERTYPE_NAMES = new Map<number, string>([
  [ETHERTYPE.IPV4, 'IPv4'],
  [ETHERTYPE.ARP, 'ARP'],
  [ETHERTYPE.IPV6, 'IPv6'],
]);

const PROTOCOL_NAMES = new Map<number, string>([
  [IP_PROTOCOL.ICMP, 'ICMP'],
  [IP_PROTOCOL.TCP, 'TCP'],
  [IP_PROTOCOL.UDP, 'UDP'],
  [IP_PROTOCOL.ICMPV6, 'ICMPv6'],
]);

/**
 * A frame in one line, for people: `02:… > 02:… vlan 10 192.0.2.1:7 > 192.0.2.2:9 UDP 60 bytes`, with what
 * is missing or malformed at the end.
 */
export function summarizeFrame(frame: Uint8Array, dissection: Dissection = dissect(frame)): string {
  const words: string[] = [];
  const ip = findLayer(dissection, 'ipv4') ?? findLayer(dissection, 'ipv6');
  const transport = findLayer(dissection, 'udp') ?? findLayer(dissection, 'tcp');
  let etherType: number | undefined;
  let protocol: number | undefined;
  for (const layer of dissection.layers) {
    if (layer.kind === 'ethernet') words.push(`${layer.header.src} > ${layer.header.dst}`);
    if (layer.kind === 'vlan') words.push(`vlan ${layer.header.id}`);
    if (layer.kind === 'ethernet' || layer.kind === 'vlan') etherType = layer.header.etherType;
    if (layer.kind === 'ipv4') protocol = layer.header.protocol;
    if (layer.kind === 'ipv6' || layer.kind === 'ipv6-extension') protocol = layer.header.nextHeader;
  }
  if (ip) {
    const at = (address: string, port: number | undefined): string => {
      if (port === undefined) return address;
      return ip.kind === 'ipv6' ? `[${address}]:${port}` : `${address}:${port}`;
    };
    const ports = transport?.header;
    words.push(`${at(ip.header.src, ports?.srcPort)} > ${at(ip.header.dst, ports?.dstPort)}`);
    words.push(PROTOCOL_NAMES.get(protocol!) ?? `protocol ${protocol}`);
    if (transport?.kind === 'tcp') words.push(`[${tcpFlagNames(transport.header.flags).join(' ')}]`);
  } else if (etherType !== undefined) {
    words.push(ETHERTYPE_NAMES.get(etherType) ?? `type 0x${etherType.toString(16).padStart(4, '0')}`);
  }
  words.push(`${frame.length} bytes`);
  const { missing, malformed } = dissection;
  if (missing)
    words.push(`(truncated: ${missing.kind} needs ${missing.need} bytes, ${missing.have} are there)`);
  if (malformed) words.push(`(malformed ${malformed.kind}: ${malformed.reason})`);
  return words.join(' ');
}
