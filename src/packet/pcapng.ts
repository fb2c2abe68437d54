/**
 * pcapng (draft-ietf-opsawg-pcapng).
 *
 * Every block: type 4 · total length 4 · body, padded to 4 · total length again 4. A section header
 * sets the byte order for all that follows it, up to the next one. Options: code 2 · length 2 · value,
 * padded to 4; code 0 ends them.
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

/** Block types; the section header's reads the same in both byte orders. */
export const PCAPNG_BLOCK = {
  SECTION_HEADER: 0x0a0d0d0a,
  INTERFACE_DESCRIPTION: 1,
  /** Obsolete, but still met. */
  PACKET: 2,
  SIMPLE_PACKET: 3,
  ENHANCED_PACKET: 6,
} as const;

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Type, both total lengths. */
const BLOCK_OVERHEAD = 12;

const OPTION = {
  END: 0,
  COMMENT: 1,
  IF_NAME: 2,
  IF_TSRESOL: 9,
  IF_FCSLEN: 13,
  IF_TSOFFSET: 14,
  EPB_VERDICT: 7,
} as const;

/** First byte of an epb_verdict option whose other eight are an XDP verdict. */
const VERDICT_LINUX_EBPF_XDP = 2;

interface Option {
  readonly code: number;
  /** Of the value, from the file's start. */
  readonly offset: number;
  readonly length: number;
}

/** An interface as the reader needs it: how its timestamps become nanoseconds. */
interface Clock {
  readonly unitsPerSecond: bigint;
  readonly offsetSeconds: bigint;
}

const MICROSECONDS: Clock = { unitsPerSecond: 1_000_000n, offsetSeconds: 0n };

/**
 * All sections of a file, in either byte order, packet by packet; their interfaces are numbered over all sections.
 * Timestamps finer than a nanosecond are rounded down. Unknown blocks and options are skipped.
 */
export class PcapngReader implements CaptureReader {
  readonly format = 'pcapng';
  readonly interfaces: CaptureInterface[] = [];
  private readonly clocks: Clock[] = [];
  private readonly cursor: CaptureCursor;
  /** Packets so far. */
  private count = 0;
  /** Index in `interfaces` of the current section's first: each section numbers its own from 0. */
  private sectionStart = 0;

  /** @throws XdpbedError `pcap-invalid` with the offset, for a file that does not start with a section header */
  constructor(private readonly source: CaptureBytes) {
    const cursor = new CaptureCursor(source);
    cursor.need(0, BLOCK_OVERHEAD, 'a pcapng block');
    if (cursor.u32(0) !== PCAPNG_BLOCK.SECTION_HEADER) {
      cursor.fail(0, 'a pcapng file does not start with a section header block');
    }
    this.cursor = cursor;
  }

  *packets(): Generator<CapturedPacket> {
    const { cursor, source } = this;
    let offset = 0;
    while (offset < source.length) {
      const hint = hintOfWhole(this.count);
      cursor.need(offset, BLOCK_OVERHEAD, 'a pcapng block', hint);
      const type = cursor.u32(offset);
      // The length of a section header is in the byte order that it declares.
      if (type === PCAPNG_BLOCK.SECTION_HEADER) this.enterSection(offset);
      const length = cursor.u32(offset + 4);
      if (length < BLOCK_OVERHEAD || length % 4 !== 0) {
        cursor.fail(
          offset + 4,
          `block length ${length} is not a multiple of 4 of at least ${BLOCK_OVERHEAD}`,
        );
      }
      cursor.need(offset, length, 'a pcapng block', hint);
      const trailing = cursor.u32(offset + length - 4);
      if (trailing !== length) {
        cursor.fail(
          offset + length - 4,
          `block length ${trailing} at its end is not the ${length} at its start`,
        );
      }
      const packet = this.readBlock(type, offset + 8, offset + length - 4);
      if (packet !== undefined) {
        this.count++;
        yield packet;
      }
      offset += length;
    }
  }

