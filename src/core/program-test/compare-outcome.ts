import type { BtfJson } from '../../bpf/btf/format-value.js';
import { formatJson, valueToJson } from '../../bpf/btf/format-value.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { BPF_MAP_TYPE, type MapSpec } from '../../bpf/map-spec.js';
import { cpuStride, isPerCpu } from '../../bpf/per-cpu-value.js';
import { ENOENT, errnoName } from '../../bpf/errno.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { YamlPath } from '../testbed/yaml-source.js';
import { compareBytes, comparePacket, parseHex } from './case-packet.js';
import { elementToJson, formatElement, formatEntry, hex, keysWithValues } from './map-dump.js';
import { parseCpuValues, parseOneValue } from '../testbed/map-input.js';
import { holdsObjects, parseElement } from '../testbed/map-values.js';
import {
  changedRanges,
  describeRedirect,
  type PacketOutcome,
  type ProgramSession,
} from './program-session.js';
import type { EventExpectation, Expectation, MapExpectation, TestPacket } from './test-case.js';

/** What came of the packets of a step, or of all steps of a case. */
export interface StepOutcome {
  readonly packets: readonly { readonly sent: TestPacket; readonly outcome: PacketOutcome }[];
  /** Why packets were not run, each in a sentence. */
  readonly refused: readonly string[];
  /** What was sent meanwhile, by ring buffer or array of perf events. */
  readonly events: ReadonlyMap<string, readonly Uint8Array[]>;
  readonly traces: readonly string[];
  /** The CPU that the last packet ran on. */
  readonly cpu: number;
}

/** An expectation that does not hold: where it is written, and what is instead. */
export interface CaseProblem {
  readonly path: YamlPath;
  readonly message: string;
}

/** Everything in which an outcome is not as it is expected. Maps are those of the session now. */
export function compareOutcome(
  expectation: Expectation,
  outcome: StepOutcome,
  session: ProgramSession,
): CaseProblem[] {
  const { section, path } = expectation;
  const { packets } = outcome;
  const problems: CaseProblem[] = [];
  const add = (key: string, messages: readonly string[]): void => {
    problems.push(...messages.map((message) => ({ path: [...path, key], message })));
  };
  packets.forEach(({ sent, outcome: own }, index) => {
    // Told by what is in the capture, if there are several.
    const of = packets.length === 1 ? '' : `packet ${sent.number ?? index + 1}: `;
    const named = (messages: readonly string[]): string[] => messages.map((message) => of + message);
    if (own.fault !== undefined)
      problems.push({ path, message: `${of}aborted at insn ${own.fault.insn}: ${own.fault.reason}` });
    if (section.verdict !== undefined && own.verdict !== section.verdict)
      add('verdict', [`${of}verdict is ${own.verdict}, not ${section.verdict}`]);
    if (section.packet !== undefined) {
      for (const difference of comparePacket(section.packet, own.packet)) {
        const at = [...path, 'packet', ...difference.path];
        problems.push({ path: at, message: of + difference.message });
      }
    }
    if (section.unchanged === true) add('unchanged', named(compareBytes('packet', sent.bytes, own.packet)));
    if (section.unchanged === false && changedRanges(sent.bytes, own.packet).length === 0)
      add('unchanged', [`${of}the packet is unchanged`]);
    if (section.metadata !== undefined)
      add('metadata', named(compareBytes('metadata', parseHex(section.metadata), own.metadata)));
    if (section.redirect !== undefined)
      for (const { path: at, message } of compareRedirect(section.redirect, own))
        problems.push({ path: [...path, 'redirect', ...at], message: of + message });
  });
  for (const [verdict, count] of Object.entries(section.verdicts ?? {})) {
    const is = packets.filter(({ outcome: own }) => own.verdict === verdict).length;
    if (is !== count)
      problems.push({
        path: [...path, 'verdicts', verdict],
        message: `${is} packets are ${verdict}, not ${count}`,
      });
  }
  if (section.trace !== undefined) {
    const actual = outcome.traces.map((line) => line.replace(/\n$/, ''));
    if (actual.join('\n') !== section.trace.join('\n'))
      add('trace', [`trace is ${JSON.stringify(actual)}, not ${JSON.stringify(section.trace)}`]);
  }
  for (const map of expectation.maps) problems.push(...compareMap(map, session, outcome.cpu));
  for (const events of expectation.events)
    problems.push(...compareEvents(events, outcome.events.get(events.map) ?? []));
  return problems;
}

