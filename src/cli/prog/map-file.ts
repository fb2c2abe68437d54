import type { LoadableObject } from '../../bpf/elf/object-closure.js';
import type { MapInitialEntry } from '../../bpf/map-spec.js';
import { parseMapInput, type MapInput } from '../../core/testbed/map-input.js';
import { ProblemList } from '../../core/testbed/problem-list.js';
import { readYamlFile } from '../../core/testbed/yaml-file.js';
import type { YamlSource } from '../../core/testbed/yaml-source.js';

/** Content of maps by map name, as `--maps` takes it: parsed, and what each object's maps make of it. */
export class MapFile {
  private constructor(
    readonly source: YamlSource,
    readonly input: MapInput,
  ) {}

  /** Throws `file-unreadable`, or `testbed-invalid` with every problem and its place. */
  static async read(path: string): Promise<MapFile> {
    const source = await readYamlFile(path);
    const { value } = source;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      const problems = new ProblemList(source);
      problems.report([], 'content of maps by their names is expected');
      problems.throwIfAny();
    }
    return new MapFile(source, value as MapInput);
  }

  /**
   * Elements for maps of an object; all that is wrong is thrown, each at its place in the file.
   *
   * @param others names that may be there as well, and are passed over: maps of another object
   */
  elementsFor(object: LoadableObject, others: readonly string[] = []): Map<string, MapInitialEntry[]> {
    const problems = new ProblemList(this.source);
    const known = new Set(object.maps.map(({ name }) => name));
    const input = Object.fromEntries(
      Object.entries(this.input).filter(([name]) => known.has(name) || !others.includes(name)),
    );
    const elements = parseMapInput(object, input, {
      report: ({ path, message, hint, onKey }) => problems.report(path, message, hint, onKey),
    });
    problems.throwIfAny();
    return elements;
  }
}

/** What `--maps` places in the maps of an object. */
export async function readMapFile(
  path: string,
  object: LoadableObject,
): Promise<Map<string, MapInitialEntry[]>> {
  return (await MapFile.read(path)).elementsFor(object);
}