  private enterSection(offset: number): void {
    const { cursor } = this;
    cursor.need(offset, 28, 'a section header block');
    cursor.littleEndian = true;
    if (cursor.u32(offset + 8) !== BYTE_ORDER_MAGIC) cursor.littleEndian = false;
    if (cursor.u32(offset + 8) !== BYTE_ORDER_MAGIC) {
      cursor.fail(offset + 8, 'the byte-order magic of a section header is neither order of 0x1a2b3c4d');
    }
    // Minor 2 is read as 0 by the draft: some writers set it without a change of format.
    const version = `${cursor.u16(offset + 12)}.${cursor.u16(offset + 14)}`;
    if (version !== '1.0' && version !== '1.2') {
      cursor.fail(offset + 12, `pcapng version ${version} is not 1.0`);
    }
    this.sectionStart = this.interfaces.length;
  }

  private readBlock(type: number, start: number, end: number): CapturedPacket | undefined {
    switch (type) {
      case PCAPNG_BLOCK.INTERFACE_DESCRIPTION:
        this.readInterface(start, end);
        return undefined;
      case PCAPNG_BLOCK.ENHANCED_PACKET:
        this.needInBlock(start, 20, end, 'an enhanced packet block');
        return this.readPacket(start, end, this.cursor.u32(start));
      case PCAPNG_BLOCK.PACKET:
        // The same layout but for the first word: interface 2 · drops 2.
        this.needInBlock(start, 20, end, 'a packet block');
        return this.readPacket(start, end, this.cursor.u16(start));
      case PCAPNG_BLOCK.SIMPLE_PACKET:
        return this.readSimplePacket(start, end);
      default:
        // Statistics, name resolution, custom blocks and whatever the future brings: skipped.
        return undefined;
    }
  }

  private needInBlock(offset: number, length: number, end: number, what: string): void {
    if (offset + length > end) {
      this.cursor.fail(offset, `${what} needs ${length} bytes, its block has ${end - offset} left`);
    }
  }

  /** The options in `[start, end)`; both ends of a list are legal: an end mark, or the block's end. */
  private *options(start: number, end: number): Generator<Option> {
    let offset = start;
    while (offset < end) {
      this.needInBlock(offset, 4, end, 'an option');
      const code = this.cursor.u16(offset);
      const length = this.cursor.u16(offset + 2);
      if (code === OPTION.END) return;
      this.needInBlock(offset + 4, length, end, `option ${code}`);
      yield { code, offset: offset + 4, length };
      offset += 4 + paddedTo4(length);
    }
  }

  private text(option: Option): string {
    // Not fatal: a comment in a wrong encoding is no reason to refuse the packets.
    return new TextDecoder('utf-8').decode(this.source.bytes(option.offset, option.length));
  }

  /** Body: link type 2 · reserved 2 · snaplen 4 · options. */
  private readInterface(start: number, end: number): void {
    const { cursor } = this;
    this.needInBlock(start, 8, end, 'an interface description block');
    let name: string | undefined;
    let fcsBytes = 0;
    let unitsPerSecond = MICROSECONDS.unitsPerSecond;
    let offsetSeconds = 0n;
    for (const option of this.options(start + 8, end)) {
      if (option.code === OPTION.IF_NAME) name = this.text(option);
      if (option.code === OPTION.IF_FCSLEN && option.length === 1) fcsBytes = cursor.u8(option.offset);
      if (option.code === OPTION.IF_TSOFFSET && option.length === 8)
        offsetSeconds = cursor.i64(option.offset);
      if (option.code === OPTION.IF_TSRESOL && option.length === 1) {
        // The top bit tells a negative power of 2 from one of 10.
        const resolution = cursor.u8(option.offset);
        unitsPerSecond = (resolution & 0x80 ? 2n : 10n) ** BigInt(resolution & 0x7f);
      }
    }
    this.clocks.push({ unitsPerSecond, offsetSeconds });
    this.interfaces.push({
      linkType: cursor.u16(start),
      snapLength: cursor.u32(start + 4),
      fcsBytes,
      ...(name !== undefined && { name }),
    });
  }

  /** The interface's index over all sections. */
  private interfaceIndex(offset: number, id: number): number {
    const index = this.sectionStart + id;
    if (index >= this.interfaces.length) {
      const count = this.interfaces.length - this.sectionStart;
      this.cursor.fail(offset, `interface ${id} is not one of the section's ${count}`);
    }
    return index;
  }

