import { isGlobalData, type MapSpec } from '../../bpf/map-spec.js';
import { parseObjectFile } from '../../bpf/object-file.js';
import { isPerCpu } from '../../bpf/per-cpu-value.js';
import { finalProgram } from '../contract/plan.js';
import type { ElementWords, RenderOptions } from '../contract/reporter.js';
import type { MapResult, RunResult } from '../contract/result.js';
import { formatCpus, formatElement } from '../program-test/map-dump.js';
import { holdsObjects, isIndexed } from '../testbed/map-values.js';
import type { ResolvedTestbed } from '../testbed/resolve-testbed.js';

/** Bytes of a value that is written in words: reading one takes some microseconds for each of its members. */
const MAX_VALUE_BYTES = 65_536;

/**
 * Says how elements of guests' maps are written as presets and cases have them, by the BTF of the objects of a testbed; of those
 * that are an index and a number nothing, nor of values of more than 64 KiB.
 */
export function elementWords(
  testbed: Pick<ResolvedTestbed, 'runs' | 'objects'>,
): NonNullable<RenderOptions['words']> {
  /** By run, guest, nic and map; objects by their hash. */
  const specs = new Map<string, MapSpec | undefined>();
  const objects = new Map<string, readonly MapSpec[]>();

  const find = (run: string, { guest, nic, name }: MapResult): MapSpec | undefined => {
    const spec = testbed.runs.find(({ plan }) => plan.id === run);
    const nics = spec?.plan.guests.find((each) => each.name === guest)?.nics;
    const own = nics?.find((each) => each.name === nic);
    const program = spec?.plan.programs[(own && finalProgram(own)) ?? ''];
    const hash = program && spec?.objects[program.object];
    const bytes = hash === undefined ? undefined : testbed.objects.get(hash);
    if (program === undefined || hash === undefined || bytes === undefined) return undefined;
    const key = `${hash} ${program.type}`;
    const maps = objects.get(key) ?? parseObjectFile(bytes, program.object, program).maps;
    objects.set(key, maps);
    return maps.find((map) => map.name === name);
  };
  return ({ id }: RunResult, map, { key, value }) => {
    const place = JSON.stringify([id, map.guest, map.nic, map.name]);
    if (!specs.has(place)) specs.set(place, find(id, map));
    const spec = specs.get(place);
    if (spec === undefined || value.length > 2 * MAX_VALUE_BYTES) return {};
    return wordsOf(spec, Buffer.from(key, 'hex'), Buffer.from(value, 'hex'));
  };
}

function wordsOf(spec: MapSpec, key: Uint8Array, value: Uint8Array): ElementWords {
  const { keyType, keySize, valueType, valueSize } = spec;
  // What is in maps of maps and of programs are numbers of the machine's.
  if (holdsObjects(spec)) return {};
  const isTyped = (type: MapSpec['valueType'], size: number): boolean =>
    type !== undefined && type.btf.sizeOf(type.id) === size;
  const words = isTyped(keyType, keySize) ? { key: formatElement(keyType, keySize, key) } : {};
  if (isPerCpu(spec)) return { ...words, value: formatCpus(spec, value) };
  if (!isTyped(valueType, valueSize)) return words;
  const text = formatElement(valueType, valueSize, value);
  if (isGlobalData(spec)) return { value: text };
  // An index and a number are what they are without their types.
  const isPlain = isIndexed(spec) && text === formatElement(undefined, valueSize, value);
  return isPlain ? {} : { ...words, value: text };
}
