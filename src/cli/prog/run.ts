import { readFile, writeFile } from 'node:fs/promises';
import { EXIT, type ExitCode, XdpbedError, messageOf } from '../../core/diagnostic.js';
import { hex, renderMaps, type MapDump } from '../../core/program-test/map-dump.js';
import { parseMapInput, type MapElement, type MapInput } from '../../core/program-test/map-input.js';
import {
  changedRanges,
  ProgramSession,
  type PacketOutcome,
  describeRedirect,
} from '../../core/program-test/program-session.js';
import { YamlSource } from '../../core/testbed/yaml-source.js';
import { ProblemList } from '../../core/testbed/problem-list.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { formatSourceLine, sourceLineAt, type ProgramSpec } from '../../bpf/program.js';
import { writePcap, type CapturedPacket, type PacketToWrite } from '../../packet/index.js';
import { MAX_FRAME_LENGTH, MAX_SKB_FRAGS } from '../../bpf/runtime/xdp-frame.js';
import { printableLine } from '../../core/printable.js';
import type { CliContext } from '../cli-context.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { readWholeFrames } from '../../core/program-test/capture-input.js';
import { Workbench } from '../../core/program-test/workbench.js';

export interface RunOptions extends ProgramOptions {
  readonly pcap: readonly string[];
  readonly pcapOut?: string;
  readonly maps?: string;
  readonly executor: string;
  readonly mapBackend?: string;
  readonly verifier: string;
  readonly ifindex: string;
  readonly quiet?: boolean;
  readonly format: string;
}

/**
 * `xdpbed prog run`: a program on the packets of captures, one after the other on the same maps; no root, no kernel, unless it is executor kernel. A
 * packet that cannot be run is told and the rest run all the same, as are the whole packets of a capture that was cut off and
 * the captures behind it; both are bad input in the end.
 */
export async function runProgram(context: CliContext, path: string, options: RunOptions): Promise<ExitCode> {
  const { object, spec } = await openProgram(path, options);
  const captures: Capture[] = [];
  // What cannot be read at all is found before anything is run.
  for (const file of options.pcap) captures.push({ file, ...(await readWholeFrames(file)) });
  const initial = options.maps === undefined ? undefined : await readMapFile(options.maps, object.maps);
  const bench = await Workbench.open(context.registry, {
    executor: options.executor,
    mapBackend: options.mapBackend,
    verifiers: options.verifier.split(','),
  });
  try {
    const session = await ProgramSession.open(bench, object, spec, initial);
    if ('code' in session) {
      context.terminal.err(renderVerification(session.programName, session, { complexity: false }));
      return EXIT.CHECK_FAILED;
    }
    const report = runPackets(session, captures, Number(options.ifindex));
    session.close();
    if (options.pcapOut !== undefined)
      await writeFile(options.pcapOut, writePcap(report.passed, { resolution: 'ns' }));
    context.terminal.out(
      options.format === 'json' ? toJson(report) : renderText(spec, report, options.quiet !== true),
    );
    const damages = captures.flatMap(({ damage }) => damage ?? []);
    if (damages.length === 1) throw damages[0]!;
    if (damages.length > 1) throw new AggregateError(damages, damages.map(messageOf).join('; '));
    const lines = report.captures.flatMap((capture) => capture.lines);
    if (lines.some((line) => 'refused' in line)) return EXIT.BAD_INPUT;
    return lines.some((line) => !('refused' in line) && line.outcome.fault !== undefined)
      ? EXIT.CHECK_FAILED
      : EXIT.OK;
  } finally {
    await bench.close();
  }
}

/** A capture as it was read. */
interface Capture {
  readonly file: string;
  readonly packets: readonly CapturedPacket[];
  readonly damage: XdpbedError | undefined;
}

/** What came of one packet: what the program did, or why it was not run. */
type PacketLine =
  | { readonly before: CapturedPacket; readonly outcome: PacketOutcome }
  | { readonly before: CapturedPacket; readonly refused: string };

/** What came of the packets of one capture, in their order. */
interface CaptureReport {
  readonly file: string;
  readonly lines: readonly PacketLine[];
}

interface RunReport {
  readonly captures: readonly CaptureReport[];
  readonly passed: readonly PacketToWrite[];
  readonly maps: readonly MapDump[];
  readonly traces: readonly string[];
}

function runPackets(session: ProgramSession, captures: readonly Capture[], ifindex: number): RunReport {
  const passed: PacketToWrite[] = [];
  const reports = captures.map(({ file, packets }): CaptureReport => {
    const lines: PacketLine[] = [];
    runCapture(session, packets, ifindex, lines, passed);
    return { file, lines };
  });
  return { captures: reports, passed, maps: session.dumpMaps(), traces: session.traces };
}

