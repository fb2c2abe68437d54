import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { whyNotXdp } from '../../bpf/link.js';
import { isResizable } from '../../bpf/map-sizes.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { takeForXdp } from '../../bpf/object-file.js';
import type { MapPreset, PresetValue, ProgramPlan } from '../contract/plan.js';
import type { Sha256 } from '../contract/run-spec.js';
import { XdpbedError } from '../diagnostic.js';
import { selectProgram } from '../offload/select-program.js';
import { encodePreset, type PresetNames } from './preset-value.js';
import type { ProblemList } from './problem-list.js';
import { attachedPrograms, presetNames } from './run-plan.js';
import type { SoundParts } from './sound-parts.js';
import type { TestbedFiles } from './testbed-files.js';
import type { Testbed } from './testbed-schema.js';
import { suggest } from './wiring.js';
import type { YamlPath } from './yaml-source.js';
import { setOwn } from '../own-property.js';

/** Programs by name; what those that are attached are read from is entered in `objects`. */
export function resolvePrograms(
  parts: SoundParts,
  files: TestbedFiles,
  problems: ProblemList,
  objects: Record<string, Sha256>,
): Promise<Record<string, ProgramPlan>> {
  return new ProgramResolver(parts, files, problems).resolve(objects);
}

class ProgramResolver {
  constructor(
    readonly parts: SoundParts,
    readonly files: TestbedFiles,
    readonly problems: ProblemList,
  ) {}

  async resolve(objects: Record<string, Sha256>): Promise<Record<string, ProgramPlan>> {
    const { parts } = this;
    const programs: Record<string, ProgramPlan> = {};
    if (!parts.hasKeysOf('programs')) return programs;
    const wired = parts.has('host') && parts.has('guests');
    const names = wired ? presetNames(parts.testbed) : undefined;
    const attached = wired ? attachedPrograms(parts.testbed) : new Set<string>();
    for (const [name, section] of Object.entries(parts.testbed.programs)) {
      const at = ['programs', name];
      if (this.problems.full) break;
      if (!parts.has(...at)) continue;
      const file = await this.files.readObject(section.object);
      const object = file instanceof XdpbedError ? file : this.files.parse(section.object, file.bytes);
      if (object instanceof XdpbedError) {
        this.problems.report([...at, 'object'], `${section.object}: ${object.message}`, object.hint);
        continue;
      }
      const typed = section.type === undefined ? object : takeForXdp(object);
      const selected = selectProgram(typed, section.section);
      if ('problem' in selected) {
        this.problems.report(
          [...at, section.section === undefined ? 'object' : 'section'],
          selected.problem,
          selected.hint,
        );
        continue;
      }
      const unfit = whyNotXdp(selected.program);
      if (unfit !== undefined) {
        this.problems.report([...at, 'section'], unfit.message, unfit.hint);
        continue;
      }
      if (selected.program.unsupported !== undefined) {
        this.problems.report([...at, 'object'], `${section.object}: ${selected.program.unsupported}`);
        continue;
      }
      const maxEntries = section['max-entries'] ?? {};
      for (const mapName of Object.keys(maxEntries)) {
        const where = [...at, 'max-entries', mapName];
        const map = this.#findMap(object, section.object, mapName, where);
        if (map !== undefined && !isResizable(map))
          this.problems.report(where, `map ${mapName} holds global variables and has one element`);
      }
      const presets: Record<string, MapPreset[]> = {};
      for (const [mapName, entries] of Object.entries(section.maps ?? {})) {
        const map = this.#findMap(object, section.object, mapName, [...at, 'maps', mapName]);
        if (map === undefined) continue;
        // Presets name interfaces; without those, nothing can be said of them.
        if (names === undefined) continue;
        const encoded = entries.flatMap((entry, index) => {
          const where = [...at, 'maps', mapName, index];
          const what = `${mapName}[${index}]`;
          const key = this.#encode(entry.key, map.keySize, map.keyType, names, [...where, 'key'], what);
          const value = this.#encode(
            entry.value,
            map.valueSize,
            map.valueType,
            names,
            [...where, 'value'],
            what,
          );
          return key === undefined || value === undefined ? [] : [{ key, value }];
        });
        setOwn(presets, mapName, encoded);
      }
      if (wired) this.#checkLookups(parts.testbed, name, section.object, object.maps);
      if (!attached.has(name) || file instanceof XdpbedError) continue;
      setOwn(objects, section.object, file.hash);
      programs[name] = {
        name,
        object: section.object,
        function: selected.program.name,
        ...(section.type !== undefined && { type: section.type }),
        ...(Object.keys(maxEntries).length > 0 && { maxEntries: { ...maxEntries } }),
        presets,
      };
    }
    return programs;
  }

  /** What guests ask for by the name of a map of this program. */
  #checkLookups(testbed: Testbed, program: string, file: string, maps: readonly MapSpec[]): void {
    for (const [guest, { nics }] of Object.entries(testbed.guests)) {
      for (const [name, nic] of Object.entries(nics)) {
        const lookup = nic.program === program ? nic.requests?.lookup : undefined;
        const declared = maps.map((map) => map.name);
        if (lookup === undefined || declared.includes(lookup)) continue;
        this.problems.report(
          ['guests', guest, 'nics', name, 'requests', 'lookup'],
          `${file} has no map '${lookup}'`,
          suggest(lookup, declared, 'maps'),
        );
      }
    }
  }

  /** A map of an object; one that is not there is a problem of the key that names it. */
  #findMap(object: ObjectSpec, file: string, name: string, path: YamlPath): MapSpec | undefined {
    const map = object.maps.find((candidate) => candidate.name === name);
    if (map === undefined) {
      const declared = object.maps.map((candidate) => candidate.name);
      this.problems.report(path, `${file} has no map '${name}'`, suggest(name, declared, 'maps'), true);
    }
    return map;
  }

  #encode(
    value: unknown,
    size: number,
    type: BtfTypeRef | undefined,
    names: PresetNames,
    path: YamlPath,
    what: string,
  ): Uint8Array | undefined {
    const encoded = encodePreset(value as PresetValue, size, names, type, `${what}.${path.at(-1)}`);
    if ('bytes' in encoded) return encoded.bytes;
    const { problem } = encoded;
    this.problems.report([...path, ...problem.path], problem.message, problem.hint, problem.onKey);
    return undefined;
  }
}