function compareRedirect(
  expected: NonNullable<Expectation['section']['redirect']>,
  { verdict, redirect }: PacketOutcome,
): CaseProblem[] {
  if (redirect === undefined)
    return [{ path: [], message: `nothing is redirected: the verdict is ${verdict}` }];
  const to = describeRedirect(redirect);
  const actual: Readonly<Record<string, string | number | boolean | undefined>> = {
    broadcast: false,
    ...redirect,
  };
  return Object.entries(expected).flatMap(([what, value]): CaseProblem[] => {
    const is = actual[what];
    if (is === value) return [];
    const text = is === undefined ? 'absent' : String(is);
    return [{ path: [what], message: `redirect goes to ${to}: its ${what} is ${text}, not ${value}` }];
  });
}

/**
 * The `value` of a per-CPU element is that of the CPU that the case ran on; of `cpus`, only the CPUs that are named count,
 * unless the map is expected as a whole.
 */
function compareMap(expected: MapExpectation, session: ProgramSession, ranOn: number): CaseProblem[] {
  const { map: spec, whole } = expected;
  const { name } = spec;
  const map = session.maps.get(name);
  if (map === undefined) return [{ path: expected.path, message: `the program does not use map ${name}` }];
  const cpus = session.bench.party.cpus;
  const problems = expected.entries.flatMap((entry): CaseProblem[] => {
    const { what, path, key, keyText } = entry;
    const actual = map.lookup(key);
    if (entry.absent)
      return typeof actual === 'number'
        ? []
        : [{ path, message: `${name}[${keyText}] is there, but should not be` }];
    if (typeof actual === 'number') {
      const why = actual === -ENOENT ? 'is not there' : `cannot be looked up: ${errnoName(actual)}`;
      return [{ path, message: `${name}[${keyText}] ${why}` }];
    }
    if (holdsObjects(spec)) {
      const nameless = `something that executor ${session.bench.party.executor.name} has no name for`;
      const is = session.targetOf(spec, actual) ?? nameless;
      if (is === entry.value) return [];
      return [
        { path: [...path, 'value'], message: `${name}[${keyText}] is ${is}, not ${String(entry.value)}` },
      ];
    }
    const ofCpu = (cpu: number): Uint8Array =>
      isPerCpu(spec) ? actual.subarray(cpu * cpuStride(spec)).subarray(0, spec.valueSize) : actual;
    const base = (cpu: number): Uint8Array => (whole ? new Uint8Array(spec.valueSize) : ofCpu(cpu));
    const values =
      entry.cpus === undefined
        ? new Map([[ranOn, parseOneValue(spec, entry.value, `${what}.value`, { base: base(ranOn) })]])
        : parseCpuValues(spec, entry.cpus, { cpus }, `${what}.cpus`, (cpu) => ({ base: base(cpu) }));
    if (whole && isPerCpu(spec)) {
      for (let cpu = 0; cpu < cpus; cpu++)
        if (!values.has(cpu)) values.set(cpu, new Uint8Array(spec.valueSize));
    }
    return [...values].flatMap(([cpu, bytes]): CaseProblem[] => {
      const place = isPerCpu(spec) && cpus > 1 ? ` of CPU ${cpu}` : '';
      const step = entry.cpus === undefined ? [] : ['cpus', String(cpu)];
      return differences(
        elementToJson(spec.valueType, spec.valueSize, ofCpu(cpu)),
        elementToJson(spec.valueType, spec.valueSize, bytes),
      ).map(({ member, is, not }) => ({
        path: entry.cpus === undefined ? [...path, 'value', ...member] : [...path, ...step, ...member],
        message: `${name}[${keyText}]${place}${memberText(member)} is ${is}, not ${not}`,
      }));
    });
  });
  return whole ? [...problems, ...others(expected, spec, map, session)] : problems;
}

