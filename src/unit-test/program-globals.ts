import type { BtfTypeRef } from '../bpf/btf/btf-type-ref.js';
import { parseValue } from '../bpf/btf/parse-value.js';
import { readValue } from '../bpf/btf/read-value.js';
import { errnoName } from '../bpf/errno.js';
import type { MapSpec } from '../bpf/map-spec.js';
import type { BpfMap } from '../bpf/runtime/bpf-map.js';
import { XdpbedError } from '../core/diagnostic.js';
import { nearest } from '../core/nearest.js';
import { written } from './written-value.js';
import { setOwn } from '../core/own-property.js';

/** A global variable: the map of its section (`.data`, `.rodata`, `.bss` …), and where it lies in that. */
interface GlobalVariable {
  readonly map: MapSpec;
  readonly type: BtfTypeRef;
  /** Bytes from the start of the section. */
  readonly offset: number;
  readonly size: number;
}

/** By name; of several with one name, that of the first section. */
export function globalVariables(maps: readonly MapSpec[]): ReadonlyMap<string, GlobalVariable> {
  const found = new Map<string, GlobalVariable>();
  for (const map of maps) {
    if (map.valueType === undefined) continue;
    const { btf, id } = map.valueType;
    const type = btf.type(id);
    if (type.kind !== 'DATASEC') continue;
    for (const { type: id, offset } of type.variables) {
      const { name } = btf.type(id);
      const size = btf.sizeOf(id);
      // Hostile BTF can have it anywhere.
      if (found.has(name) || size === undefined || offset + size > map.valueSize) continue;
      found.set(name, { map, type: { btf, id }, offset, size });
    }
  }
  return found;
}

/** Values of variables, as content of the maps that they lie in. Throws `map-invalid` for a variable that there is not. */
export function globalsInput(
  maps: readonly MapSpec[],
  values: Readonly<Record<string, unknown>>,
): Record<string, Record<string, unknown>> {
  const variables = globalVariables(maps);
  const input: Record<string, Record<string, unknown>> = {};
  for (const [name, value] of Object.entries(values)) {
    const found = variables.get(name);
    if (found === undefined) {
      const near = nearest(name, [...variables.keys()]);
      throw new XdpbedError('map-invalid', `the object has no global variable '${name}'`, {
        hint:
          near === undefined
            ? `variables: ${[...variables.keys()].join(', ') || 'none that BTF knows of'}`
            : `did you mean '${near}'?`,
      });
    }
    if (!Object.hasOwn(input, found.map.name)) setOwn(input, found.map.name, {});
    setOwn(input[found.map.name]!, name, value);
  }
  return input;
}

/**
 * An object with a property for each global variable of an object file: reading gives what it is now, assigning changes
 * it. Those that the program does not use are not listed, and throw `usage`.
 */
export function programGlobals(
  maps: readonly MapSpec[],
  current: (name: string) => BpfMap | undefined,
): Record<string, unknown> {
  const globals = Object.create(null) as Record<string, unknown>;
  for (const [name, { map: spec, type, offset, size }] of globalVariables(maps)) {
    const map = (): BpfMap => {
      const found = current(spec.name);
      if (found !== undefined) return found;
      throw new XdpbedError('usage', `the program uses no variable of ${spec.name}, of which ${name} is one`);
    };
    const bytes = (): Uint8Array => {
      const value = map().lookup(new Uint8Array(spec.keySize));
      if (typeof value !== 'number') return Uint8Array.from(value);
      throw new XdpbedError('map-invalid', `variable ${name} cannot be read: ${errnoName(value)}`);
    };
    Object.defineProperty(globals, name, {
      enumerable: current(spec.name) !== undefined,
      get: () => readValue(type, bytes().subarray(offset, offset + size)),
      set: (input: unknown) => {
        if (spec.frozen === true) {
          throw new XdpbedError('map-invalid', `variable ${name} is constant once the program is loaded`, {
            hint: `give it to loadProgram: { globals: { ${name}: … } }`,
          });
        }
        const all = bytes();
        all.set(
          written(() => parseValue(type, input, { what: name })),
          offset,
        );
        const status = map().update(new Uint8Array(spec.keySize), all, 0n);
        if (status === 0) return;
        throw new XdpbedError('map-invalid', `variable ${name} cannot be set: ${errnoName(status)}`);
      },
    });
  }
  return Object.preventExtensions(globals);
}
