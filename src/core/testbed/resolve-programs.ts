import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { whyNotXdp } from '../../bpf/link.js';
import { isResizable, resizeMaps } from '../../bpf/map-sizes.js';
import type { MapInitialEntry, MapSpec } from '../../bpf/map-spec.js';
import { takeForXdp } from '../../bpf/object-file.js';
import type { ProgramPlan } from '../contract/plan.js';
import type { Sha256 } from '../contract/run-spec.js';
import { XdpbedError } from '../diagnostic.js';
import { selectProgram } from '../offload/select-program.js';
import { parseMapInput, type CpuLimit } from './map-input.js';
import { presetReference, type PresetNames } from './preset-value.js';
import type { ProblemList } from './problem-list.js';
import { attachedPrograms, presetNames } from './run-plan.js';
import type { SoundParts } from './sound-parts.js';
import type { TestbedFiles } from './testbed-files.js';
import { MAX_CPUS, type Testbed } from './testbed-schema.js';
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
      // Presets name interfaces; without those, nothing can be said of them.
      const presets = names === undefined ? {} : this.#presets(object, name, section, names);
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

  #presets(
    object: ObjectSpec,
    name: string,
    { object: file, maps, 'max-entries': sizes = {} }: Testbed['programs'][string],
    names: PresetNames,
  ): Record<string, readonly MapInitialEntry[]> {
    const content = Object.entries(maps ?? {}).filter(
      ([map]) => this.#findMap(object, file, map, ['programs', name, 'maps', map]) !== undefined,
    );
    const resizable = object.maps.filter((map) => isResizable(map) && Object.hasOwn(sizes, map.name));
    const sized = resizeMaps(
      object,
      Object.fromEntries(resizable.map((map) => [map.name, sizes[map.name]!])),
    );
    const parsed = parseMapInput(sized, Object.fromEntries(content), {
      limit: cpusOf(this.parts.testbed, name),
      reference: presetReference(names),
      report: ({ path, message, hint, onKey }) =>
        this.problems.report(['programs', name, 'maps', ...path], message, hint, onKey),
    });
    const presets: Record<string, readonly MapInitialEntry[]> = {};
    for (const [map, elements] of parsed) setOwn(presets, map, elements);
    return presets;
  }
}

/** The CPUs that a program finds wherever the testbed has it run. */
function cpusOf(testbed: Testbed, program: string): CpuLimit {
  const { host, guests } = testbed;
  const onHost = { cpus: host.cpus, hint: "set 'host.cpus'" };
  const places: CpuLimit[] = [
    ...[
      ...Object.values(host.nics).map((nic) => nic.program),
      ...Object.values(host.taps).map((tap) => tap['rx-program']),
    ]
      .filter((each) => each === program)
      .map(() => onHost),
    ...Object.entries(guests).flatMap(([guest, { cpus, nics }]) =>
      Object.values(nics).flatMap((nic): CpuLimit[] => {
        // What a guest keeps loading, it offloads.
        if (nic.requests?.load === program) return [onHost];
        if (nic.program !== program) return [];
        return [nic.placement === 'host' ? onHost : { cpus, hint: `set 'guests.${guest}.cpus'` }];
      }),
    ),
  ];
  return places.reduce((least, place) => (place.cpus < least.cpus ? place : least), { cpus: MAX_CPUS });
}
