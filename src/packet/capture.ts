/** Capture files of either format. */

import { XdpbedError } from '../core/diagnostic.js';
import { type CaptureBytes, CaptureInMemory } from './capture-bytes.js';
import {
  type Capture,
  type CapturedPacket,
  type CaptureInterface,
  type CaptureReader,
  LINKTYPE,
} from './captured-packet.js';
import { PCAP_MAGIC, PcapReader } from './pcap.js';
import { PCAPNG_BLOCK, PcapngReader } from './pcapng.js';

/** Formats that are told apart from the ones read, only to say what to do with them. */
const OTHER_FORMATS: readonly { prefix: readonly number[]; name: string; hint: string }[] = [
  { prefix: [0x1f, 0x8b], name: 'a gzip file', hint: 'decompress it first' },
  { prefix: [0x28, 0xb5, 0x2f, 0xfd], name: 'a zstd file', hint: 'decompress it first' },
  { prefix: [0x34, 0xcd, 0xb2, 0xa1], name: 'a modified pcap file', hint: 'convert it: editcap -F pcapng' },
  { prefix: [0xa1, 0xb2, 0xcd, 0x34], name: 'a modified pcap file', hint: 'convert it: editcap -F pcapng' },
];

/** The format by its first four bytes, or undefined when it is neither. */
export function detectCaptureFormat(bytes: Uint8Array): 'pcap' | 'pcapng' | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const orders = [view.getUint32(0, true), view.getUint32(0, false)];
  if (orders.includes(PCAPNG_BLOCK.SECTION_HEADER)) return 'pcapng';
  if (orders.includes(PCAP_MAGIC.US) || orders.includes(PCAP_MAGIC.NS)) return 'pcap';
  return undefined;
}

/**
 * Reads a pcap or pcapng file, whichever it is. Packets are views of `bytes`.
 * @throws XdpbedError `pcap-invalid` with the offset
 */
export function readCapture(bytes: Uint8Array): Capture {
  const capture = readWholePackets(bytes);
  if (capture.damage !== undefined) throw capture.damage;
  return capture;
}

/**
 * As `readCapture`, but of a file that was cut off or spoilt gives the packets in front of that: a capture whose
 * writer was killed ends in mid-record. What is wrong is the result's `damage`.
 * @throws XdpbedError `pcap-invalid` for a file without a sound header
 */
export function readWholePackets(bytes: Uint8Array): Capture {
  const reader = openCapture(new CaptureInMemory(bytes));
  const packets: CapturedPacket[] = [];
  let damage: XdpbedError | undefined;
  try {
    for (const packet of reader.packets()) packets.push(packet);
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    damage = error;
  }
  const { format, interfaces } = reader;
  return { format, interfaces, packets, ...(damage !== undefined && { damage }) };
}

/**
 * A pcap or pcapng file, whichever it is, to be read packet by packet.
 * @throws XdpbedError `pcap-invalid` for a file without a sound header
 */
export function openCapture(source: CaptureBytes): CaptureReader {
  const first = source.bytes(0, Math.min(source.length, 4));
  switch (detectCaptureFormat(first)) {
    case 'pcap':
      return new PcapReader(source);
    case 'pcapng':
      return new PcapngReader(source);
    case undefined: {
      const other = OTHER_FORMATS.find(({ prefix }) => prefix.every((byte, index) => first[index] === byte));
      const what = other?.name ?? (source.length === 0 ? 'an empty file' : 'this');
      throw new XdpbedError('pcap-invalid', `${what} is neither a pcap nor a pcapng file`, {
        at: { offset: 0 },
        hint: other?.hint,
      });
    }
  }
}

/**
 * The capture's packets as frames for an XDP program: all of them Ethernet, each without the FCS that its
 * interface says it has. A cut packet keeps its bytes: whether they end in part of an FCS is not known.
 * @throws XdpbedError `pcap-invalid` for the first packet of another link type
 */
export function ethernetFrames(capture: Capture): CapturedPacket[] {
  return capture.packets.map((packet, index) => ethernetFrame(packet, capture.interfaces, index + 1));
}

/**
 * As {@link ethernetFrames}, of one packet of a capture with these interfaces; `number` is for the message.
 * @throws XdpbedError `pcap-invalid` for another link type
 */
export function ethernetFrame(
  packet: CapturedPacket,
  interfaces: readonly CaptureInterface[],
  number: number,
): CapturedPacket {
  const { linkType, fcsBytes } = interfaces[packet.interfaceIndex]!;
  if (linkType !== LINKTYPE.ETHERNET) {
    throw new XdpbedError('pcap-invalid', `packet ${number} has link type ${linkType}, not Ethernet (1)`, {
      hint: 'XDP programs run on Ethernet frames; capture on the interface itself, not on "any"',
    });
  }
  const whole = packet.data.length === packet.originalLength;
  if (fcsBytes === 0 || !whole || packet.data.length < fcsBytes) return packet;
  const data = packet.data.subarray(0, packet.data.length - fcsBytes);
  return { ...packet, data, originalLength: data.length };
}
