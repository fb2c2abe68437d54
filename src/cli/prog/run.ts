import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { EXIT, type ExitCode, XdpbedError, messageOf } from '../../core/diagnostic.js';
import { hex, renderMaps, type MapDump } from '../../core/program-test/map-dump.js';
import {
  changedRanges,
  ProgramSession,
  type PacketOutcome,
  describeRedirect,
} from '../../core/program-test/program-session.js';
import { formatSourceLine, sourceLineAt, type ProgramSpec } from '../../bpf/program.js';
import {
  encodePcapHeader,
  encodePcapRecord,
  type CapturedPacket,
  type PacketToWrite,
} from '../../packet/index.js';
import { MAX_FRAME_LENGTH, MAX_SKB_FRAGS } from '../../bpf/runtime/xdp-frame.js';
import { EventLoopTurns } from '../../core/clock/event-loop-turns.js';
import { printableLine } from '../../core/printable.js';
import type { CliContext } from '../cli-context.js';
import { unlessInterrupted } from '../../core/clock/interrupted.js';
import { readMapFile } from './map-file.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { FrameStream } from '../../core/program-test/capture-input.js';
import { Workbench } from '../../core/program-test/workbench.js';
import type { Printed } from '../../report/printed.js';
import type { ProgRunDocument } from '../../report/prog-run-schema.js';

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
 * `xdpbed prog run`: a program on the packets of captures, one after the other on the same maps; no root, no kernel, unless
 * it is executor kernel. A packet that cannot be run is told and the rest run all the same, as are the whole packets of a
 * capture that was cut off and the captures behind it; both are bad input in the end. Packets are read, run, told and
 * written one by one, so that captures may have any length; interrupted, it tells what it has so far.
 */
export async function runProgram(context: CliContext, path: string, options: RunOptions): Promise<ExitCode> {
  const { object, spec } = await openProgram(path, options);
  const captures: FrameStream[] = [];
  try {
    // What cannot be read at all is found before anything is run.
    for (const file of options.pcap) captures.push(FrameStream.open(file));
    const initial = options.maps === undefined ? undefined : await readMapFile(options.maps, object);
    const bench = await Workbench.open(context.registry, {
      executor: options.executor,
      mapBackend: options.mapBackend,
      verifiers: options.verifier.split(','),
    });
    try {
      const opening = ProgramSession.open(bench, object, spec, initial);
      const session = await unlessInterrupted(
        context.interruption(),
        `program ${spec.name} was verified`,
        opening,
      );
      if ('code' in session) {
        context.terminal.err(renderVerification(session.programName, session, { complexity: false }));
        return EXIT.CHECK_FAILED;
      }
      const exit = await runCaptures(context, spec, session, captures, options);
      session.close();
      if (exit === EXIT.INTERRUPTED) return exit;
      const damages = captures.flatMap(({ damage }) => damage ?? []);
      if (damages.length === 1) throw damages[0]!;
      if (damages.length > 1) throw new AggregateError(damages, damages.map(messageOf).join('; '));
      return exit;
    } finally {
      await bench.close();
    }
  } finally {
    for (const capture of captures) capture.close();
  }
}

/** What came of one packet: what the program did, or why it was not run. */
type PacketLine =
  | { readonly before: CapturedPacket; readonly outcome: PacketOutcome }
  | { readonly before: CapturedPacket; readonly refused: string };

/** Told of each packet in turn, and of all in the end. */
interface RunReport {
  capture(file: string): void;
  packet(file: string, number: number, line: PacketLine): void;
  captureEnds(): void;
  /** @param interrupted not all of the packets were run */
  end(maps: readonly MapDump[], traces: TraceLines, interrupted: boolean): void;
}

/** Lines of bpf_trace_printk that are kept: the first ones, as they name what went wrong first. */
const MOST_TRACES = 10_000;

/** What the program printed. */
class TraceLines {
  readonly lines: string[] = [];
  /** Lines that came behind the ones that are kept. */
  dropped = 0;

  add(lines: readonly string[]): void {
    const room = MOST_TRACES - this.lines.length;
    this.lines.push(...lines.slice(0, room));
    this.dropped += Math.max(0, lines.length - room);
  }
}

