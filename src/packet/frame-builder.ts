/** Frames from a declaration: lengths, types and checksums follow from what is declared. */

import { XdpbedError } from '../core/diagnostic.js';
import { internetChecksum, pseudoHeaderSum } from './checksum.js';
import { ETHERNET_HEADER_BYTES, ETHERNET_MIN_FRAME_BYTES, ETHERTYPE, writeEthernet } from './ethernet.js';
import { IP_PROTOCOL, IPV4_MIN_HEADER_BYTES, writeIpv4 } from './ipv4.js';
import { IPV6_HEADER_BYTES, writeIpv6 } from './ipv6.js';
import { writeU16 } from './network-order.js';
import { TCP_FLAG, TCP_MIN_HEADER_BYTES, type TcpFlagName, writeTcp } from './tcp.js';
import { UDP_HEADER_BYTES, writeUdp } from './udp.js';
import { VLAN_TAG_BYTES, writeVlanTag } from './vlan.js';

/** The longest frame built: an IP packet of 65,535 bytes behind an Ethernet header and two tags. */
export const MAX_FRAME_BYTES = 65_535 + ETHERNET_HEADER_BYTES + 2 * VLAN_TAG_BYTES;

export interface VlanSpec {
  readonly id: number;
  /** Default 0. */
  readonly priority?: number | undefined;
  /** Default false. */
  readonly dropEligible?: boolean | undefined;
  /** Default 0x8100, but 0x88a8 for every tag in front of another (IEEE 802.1ad). */
  readonly tpid?: number | undefined;
}

export interface Ipv4Spec {
  readonly src: string;
  readonly dst: string;
  /** Default 64. */
  readonly ttl?: number | undefined;
  readonly id?: number | undefined;
  readonly dscp?: number | undefined;
  readonly ecn?: number | undefined;
  readonly dontFragment?: boolean | undefined;
  readonly moreFragments?: boolean | undefined;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset?: number | undefined;
  /** A multiple of 4 bytes, at most 40. */
  readonly options?: Uint8Array | undefined;
  /** Follows from `udp` or `tcp`; needed without them. */
  readonly protocol?: number | undefined;
  /** Instead of the right one. */
  readonly checksum?: number | undefined;
}

export interface Ipv6Spec {
  readonly src: string;
  readonly dst: string;
  /** Default 64. */
  readonly hopLimit?: number | undefined;
  readonly trafficClass?: number | undefined;
  readonly flowLabel?: number | undefined;
  /** Follows from `udp` or `tcp`; needed without them. */
  readonly nextHeader?: number | undefined;
}

export interface UdpSpec {
  readonly srcPort: number;
  readonly dstPort: number;
  /** Instead of the right one; 0 says that there is none (RFC 768). */
  readonly checksum?: number | undefined;
}

export interface TcpSpec {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq?: number | undefined;
  readonly ack?: number | undefined;
  /** Default none. */
  readonly flags?: readonly TcpFlagName[] | undefined;
  /** Default 65535. */
  readonly window?: number | undefined;
  readonly urgent?: number | undefined;
  /** A multiple of 4 bytes, at most 40. */
  readonly options?: Uint8Array | undefined;
  /** Instead of the right one. */
  readonly checksum?: number | undefined;
}

export interface FrameSpec {
  readonly eth: {
    readonly src: string;
    readonly dst: string;
    /** EtherType. Follows from `ipv4` or `ipv6`; needed without them. */
    readonly type?: number | undefined;
  };
  /** Outermost first. */
  readonly vlan?: readonly VlanSpec[] | undefined;
  /** At most one of `ipv4` and `ipv6`. */
  readonly ipv4?: Ipv4Spec | undefined;
  readonly ipv6?: Ipv6Spec | undefined;
  /** At most one of `udp` and `tcp`, and only over IP. */
  readonly udp?: UdpSpec | undefined;
  readonly tcp?: TcpSpec | undefined;
  /** The innermost layer's payload. Not together with `size`. */
  readonly payload?: Uint8Array | undefined;
  /**
   * Bytes of the whole frame without FCS: the innermost layer gets a payload of zeros that fills it.
   * The frame has exactly this length; `padTo` is not used.
   */
  readonly size?: number | undefined;
  /**
   * Pads a shorter frame with zeros behind the IP packet to this many bytes without FCS.
   * Default 60, the shortest frame on the wire; 64 for drivers that count the FCS in; 0 for none.
   */
  readonly padTo?: number | undefined;
}

function invalid(message: string, hint?: string): XdpbedError {
  return new XdpbedError('packet-invalid', message, { hint });
}

/** The value when it is an integer of 0 to `max`, the default when it is absent. */
function field(name: string, value: number | undefined, max: number, byDefault = 0): number {
  if (value === undefined) return byDefault;
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw invalid(`${name} ${value} is not an integer of 0 to ${max}`);
  }
  return value;
}

