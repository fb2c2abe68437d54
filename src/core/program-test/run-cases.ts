import { readFile } from 'node:fs/promises';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { MAX_METADATA_LENGTH } from '../../bpf/xdp.js';
import type { MapSizes } from '../../bpf/map-sizes.js';
import { buildFrame } from '../../packet/index.js';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { selectProgram } from '../offload/select-program.js';
import { ProblemList } from '../testbed/problem-list.js';
import { SchemaValidator } from '../testbed/schema-validator.js';
import { YamlSource } from '../testbed/yaml-source.js';
import { CaseFileSchema, type CaseFile, type CaseSection, type PacketSection } from './case-schema.js';
import { formatElement, hex } from './map-dump.js';
import {
  cpuStride,
  findMap,
  isPerCpu,
  parseCpuValues,
  parseKey,
  parseMapInput,
  parseOneValue,
  type MapInput,
} from './map-input.js';
import {
  changedRanges,
  describeRedirect,
  ProgramSession,
  type PacketOutcome,
  type ProgramBench,
} from './program-session.js';
import { applyMapSizes } from './map-size-arguments.js';

export interface CaseResult {
  readonly name: string;
  readonly passed: boolean;
  /** One line for each expectation that does not hold. */
  readonly problems: readonly string[];
}

/** Reads a file of cases. Throws `file-unreadable`, or `testbed-invalid` with every problem and its place. */
export async function loadCases(file: string): Promise<CaseFile> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  const source = new YamlSource(file, text);
  const problems = new ProblemList(source);
  problems.throwIfAny();
  const data = structuredClone(source.value);
  for (const violation of new SchemaValidator().validate(CaseFileSchema, data))
    problems.reportViolation(violation);
  problems.throwIfAny();
  const cases = data as CaseFile;
  cases.cases.forEach((section, index) => {
    for (const [path, packet] of [
      [['cases', index, 'packet'], section.packet],
      [['cases', index, 'expect', 'packet'], section.expect.packet],
    ] as const) {
      try {
        if (packet !== undefined) buildPacket(packet);
      } catch (error) {
        problems.report(path, messageOf(error));
      }
    }
    for (const [path, text] of [
      [['cases', index, 'metadata'], section.metadata],
      [['cases', index, 'expect', 'metadata'], section.expect.metadata],
    ] as const) {
      const { length } = parseHex(text ?? '');
      if (length % 4 === 0 && length <= MAX_METADATA_LENGTH) continue;
      const limit = `metadata is a multiple of 4 bytes, ${MAX_METADATA_LENGTH} at most`;
      problems.report(path, `${length} bytes: ${limit}`);
    }
    const cpu = section.context?.cpu ?? 0;
    if (cpu >= cases.cpus)
      problems.report(['cases', index, 'context', 'cpu'], `there is no CPU ${cpu}: cpus is ${cases.cpus}`);
  });
  problems.throwIfAny();
  return cases;
}

/** What one case runs on. */
export interface CaseBench extends ProgramBench {
  close(): Promise<void>;
}

/**
 * Runs every case in a party of its own, so that none sees what another left in its maps. `sizes` of maps go before
 * those of the file.
 */
export async function runCases(
  object: ObjectSpec,
  file: CaseFile,
  openBench: (cpus: number) => Promise<CaseBench>,
  sizes: MapSizes = {},
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const section of file.cases) {
    const bench = await openBench(file.cpus);
    try {
      const problems = await runCase(sized(object, file, section, sizes), file, section, bench);
      results.push({ name: section.name, passed: problems.length === 0, problems });
    } catch (error) {
      // A case that cannot be run is a failed case; the others say what they have to say.
      if (!(error instanceof XdpbedError)) throw error;
      const hint = error.hint === undefined ? '' : ` (${error.hint})`;
      results.push({ name: section.name, passed: false, problems: [`${error.message}${hint}`] });
    } finally {
      await bench.close();
    }
  }
  return results;
}

function sized(object: ObjectSpec, file: CaseFile, section: CaseSection, sizes: MapSizes): ObjectSpec {
  return applyMapSizes(object, { ...file['max-entries'], ...section['max-entries'], ...sizes });
}

async function runCase(
  object: ObjectSpec,
  file: CaseFile,
  section: CaseSection,
  bench: CaseBench,
): Promise<string[]> {
  const selection = selectProgram(object, section.program ?? file.program);
  if ('problem' in selection) throw new XdpbedError('usage', selection.problem, { hint: selection.hint });
  const input: MapInput = { ...file.maps, ...section.maps };
  const initial = parseMapInput(object.maps, input, bench.party.cpus);
  const session = await ProgramSession.open(bench, object, selection.program, initial);
  if ('code' in session)
    return [`rejected by verifier ${session.verifier}: ${session.reason} [${session.code}]`];
  try {
    const packet = buildPacket(section.packet);
    const { context = {} } = section;
    const dataMeta = parseHex(section.metadata ?? '');
    let outcome: PacketOutcome | undefined;
    for (let i = 0; i < section.repeat; i++) {
      outcome = session.run(packet, {
        ingressIfindex: context['ingress-ifindex'] ?? 0,
        rxQueueIndex: context['rx-queue-index'] ?? 0,
        egressIfindex: context['egress-ifindex'] ?? 0,
        dataMeta,
        cpu: context.cpu,
        now: BigInt(section.time ?? 0),
      });
    }
    return compare(section, packet, outcome!, session, bench.party.cpus);
  } finally {
    session.close();
  }
}

