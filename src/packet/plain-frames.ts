/** Frames in one line: what is left out is filled in, so that a test names what it is about and no more. */

import {
  buildFrame,
  type FrameSpec,
  type Ipv4Spec,
  type Ipv6Spec,
  type TcpSpec,
  type UdpSpec,
} from './frame-builder.js';

interface PlainFrame extends Pick<FrameSpec, 'vlan' | 'size' | 'padTo'> {
  /** IPv4 or IPv6 address. Default: 198.51.100.1, or 2001:db8::1 where `dst` is of IPv6. */
  readonly src?: string | undefined;
  /** Of the same family. Default: 192.0.2.1, or 2001:db8::2 where `src` is of IPv6. */
  readonly dst?: string | undefined;
  /** Default: 02:00:00:00:00:01 to 02:00:00:00:00:02. */
  readonly eth?: Partial<FrameSpec['eth']> | undefined;
  /** What else the IPv4 header is to hold. */
  readonly ipv4?: Omit<Partial<Ipv4Spec>, 'src' | 'dst'> | undefined;
  /** What else the IPv6 header is to hold. */
  readonly ipv6?: Omit<Partial<Ipv6Spec>, 'src' | 'dst'> | undefined;
  /** Bytes, or text as UTF-8. Not together with `size`. */
  readonly payload?: Uint8Array | string | undefined;
}

/** Ports are 49152 and 9 (discard) by default. */
export interface PlainUdp extends PlainFrame, Partial<UdpSpec> {}
export interface PlainTcp extends PlainFrame, Partial<Omit<TcpSpec, 'options'>> {}

const SRC_PORT = 49152;
const DST_PORT = 9;

/**
 * A UDP datagram in an Ethernet frame without FCS, of 60 bytes at least: `udp({ src: '198.51.100.7', dstPort: 53 })`.
 * Throws `packet-invalid`, naming the field.
 */
export function udp({
  srcPort = SRC_PORT,
  dstPort = DST_PORT,
  checksum,
  ...frame
}: PlainUdp = {}): Uint8Array {
  return buildFrame({ ...layersBelow(frame), udp: { srcPort, dstPort, checksum } });
}

/** A TCP segment, as {@link udp}: `tcp({ src: '2001:db8::7', dstPort: 80, flags: ['SYN'] })`. */
export function tcp({
  srcPort = SRC_PORT,
  dstPort = DST_PORT,
  seq,
  ack,
  flags,
  window,
  urgent,
  checksum,
  ...frame
}: PlainTcp = {}): Uint8Array {
  return buildFrame({
    ...layersBelow(frame),
    tcp: { srcPort, dstPort, seq, ack, flags, window, urgent, checksum },
  });
}

function layersBelow({ src, dst, eth, ipv4, ipv6, payload, ...rest }: PlainFrame): FrameSpec {
  const isIpv6 = ipv6 !== undefined || [src, dst].some((address) => address?.includes(':') === true);
  const ip = isIpv6
    ? { ipv6: { src: src ?? '2001:db8::1', dst: dst ?? '2001:db8::2', ...ipv6 } }
    : { ipv4: { src: src ?? '198.51.100.1', dst: dst ?? '192.0.2.1', ...ipv4 } };
  return {
    eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02', ...eth },
    ...ip,
    // With IPv6 below, too: that there are both is for buildFrame to say.
    ...(isIpv6 && ipv4 !== undefined ? { ipv4: { src: '198.51.100.1', dst: '192.0.2.1', ...ipv4 } } : {}),
    ...rest,
    payload: typeof payload === 'string' ? new TextEncoder().encode(payload) : payload,
  };
}
