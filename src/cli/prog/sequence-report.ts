import { writeFile } from 'node:fs/promises';
import { XdpbedError, messageOf } from '../../core/diagnostic.js';
import { entryToText } from '../../bpf/map-entry-text.js';
import type { MapInitialEntry } from '../../bpf/map-spec.js';
import type { ProgramRejection } from '../../core/offload/load-program.js';
import { hex } from '../../core/program-test/map-dump.js';
import type { SentPacket } from '../../core/program-fuzz/sent-packet.js';
import { summarizeFrame, writePcap } from '../../packet/index.js';
import type { RejectionDocument, SentPacketDocument } from '../../report/sent-packet-schema.js';

/** A sequence packet by packet: decoded, in hex, and what is said of each. Equal packets in a row are shown once. */
export function renderSequence(
  packets: readonly SentPacket[],
  linesOf: (index: number) => readonly string[],
): string[] {
  const lines: string[] = [];
  for (let first = 0; first < packets.length;) {
    const { data } = packets[first]!;
    let end = first + 1;
    while (end < packets.length && Buffer.compare(packets[end]!.data, data) === 0 && !packets[end]!.elements)
      end++;
    for (const [name, each] of packets[first]!.elements ?? [])
      lines.push(`in map ${name}: ${each.map(elementText).join(', ')}`);
    const which = end - first === 1 ? `packet ${first + 1}` : `packets ${first + 1} to ${end}, equal`;
    lines.push(`${which}: ${summarizeFrame(data)}`, ...hexDump(data).map((line) => `  ${line}`));
    for (let index = first; index < end; index++) {
      const after = end - first === 1 ? '' : `after packet ${index + 1}: `;
      lines.push(...linesOf(index).map((line) => `  ${after}${line}`));
    }
    first = end;
  }
  return lines;
}

function elementText(entry: MapInitialEntry): string {
  const values = (): string => {
    if ('mapName' in entry) return entry.mapName;
    if ('programName' in entry) return entry.programName;
    if ('value' in entry) return `0x${hex(entry.value)}`;
    return entry.cpuValues.map(({ cpu, value }) => `0x${hex(value)} of CPU ${cpu}`).join(', ');
  };
  return `0x${hex(entry.key)} = ${values()}`;
}

/** 16 bytes a line, behind their offset; runs of lines that are the same are one. */
function hexDump(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  let before = '';
  for (let at = 0; at < bytes.length; at += 16) {
    const text = Buffer.from(bytes.subarray(at, at + 16))
      .toString('hex')
      .replace(/..(?=.)/g, '$& ');
    const isLast = at + 16 >= bytes.length;
    if (text === before && !isLast) {
      if (lines.at(-1) !== '*') lines.push('*');
      continue;
    }
    lines.push(`${at.toString(16).padStart(4, '0')}  ${text}`);
    before = text;
  }
  return lines;
}

/** A packet in a JSON document, with what it comes with where it does not say so itself. */
export function packetToJson({ data, input, elements = new Map() }: SentPacket): SentPacketDocument {
  const { ingressIfindex = 0, rxQueueIndex = 0, egressIfindex = 0, cpu = 0, now = 0n, random } = input;
  return {
    packet: hex(data),
    time: String(now),
    ingressIfindex,
    rxQueueIndex,
    egressIfindex,
    cpu,
    metadata: hex(input.dataMeta ?? new Uint8Array()),
    ...(random === undefined ? {} : { random: [random].flat() }),
    elements: [...elements].flatMap(([map, each]) =>
      each.map((element) => ({ map, ...entryToText(element) })),
    ),
  };
}

/** The verifier's no in a JSON document. */
export function rejectionToJson({
  programName,
  verifier,
  code,
  reason,
  insn,
}: ProgramRejection): RejectionDocument {
  return { program: programName, verifier, code, reason, ...(insn === undefined ? {} : { insn }) };
}

/** Writes a sequence as a capture. Throws `file-unwritable`. */
export async function writeSequence(file: string, packets: readonly SentPacket[]): Promise<void> {
  const records = packets.map(({ data, input }) => ({ data, timestampNs: input.now ?? 0n }));
  try {
    await writeFile(file, writePcap(records, { resolution: 'ns' }));
  } catch (cause) {
    throw new XdpbedError('file-unwritable', `cannot write ${file}: ${messageOf(cause)}`, { cause });
  }
}