/** Elements that are there and are not expected. */
function others(
  { entries, path }: MapExpectation,
  spec: MapSpec,
  map: BpfMap,
  session: ProgramSession,
): CaseProblem[] {
  const named = new Set(entries.map(({ key }) => hex(key)));
  const problems: CaseProblem[] = [];
  let left = 0;
  for (const { key, value } of keysWithValues(map, isArray(spec))) {
    if (named.has(hex(key))) continue;
    if (problems.length >= MAX_OTHERS) {
      left++;
      continue;
    }
    const message = `${spec.name} has ${formatEntry(spec, key, value, session.targetOf(spec, value))}, which is not expected`;
    problems.push({ path, message });
  }
  if (left > 0)
    problems.push({ path, message: `${spec.name} has ${left} more elements that are not expected` });
  return problems;
}

const MAX_OTHERS = 16;

/** Every element is there from the start. */
function isArray(spec: MapSpec): boolean {
  return (
    spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY || spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY
  );
}

function compareEvents(
  { map, path, type, records }: EventExpectation,
  sent: readonly Uint8Array[],
): CaseProblem[] {
  const problems: CaseProblem[] = [];
  const text = (bytes: Uint8Array): string => formatElement(type, sizeOf(type) ?? bytes.length, bytes);
  records.forEach((record, index) => {
    const bytes = sent[index];
    const at = [...path, index];
    const name = `${map}[${index}]`;
    if (bytes === undefined) {
      problems.push({ path: at, message: `${name} was not sent` });
      return;
    }
    const size = sizeOf(type) ?? bytes.length;
    if (bytes.length < size) {
      problems.push({
        path: at,
        message: `${name} has ${bytes.length} bytes, and ${type!.btf.describe(type!.id)} ${size}`,
      });
      return;
    }
    const own = bytes.subarray(0, size);
    if (type === undefined) {
      const wanted = parseHex(String((record as { readonly bytes: unknown }).bytes));
      problems.push(...compareBytes(name, wanted, own).map((message) => ({ path: at, message })));
      return;
    }
    const wanted = parseElement(type, size, record, { base: own });
    for (const { member, is, not } of differences(valueToJson(type, own), valueToJson(type, wanted)))
      problems.push({
        path: [...at, ...member],
        message: `${name}${memberText(member)} is ${is}, not ${not}`,
      });
  });
  for (const [index, bytes] of sent.entries()) {
    if (index < records.length) continue;
    problems.push({ path, message: `${map}[${index}] was sent and not expected: ${text(bytes)}` });
  }
  return problems;
}

function sizeOf(type: BtfTypeRef | undefined): number | undefined {
  return type?.btf.sizeOf(type.id);
}

/** Members that differ, each by its own path; of values without members the value as a whole. */
function differences(
  is: BtfJson,
  not: BtfJson,
  member: readonly string[] = [],
): { readonly member: readonly string[]; readonly is: string; readonly not: string }[] {
  const [left, right] = [members(is), members(not)];
  if (left !== undefined && right !== undefined) {
    return [...new Set([...Object.keys(left), ...Object.keys(right)])].flatMap((name) =>
      differences(left[name] ?? null, right[name] ?? null, [...member, name]),
    );
  }
  const [isText, notText] = [formatJson(is), formatJson(not)];
  return isText === notText ? [] : [{ member, is: isText, not: notText }];
}

function members(json: BtfJson): Readonly<Record<string, BtfJson>> | undefined {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined;
  return json as Readonly<Record<string, BtfJson>>;
}

function memberText(member: readonly string[]): string {
  return member.map((name) => `.${name}`).join('');
}
