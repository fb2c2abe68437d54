import type { MapInitialEntry } from '../../bpf/map-spec.js';
import type { PacketInput } from '../program-test/program-session.js';

/** A packet of a sequence, with what it comes with. */
export interface SentPacket {
  readonly data: Uint8Array;
  readonly input: PacketInput;
  /** Elements to be set before it is sent, by map name; of maps that the program does not use, nothing is set. */
  readonly elements?: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
}

/** Bytes of the shortest frame that is made: an Ethernet header, as BPF_PROG_TEST_RUN demands (net/bpf/test_run.c). */
export const SHORTEST_FRAME = 14;

/** Nanoseconds between two packets of a sequence that is made up. */
export const PACKET_INTERVAL_NS = 1_000_000n;
