import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { MapInitialEntry, MapSpec } from '../../bpf/map-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import { CoverageCollector } from '../coverage/coverage-collector.js';
import type { ProgramRejection } from '../offload/load-program.js';
import type { PluginRegistry } from '../plugin/plugin-registry.js';
import { ProgramSession, type PacketOutcome } from '../program-test/program-session.js';
import { Workbench } from '../program-test/workbench.js';
import type { SentPacket } from './sent-packet.js';

export interface SubjectOptions {
  readonly object: ObjectSpec;
  readonly spec: ProgramSpec;
  readonly verifiers: readonly string[];
  /** Elements that every sequence starts from, by map name. */
  readonly initial?: ReadonlyMap<string, readonly MapInitialEntry[]> | undefined;
}

/** What a packet came to, and what the program sent while it ran. */
export interface Step {
  readonly outcome: PacketOutcome;
  /** Records of ring buffers and arrays of perf events, by map name; maps without any are not in it. */
  readonly records: ReadonlyMap<string, readonly Uint8Array[]>;
}

/** A map that a subject's program uses. */
export interface SubjectMap {
  readonly spec: MapSpec;
  readonly map: BpfMap;
}

/** A program that sequences of packets are run on, each from the same state, with its coverage counted. */
export class Subject {
  readonly #buffers: readonly string[];

  private constructor(
    readonly bench: Workbench,
    readonly session: ProgramSession,
    readonly coverage: CoverageCollector,
  ) {
    this.#buffers = [...session.maps].flatMap(([name, map]) =>
      map.drainRecords === undefined ? [] : [name],
    );
  }

  /** Verifies and loads; a rejection is a value. Throws what loading throws. */
  static async open(registry: PluginRegistry, options: SubjectOptions): Promise<Subject | ProgramRejection> {
    const { object, spec, verifiers, initial } = options;
    const coverage = new CoverageCollector(object.programs, { operands: true });
    const bench = await Workbench.open(registry, { executor: 'interpreter', verifiers, coverage });
    try {
      const session = await ProgramSession.open(bench, object, spec, initial);
      if (session instanceof ProgramSession) return new Subject(bench, session, coverage);
      await bench.close();
      return session;
    } catch (error) {
      await bench.close();
      throw error;
    }
  }

  /** Bytes of the longest packet that the program can be given. */
  get longestPacket(): number {
    return this.session.frames.longestFrame;
  }

  /** Back to the state in which sequences start. */
  restart(): Promise<void> {
    return this.session.reset();
  }

  /** Throws `map-invalid` for an element that cannot be set. */
  send({ data, input, elements }: SentPacket): Step {
    for (const [name, each] of elements ?? []) this.#place(name, each);
    const outcome = this.session.run(data, input);
    const records = new Map<string, readonly Uint8Array[]>();
    for (const name of this.#buffers) {
      const sent = this.session.drain(name);
      if (sent.length > 0)
        records.set(
          name,
          sent.map((record) => record.data),
        );
    }
    return { outcome, records };
  }

  /** Elements of another size are another object's: its map has the name and no more. */
  #place(name: string, elements: readonly MapInitialEntry[]): void {
    const attributes = this.session.maps.get(name)?.attributes;
    const fitting = elements.filter((entry) => {
      if (entry.key.length !== attributes?.keySize) return false;
      if ('mapName' in entry) return this.session.maps.has(entry.mapName);
      if ('programName' in entry) return this.session.loaded.programs.has(entry.programName);
      const values = 'value' in entry ? [entry.value] : entry.cpuValues.map(({ value }) => value);
      return values.every(({ length }) => length === attributes.valueSize);
    });
    this.session.place(name, fitting);
  }

  /** Maps that the program uses, by name. */
  get maps(): ReadonlyMap<string, SubjectMap> {
    const maps = new Map<string, SubjectMap>();
    for (const spec of this.session.object.maps) {
      const map = this.session.maps.get(spec.name);
      if (map !== undefined) maps.set(spec.name, { spec, map });
    }
    return maps;
  }

  async close(): Promise<void> {
    this.session.close();
    await this.bench.close();
  }
}
