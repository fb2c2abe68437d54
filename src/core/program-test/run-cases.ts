import { readFile } from 'node:fs/promises';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { MapSizes } from '../../bpf/map-sizes.js';
import { buildFrame } from '../../packet/index.js';
import { XdpbedError, messageOf } from '../diagnostic.js';
import type { Party } from '../contract/party.js';
import { selectProgram } from '../offload/select-program.js';
import { ProblemList } from '../testbed/problem-list.js';
import { SchemaValidator } from '../testbed/schema-validator.js';
import { YamlSource } from '../testbed/yaml-source.js';
import { CaseFileSchema, type CaseFile, type CaseSection, type PacketSection } from './case-schema.js';
import { applyMapSizes } from './map-size-arguments.js';
import { findMap, formatElement, hex, parseElement, parseMapInput, type MapInput } from './map-input.js';
import { changedRanges, ProgramSession, type PacketOutcome } from './program-session.js';

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
  });
  problems.throwIfAny();
  return cases;
}

/**
 * Runs every case in a party of its own, so that none sees what another left in its maps. `sizes` of maps go before
 * those of the file.
 */
export async function runCases(
  object: ObjectSpec,
  file: CaseFile,
  openParty: () => Promise<{ readonly party: Party; close(): Promise<void> }>,
  sizes: MapSizes = {},
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const section of file.cases) {
    const bench = await openParty();
    try {
      const problems = await runCase(sized(object, file, section, sizes), file, section, bench.party);
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
  party: Party,
): Promise<string[]> {
  const selection = selectProgram(object, section.program ?? file.program);
  if ('problem' in selection) throw new XdpbedError('usage', selection.problem, { hint: selection.hint });
  const input: MapInput = { ...file.maps, ...section.maps };
  const initial = parseMapInput(object.maps, input);
  const session = await ProgramSession.open(party, object, selection.program, initial);
  if ('code' in session)
    return [`rejected by verifier ${session.verifier}: ${session.reason} [${session.code}]`];
  try {
    const packet = buildPacket(section.packet);
    const { context = {} } = section;
    let outcome: PacketOutcome | undefined;
    for (let i = 0; i < section.repeat; i++) {
      outcome = session.run(
        packet,
        {
          ingressIfindex: context['ingress-ifindex'] ?? 0,
          rxQueueIndex: context['rx-queue-index'] ?? 0,
          egressIfindex: context['egress-ifindex'] ?? 0,
        },
        BigInt(section.time ?? 0),
      );
    }
    return compare(section, packet, outcome!, session);
  } finally {
    session.close();
  }
}

function compare(
  { expect }: CaseSection,
  sent: Uint8Array,
  outcome: PacketOutcome,
  session: ProgramSession,
): string[] {
  const problems: string[] = [];
  if (outcome.fault !== undefined)
    problems.push(`aborted at insn ${outcome.fault.insn}: ${outcome.fault.reason}`);
  if (expect.verdict !== undefined && outcome.verdict !== expect.verdict) {
    problems.push(`verdict is ${outcome.verdict}, not ${expect.verdict}`);
  }
  const wanted =
    expect.packet !== undefined ? buildPacket(expect.packet) : expect.unchanged === true ? sent : undefined;
  if (wanted !== undefined) problems.push(...comparePackets(wanted, outcome.packet));
  if (expect.unchanged === false && changedRanges(sent, outcome.packet).length === 0)
    problems.push('the packet is unchanged');
  if (expect.redirect !== undefined) {
    const actual = (outcome.redirect ?? {}) as Record<string, unknown>;
    for (const [key, value] of Object.entries(expect.redirect)) {
      if (actual[key] !== value)
        problems.push(`redirect ${key} is ${JSON.stringify(actual[key] ?? 'absent')}, not ${value}`);
    }
  }
  if (expect.trace !== undefined) {
    const actual = session.traces.map((line) => line.replace(/\n$/, ''));
    if (actual.join('\n') !== expect.trace.join('\n')) {
      problems.push(`trace is ${JSON.stringify(actual)}, not ${JSON.stringify(expect.trace)}`);
    }
  }
  for (const [name, content] of Object.entries(expect.maps ?? {}))
    problems.push(...compareMap(name, content, session));
  return problems;
}

function comparePackets(expected: Uint8Array, actual: Uint8Array): string[] {
  const problems: string[] = [];
  if (expected.length !== actual.length)
    problems.push(`packet has ${actual.length} bytes, not ${expected.length}`);
  for (const { start, end } of changedRanges(expected, actual)) {
    problems.push(
      `packet bytes ${start}..${end - 1} are ${hex(actual.subarray(start, end)) || 'absent'}, not ${hex(expected.subarray(start, end)) || 'absent'}`,
    );
  }
  return problems;
}

/** Every element that is named must have the value; elements that are not named may have any. */
function compareMap(name: string, content: unknown, session: ProgramSession): string[] {
  const spec = findMap(session.object.maps, name);
  const map = session.loaded.maps.get(name);
  if (map === undefined) return [`the program does not use map ${name}`];
  const entries: { key: unknown; value: unknown }[] = Array.isArray(content)
    ? (content as { key: unknown; value: unknown }[])
    : [{ key: '0x00000000', value: content }];
  return entries.flatMap((entry, index) => {
    const what = `${name}[${index}]`;
    const key = parseElement(spec.keyType, spec.keySize, entry.key, `${what}.key`);
    const actual = map.lookup(key);
    const keyText = formatElement(spec.keyType, spec.keySize, key);
    if (entry.value === null) {
      return typeof actual === 'number' ? [] : [`${name}[${keyText}] is there, but should not be`];
    }
    if (typeof actual === 'number') return [`${name}[${keyText}] is not there`];
    const expected = parseElement(
      spec.valueType,
      spec.valueSize,
      entry.value,
      `${what}.value`,
      actual.subarray(0, spec.valueSize),
    );
    if (hex(expected) === hex(actual.subarray(0, expected.length))) return [];
    return [
      `${name}[${keyText}] is ${formatElement(spec.valueType, spec.valueSize, actual)}, not ${formatElement(spec.valueType, spec.valueSize, expected)}`,
    ];
  });
}

/** The frame that a section describes. Throws `packet-invalid`. */
export function buildPacket(section: PacketSection): Uint8Array {
  const { hex: text, payload, eth, ...layers } = section;
  if (text !== undefined) return Uint8Array.from(Buffer.from(text.replace(/[\s:]/g, ''), 'hex'));
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
