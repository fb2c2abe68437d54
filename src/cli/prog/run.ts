import { readFile, writeFile } from 'node:fs/promises';
import { EXIT, type ExitCode, XdpbedError, messageOf } from '../../core/diagnostic.js';
import { parseMapInput, hex, type MapDump, type MapInput } from '../../core/program-test/map-input.js';
import {
  changedRanges,
  ProgramSession,
  type PacketOutcome,
} from '../../core/program-test/program-session.js';
import { YamlSource } from '../../core/testbed/yaml-source.js';
import { formatProblem } from '../../core/testbed/problem-list.js';
import { formatSourceLine, sourceLineAt, type ProgramSpec } from '../../bpf/program.js';
import { writePcap, type CapturedPacket, type PacketToWrite } from '../../packet/index.js';
import { MAX_FRAME_LENGTH, MAX_SKB_FRAGS } from '../../bpf/runtime/xdp-frame.js';
import type { CliContext } from '../cli-context.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from './render-verification.js';
import { readWholeFrames } from './capture-input.js';
import { Workbench } from './workbench.js';

export interface RunOptions extends ProgramOptions {
  readonly pcap: string;
  readonly pcapOut?: string;
  readonly maps?: string;
  readonly executor: string;
  readonly verifier: string;
  readonly ifindex: string;
  readonly quiet?: boolean;
  readonly format: string;
}

/**
 * `xdpbed prog run`: a program on the packets of a capture; no root, no kernel. A packet that cannot be run is told and
 * the rest run all the same, as are the whole packets of a capture that was cut off; both are bad input in the end.
 */
export async function runProgram(context: CliContext, path: string, options: RunOptions): Promise<ExitCode> {
  const { object, spec } = await openProgram(path, options);
  const { packets, damage } = await readWholeFrames(options.pcap);
  const initial =
    options.maps === undefined ? undefined : parseMapInput(object.maps, await readMapFile(options.maps));
  const bench = await Workbench.open(context.registry, {
    executor: options.executor,
    verifiers: options.verifier.split(','),
  });
  try {
    const session = await ProgramSession.open(bench.party, object, spec, initial);
    if ('code' in session) {
      context.terminal.err(renderVerification(session.programName, session, { complexity: false }));
      return EXIT.CHECK_FAILED;
    }
    const report = runPackets(session, packets, Number(options.ifindex), context.signal);
    session.close();
    if (options.pcapOut !== undefined)
      await writeFile(options.pcapOut, writePcap(report.passed, { resolution: 'ns' }));
    context.terminal.out(
      options.format === 'json' ? toJson(report) : renderText(spec, report, options.quiet !== true),
    );
    if (damage !== undefined) throw damage;
    if (report.lines.some((line) => 'refused' in line)) return EXIT.BAD_INPUT;
    return report.lines.some((line) => !('refused' in line) && line.outcome.fault !== undefined)
      ? EXIT.CHECK_FAILED
      : EXIT.OK;
  } finally {
    await bench.close();
  }
}

/** What came of one packet: what the program did, or why it was not run. */
type PacketLine =
  | { readonly before: CapturedPacket; readonly outcome: PacketOutcome }
  | { readonly before: CapturedPacket; readonly refused: string };

interface RunReport {
  readonly lines: readonly PacketLine[];
  readonly passed: readonly PacketToWrite[];
  readonly maps: readonly MapDump[];
  readonly traces: readonly string[];
}

function runPackets(
  session: ProgramSession,
  packets: readonly CapturedPacket[],
  ifindex: number,
  signal: AbortSignal,
): RunReport {
  const lines: PacketLine[] = [];
  const passed: PacketToWrite[] = [];
  for (const before of packets) {
    if (signal.aborted) throw new XdpbedError('interrupted', 'interrupted');
    const { data, timestampNs } = before;
    const { longestFrame } = session.frames;
    if (data.length > longestFrame) {
      lines.push({ before, refused: tooLong(longestFrame) });
      continue;
    }
    const outcome = session.run(data, { ingressIfindex: ifindex }, timestampNs);
    lines.push({ before, outcome });
    const goesOn =
      outcome.verdict === 'XDP_PASS' || outcome.verdict === 'XDP_TX' || outcome.verdict === 'XDP_REDIRECT';
    // What the capture cut off is still missing.
    const missing = before.originalLength - data.length;
    if (goesOn)
      passed.push({ timestampNs, data: outcome.packet, originalLength: outcome.packet.length + missing });
  }
  return { lines, passed, maps: session.dumpMaps(), traces: session.traces };
}

function tooLong(longest: number): string {
  return longest === MAX_FRAME_LENGTH
    ? `longer than the ${longest} bytes of an XDP frame in one page, and the program is not in xdp.frags`
    : `longer than the ${longest} bytes of an XDP frame in ${MAX_SKB_FRAGS + 1} pages`;
}

