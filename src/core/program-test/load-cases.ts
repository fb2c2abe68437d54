import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Btf } from '../../bpf/btf/btf.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import {
  BPF_MAP_TYPE,
  mapTypeName,
  type MapInitialEntry,
  type MapSpec,
  type ObjectPart,
} from '../../bpf/map-spec.js';
import { resizeMaps, type MapSizes } from '../../bpf/map-sizes.js';
import { takeForXdp } from '../../bpf/object-file.js';
import { MAX_METADATA_LENGTH } from '../../bpf/xdp.js';
import { EventLoopTurns } from '../clock/event-loop-turns.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import { selectProgram } from '../offload/select-program.js';
import { holdsObjects, isGlobalData, parseElement, type MapProblem } from '../testbed/map-values.js';
import { readObjectFile } from '../testbed/object-file.js';
import { ProblemList } from '../testbed/problem-list.js';
import { SchemaValidator } from '../testbed/schema-validator.js';
import { readYamlFile } from '../testbed/yaml-file.js';
import type { YamlPath } from '../testbed/yaml-source.js';
import { readFrames } from './capture-input.js';
import { addressProblems, buildPacket, parseHex } from './case-packet.js';
import {
  CaseFileSchema,
  type CaseFile,
  type CaseSection,
  type ExpectSection,
  type StepSection,
} from './case-schema.js';
import { expandCases } from './expand-cases.js';
import { formatElement, hex } from './map-dump.js';
import {
  entriesOf,
  findMap,
  findMapOrReport,
  parseCpuValues,
  parseKey,
  parseMapInput,
  parseOneValue,
  parseTarget,
  reporting,
  within,
  type CpuLimit,
  type MapInput,
} from '../testbed/map-input.js';
import type {
  EventExpectation,
  Expectation,
  ExpectedFile,
  MapExpectation,
  TestCase,
  TestFile,
  TestPacket,
  TestStep,
} from './test-case.js';

export interface LoadCasesOptions {
  /** Path of the object, in place of what the file says. */
  readonly object?: string | undefined;
  /** As `--type`. */
  readonly type?: 'xdp' | undefined;
  /** Sizes of maps that go before those of the file. */
  readonly sizes?: MapSizes | undefined;
  /** Ends it with a throw of `interrupted`. */
  readonly signal?: AbortSignal | undefined;
}

/** Schemas are compiled once. */
const VALIDATOR = new SchemaValidator();

/**
 * Reads a file of cases and what it names, and holds it against the object. Throws `file-unreadable` and `usage`, or
 * `testbed-invalid` with every problem at its place. Gives way to the event loop between its steps and between cases.
 */
export async function loadCases(file: string, options: LoadCasesOptions = {}): Promise<TestFile> {
  const turns = new EventLoopTurns(options.signal, `reading ${file}`);
  const source = await readYamlFile(file);
  await turns.next();
  const problems = new ProblemList(source);
  const { data, origin, problems: tableProblems } = expandCases(structuredClone(source.value));
  for (const { path, message, hint } of tableProblems) problems.report(path, message, hint);
  problems.throwIfAny();
  problems.within([], origin);
  await turns.next();
  for (const violation of VALIDATOR.validate(CaseFileSchema, data)) problems.reportViolation(violation);
  problems.throwIfAny();
  await turns.next();
  return new CaseLoader(file, data as CaseFile, problems, options, (path) =>
    source.locate(origin(path)),
  ).load(turns);
}

class CaseLoader {
  readonly #folder: string;
  readonly #reads: string[] = [];
  readonly #captures = new Map<string, Promise<readonly CapturePacket[] | undefined>>();
  /** Objects with other sizes of maps, by these. */
  readonly #resized = new Map<string, ObjectSpec>();

  constructor(
    readonly file: string,
    readonly section: CaseFile,
    readonly problems: ProblemList,
    readonly options: LoadCasesOptions,
    readonly locate: TestFile['locate'],
  ) {
    this.#folder = dirname(file);
    this.#reads.push(file);
  }