  /** Body: interface 4 · timestamp high 4 · low 4 · captured length 4 · original length 4 · data · options. */
  private readPacket(start: number, end: number, interfaceId: number): CapturedPacket {
    const { cursor } = this;
    const interfaceIndex = this.interfaceIndex(start, interfaceId);
    const clock = this.clocks[interfaceIndex]!;
    const units = (BigInt(cursor.u32(start + 4)) << 32n) | BigInt(cursor.u32(start + 8));
    const capturedLength = cursor.u32(start + 12);
    const dataStart = start + 20;
    this.needInBlock(dataStart, capturedLength, end, `packet ${this.count + 1}`);

    let comment: string | undefined;
    let xdpVerdict: number | undefined;
    for (const option of this.options(dataStart + paddedTo4(capturedLength), end)) {
      if (option.code === OPTION.COMMENT) comment ??= this.text(option);
      if (
        option.code === OPTION.EPB_VERDICT &&
        option.length === 9 &&
        cursor.u8(option.offset) === VERDICT_LINUX_EBPF_XDP
      ) {
        xdpVerdict = Number(cursor.u64(option.offset + 1));
      }
    }
    return {
      timestampNs: (units * NS_PER_S) / clock.unitsPerSecond + clock.offsetSeconds * NS_PER_S,
      data: cursor.packet(dataStart, capturedLength, `packet ${this.count + 1}`),
      originalLength: cursor.u32(start + 16),
      interfaceIndex,
      ...(comment !== undefined && { comment }),
      ...(xdpVerdict !== undefined && { xdpVerdict }),
    };
  }

  /** Body: original length 4 · data. The interface is the section's first; there is no timestamp. */
  private readSimplePacket(start: number, end: number): CapturedPacket {
    const { cursor } = this;
    this.needInBlock(start, 4, end, 'a simple packet block');
    const interfaceIndex = this.interfaceIndex(start, 0);
    const originalLength = cursor.u32(start);
    // The captured length is not in the file: the original's, cut to the snaplen (section 4.4).
    const snapLength = this.interfaces[interfaceIndex]!.snapLength;
    const capturedLength = snapLength === 0 ? originalLength : Math.min(originalLength, snapLength);
    this.needInBlock(start + 4, capturedLength, end, `packet ${this.count + 1}`);
    return {
      timestampNs: 0n,
      data: cursor.packet(start + 4, capturedLength, `packet ${this.count + 1}`),
      originalLength,
      interfaceIndex,
    };
  }
}

function paddedTo4(length: number): number {
  return (length + 3) & ~3;
}

export interface PcapngOptions {
  /** Default: one Ethernet interface without a name. */
  readonly interfaces?:
    | readonly { readonly name?: string; readonly linkType?: number; readonly snapLength?: number }[]
    | undefined;
  /** Default `little`. */
  readonly endian?: 'little' | 'big' | undefined;
}

interface OptionToWrite {
  readonly code: number;
  readonly value: Uint8Array;
}

class BlockWriter {
  constructor(private readonly little: boolean) {}

  u16(...values: number[]): Uint8Array {
    const view = new DataView(new ArrayBuffer(values.length * 2));
    values.forEach((value, index) => view.setUint16(index * 2, value, this.little));
    return new Uint8Array(view.buffer);
  }

  u32(...values: number[]): Uint8Array {
    const view = new DataView(new ArrayBuffer(values.length * 4));
    values.forEach((value, index) => view.setUint32(index * 4, value, this.little));
    return new Uint8Array(view.buffer);
  }

  u64(value: bigint): Uint8Array {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, value, this.little);
    return new Uint8Array(view.buffer);
  }

  options(options: readonly OptionToWrite[]): Uint8Array[] {
    if (options.length === 0) return [];
    const parts = options.flatMap(({ code, value }) => {
      if (value.length > 0xffff) {
        throw new XdpbedError('packet-invalid', `a pcapng option of ${value.length} bytes exceeds 65535`);
      }
      return [this.u16(code, value.length), padded(value)];
    });
    return [...parts, this.u16(OPTION.END, 0)];
  }

  block(type: number, ...body: Uint8Array[]): Uint8Array {
    const length = BLOCK_OVERHEAD + body.reduce((sum, part) => sum + part.length, 0);
    return concatBytes([this.u32(type, length), ...body, this.u32(length)]);
  }
}