/** Appends what came of each packet to `lines`, and what the program let through to `passed`. */
function runCapture(
  session: ProgramSession,
  packets: readonly CapturedPacket[],
  ifindex: number,
  lines: PacketLine[],
  passed: PacketToWrite[],
): void {
  for (const before of packets) {
    const { data, timestampNs } = before;
    const { longestFrame } = session.frames;
    if (data.length > longestFrame) {
      lines.push({ before, refused: tooLong(longestFrame) });
      continue;
    }
    const outcome = session.run(data, { ingressIfindex: ifindex, now: timestampNs });
    lines.push({ before, outcome });
    const goesOn =
      outcome.verdict === 'XDP_PASS' || outcome.verdict === 'XDP_TX' || outcome.verdict === 'XDP_REDIRECT';
    // What the capture cut off is still missing.
    const missing = before.originalLength - data.length;
    if (goesOn)
      passed.push({ timestampNs, data: outcome.packet, originalLength: outcome.packet.length + missing });
  }
}

function tooLong(longest: number): string {
  return longest === MAX_FRAME_LENGTH
    ? `longer than the ${longest} bytes of an XDP frame in one page, and the program is not in xdp.frags`
    : `longer than the ${longest} bytes of an XDP frame in ${MAX_SKB_FRAGS + 1} pages`;
}

function renderText(spec: ProgramSpec, report: RunReport, each: boolean): string {
  const several = report.captures.length > 1;
  const lines = report.captures.flatMap(({ file, lines: packets }) => {
    const told = [...renderPackets(spec, packets, each), ...renderSummary(packets)];
    // Packets are counted from 1 in each capture, so they are told under its name.
    return several ? [`${file}:`, ...told, ''] : told;
  });
  if (several) lines.push('together:', ...renderSummary(report.captures.flatMap((capture) => capture.lines)));
  const maps = renderMaps(report.maps);
  if (maps.length > 0) lines.push('', ...maps);
  if (report.traces.length > 0)
    lines.push('', 'trace', ...report.traces.map((line) => printableLine(`  ${line.replace(/\n$/, '')}`)));
  return `${lines.join('\n')}\n`;
}

function renderPackets(spec: ProgramSpec, packets: readonly PacketLine[], each: boolean): string[] {
  const lines: string[] = [];
  packets.forEach((line, index) => {
    const { before } = line;
    const what = whatCameOf(line);
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
  return lines;
}

/** How many packets there were, and what came of them. */
function renderSummary(packets: readonly PacketLine[]): string[] {
  const counts = new Map<string, number>();
  for (const line of packets) counts.set(whatCameOf(line), (counts.get(whatCameOf(line)) ?? 0) + 1);
  const summary = [...counts].map(([verdict, count]) => `${verdict} ${count}`).join(', ');
  const lines = [`${packets.length} ${packets.length === 1 ? 'packet' : 'packets'}: ${summary || 'none'}`];
  const cut = packets.filter(({ before }) => isCut(before)).length;
  if (cut > 0) lines.push(`cut short by the capture: ${cut}; the program saw only what was captured`);
  return lines;
}

function whatCameOf(line: PacketLine): string {
  return 'refused' in line ? 'not run' : line.outcome.verdict;
}

function isCut({ data, originalLength }: CapturedPacket): boolean {
  return data.length < originalLength;
}

/** Bytes of a packet, and how many there were on the wire where the capture has less. */
function sizeOf(packet: CapturedPacket): string {
  const { length } = packet.data;
  return isCut(packet) ? `${length} of ${packet.originalLength} B` : `${length} B`;
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
  if (redirect !== undefined) parts.push(`to ${describeRedirect(redirect)}`);
  return parts.length === 0 ? '' : `  ${parts.join('; ')}`;
}

function lineOf(spec: ProgramSpec, insn: number): string {
  const line = sourceLineAt(spec.debug, insn);
  return line === undefined ? '' : ` (${formatSourceLine(line)})`;
}

function toJson(report: RunReport): string {
  const numbered = report.captures.flatMap(({ file, lines }) =>
    lines.map((line, index) => ({ place: { file, number: index + 1 }, line })),
  );
  const packets = numbered.map(({ place, line }) => {
    const { data, originalLength } = line.before;
    if ('refused' in line) return { ...place, notRun: line.refused, length: data.length, originalLength };
    const { outcome } = line;
    return {
      ...place,
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

/** Content of maps from a file. Throws `testbed-invalid` with all that is wrong in it, each at its place. */
async function readMapFile(path: string, maps: readonly MapSpec[]): Promise<Map<string, MapElement[]>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  const source = new YamlSource(path, text);
  const problems = new ProblemList(source);
  problems.throwIfAny();
  const { value } = source;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.report([], 'content of maps by their names is expected');
    problems.throwIfAny();
  }
  const elements = parseMapInput(maps, value as MapInput, 1, (problem) => {
    problems.report(problem.path, problem.message, problem.hint, problem.onKey);
  });
  problems.throwIfAny();
  return elements;
}