function compare(
  { expect, context }: CaseSection,
  sent: Uint8Array,
  outcome: PacketOutcome,
  session: ProgramSession,
  cpus: number,
): string[] {
  const problems: string[] = [];
  if (outcome.fault !== undefined)
    problems.push(`aborted at insn ${outcome.fault.insn}: ${outcome.fault.reason}`);
  if (expect.verdict !== undefined && outcome.verdict !== expect.verdict) {
    problems.push(`verdict is ${outcome.verdict}, not ${expect.verdict}`);
  }
  const wanted =
    expect.packet !== undefined ? buildPacket(expect.packet) : expect.unchanged === true ? sent : undefined;
  if (wanted !== undefined) problems.push(...compareBytes('packet', wanted, outcome.packet));
  if (expect.metadata !== undefined)
    problems.push(...compareBytes('metadata', parseHex(expect.metadata), outcome.metadata));
  if (expect.unchanged === false && changedRanges(sent, outcome.packet).length === 0)
    problems.push('the packet is unchanged');
  if (expect.redirect !== undefined) problems.push(...compareRedirect(expect.redirect, outcome));
  if (expect.trace !== undefined) {
    const actual = session.traces.map((line) => line.replace(/\n$/, ''));
    if (actual.join('\n') !== expect.trace.join('\n')) {
      problems.push(`trace is ${JSON.stringify(actual)}, not ${JSON.stringify(expect.trace)}`);
    }
  }
  for (const [name, content] of Object.entries(expect.maps ?? {}))
    problems.push(...compareMap(name, content, session, cpus, context?.cpu ?? 0));
  return problems;
}

function compareRedirect(
  expected: NonNullable<CaseSection['expect']['redirect']>,
  { verdict, redirect }: PacketOutcome,
): string[] {
  if (redirect === undefined) return [`nothing is redirected: the verdict is ${verdict}`];
  const to = describeRedirect(redirect);
  const actual: Readonly<Record<string, string | number | boolean | undefined>> = {
    broadcast: false,
    ...redirect,
  };
  return Object.entries(expected).flatMap(([what, value]) => {
    const is = actual[what];
    if (is === value) return [];
    return [
      `redirect goes to ${to}: its ${what} is ${is === undefined ? 'absent' : String(is)}, not ${value}`,
    ];
  });
}

function compareBytes(what: string, expected: Uint8Array, actual: Uint8Array): string[] {
  const problems: string[] = [];
  if (expected.length !== actual.length)
    problems.push(`${what} has ${actual.length} bytes, not ${expected.length}`);
  for (const { start, end } of changedRanges(expected, actual)) {
    problems.push(
      `${what} bytes ${start}..${end - 1} are ${hex(actual.subarray(start, end)) || 'absent'}, not ${hex(expected.subarray(start, end)) || 'absent'}`,
    );
  }
  return problems;
}

/**
 * Every element that is named must have the value; elements that are not named may have any. The `value` of a per-CPU
 * element is that of the CPU that the case ran on; of `cpus`, only the CPUs that are named count.
 */
function compareMap(
  name: string,
  content: unknown,
  session: ProgramSession,
  cpus: number,
  ranOn: number,
): string[] {
  const spec = findMap(session.object.maps, name);
  const map = session.loaded.maps.get(name);
  if (map === undefined) return [`the program does not use map ${name}`];
  const entries: { key: unknown; value?: unknown; cpus?: unknown }[] = Array.isArray(content)
    ? (content as { key: unknown; value?: unknown; cpus?: unknown }[])
    : [{ key: new Uint8Array(spec.keySize), value: content }];
  return entries.flatMap((entry, index) => {
    const what = `${name}[${index}]`;
    const key = parseKey(spec, { entry, what });
    const actual = map.lookup(key);
    const keyText = formatElement(spec.keyType, spec.keySize, key);
    if (entry.value === null) {
      return typeof actual === 'number' ? [] : [`${name}[${keyText}] is there, but should not be`];
    }
    if (typeof actual === 'number') return [`${name}[${keyText}] is not there`];
    const ofCpu = (cpu: number): Uint8Array =>
      isPerCpu(spec) ? actual.subarray(cpu * cpuStride(spec)).subarray(0, spec.valueSize) : actual;
    const values =
      entry.cpus === undefined
        ? [[ranOn, parseOneValue(spec, entry.value, `${what}.value`, ofCpu(ranOn))] as const]
        : [...parseCpuValues(spec, entry.cpus, cpus, `${what}.cpus`, ofCpu)];
    const format = (bytes: Uint8Array): string => formatElement(spec.valueType, spec.valueSize, bytes);
    return values.flatMap(([cpu, expected]) => {
      const is = ofCpu(cpu);
      if (hex(expected) === hex(is)) return [];
      const place = isPerCpu(spec) && cpus > 1 ? ` of CPU ${cpu}` : '';
      return [`${name}[${keyText}]${place} is ${format(is)}, not ${format(expected)}`];
    });
  });
}

function parseHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/[\s:]/g, ''), 'hex'));
}

/** The frame that a section describes. Throws `packet-invalid`. */
export function buildPacket(section: PacketSection): Uint8Array {
  const { hex: text, payload, eth, ...layers } = section;
  if (text !== undefined) return parseHex(text);
  if (eth === undefined) throw new XdpbedError('packet-invalid', "a packet needs 'hex', or at least 'eth'");
  return buildFrame({
    eth,
    ...layers,
    ...(payload === undefined ? {} : { payload: parsePayload(payload) }),
  });
}

function parsePayload(text: string): Uint8Array {
  return /^0x([0-9a-f]{2})*$/i.test(text)
    ? Uint8Array.from(Buffer.from(text.slice(2), 'hex'))
    : new TextEncoder().encode(text);
}