async function runCaptures(
  { terminal, interruption }: CliContext,
  spec: ProgramSpec,
  session: ProgramSession,
  captures: readonly FrameStream[],
  options: RunOptions,
): Promise<ExitCode> {
  const out = new BufferedOutput(terminal);
  const report =
    options.format === 'json'
      ? new JsonReport(out)
      : new TextReport(out, spec, options.quiet !== true, captures.length > 1);
  const passed = options.pcapOut === undefined ? undefined : new PcapFile(options.pcapOut, options.pcap);
  const traces = new TraceLines();
  let [refused, faulted] = [false, false];
  const signal = interruption();
  const turns = new EventLoopTurns(signal);
  try {
    for (const capture of captures) {
      report.capture(capture.path);
      let number = 0;
      for (const before of capture.frames()) {
        if (!(await turns.goOn())) break;
        const line = runPacket(session, before, Number(options.ifindex), passed);
        traces.add(session.takeTraces());
        report.packet(capture.path, ++number, line);
        if ('refused' in line) refused = true;
        else if (line.outcome.fault !== undefined) faulted = true;
        // A pipe that is read slowly is waited for here.
        if (out.isFull) await out.flush();
      }
      report.captureEnds();
      if (signal.aborted) break;
    }
    report.end(session.dumpMaps(), traces, signal.aborted);
    await out.flush();
  } finally {
    passed?.close();
  }
  if (signal.aborted) return EXIT.INTERRUPTED;
  return refused ? EXIT.BAD_INPUT : faulted ? EXIT.CHECK_FAILED : EXIT.OK;
}

function runPacket(
  session: ProgramSession,
  before: CapturedPacket,
  ifindex: number,
  passed: PcapFile | undefined,
): PacketLine {
  const { data, timestampNs } = before;
  const { longestFrame } = session.frames;
  if (data.length > longestFrame) return { before, refused: tooLong(longestFrame) };
  const outcome = session.run(data, { ingressIfindex: ifindex, now: timestampNs });
  const goesOn =
    outcome.verdict === 'XDP_PASS' || outcome.verdict === 'XDP_TX' || outcome.verdict === 'XDP_REDIRECT';
  // What the capture cut off is still missing.
  const missing = before.originalLength - data.length;
  if (goesOn)
    passed?.write({ timestampNs, data: outcome.packet, originalLength: outcome.packet.length + missing });
  return { before, outcome };
}

/** Bytes of output that are put together before they are written. */
const OUTPUT_BYTES = 1 << 16;

/** Gathers short lines into few writes. */
class BufferedOutput {
  #text: string[] = [];
  #length = 0;

  constructor(readonly terminal: CliContext['terminal']) {}

  get isFull(): boolean {
    return this.#length >= OUTPUT_BYTES;
  }

  write(text: string): void {
    this.#text.push(text);
    this.#length += text.length;
  }

  async flush(): Promise<void> {
    if (this.#length === 0) return;
    this.terminal.out(this.#text.join(''));
    this.#text = [];
    this.#length = 0;
    await this.terminal.drained?.();
  }
}

/** A capture that is written packet by packet. */
class PcapFile {
  readonly #file: number;
  #parts: Uint8Array[] = [encodePcapHeader({ resolution: 'ns' })];
  #length = 0;

  /** Throws `file-unwritable`, and `usage` for a file that is being read. */
  constructor(
    readonly path: string,
    inputs: readonly string[],
  ) {
    if (inputs.some((input) => isSameFile(input, path)))
      throw new XdpbedError('usage', `--pcap-out ${path} is one of the captures that are read`);
    this.#file = this.#writing(() => openSync(path, 'w'));
  }

  write(packet: PacketToWrite): void {
    const record = encodePcapRecord(packet, { resolution: 'ns' });
    this.#parts.push(record);
    this.#length += record.length;
    if (this.#length >= OUTPUT_BYTES) this.#flush();
  }

  close(): void {
    this.#flush();
    closeSync(this.#file);
  }

  #flush(): void {
    const bytes = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#length = 0;
    for (let at = 0; at < bytes.length;) {
      const from = at;
      at += this.#writing(() => writeSync(this.#file, bytes, from));
    }
  }

  #writing<T>(write: () => T): T {
    try {
      return write();
    } catch (cause) {
      throw new XdpbedError('file-unwritable', `cannot write ${this.path}: ${messageOf(cause)}`, { cause });
    }
  }
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }));
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

function tooLong(longest: number): string {
  return longest === MAX_FRAME_LENGTH
    ? `longer than the ${longest} bytes of an XDP frame in one page, and the program is not in xdp.frags`
    : `longer than the ${longest} bytes of an XDP frame in ${MAX_SKB_FRAGS + 1} pages`;
}