/** One layer to be written: how long its header is, and what writes it once the length behind it is known. */
interface PlannedHeader {
  readonly length: number;
  write(frame: Uint8Array, offset: number, payloadLength: number): void;
}

function planVlan(spec: VlanSpec, name: string, etherType: number): PlannedHeader {
  const tag = {
    id: field(`${name}.id`, spec.id, 0xfff),
    priority: field(`${name}.priority`, spec.priority, 7),
    dropEligible: spec.dropEligible ?? false,
    etherType,
  };
  return { length: VLAN_TAG_BYTES, write: (frame, offset) => writeVlanTag(frame, offset, tag) };
}

function planIpv4(spec: Ipv4Spec, transport: number | undefined): PlannedHeader {
  const protocol = transport ?? spec.protocol;
  if (protocol === undefined) throw invalid('ipv4 without udp or tcp needs ipv4.protocol');
  const fragmentOffset = field('ipv4.fragmentOffset', spec.fragmentOffset, 0x1fff * 8);
  if (fragmentOffset % 8 !== 0) throw invalid(`ipv4.fragmentOffset ${fragmentOffset} is not a multiple of 8`);
  const options = spec.options ?? new Uint8Array();
  const length = IPV4_MIN_HEADER_BYTES + options.length;
  const fields = {
    dscp: field('ipv4.dscp', spec.dscp, 63),
    ecn: field('ipv4.ecn', spec.ecn, 3),
    id: field('ipv4.id', spec.id, 0xffff),
    dontFragment: spec.dontFragment ?? false,
    moreFragments: spec.moreFragments ?? false,
    fragmentOffset,
    ttl: field('ipv4.ttl', spec.ttl, 0xff, 64),
    protocol: field('ipv4.protocol', protocol, 0xff),
    checksum: spec.checksum === undefined ? undefined : field('ipv4.checksum', spec.checksum, 0xffff),
    src: spec.src,
    dst: spec.dst,
    options,
  };
  return {
    length,
    write: (frame, offset, payloadLength) => {
      const totalLength = field('ipv4 total length', length + payloadLength, 0xffff);
      writeIpv4(frame, offset, { ...fields, totalLength });
    },
  };
}

function planIpv6(spec: Ipv6Spec, transport: number | undefined): PlannedHeader {
  const nextHeader = transport ?? spec.nextHeader;
  if (nextHeader === undefined) throw invalid('ipv6 without udp or tcp needs ipv6.nextHeader');
  const fields = {
    trafficClass: field('ipv6.trafficClass', spec.trafficClass, 0xff),
    flowLabel: field('ipv6.flowLabel', spec.flowLabel, 0xfffff),
    nextHeader: field('ipv6.nextHeader', nextHeader, 0xff),
    hopLimit: field('ipv6.hopLimit', spec.hopLimit, 0xff, 64),
    src: spec.src,
    dst: spec.dst,
  };
  return {
    length: IPV6_HEADER_BYTES,
    write: (frame, offset, payloadLength) =>
      writeIpv6(frame, offset, {
        ...fields,
        payloadLength: field('ipv6 payload length', payloadLength, 0xffff),
      }),
  };
}

/** Where the IP addresses lie relative to the transport header that follows them. */
interface AddressesBefore {
  readonly distance: number;
  readonly bytes: 8 | 32;
}

/** The checksum over pseudo-header, header (its checksum field still 0) and payload. */
function transportChecksum(
  frame: Uint8Array,
  offset: number,
  length: number,
  protocol: number,
  addresses: AddressesBefore,
): number {
  const initial = pseudoHeaderSum(frame, offset - addresses.distance, addresses.bytes, protocol, length);
  return internetChecksum(frame, offset, offset + length, initial);
}

function planUdp(spec: UdpSpec, addresses: AddressesBefore): PlannedHeader {
  const srcPort = field('udp.srcPort', spec.srcPort, 0xffff);
  const dstPort = field('udp.dstPort', spec.dstPort, 0xffff);
  const given = spec.checksum === undefined ? undefined : field('udp.checksum', spec.checksum, 0xffff);
  return {
    length: UDP_HEADER_BYTES,
    write: (frame, offset, payloadLength) => {
      const length = field('udp length', UDP_HEADER_BYTES + payloadLength, 0xffff);
      writeUdp(frame, offset, { srcPort, dstPort, length, checksum: given ?? 0 });
      if (given !== undefined) return;
      const sum = transportChecksum(frame, offset, length, IP_PROTOCOL.UDP, addresses);
      // A computed 0 is sent as all ones, since 0 says "no checksum" (RFC 768).
      writeU16(frame, offset + 6, sum === 0 ? 0xffff : sum);
    },
  };
}