function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length % 4 === 0) return bytes;
  const result = new Uint8Array(paddedTo4(bytes.length));
  result.set(bytes);
  return result;
}

const utf8 = new TextEncoder();

/** The section header and one interface description each; what follows are packets, in any number of writes. */
export function encodePcapngHeader(options: PcapngOptions = {}): Uint8Array {
  const writer = new BlockWriter(options.endian !== 'big');
  const interfaces = options.interfaces ?? [{}];
  return concatBytes([
    writer.block(
      PCAPNG_BLOCK.SECTION_HEADER,
      writer.u32(BYTE_ORDER_MAGIC),
      writer.u16(1, 0),
      // The section's length, not known in advance: −1.
      writer.u32(0xffff_ffff, 0xffff_ffff),
    ),
    ...interfaces.map(({ name, linkType = LINKTYPE.ETHERNET, snapLength = 0 }) =>
      writer.block(
        PCAPNG_BLOCK.INTERFACE_DESCRIPTION,
        writer.u16(linkType, 0),
        writer.u32(snapLength),
        ...writer.options([
          ...(name === undefined ? [] : [{ code: OPTION.IF_NAME, value: utf8.encode(name) }]),
          // 10^-9: nanoseconds.
          { code: OPTION.IF_TSRESOL, value: Uint8Array.of(9) },
        ]),
      ),
    ),
  ]);
}

/**
 * One enhanced packet block; `options` must be those of the header.
 * @throws XdpbedError `packet-invalid` for an unknown interface, a timestamp outside 0 to 2^64 − 1 ns, a
 * verdict below 0, or a packet that no reader accepts
 */
export function encodePcapngPacket(packet: PacketToWrite, options: PcapngOptions = {}): Uint8Array {
  const writer = new BlockWriter(options.endian !== 'big');
  const { data, timestampNs = 0n, interfaceIndex = 0, comment, xdpVerdict } = packet;
  const interfaceCount = options.interfaces?.length ?? 1;
  if (interfaceIndex >= interfaceCount) {
    throw new XdpbedError(
      'packet-invalid',
      `interface ${interfaceIndex} is not one of the ${interfaceCount} written`,
    );
  }
  if (timestampNs !== BigInt.asUintN(64, timestampNs)) {
    throw new XdpbedError('packet-invalid', `timestamp ${timestampNs} ns does not fit a pcapng file`);
  }
  if (data.length > MAX_CAPTURED_BYTES) {
    throw new XdpbedError('packet-invalid', `a packet of ${data.length} bytes exceeds ${MAX_CAPTURED_BYTES}`);
  }
  const packetOptions: OptionToWrite[] = [];
  if (comment !== undefined) packetOptions.push({ code: OPTION.COMMENT, value: utf8.encode(comment) });
  if (xdpVerdict !== undefined) {
    if (!Number.isSafeInteger(xdpVerdict) || xdpVerdict < 0) {
      throw new XdpbedError('packet-invalid', `XDP verdict ${xdpVerdict} is not an integer of at least 0`);
    }
    const value = concatBytes([Uint8Array.of(VERDICT_LINUX_EBPF_XDP), writer.u64(BigInt(xdpVerdict))]);
    packetOptions.push({ code: OPTION.EPB_VERDICT, value });
  }
  return writer.block(
    PCAPNG_BLOCK.ENHANCED_PACKET,
    writer.u32(
      interfaceIndex,
      Number(timestampNs >> 32n),
      Number(timestampNs & 0xffff_ffffn),
      data.length,
      packet.originalLength ?? data.length,
    ),
    padded(data),
    ...writer.options(packetOptions),
  );
}

/** A whole file of one section, with nanosecond timestamps. */
export function writePcapng(packets: Iterable<PacketToWrite>, options: PcapngOptions = {}): Uint8Array {
  const parts = [encodePcapngHeader(options)];
  for (const packet of packets) parts.push(encodePcapngPacket(packet, options));
  return concatBytes(parts);
}