  async load(turns: EventLoopTurns): Promise<TestFile> {
    const { section, problems } = this;
    this.#checkNames();
    const objectFile = this.options.object ?? this.#named(section.object);
    if (objectFile === undefined) {
      problems.report([], 'no object is named', "set 'object', or give it in front of the cases", true);
      problems.throwIfAny();
    }
    this.#reads.push(objectFile!);
    const object = await this.#readObject(objectFile!);
    const cases: TestCase[] = [];
    for (const [index, testCase] of section.cases.entries()) {
      if (problems.full) break;
      const turn = turns.next();
      if (turn !== undefined) await turn;
      const resolved = await this.#case(object, testCase, ['cases', index]);
      if (resolved !== undefined) cases.push(resolved);
    }
    problems.throwIfAny();
    return {
      file: this.file,
      objectFile: objectFile!,
      cpus: section.cpus,
      cases,
      reads: this.#reads,
      locate: this.locate,
    };
  }

  #named(path: string | undefined): string | undefined {
    return path === undefined ? undefined : resolve(this.#folder, path);
  }

  #checkNames(): void {
    const first = new Map<string, number>();
    this.section.cases.forEach(({ name }, index) => {
      const before = first.get(name);
      if (before === undefined) {
        first.set(name, index);
        return;
      }
      const at = this.locate(['cases', before, 'name']);
      this.problems.report(
        ['cases', index, 'name'],
        `there is a case '${name}' already, in line ${at.line}`,
        this.section.cases[index]!.each === undefined ? undefined : 'use names of the table in it',
      );
    });
  }

  async #readObject(path: string): Promise<ObjectSpec> {
    const { section, options, problems } = this;
    try {
      const object = await readObjectFile(path, {});
      return (options.type ?? section.type) === undefined ? object : takeForXdp(object);
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      // On the command line it is the object's own error.
      if (options.object !== undefined || section.object === undefined)
        throw new XdpbedError(error.code, `${path}: ${error.message}`, { hint: error.hint, cause: error });
      problems.report(['object'], `${section.object}: ${error.message}`, error.hint);
      problems.throwIfAny();
      throw error;
    }
  }

  async #case(whole: ObjectSpec, section: CaseSection, path: YamlPath): Promise<TestCase | undefined> {
    const { section: file, problems } = this;
    const wanted = section.program ?? file.program;
    const selection = selectProgram(whole, wanted);
    if ('problem' in selection) {
      const at =
        section.program !== undefined
          ? [...path, 'program']
          : wanted !== undefined
            ? ['program']
            : ['object'];
      problems.report(at, selection.problem, selection.hint);
      return undefined;
    }
    const object = this.#sized(whole, section, path);
    const elements = new Map([
      ...this.#elements(object, file.maps, ['maps']),
      ...this.#elements(object, section.maps, [...path, 'maps']),
    ]);
    const initial = new Map<string, readonly MapInitialEntry[]>();
    for (const map of object.maps) {
      const given = map.frozen === true || holdsObjects(map) ? elements.get(map.name) : undefined;
      if (given === undefined) continue;
      initial.set(map.name, given);
      elements.delete(map.name);
    }
    const steps: TestStep[] = [];
    // What expects nothing cannot fail.
    if ([section, ...(section.steps ?? [])].every(({ expect }) => expect === undefined))
      problems.report(path, "'expect' is missing", 'what has to come of it', true);
    if (section.steps === undefined) {
      steps.push(await this.#step(object, section, path, undefined));
    } else {
      for (const [index, step] of section.steps.entries())
        steps.push(await this.#step(object, merge(section, step), [...path, 'steps', index], section, step));
    }
    const also = steps.flatMap((step) =>
      [...step.elements.values()].flat().flatMap((entry): ObjectPart[] => {
        if ('mapName' in entry) return [{ mapName: entry.mapName }];
        return 'programName' in entry ? [{ programName: entry.programName }] : [];
      }),
    );
    const expect = section.steps === undefined ? undefined : section.expect;
    if (expect !== undefined) this.#refuseOfOne(expect, [...path, 'expect']);
    return {
      name: section.name,
      path,
      object,
      program: selection.program,
      initial,
      also,
      loadKey: JSON.stringify(
        [selection.program.name, this.#sizes(section), [...initial], also],
        (_, value: unknown) => (value instanceof Uint8Array ? hex(value) : value),
      ),
      elements,
      steps,
      expect: expect && (await this.#expectation(object, expect, [...path, 'expect'])),
    };
  }

  #sizes(section: CaseSection): MapSizes {
    return { ...this.section['max-entries'], ...section['max-entries'], ...this.options.sizes };
  }

  #sized(object: ObjectSpec, section: CaseSection, path: YamlPath): ObjectSpec {
    const sizes = this.#sizes(section);
    const key = JSON.stringify(sizes);
    let resized = this.#resized.get(key);
    if (resized !== undefined) return resized;
    for (const name of Object.keys(this.options.sizes ?? {})) findMap(object.maps, name);
    const usable = Object.entries(sizes).filter(([name]) => {
      const own = section['max-entries'];
      const at = own !== undefined && Object.hasOwn(own, name) ? [...path, 'max-entries'] : ['max-entries'];
      return findMapOrReport(object.maps, name, (problem) => this.#report(at, problem)) !== undefined;
    });
    try {
      resized = resizeMaps(object, Object.fromEntries(usable));
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      this.problems.report([...path, 'max-entries'], error.message, error.hint);
      resized = object;
    }
    this.#resized.set(key, resized);
    return resized;
  }

  #elements(object: ObjectSpec, input: MapInput | undefined, path: YamlPath): Map<string, MapInitialEntry[]> {
    if (input === undefined) return new Map();
    return parseMapInput(object, input, {
      limit: this.#cpus,
      report: (problem) => this.#report(path, problem),
    });
  }

  get #cpus(): CpuLimit {
    return { cpus: this.section.cpus, hint: "set 'cpus' of the file" };
  }

  #report(below: YamlPath, { path, message, hint, onKey }: MapProblem): void {
    this.problems.report([...below, ...path], message, hint, onKey);
  }

  /** @param path of the step, or of the case that is its own only step */
  async #step(
    object: ObjectSpec,
    section: StepSection,
    path: YamlPath,
    parent: CaseSection | undefined,
    own: StepSection = section,
  ): Promise<TestStep> {
    const { problems } = this;
    // What is taken over from the case is written there.
    const at = (key: keyof StepSection): YamlPath =>
      parent === undefined || own[key] !== undefined ? [...path, key] : [...path.slice(0, -2), key];
    const { context = {}, metadata, time, random, repeat = 1 } = section;
    const cpu = context.cpu ?? 0;
    if (cpu >= this.section.cpus)
      problems.report([...at('context'), 'cpu'], `there is no CPU ${cpu}: cpus is ${this.section.cpus}`);
    this.#checkMetadata(metadata, at('metadata'));
    const packets = await this.#packets(section, path, at);
    const number = Number(path.at(-1)) + 1;
    return {
      label:
        parent === undefined ? undefined : `step ${number}${own.name === undefined ? '' : `, ${own.name}`}`,
      packets,
      input: {
        ingressIfindex: context['ingress-ifindex'] ?? 0,
        rxQueueIndex: context['rx-queue-index'] ?? 0,
        egressIfindex: context['egress-ifindex'] ?? 0,
        dataMeta: parseHex(metadata ?? ''),
        cpu,
        random,
        now: time === undefined ? undefined : BigInt(time),
      },
      repeat,
      // Those of the case are set once, before the first step.
      elements: parent === undefined ? new Map() : this.#elements(object, own.maps, [...path, 'maps']),
      expect: own.expect && (await this.#expectation(object, own.expect, [...path, 'expect'])),
    };
  }

  #checkMetadata(text: string | undefined, path: YamlPath): void {
    const { length } = parseHex(text ?? '');
    if (length % 4 === 0 && length <= MAX_METADATA_LENGTH) return;
    const limit = `metadata is a multiple of 4 bytes, ${MAX_METADATA_LENGTH} at most`;
    this.problems.report(path, `${length} bytes: ${limit}`);
  }

  async #packets(
    { packet, pcap, packets }: StepSection,
    path: YamlPath,
    at: (key: keyof StepSection) => YamlPath,
  ): Promise<TestPacket[]> {
    const { problems } = this;
    if (packet !== undefined && pcap !== undefined) {
      problems.report(at('pcap'), "there is a 'packet' already", undefined, true);
      return [];
    }
    if (packet !== undefined) {
      if (packets !== undefined)
        problems.report(at('packets'), "'packets' are those of a 'pcap'", undefined, true);
      const wrong = addressProblems(packet);
      for (const problem of wrong) this.#report(at('packet'), problem);
      if (wrong.length > 0) return [];
      try {
        return [{ bytes: buildPacket(packet), now: 0n }];
      } catch (error) {
        if (!(error instanceof XdpbedError)) throw error;
        problems.report(at('packet'), error.message, error.hint);
        return [];
      }
    }
    if (pcap === undefined) {
      problems.report(path, "there is neither a 'packet' nor a 'pcap'", undefined, true);
      return [];
    }
    const captured = await this.#capture(pcap, at('pcap'));
    if (captured === undefined) return [];
    const numbers = packetNumbers(packets, captured.length);
    if (typeof numbers === 'string') {
      problems.report(packets === undefined ? at('pcap') : at('packets'), `${pcap}: ${numbers}`);
      return [];
    }
    return numbers.map((number) => captured[number - 1]!);
  }

  #capture(name: string, path: YamlPath): Promise<readonly CapturePacket[] | undefined> {
    const file = resolve(this.#folder, name);
    let known = this.#captures.get(file);
    if (known === undefined) {
      this.#reads.push(file);
      known = readFrames(file).then(
        (frames) =>
          frames.map(({ data, timestampNs, originalLength }, index) => ({
            bytes: data,
            now: timestampNs,
            number: index + 1,
            ...(originalLength === data.length ? {} : { originalLength }),
          })),
        (error: unknown) => {
          if (!(error instanceof XdpbedError)) throw error;
          const of = error.code === 'file-unreadable' ? '' : `${name}: `;
          this.problems.report(path, of + error.message, error.hint);
          return undefined;
        },
      );
      this.#captures.set(file, known);
    }
    return known;
  }

  /** What is said of one packet cannot be expected of a case that has steps. */
  #refuseOfOne(expect: ExpectSection, path: YamlPath): void {
    for (const key of ['packet', 'unchanged', 'metadata', 'redirect'] as const) {
      if (expect[key] === undefined) continue;
      this.problems.report([...path, key], `'${key}' is expected of a step`, 'put it into the step', true);
    }
  }

  async #expectation(object: ObjectSpec, section: ExpectSection, path: YamlPath): Promise<Expectation> {
    this.#checkMetadata(section.metadata, [...path, 'metadata']);
    if (section.packet !== undefined) {
      const at = [...path, 'packet'];
      if (section.packet.hex !== undefined && Object.keys(section.packet).length > 1)
        this.problems.report(at, "a packet in 'hex' has no other keys");
      for (const problem of addressProblems(section.packet)) this.#report(at, problem);
    }
    const { redirect } = section;
    if (redirect?.map !== undefined)
      findMapOrReport(object.maps, redirect.map, ({ message, hint }) =>
        this.problems.report([...path, 'redirect', 'map'], message, hint),
      );
    return {
      section,
      path,
      maps: [
        ...this.#mapExpectations(object, section.maps, [...path, 'maps'], false),
        ...this.#mapExpectations(object, section['whole-maps'], [...path, 'whole-maps'], true),
      ],
      events: this.#events(object, section.events, [...path, 'events']),
      capture:
        section.pcap === undefined ? undefined : await this.#expectedCapture(section.pcap, [...path, 'pcap']),
      snapshot:
        section.snapshot === undefined
          ? undefined
          : await this.#expectedText(section.snapshot, [...path, 'snapshot']),
    };
  }

  #mapExpectations(
    object: ObjectSpec,
    input: MapInput | undefined,
    path: YamlPath,
    whole: boolean,
  ): MapExpectation[] {
    const report = (problem: MapProblem): void => this.#report(path, problem);
    return Object.entries(input ?? {}).flatMap(([name, content]): MapExpectation[] => {
      const map = findMapOrReport(object.maps, name, report);
      if (map === undefined) return [];
      if (RECORD_TYPES.has(map.type)) {
        report({
          path: [name],
          message: `${name} has no keys`,
          hint: "expect what is sent through it as 'events'",
        });
        return [];
      }
      const entries = entriesOf(map, content, report).flatMap(({ entry, what, path: at }) => {
        const absent = entry.value === null && !isGlobalData(map);
        const key = reporting(at, report, () => {
          const bytes = parseKey(map, { entry, what });
          if (absent) return bytes;
          if (holdsObjects(map)) {
            within('value', () => parseTarget(object, map, entry.value, `${what}.value`));
            return bytes;
          }
          if (entry.cpus === undefined) {
            // Global variables lie at the path of the map itself.
            const parse = (): Uint8Array =>
              parseOneValue(map, entry.value, isGlobalData(map) ? what : `${what}.value`);
            if (isGlobalData(map)) parse();
            else within('value', parse);
          } else within('cpus', () => parseCpuValues(map, entry.cpus, this.#cpus, `${what}.cpus`));
          return bytes;
        });
        if (key === undefined) return [];
        const keyText = formatElement(map.keyType, map.keySize, key);
        return [{ what, path: [...path, ...at], key, keyText, absent, value: entry.value, cpus: entry.cpus }];
      });
      return [{ map, path: [...path, name], whole, entries }];
    });
  }

  #events(object: ObjectSpec, section: ExpectSection['events'], path: YamlPath): EventExpectation[] {
    return Object.entries(section ?? {}).flatMap(([name, records]): EventExpectation[] => {
      const map = findMapOrReport(object.maps, name, (problem) => this.#report(path, problem));
      if (map === undefined) return [];
      if (!RECORD_TYPES.has(map.type)) {
        const message = `${name} is a ${mapTypeName(map.type)}: only ring buffers and arrays of perf events have events`;
        this.problems.report([...path, name], message, undefined, true);
        return [];
      }
      const type = this.#eventType(object, map);
      const at = [...path, name];
      records.forEach((record, index) => {
        if (type === undefined && isBytes(record)) return;
        if (type === undefined) {
          const hint = 'name its type in \'event-types\' of the file, or write { bytes: "…" }';
          this.problems.report([...at, index], `${name}[${index}]: what ${name} sends has no type`, hint);
          return;
        }
        const size = type.btf.sizeOf(type.id)!;
        reporting(
          [index],
          (problem) => this.#report(at, problem),
          () => parseElement(type, size, record, { what: `${name}[${index}]` }),
        );
      });
      return [{ map: name, path: at, type, records }];
    });
  }

  #eventType(object: ObjectSpec, map: MapSpec): BtfTypeRef | undefined {
    const types = this.section['event-types'] ?? {};
    const name = Object.hasOwn(types, map.name) ? types[map.name]! : undefined;
    if (name === undefined) return undefined;
    const { btf } = object;
    const id = btf === undefined ? undefined : findType(btf, name);
    if (btf !== undefined && id !== undefined) return { btf, id };
    const near = btf === undefined ? undefined : nearest(name, typeNames(btf));
    this.problems.report(
      ['event-types', map.name],
      `the object's BTF has no type '${name}'`,
      near === undefined
        ? `clang writes types that something refers to, e.g. const struct ${name} *unused __attribute__((unused));`
        : `did you mean '${near}'?`,
    );
    return undefined;
  }

  async #expectedCapture(name: string, path: YamlPath): Promise<ExpectedFile<readonly Uint8Array[]>> {
    const file = resolve(this.#folder, name);
    this.#reads.push(file);
    try {
      return { file, content: (await readFrames(file)).map(({ data }) => data) };
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      // One that is not there can be written; one that is spoilt is somebody's mistake.
      if (!isAbsent(error.cause)) this.problems.report(path, error.message, error.hint);
      return { file, content: undefined };
    }
  }

  async #expectedText(name: string, path: YamlPath): Promise<ExpectedFile<string>> {
    const file = resolve(this.#folder, name);
    this.#reads.push(file);
    try {
      const bytes = await readFile(file);
      if (isUtf8(bytes)) return { file, content: bytes.toString('utf8') };
      this.problems.report(path, `${name} is not UTF-8`, 'write it anew with --update once it is away');
    } catch (error) {
      if (!isAbsent(error)) this.problems.report(path, `cannot read ${name}: ${messageOf(error)}`);
    }
    return { file, content: undefined };
  }
}