function planTcp(spec: TcpSpec, addresses: AddressesBefore): PlannedHeader {
  const options = spec.options ?? new Uint8Array();
  const length = TCP_MIN_HEADER_BYTES + options.length;
  const given = spec.checksum === undefined ? undefined : field('tcp.checksum', spec.checksum, 0xffff);
  const fields = {
    srcPort: field('tcp.srcPort', spec.srcPort, 0xffff),
    dstPort: field('tcp.dstPort', spec.dstPort, 0xffff),
    seq: field('tcp.seq', spec.seq, 0xffffffff),
    ack: field('tcp.ack', spec.ack, 0xffffffff),
    flags: (spec.flags ?? []).reduce((bits, name) => bits | TCP_FLAG[name], 0),
    window: field('tcp.window', spec.window, 0xffff, 0xffff),
    urgent: field('tcp.urgent', spec.urgent, 0xffff),
    checksum: given ?? 0,
    options,
  };
  return {
    length,
    write: (frame, offset, payloadLength) => {
      writeTcp(frame, offset, fields);
      if (given !== undefined) return;
      const total = length + payloadLength;
      writeU16(frame, offset + 16, transportChecksum(frame, offset, total, IP_PROTOCOL.TCP, addresses));
    },
  };
}

function plan(spec: FrameSpec): PlannedHeader[] {
  const { eth, ipv4, ipv6, udp, tcp } = spec;
  if (ipv4 && ipv6) throw invalid('a frame has ipv4 or ipv6, not both');
  if (udp && tcp) throw invalid('a frame has udp or tcp, not both');
  if ((udp ?? tcp) && !(ipv4 ?? ipv6)) throw invalid(`${udp ? 'udp' : 'tcp'} needs ipv4 or ipv6 below it`);

  const innerType = ipv4 ? ETHERTYPE.IPV4 : ipv6 ? ETHERTYPE.IPV6 : undefined;
  const payloadType = innerType ?? eth.type;
  if (payloadType === undefined) throw invalid('a frame without ipv4 or ipv6 needs eth.type');
  field('eth.type', payloadType, 0xffff);

  // Each tag's TPID stands in the type field of the header before it.
  const tags = spec.vlan ?? [];
  const tpids = tags.map((tag, index) =>
    field(`vlan[${index}].tpid`, tag.tpid, 0xffff, index < tags.length - 1 ? ETHERTYPE.QINQ : ETHERTYPE.VLAN),
  );
  const types = [...tpids, payloadType];

  const headers: PlannedHeader[] = [
    {
      length: ETHERNET_HEADER_BYTES,
      write: (frame, offset) =>
        writeEthernet(frame, offset, { src: eth.src, dst: eth.dst, etherType: types[0]! }),
    },
    ...tags.map((tag, index) => planVlan(tag, `vlan[${index}]`, types[index + 1]!)),
  ];

  const transport = udp ? IP_PROTOCOL.UDP : tcp ? IP_PROTOCOL.TCP : undefined;
  let addresses: AddressesBefore = { distance: 32, bytes: 32 };
  if (ipv4) {
    headers.push(planIpv4(ipv4, transport));
    addresses = { distance: 8 + (ipv4.options?.length ?? 0), bytes: 8 };
  } else if (ipv6) {
    headers.push(planIpv6(ipv6, transport));
  }
  if (udp) headers.push(planUdp(udp, addresses));
  else if (tcp) headers.push(planTcp(tcp, addresses));
  return headers;
}

/**
 * Builds a frame (without FCS) from its declaration. Fields that are left out are 0 unless their
 * comment says otherwise; lengths, EtherTypes, protocols and checksums are computed.
 * @throws XdpbedError `packet-invalid`, naming the field and its limit
 */
export function buildFrame(spec: FrameSpec): Uint8Array {
  if (spec.payload && spec.size !== undefined) throw invalid('a frame has payload or size, not both');
  const headers = plan(spec);
  const headerBytes = headers.reduce((sum, header) => sum + header.length, 0);

  const size = spec.size === undefined ? undefined : field('size', spec.size, MAX_FRAME_BYTES);
  if (size !== undefined && size < headerBytes) {
    throw invalid(`size ${size} is less than the ${headerBytes} bytes of the headers`);
  }
  const payloadBytes = size === undefined ? (spec.payload?.length ?? 0) : size - headerBytes;
  const padTo =
    size === undefined ? field('padTo', spec.padTo, MAX_FRAME_BYTES, ETHERNET_MIN_FRAME_BYTES) : 0;
  const contentBytes = headerBytes + payloadBytes;
  if (contentBytes > MAX_FRAME_BYTES) {
    throw invalid(`a frame of ${contentBytes} bytes exceeds ${MAX_FRAME_BYTES}`);
  }

  const frame = new Uint8Array(Math.max(contentBytes, padTo));
  if (spec.payload) frame.set(spec.payload, headerBytes);
  // Outermost first: a transport checksum covers the addresses of the IP header before it.
  let offset = 0;
  for (const header of headers) {
    header.write(frame, offset, contentBytes - offset - header.length);
    offset += header.length;
  }
  return frame;
}