/** How many packets there were, and what came of them. */
class Summary {
  #packets = 0;
  #cut = 0;
  readonly #counts = new Map<string, number>();

  add(line: PacketLine): void {
    this.#packets++;
    if (isCut(line.before)) this.#cut++;
    const what = whatCameOf(line);
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  get lines(): string[] {
    const summary = [...this.#counts].map(([verdict, count]) => `${verdict} ${count}`).join(', ');
    const packets = `${this.#packets} ${this.#packets === 1 ? 'packet' : 'packets'}`;
    const lines = [`${packets}: ${summary || 'none'}`];
    if (this.#cut > 0)
      lines.push(`cut short by the capture: ${this.#cut}; the program saw only what was captured`);
    return lines;
  }
}

class TextReport implements RunReport {
  readonly #all = new Summary();
  #own = new Summary();

  constructor(
    readonly out: BufferedOutput,
    readonly spec: ProgramSpec,
    /** A line for each packet. */
    readonly each: boolean,
    readonly several: boolean,
  ) {}

  capture(file: string): void {
    this.#own = new Summary();
    // Packets are counted from 1 in each capture, so they are told under its name.
    if (this.several) this.#print(`${file}:`);
  }

  packet(_: string, number: number, line: PacketLine): void {
    this.#own.add(line);
    this.#all.add(line);
    // What was not run is told in any case.
    if (!this.each && !('refused' in line)) return;
    const { before } = line;
    const end = 'refused' in line ? `  ${line.refused}` : describe(before.data, line.outcome);
    this.#print(`${String(number).padStart(6)}  ${whatCameOf(line).padEnd(12)} ${sizeOf(before)}${end}`);
    if ('refused' in line) return;
    const { fault } = line.outcome;
    if (fault !== undefined)
      this.#print(`        aborted at insn ${fault.insn}${lineOf(this.spec, fault.insn)}: ${fault.reason}`);
  }

  captureEnds(): void {
    this.#print(...this.#own.lines);
    if (this.several) this.#print('');
  }

  end(maps: readonly MapDump[], { lines, dropped }: TraceLines): void {
    if (this.several) this.#print('together:', ...this.#all.lines);
    const rendered = renderMaps(maps);
    if (rendered.length > 0) this.#print('', ...rendered);
    if (lines.length === 0) return;
    this.#print('', 'trace', ...lines.map((line) => printableLine(`  ${line.replace(/\n$/, '')}`)));
    if (dropped > 0) this.#print(`  … and ${dropped} more lines`);
  }

  #print(...lines: readonly string[]): void {
    for (const line of lines) this.out.write(`${line}\n`);
  }
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

/** One JSON document, as `JSON.stringify` would indent it, written as it comes about. */
class JsonReport implements RunReport {
  #isFirst = true;

  constructor(readonly out: BufferedOutput) {
    out.write('{\n  "schema": "xdpbed.prog-run/1",\n  "packets": [');
  }

  capture(): void {}

  packet(file: string, number: number, line: PacketLine): void {
    this.out.write(`${this.#isFirst ? '' : ','}\n    ${indented(packetJson(file, number, line), 4)}`);
    this.#isFirst = false;
  }

  captureEnds(): void {}

  end(maps: readonly MapDump[], { lines, dropped }: TraceLines, interrupted: boolean): void {
    const members: Omit<Printed<ProgRunDocument>, 'schema' | 'packets'> = {
      maps,
      trace: lines,
      ...(dropped > 0 ? { traceDropped: dropped } : {}),
      ...(interrupted ? { interrupted } : {}),
    };
    // Without the brace that it begins with.
    this.out.write(`${this.#isFirst ? '' : '\n  '}],${JSON.stringify(members, null, 2).slice(1)}\n`);
  }
}

function indented(value: unknown, by: number): string {
  return JSON.stringify(value, null, 2).replace(/\n/g, `\n${' '.repeat(by)}`);
}

function packetJson(
  file: string,
  number: number,
  line: PacketLine,
): Printed<ProgRunDocument>['packets'][number] {
  const { data, originalLength } = line.before;
  if ('refused' in line) return { file, number, notRun: line.refused, length: data.length, originalLength };
  const { outcome } = line;
  return {
    file,
    number,
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
}
