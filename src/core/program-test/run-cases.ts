import { readFile, writeFile } from 'node:fs/promises';
import { EventLoopTurns } from '../clock/event-loop-turns.js';
import { unlessInterrupted } from '../clock/interrupted.js';
import { writePcap } from '../../packet/index.js';
import { XdpbedError, messageOf } from '../diagnostic.js';
import type { Problem } from '../testbed/yaml-source.js';
import { compareBytes } from './case-packet.js';
import { compareOutcome, type CaseProblem, type StepOutcome } from './compare-outcome.js';
import {
  describeRedirect,
  ProgramSession,
  type PacketOutcome,
  type ProgramBench,
} from './program-session.js';
import type { Expectation, TestCase, TestFile, TestPacket, TestStep } from './test-case.js';

export interface CaseResult {
  readonly name: string;
  /** Where the case is written. */
  readonly at: Problem['at'];
  readonly passed: boolean;
  /** Each expectation that does not hold, at its place. */
  readonly problems: readonly { readonly at: Problem['at']; readonly message: string }[];
  /** What is to be known of a case that passed, too. */
  readonly notes: readonly string[];
  readonly milliseconds: number;
}

/** What the cases of a file run on. */
export interface CaseBench extends ProgramBench {
  close(): Promise<void>;
}

export interface RunCasesOptions {
  /** Opens a bench with so many CPUs. */
  readonly open: (cpus: number) => Promise<CaseBench>;
  /** Cases to be run; default: all. */
  readonly filter?: ((name: string) => boolean) | undefined;
  /** Writes captures and snapshots that are expected as they are now, in place of comparing them. */
  readonly update?: boolean | undefined;
  /** After the first case that fails no other is run. */
  readonly bail?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Programs that are kept loaded at once: the cases of one file seldom need more than one. */
const MAX_LOADED = 8;
/** Runs of one packet between two looks at the time. */
const RUNS_OF_TURN = 256;

/**
 * Runs the cases of a file one after the other. A program is loaded once for all cases that load it alike and taken back
 * to its state before each, so that none sees what another left.
 */
export async function* runCases(file: TestFile, options: RunCasesOptions): AsyncGenerator<CaseResult> {
  const programs = new LoadedPrograms(file, options.open, options.signal);
  const turns = new EventLoopTurns(options.signal);
  try {
    for (const testCase of file.cases) {
      if (options.filter?.(testCase.name) === false) continue;
      if (!(await turns.goOn())) return;
      const result = await runOne(file, testCase, programs, turns, options.update === true);
      // What was broken off says nothing.
      if (options.signal?.aborted === true) return;
      yield result;
      if (!result.passed && options.bail === true) return;
    }
  } finally {
    await programs.close();
  }
}

async function runOne(
  file: TestFile,
  testCase: TestCase,
  programs: LoadedPrograms,
  turns: EventLoopTurns,
  update: boolean,
): Promise<CaseResult> {
  const started = performance.now();
  const notes: string[] = [];
  let problems: readonly CaseProblem[];
  try {
    problems = await new CaseRun(testCase, notes, turns, update).run(programs);
  } catch (error) {
    // A case that cannot be run is a failed case; the others say what they have to say.
    if (!(error instanceof XdpbedError)) throw error;
    const hint = error.hint === undefined ? '' : ` (${error.hint})`;
    problems = [{ path: testCase.path, message: `${error.message}${hint}` }];
  }
  return {
    name: testCase.name,
    at: file.locate([...testCase.path, 'name']),
    passed: problems.length === 0,
    problems: problems.map(({ path, message }) => ({ at: file.locate(path), message })),
    notes,
    milliseconds: performance.now() - started,
  };
}

/** Programs by what they were loaded with, those that were used last. */
class LoadedPrograms {
  readonly #open = new Map<string, { readonly bench: CaseBench; readonly session: ProgramSession }>();

  constructor(
    readonly file: TestFile,
    readonly openBench: (cpus: number) => Promise<CaseBench>,
    readonly signal: AbortSignal | undefined,
  ) {}

