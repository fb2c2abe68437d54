import { Type, type Static } from '@sinclair/typebox';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { freshCopyFrom, type FreshPiece, pieceOf } from '../../src/core/fresh-bytes.js';
import type {
  Workload,
  WorkloadContext,
  WorkloadFrame,
  WorkloadTarget,
} from '../../src/core/contract/workload.js';
import {
  buildFrame,
  ETHERNET_HEADER_BYTES,
  ETHERNET_MIN_FRAME_BYTES,
  formatIpv4Address,
  formatMac,
  type FrameSpec,
  IPV4_MIN_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  MAX_IPV4_FRAME_BYTES,
  TCP_MIN_HEADER_BYTES,
  UDP_HEADER_BYTES,
  VLAN_TAG_BYTES,
  sendTime,
} from '../../src/packet/index.js';

export const UdpFloodConfig = Type.Object(
  {
    frames: Type.Integer({
      minimum: 1,
      maximum: 100_000_000,
      default: 1000,
      description: 'frames to send, over all targets',
      examples: [1000],
    }),
    size: Type.Integer({
      minimum: ETHERNET_MIN_FRAME_BYTES,
      maximum: MAX_IPV4_FRAME_BYTES,
      default: ETHERNET_MIN_FRAME_BYTES,
      description:
        'bytes of each frame without FCS: 60 is the shortest frame of Ethernet, 64 bytes with FCS; 1514 carries 1500 bytes of IP; of more than 3520, XDP programs see several buffers. Headers that need more make the frame longer',
      examples: [60, 1514],
    }),
    flows: Type.Integer({
      minimum: 1,
      maximum: 65_536,
      default: 1,
      description: 'flows to each target, which differ in source address and source port; sent in turn',
      examples: [1, 1024],
    }),
    rate: Type.Integer({
      minimum: 1,
      maximum: 1_000_000_000,
      default: 1_000_000,
      description: 'frames per second of virtual time, over all targets',
      examples: [1_000_000],
    }),
    protocol: Type.Unsafe<'udp' | 'tcp'>({
      type: 'string',
      enum: ['udp', 'tcp'],
      default: 'udp',
      description: 'what is in the IP packets: UDP datagrams, or TCP segments with SYN set',
    }),
    ip: Type.Unsafe<4 | 6>({
      type: 'integer',
      enum: [4, 6],
      default: 4,
      description: 'version of IP',
    }),
    vlan: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 4094,
        description: 'VLAN id of an 802.1Q tag; without it frames are not tagged',
        examples: [100],
      }),
    ),
  },
  {
    additionalProperties: false,
    title: 'workload udp-flood',
    description: 'equal frames at a constant rate, to the targets in turn',
  },
);
export type UdpFloodConfig = Static<typeof UdpFloodConfig>;

/** The discard service (RFC 863), which is what pktgen sends to. */
const DISCARD_PORT = 9;
/** Source ports of one source address: 1024 … 1279. The next 256 flows come from the next address. */
const PORTS_PER_ADDRESS = 256;
const FIRST_PORT = 1024;
/** Frames kept as templates, at most: what makes sending few flows cheap must not make many flows big. */
const MAX_TEMPLATES = 4096;

/** Equal frames at a constant rate: to the targets in turn, and to each of them in its flows in turn. */
export class UdpFlood implements Workload {
  readonly name = 'udp-flood';

  constructor(readonly config: UdpFloodConfig) {}

  get frameCount(): number {
    return this.config.frames;
  }

  *frames(context: WorkloadContext): Generator<WorkloadFrame> {
    const { targets } = context;
    if (targets.length === 0) throw new XdpbedError('testbed-invalid', 'udp-flood has no guest to send to');
    const { frames, flows, rate } = this.config;
    // Equal SYNs are retransmissions to a program that looks at sequence numbers: one number per frame.
    const repeats = this.config.protocol === 'udp' && flows * targets.length <= MAX_TEMPLATES;
    const templates = new Map<number, FreshPiece>();
    for (let index = 0; index < frames; index++) {
      const target = index % targets.length;
      const flow = Math.floor(index / targets.length) % flows;
      const key = target * flows + flow;
      let frame = templates.get(key);
      if (frame === undefined) {
        frame = pieceOf(buildFrame(this.#spec(context, targets[target]!, flow)));
        if (repeats) templates.set(key, frame);
      }
      // Programs write into frames: each frame is a copy of its own.
      yield { bytes: freshCopyFrom(frame.block, frame.start, frame.length), at: sendTime(index, rate) };
    }
  }

  #spec(context: WorkloadContext, target: WorkloadTarget, flow: number): FrameSpec {
    const { protocol, ip, vlan, size } = this.config;
    const host = 1 + Math.floor(flow / PORTS_PER_ADDRESS);
    const ports = { srcPort: FIRST_PORT + (flow % PORTS_PER_ADDRESS), dstPort: DISCARD_PORT };
    const headers =
      ETHERNET_HEADER_BYTES +
      (vlan === undefined ? 0 : VLAN_TAG_BYTES) +
      (ip === 4 ? IPV4_MIN_HEADER_BYTES : IPV6_HEADER_BYTES) +
      (protocol === 'udp' ? UDP_HEADER_BYTES : TCP_MIN_HEADER_BYTES);
    return {
      eth: { src: formatMac(context.senderMac), dst: formatMac(target.mac) },
      ...(vlan !== undefined && { vlan: [{ id: vlan }] }),
      // Senders have addresses of the networks for benchmarks: 198.18.0.0/15 (RFC 2544), 2001:2::/48 (RFC 5180).
      ...(ip === 4
        ? { ipv4: { src: `198.18.${host >> 8}.${host & 0xff}`, dst: formatIpv4Address(target.ipv4) } }
        : { ipv6: { src: `2001:2::${host.toString(16)}`, dst: targetIpv6(target) } }),
      ...(protocol === 'udp'
        ? { udp: ports }
        : { tcp: { ...ports, flags: ['SYN'] as const, seq: context.random() } }),
      size: Math.max(size, headers),
    };
  }
}

/** A guest nic has no IPv6 address of its own: its IPv4 address within 2001:2:0:1::/64. */
function targetIpv6(target: WorkloadTarget): string {
  const groups = [target.ipv4.subarray(0, 2), target.ipv4.subarray(2, 4)];
  return `2001:2:0:1::${groups.map(([high, low]) => ((high! << 8) | low!).toString(16)).join(':')}`;
}