/** That there is no such file: one that is expected can be written then. */
function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

type CapturePacket = TestPacket;

const RECORD_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
]);

/** What a step does not say, its case does; a packet of the one goes before a capture of the other. */
function merge(section: CaseSection, step: StepSection): StepSection {
  const { packet, pcap, packets, metadata, context, time, random, repeat } = section;
  const inherited = { metadata, context, time, random, repeat };
  const source = step.packet === undefined && step.pcap === undefined ? { packet, pcap, packets } : {};
  return {
    ...Object.fromEntries(
      Object.entries({ ...inherited, ...source }).filter(([, value]) => value !== undefined),
    ),
    ...step,
    ...(context === undefined && step.context === undefined
      ? {}
      : { context: { ...context, ...step.context } }),
  };
}

/** Packets of one step: those of a capture may be named several times. */
const MAX_PACKETS = 1_000_000;

/** Numbers of packets, `3`, `"1-20"` or `"1,4-6"`, or what is wrong with them. */
export function packetNumbers(text: number | string | undefined, count: number): number[] | string {
  const numbers: number[] = [];
  for (const part of text === undefined ? [`1-${count}`] : String(text).split(',')) {
    const [, from, to] = /^\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?$/.exec(part) ?? [];
    if (from === undefined) return `'${text}' is not a list of packets such as 1,4-6`;
    const [first, last] = [Number(from), Number(to ?? from)];
    if (count === 0) return 'it holds no packets';
    if (first < 1 || last < first || last > count)
      return `it holds packets 1 to ${count}, not ${part.trim()}`;
    if (numbers.length + last - first >= MAX_PACKETS) return `a step has at most ${MAX_PACKETS} packets`;
    for (let number = first; number <= last; number++) numbers.push(number);
  }
  return numbers;
}

function isBytes(record: unknown): boolean {
  return typeof record === 'object' && record !== null && 'bytes' in record;
}

const TYPE_KINDS = ['STRUCT', 'UNION', 'TYPEDEF', 'ENUM', 'ENUM64', 'INT'] as const;

/** A type that has values, by its name, with or without `struct` in front. */
function findType(btf: Btf, name: string): number | undefined {
  const plain = name.replace(/^(?:struct|union|enum)\s+/, '');
  for (const kind of TYPE_KINDS) {
    const found = btf.find(kind, plain);
    if (found !== undefined && btf.sizeOf(found.id) !== undefined) return found.id;
  }
  return undefined;
}

function typeNames(btf: Btf): string[] {
  return Array.from({ length: btf.typeCount }, (_, id) => btf.type(id)).flatMap(({ kind, name }) =>
    name !== '' && (TYPE_KINDS as readonly string[]).includes(kind) ? [name] : [],
  );
}