  /** As it is after loading; or what the verifier says against it. */
  async take(testCase: TestCase): Promise<ProgramSession | string> {
    const { loadKey } = testCase;
    const known = this.#open.get(loadKey);
    if (known !== undefined) {
      this.#open.delete(loadKey);
      this.#open.set(loadKey, known);
      await known.session.reset();
      return known.session;
    }
    const bench = await this.openBench(this.file.cpus);
    try {
      const { object, program, initial, also } = testCase;
      const opening = ProgramSession.open(bench, object, program, initial, also);
      const session = await unlessInterrupted(this.signal, 'a program was verified', opening);
      if ('code' in session) {
        await bench.close();
        return `rejected by verifier ${session.verifier}: ${session.reason} [${session.code}]`;
      }
      this.#open.set(loadKey, { bench, session });
      if (this.#open.size > MAX_LOADED) await this.#close(this.#open.keys().next().value!);
      return session;
    } catch (error) {
      await bench.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    for (const key of [...this.#open.keys()]) await this.#close(key);
  }

  async #close(key: string): Promise<void> {
    const { bench, session } = this.#open.get(key)!;
    this.#open.delete(key);
    session.close();
    await bench.close();
  }
}

class CaseRun {
  constructor(
    readonly testCase: TestCase,
    readonly notes: string[],
    readonly turns: EventLoopTurns,
    readonly update: boolean,
  ) {}

  async run(programs: LoadedPrograms): Promise<CaseProblem[]> {
    const { testCase } = this;
    const session = await programs.take(testCase);
    if (typeof session === 'string') return [{ path: testCase.path, message: session }];
    for (const [name, elements] of testCase.elements) session.place(name, elements);
    const problems: CaseProblem[] = [];
    const outcomes: StepOutcome[] = [];
    for (const step of testCase.steps) {
      const outcome = await this.#step(step, session);
      if (this.turns.signal?.aborted === true) return [];
      outcomes.push(outcome);
      const { label } = step;
      const found: CaseProblem[] = outcome.refused.map((message) => ({ path: testCase.path, message }));
      if (step.expect !== undefined) found.push(...(await this.#compare(step.expect, outcome, session)));
      problems.push(
        ...found.map(({ path, message }) => ({ path, message: label ? `${label}: ${message}` : message })),
      );
    }
    if (testCase.expect !== undefined)
      problems.push(...(await this.#compare(testCase.expect, together(outcomes), session)));
    return problems;
  }

  async #step(step: TestStep, session: ProgramSession): Promise<StepOutcome> {
    for (const [name, elements] of step.elements) session.place(name, elements);
    const tracesBefore = session.traces.length;
    const packets: { sent: TestPacket; outcome: PacketOutcome }[] = [];
    const refused: string[] = [];
    for (const [index, sent] of step.packets.entries()) {
      this.#noteCut(sent);
      try {
        const outcome = await this.#runPacket(step, sent, session);
        packets.push({ sent, outcome });
      } catch (error) {
        // One that is too long, say; the others run.
        if (!(error instanceof XdpbedError) || error.code !== 'packet-invalid') throw error;
        const hint = error.hint === undefined ? '' : ` (${error.hint})`;
        refused.push(`packet ${sent.number ?? index + 1} is not run: ${error.message}${hint}`);
      }
      if (!(await this.turns.goOn())) break;
    }
    const events = new Map<string, Uint8Array[]>();
    for (const name of session.maps.keys()) {
      const records = session.drain(name);
      if (records.length > 0)
        events.set(
          name,
          records.map(({ data }) => data),
        );
    }
    return {
      packets,
      refused,
      events,
      traces: session.traces.slice(tracesBefore),
      cpu: step.input.cpu ?? 0,
    };
  }

  /** As often as the step says, or until the interruption; what came of it last. */
  async #runPacket(step: TestStep, sent: TestPacket, session: ProgramSession): Promise<PacketOutcome> {
    const { turns } = this;
    const input = { ...step.input, now: step.input.now ?? sent.now };
    let outcome = session.run(sent.bytes, input);
    for (let count = 1; count < step.repeat; count++) {
      if (count % RUNS_OF_TURN === 0 && !(await turns.goOn())) break;
      outcome = session.run(sent.bytes, input);
    }
    return outcome;
  }

  #noteCut({ number, bytes, originalLength }: TestPacket): void {
    if (originalLength === undefined) return;
    this.notes.push(`packet ${number}: the capture has ${bytes.length} of its ${originalLength} bytes`);
  }

  async #compare(
    expectation: Expectation,
    outcome: StepOutcome,
    session: ProgramSession,
  ): Promise<CaseProblem[]> {
    return [
      ...compareOutcome(expectation, outcome, session),
      ...(await this.#compareCapture(expectation, outcome)),
      ...(await this.#compareSnapshot(expectation, outcome)),
    ];
  }

  async #compareCapture({ capture, path }: Expectation, { packets }: StepOutcome): Promise<CaseProblem[]> {
    if (capture === undefined) return [];
    const at = [...path, 'pcap'];
    const passed = packets.filter(({ outcome: { verdict } }) => PASSED.has(verdict));
    if (this.update) {
      const now = passed.map(({ sent, outcome }) => ({ timestampNs: sent.now, data: outcome.packet }));
      await this.#write(capture.file, writePcap(now, { resolution: 'ns' }));
      return [];
    }
    if (capture.content === undefined) return [{ path: at, message: NOT_THERE }];
    const frames = capture.content;
    const problems = frames.flatMap((frame, index): CaseProblem[] => {
      const packet = passed[index]?.outcome.packet;
      if (packet === undefined) return [];
      return compareBytes(`packet ${index + 1} of the capture`, frame, packet).map((message) => ({
        path: at,
        message,
      }));
    });
    if (frames.length !== passed.length)
      problems.push({ path: at, message: `${passed.length} packets are let through, not ${frames.length}` });
    return problems;
  }

  async #compareSnapshot({ snapshot, path }: Expectation, { packets }: StepOutcome): Promise<CaseProblem[]> {
    if (snapshot === undefined) return [];
    const at = [...path, 'snapshot'];
    const lines = packets.map(({ sent, outcome: { verdict, redirect } }, index) => {
      const to = redirect === undefined ? '' : ` to ${describeRedirect(redirect)}`;
      return `${sent.number ?? index + 1} ${verdict}${to}`;
    });
    if (this.update) {
      await this.#write(snapshot.file, `${lines.join('\n')}\n`);
      return [];
    }
    if (snapshot.content === undefined) return [{ path: at, message: NOT_THERE }];
    const expected = snapshot.content.split(/\r?\n/).filter((line) => line !== '');
    const problems: CaseProblem[] = [];
    for (let index = 0; index < Math.max(lines.length, expected.length); index++) {
      const [is, not] = [lines[index], expected[index]];
      if (is === not) continue;
      problems.push({
        path: at,
        message: `line ${index + 1} is '${is ?? 'absent'}', not '${not ?? 'absent'}'`,
      });
    }
    return problems;
  }

  async #write(file: string, content: Uint8Array | string): Promise<void> {
    try {
      const before = await readFile(file).catch(() => undefined);
      if (before?.equals(Buffer.from(content)) === true) return;
      await writeFile(file, content);
    } catch (cause) {
      throw new XdpbedError('file-unwritable', `cannot write ${file}: ${messageOf(cause)}`, { cause });
    }
    this.notes.push(`written: ${file}`);
  }
}

const PASSED: ReadonlySet<string> = new Set(['XDP_PASS', 'XDP_TX', 'XDP_REDIRECT']);
const NOT_THERE = 'there is no such file; --update writes it';

function together(outcomes: readonly StepOutcome[]): StepOutcome {
  const events = new Map<string, Uint8Array[]>();
  for (const outcome of outcomes)
    for (const [name, records] of outcome.events) events.set(name, [...(events.get(name) ?? []), ...records]);
  return {
    packets: outcomes.flatMap(({ packets }) => packets),
    refused: [],
    events,
    traces: outcomes.flatMap(({ traces }) => traces),
    cpu: outcomes.at(-1)?.cpu ?? 0,
  };
}
