/**
 * Classic capture files (draft-ietf-opsawg-pcap).
 *
 * File header, 24 bytes: magic 4 · major 2 · minor 2 · reserved 8 · snaplen 4 · link type 4.
 * Record header, 16 bytes: seconds 4 · micro- or nanoseconds 4 · captured length 4 · original length 4.
 */

import { XdpbedError } from '../core/diagnostic.js';
import { CaptureCursor, hintOfWhole, NS_PER_S } from './capture-cursor.js';
import type { CaptureBytes } from './capture-bytes.js';
import {
  type CapturedPacket,
  type CaptureInterface,
  type CaptureReader,
  LINKTYPE,
  MAX_CAPTURED_BYTES,
  type PacketToWrite,
} from './captured-packet.js';
import { concatBytes } from './concat-bytes.js';

export const PCAP_HEADER_BYTES = 24;
export const PCAP_RECORD_HEADER_BYTES = 16;

/** Magic numbers, as the writer's byte order gives them. */
export const PCAP_MAGIC = { US: 0xa1b2c3d4, NS: 0xa1b23c4d } as const;

/**
 * A capture in either byte order, with micro- or nanoseconds, packet by packet. A record longer than the file's snaplen is
 * kept whole (libpcap cuts it), one longer than {@link MAX_CAPTURED_BYTES} is refused.
 */
export class PcapReader implements CaptureReader {
  readonly format = 'pcap';
  readonly interfaces: readonly CaptureInterface[];
  readonly #cursor: CaptureCursor;
  readonly #unit: bigint;

  /** @throws XdpbedError `pcap-invalid` with the offset, for the file header */
  constructor(readonly source: CaptureBytes) {
    const cursor = new CaptureCursor(source);
    cursor.need(0, PCAP_HEADER_BYTES, 'a pcap file header');
    let magic = cursor.u32(0);
    if (magic !== PCAP_MAGIC.US && magic !== PCAP_MAGIC.NS) {
      cursor.littleEndian = false;
      magic = cursor.u32(0);
    }
    if (magic !== PCAP_MAGIC.US && magic !== PCAP_MAGIC.NS) {
      cursor.fail(0, `0x${magic.toString(16).padStart(8, '0')} is not the magic number of a pcap file`);
    }
    const version = `${cursor.u16(4)}.${cursor.u16(6)}`;
    if (version !== '2.4') cursor.fail(4, `pcap version ${version} is not 2.4`);

    const link = cursor.u32(20);
    // Bits 28 to 31: FCS length in 16-bit units, when bit 26 says that it is given.
    const fcsBytes = (link & 0x0400_0000) !== 0 ? (link >>> 28) * 2 : 0;
    this.interfaces = [{ linkType: link & 0xffff, snapLength: cursor.u32(16), fcsBytes }];
    this.#unit = magic === PCAP_MAGIC.NS ? 1n : 1000n;
    this.#cursor = cursor;
  }

  *packets(): Generator<CapturedPacket> {
    const cursor = this.#cursor;
    let count = 0;
    let offset = PCAP_HEADER_BYTES;
    while (offset < this.source.length) {
      const what = `packet ${count + 1}`;
      const hint = hintOfWhole(count);
      cursor.need(offset, PCAP_RECORD_HEADER_BYTES, `the record header of ${what}`, hint);
      const capturedLength = cursor.u32(offset + 8);
      const start = offset + PCAP_RECORD_HEADER_BYTES;
      const timestampNs = BigInt(cursor.u32(offset)) * NS_PER_S + BigInt(cursor.u32(offset + 4)) * this.#unit;
      const originalLength = cursor.u32(offset + 12);
      const data = cursor.packet(start, capturedLength, what, hint);
      count++;
      yield { timestampNs, data, originalLength, interfaceIndex: 0 };
      offset = start + capturedLength;
    }
  }
}

export interface PcapOptions {
  /** Default `ns`. In `us`, timestamps are rounded down. */
  readonly resolution?: 'us' | 'ns' | undefined;
  /** Default `little`. */
  readonly endian?: 'little' | 'big' | undefined;
  /** Default {@link MAX_CAPTURED_BYTES}; written to the header, packets are not cut to it. */
  readonly snapLength?: number | undefined;
  /** Default Ethernet. */
  readonly linkType?: number | undefined;
}

/** The 24-byte file header; what follows it are records, in any number of writes. */
export function encodePcapHeader(options: PcapOptions = {}): Uint8Array {
  const little = options.endian !== 'big';
  const view = new DataView(new ArrayBuffer(PCAP_HEADER_BYTES));
  view.setUint32(0, options.resolution === 'us' ? PCAP_MAGIC.US : PCAP_MAGIC.NS, little);
  view.setUint16(4, 2, little);
  view.setUint16(6, 4, little);
  view.setUint32(16, options.snapLength ?? MAX_CAPTURED_BYTES, little);
  view.setUint32(20, options.linkType ?? LINKTYPE.ETHERNET, little);
  return new Uint8Array(view.buffer);
}

/**
 * One record; `options` must be those of the header.
 * @throws XdpbedError `packet-invalid` for a timestamp outside 1970 to 2106 or a packet that no reader accepts
 */
export function encodePcapRecord(packet: PacketToWrite, options: PcapOptions = {}): Uint8Array {
  const little = options.endian !== 'big';
  const { data, timestampNs = 0n } = packet;
  const seconds = timestampNs / NS_PER_S;
  if (timestampNs < 0n || seconds > 0xffff_ffffn) {
    throw new XdpbedError('packet-invalid', `timestamp ${timestampNs} ns does not fit a pcap file`);
  }
  if (data.length > MAX_CAPTURED_BYTES) {
    throw new XdpbedError('packet-invalid', `a packet of ${data.length} bytes exceeds ${MAX_CAPTURED_BYTES}`);
  }
  const record = new Uint8Array(PCAP_RECORD_HEADER_BYTES + data.length);
  const view = new DataView(record.buffer);
  const fraction = timestampNs % NS_PER_S;
  view.setUint32(0, Number(seconds), little);
  view.setUint32(4, Number(options.resolution === 'us' ? fraction / 1000n : fraction), little);
  view.setUint32(8, data.length, little);
  view.setUint32(12, packet.originalLength ?? data.length, little);
  record.set(data, PCAP_RECORD_HEADER_BYTES);
  return record;
}

/** A whole file. Comments, verdicts and interfaces have no place in it: see `writePcapng`. */
export function writePcap(packets: Iterable<PacketToWrite>, options: PcapOptions = {}): Uint8Array {
  const parts = [encodePcapHeader(options)];
  for (const packet of packets) parts.push(encodePcapRecord(packet, options));
  return concatBytes(parts);
}
