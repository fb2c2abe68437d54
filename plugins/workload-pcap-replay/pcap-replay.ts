import { Type, type Static } from '@sinclair/typebox';
import { MAX_FRAGS_FRAME_LENGTH } from '../../src/bpf/runtime/xdp-frame.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { freshBytes } from '../../src/core/fresh-bytes.js';
import { PS_PER_NS } from '../../src/core/contract/clock.js';
import type {
  Workload,
  WorkloadContext,
  WorkloadFrame,
  WorkloadTarget,
} from '../../src/core/contract/workload.js';
import {
  type CapturedPacket,
  ETHERNET_HEADER_BYTES,
  ethernetFrames,
  formatMac,
  isGroupMac,
  readCapture,
} from '../../src/packet/index.js';

export const PcapReplayConfig = Type.Object(
  {
    file: Type.String({
      minLength: 1,
      description: 'pcap or pcapng file, relative to the testbed file’s folder',
      examples: ['captures/dns.pcapng'],
    }),
    rewrite: Type.Unsafe<'destination' | 'none'>({
      type: 'string',
      enum: ['destination', 'none'],
      default: 'destination',
      description:
        '`destination`: unicast frames go to the targets’ MAC addresses, those of one captured destination to one target; `none`: frames are sent as they were captured',
    }),
    loop: Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      default: 1,
      description: 'how often the capture is sent',
      examples: [10],
    }),
  },
  {
    additionalProperties: false,
    title: 'workload pcap-replay',
    description: 'the frames of a capture file, at the times they were captured',
  },
);
export type PcapReplayConfig = Static<typeof PcapReplayConfig>;

/** Picoseconds between two passes of a capture that has no times to take a mean of. */
const DEFAULT_GAP = 1_000_000;

/** The frames of a capture in the order of the file. */
export class PcapReplay implements Workload {
  readonly name = 'pcap-replay';
  /** Once the capture was read. */
  frameCount: number | undefined;

  constructor(readonly config: PcapReplayConfig) {}

  /** @throws XdpbedError `pcap-invalid`, naming the file */
  *frames(context: WorkloadContext): Generator<WorkloadFrame> {
    const packets = this.#read(context.file(this.config.file));
    this.frameCount = packets.length * this.config.loop;
    if (this.config.rewrite === 'destination') readdress(packets, context.targets);

    const span = packets.at(-1)!.at;
    // The passes follow each other at the mean distance of two frames.
    const gap = span === 0 ? DEFAULT_GAP : Math.floor(span / (packets.length - 1));
    for (let pass = 0; pass < this.config.loop; pass++) {
      const start = pass * (span + gap);
      for (const packet of packets) yield { bytes: frameOf(packet), at: start + packet.at };
    }
  }

  #read(content: Uint8Array): ReplayedPacket[] {
    const { file } = this.config;
    let packets: readonly CapturedPacket[];
    try {
      packets = ethernetFrames(readCapture(content));
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      const at =
        error.at !== undefined && 'offset' in error.at ? { file, offset: error.at.offset } : error.at;
      throw new XdpbedError(error.code, `${file}: ${error.message}`, { at, hint: error.hint, cause: error });
    }
    if (packets.length === 0) throw new XdpbedError('pcap-invalid', `${file} holds no packets`);

    const first = packets[0]!.timestampNs;
    let latest = 0;
    return packets.map((packet, index) => {
      const at = Number(packet.timestampNs - first) * PS_PER_NS;
      // Captures of several interfaces step back in time; the order of the file is what counts.
      if (at > latest) latest = at;
      return { data: packet.data, length: frameLength(packet, `${file}: packet ${index + 1}`), at: latest };
    });
  }
}

/** A packet that can be sent. It becomes a frame when it is sent: a short file may claim many long packets. */
interface ReplayedPacket {
  /** What was captured; a view of the file. */
  readonly data: Uint8Array;
  /** Bytes of the frame: {@link data}, and zeros for what a snaplen cut off. */
  readonly length: number;
  /** Picoseconds from the first packet. */
  readonly at: number;
  /** Where it goes instead of where it went. */
  destination?: Uint8Array;
}

/** A frame of its own, as programs write into frames. What was cut is zeros, so that sizes are right at least. */
function frameOf({ data, length, destination }: ReplayedPacket): Uint8Array {
  const bytes = freshBytes(length);
  bytes.set(data);
  if (destination !== undefined) bytes.set(destination);
  return bytes;
}

/** Bytes of the packet on the wire. Throws `pcap-invalid` where it cannot be sent. */
function frameLength(packet: CapturedPacket, what: string): number {
  const length = Math.max(packet.data.length, packet.originalLength);
  if (packet.data.length < ETHERNET_HEADER_BYTES) {
    throw new XdpbedError(
      'pcap-invalid',
      `${what} has ${packet.data.length} bytes, less than the ${ETHERNET_HEADER_BYTES} of an Ethernet header`,
    );
  }
  if (length > MAX_FRAGS_FRAME_LENGTH) {
    throw new XdpbedError(
      'pcap-invalid',
      `${what} has ${length} bytes, more than the ${MAX_FRAGS_FRAME_LENGTH} of the longest XDP frame`,
      {
        hint: 'the capturing host joined segments; capture with offloads off: ethtool -K <dev> gro off lro off tso off gso off',
      },
    );
  }
  return length;
}

/**
 * Sends unicast frames to the targets. The captured destinations are handed out to the targets in turn, so that
 * a flow stays whole; broadcast and multicast keep their address.
 */
function readdress(packets: readonly ReplayedPacket[], targets: readonly WorkloadTarget[]): void {
  if (targets.length === 0) throw new XdpbedError('testbed-invalid', 'pcap-replay has no guest to send to');
  const chosen = new Map<string, WorkloadTarget>();
  for (const packet of packets) {
    if (isGroupMac(packet.data)) continue;
    const destination = formatMac(packet.data);
    let target = chosen.get(destination);
    if (target === undefined) chosen.set(destination, (target = targets[chosen.size % targets.length]!));
    packet.destination = target.mac;
  }
}