function renderText(spec: ProgramSpec, report: RunReport, each: boolean): string {
  const lines: string[] = [];
  const counts = new Map<string, number>();
  report.lines.forEach((line, index) => {
    const { before } = line;
    const what = 'refused' in line ? 'not run' : line.outcome.verdict;
    counts.set(what, (counts.get(what) ?? 0) + 1);
    // What was not run is told in any case.
    if (!each && !('refused' in line)) return;
    const end = 'refused' in line ? `  ${line.refused}` : describe(before.data, line.outcome);
    lines.push(`${String(index + 1).padStart(6)}  ${what.padEnd(12)} ${sizeOf(before)}${end}`);
    if ('refused' in line) return;
    const { outcome } = line;
    if (outcome.fault !== undefined)
      lines.push(
        `        aborted at insn ${outcome.fault.insn}${lineOf(spec, outcome.fault.insn)}: ${outcome.fault.reason}`,
      );
  });
  const summary = [...counts].map(([verdict, count]) => `${verdict} ${count}`).join(', ');
  lines.push(
    `${report.lines.length} ${report.lines.length === 1 ? 'packet' : 'packets'}: ${summary || 'none'}`,
  );
  const cut = report.lines.filter(({ before }) => isCut(before)).length;
  if (cut > 0) lines.push(`cut short by the capture: ${cut}; the program saw only what was captured`);
  const isUntouched = (map: MapDump): boolean => map.entries.length === 0 && (map.records ?? []).length === 0;
  for (const map of report.maps) {
    if (isUntouched(map)) continue;
    lines.push('', `map ${map.name} (${map.type})`);
    for (const entry of map.entries) lines.push(`  [${entry.keyText}] = ${entry.valueText}`);
    map.records?.forEach((record, index) => lines.push(`  record ${index + 1}: ${shorten(record)}`));
  }
  const untouched = report.maps.filter(isUntouched).map((map) => map.name);
  if (untouched.length > 0) lines.push('', `empty or all zero: ${untouched.join(', ')}`);
  if (report.traces.length > 0)
    lines.push('', 'trace', ...report.traces.map((line) => `  ${line.replace(/\n$/, '')}`));
  return `${lines.join('\n')}\n`;
}

function isCut({ data, originalLength }: CapturedPacket): boolean {
  return data.length < originalLength;
}

/** Bytes of a packet, and how many there were on the wire where the capture has less. */
function sizeOf(packet: CapturedPacket): string {
  const { length } = packet.data;
  return isCut(packet) ? `${length} of ${packet.originalLength} B` : `${length} B`;
}

/** Hex of at most 32 bytes, with the length of the whole. */
function shorten(record: string): string {
  return record.length <= 64 ? record : `${record.slice(0, 64)}… (${record.length / 2} bytes)`;
}

/** What the program did to the packet, and where it sent it. */
function describe(before: Uint8Array, outcome: PacketOutcome): string {
  const parts: string[] = [];
  if (outcome.packet.length !== before.length) parts.push(`now ${outcome.packet.length} B`);
  const ranges = changedRanges(before, outcome.packet);
  const shown = ranges.slice(0, 4).map(({ start, end }) => `${start}..${end - 1}`);
  if (ranges.length > 0) parts.push(`bytes ${shown.join(', ')}${ranges.length > 4 ? ' …' : ''} changed`);
  if (outcome.metadata.length > 0) parts.push(`metadata ${hex(outcome.metadata)}`);
  const { redirect } = outcome;
  if (redirect !== undefined)
    parts.push(
      'ifindex' in redirect ? `to ifindex ${redirect.ifindex}` : `to ${redirect.map}[${redirect.key}]`,
    );
  return parts.length === 0 ? '' : `  ${parts.join('; ')}`;
}

function lineOf(spec: ProgramSpec, insn: number): string {
  const line = sourceLineAt(spec.debug, insn);
  return line === undefined ? '' : ` (${formatSourceLine(line)})`;
}

function toJson(report: RunReport): string {
  const packets = report.lines.map((line) => {
    const { data, originalLength } = line.before;
    if ('refused' in line) return { notRun: line.refused, length: data.length, originalLength };
    const { outcome } = line;
    return {
      verdict: outcome.verdict,
      returned: outcome.returned,
      length: data.length,
      originalLength,
      packet: hex(outcome.packet),
      changed: changedRanges(data, outcome.packet),
      ...(outcome.metadata.length === 0 ? {} : { metadata: hex(outcome.metadata) }),
      ...(outcome.redirect === undefined ? {} : { redirect: outcome.redirect }),
      ...(outcome.fault === undefined ? {} : { fault: outcome.fault }),
    };
  });
  return `${JSON.stringify({ schema: 'xdpbed.prog-run/1', packets, maps: report.maps, trace: report.traces }, null, 2)}\n`;
}

async function readMapFile(path: string): Promise<MapInput> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  const source = new YamlSource(path, text);
  if (source.problems.length > 0)
    throw new XdpbedError('usage', source.problems.map(formatProblem).join('\n'));
  if (typeof source.value !== 'object' || source.value === null || Array.isArray(source.value)) {
    throw new XdpbedError('usage', `${path} is not a map from map names to content`);
  }
  return source.value as MapInput;
}
