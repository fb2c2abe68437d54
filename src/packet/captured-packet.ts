/** What both capture formats hold, in one shape. */

import type { XdpbedError } from '../core/diagnostic.js';

/** Link types (the LINKTYPE registry of draft-ietf-opsawg-pcaplinktype) that xdpbed meets. */
export const LINKTYPE = {
  NULL: 0,
  ETHERNET: 1,
  RAW: 101,
  LINUX_SLL: 113,
} as const;

/** The longest packet either reader accepts, in bytes: libpcap's MAXIMUM_SNAPLEN. */
export const MAX_CAPTURED_BYTES = 262_144;

export interface CaptureInterface {
  readonly linkType: number;
  /** Longest packet the capture kept, in bytes; 0 is no limit. */
  readonly snapLength: number;
  /** Bytes of frame check sequence at the end of each packet; 0 when there is none or the file does not say. */
  readonly fcsBytes: number;
  /** pcapng only. */
  readonly name?: string;
}

export interface CapturedPacket {
  /** Nanoseconds since 1970-01-01 UTC. bigint: such numbers exceed 2^53. */
  readonly timestampNs: bigint;
  /** What was captured; a view of the file's bytes after a read. */
  readonly data: Uint8Array;
  /** Length on the wire in bytes; more than `data` holds when the capture cut the packet. */
  readonly originalLength: number;
  /** Index in the capture's interfaces. */
  readonly interfaceIndex: number;
  /** pcapng only: the first comment. */
  readonly comment?: string;
  /** pcapng only: what an XDP program returned for this packet (epb_verdict, Linux eBPF XDP). */
  readonly xdpVerdict?: number;
}

export interface Capture {
  readonly format: 'pcap' | 'pcapng';
  readonly interfaces: readonly CaptureInterface[];
  readonly packets: readonly CapturedPacket[];
  /** Why the file cannot be read on behind these packets: `pcap-invalid` with the offset. */
  readonly damage?: XdpbedError | undefined;
}

/** A capture that is read packet by packet. */
export interface CaptureReader {
  readonly format: Capture['format'];
  /** Of pcapng those that were met so far: a packet's is among them when it is given. */
  readonly interfaces: readonly CaptureInterface[];
  /**
   * All packets, from the beginning; to be called once.
   * @throws XdpbedError `pcap-invalid` with the offset, where the file was cut off or spoilt
   */
  packets(): Generator<CapturedPacket>;
}

/** A packet to be written. */
export interface PacketToWrite {
  /** Default 0. */
  readonly timestampNs?: bigint | undefined;
  readonly data: Uint8Array;
  /** Default: the length of `data`. */
  readonly originalLength?: number | undefined;
  /** pcapng only: index in the interfaces written. Default 0. */
  readonly interfaceIndex?: number | undefined;
  /** pcapng only. At most 65,535 bytes of UTF-8. */
  readonly comment?: string | undefined;
  /** pcapng only: an XDP verdict, shown by Wireshark as such. */
  readonly xdpVerdict?: number | undefined;
}
