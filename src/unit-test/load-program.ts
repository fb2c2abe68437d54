import { fileURLToPath } from 'node:url';
import type { ObjectSpec } from '../bpf/elf/object-spec.js';
import type { ObjectPart } from '../bpf/map-spec.js';
import type { MapSizes } from '../bpf/map-sizes.js';
import { parseObjectFile } from '../bpf/object-file.js';
import type { Plugin } from '../core/contract/plugin.js';
import { XdpbedError } from '../core/diagnostic.js';
import { nearest } from '../core/nearest.js';
import { selectProgram } from '../core/offload/select-program.js';
import { PluginRegistry } from '../core/plugin/plugin-registry.js';
import { parseMapInput, type MapInput } from '../core/testbed/map-input.js';
import { applyMapSizes } from '../core/program-test/map-size-arguments.js';
import { ProgramSession } from '../core/program-test/program-session.js';
import { Workbench } from '../core/program-test/workbench.js';
import { MAX_CPUS } from '../core/testbed/testbed-schema.js';
import { readObjectFile } from '../core/testbed/object-file.js';
import { BUILT_IN_PLUGINS } from '../presets.js';
import { globalsInput } from './program-globals.js';
import type { ProgramMap } from './program-map.js';
import { ProgramRejectedError } from './program-rejected.js';
import { TestProgram } from './test-program.js';

/** An object: path of an ELF file or of assembler text (`.s`), the bytes of an ELF file, or assembler text. */
export type ProgramSource = string | URL | Uint8Array | { readonly assembly: string };

export interface LoadProgramOptions {
  /** Function or section; may be left out where the object holds one XDP program. */
  readonly program?: string | undefined;
  /** Takes programs whose section does not say what they are for XDP's. */
  readonly type?: 'xdp' | undefined;
  /** Name as in a testbed: `interpreter` (default), `wasm`, `differential`, `kernel`, or a plugin's. */
  readonly executor?: string | undefined;
  readonly executorConfig?: unknown;
  /** Name, or several that must all accept. Default `abstract`. */
  readonly verifier?: string | readonly string[] | undefined;
  /** Default: the one whose maps the executor's programs can use. */
  readonly mapBackend?: string | undefined;
  /** CPUs that programs run on and per-CPU maps have values for, 1 to 64. Default 1. */
  readonly cpus?: number | undefined;
  /** Content of maps, as in a cases file (docs/cases.md). */
  readonly maps?: MapInput | undefined;
  /** Global variables by name, constant ones (`.rodata`) included: the verifier sees them. */
  readonly globals?: Readonly<Record<string, unknown>> | undefined;
  /**
   * Programs and maps of the object to be loaded beside the program, by name, which a PROG_ARRAY or a map of maps can then be
   * given. Those that the object or `maps` puts there are loaded anyway.
   */
  readonly also?: readonly string[] | undefined;
  /** `max_entries` by map, instead of the object's. */
  readonly maxEntries?: MapSizes | undefined;
  /** Plugins beside the built-in ones. Others are found by name from the working directory, as in a testbed. */
  readonly plugins?: readonly Plugin[] | undefined;
}

/**
 * Verifies and loads a program, to be run on packets from a test. What is loaded lies apart from everything else that is,
 * and is closed by `close` or `await using`.
 *
 * Throws `ProgramRejectedError` (`program-rejected`) with the verifier's explanation; `file-unreadable`, `object-invalid`,
 * `object-unsupported`, `btf-invalid` or `asm-invalid` for an object that cannot be read; `usage` for a program that it does
 * not hold; `map-invalid`, naming the map and the member, for content that does not fit; `plugin-not-found`;
 * `host-unsupported` where an executor cannot work here.
 *
 * @typeParam Maps what the maps hold, so that an editor and the compiler know: `ElementMap`, `PerCpuMap`, `QueueMap` or
 * `RecordMap` by name. Nothing checks that it is what the object says.
 * @typeParam Globals the same for global variables
 *
 * @example
 * ```ts
 * import { expect, it } from 'vitest';
 * import { loadProgram } from 'xdpbed/test';
 * import { udp } from 'xdpbed/packet';
 *
 * it('drops what comes from a blocked network', async () => {
 *   await using blocklist = await loadProgram('blocklist.o');
 *   blocklist.maps.blocked!.set({ prefixlen: 24, address: '198.51.100.0' }, 7);
 *   expect(blocklist.run(udp({ src: '198.51.100.9' })).verdict).toBe('XDP_DROP');
 *   expect(blocklist.maps.events!.records({ type: 'drop_event' })).toMatchObject([{ rule: 7 }]);
 * });
 * ```
 */
export async function loadProgram<
  Maps = Readonly<Record<string, ProgramMap>>,
  Globals = Record<string, unknown>,
>(source: ProgramSource, options: LoadProgramOptions = {}): Promise<TestProgram<Maps, Globals>> {
  const { cpus = 1, verifier = 'abstract', executor = 'interpreter', plugins = [] } = options;
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_CPUS) {
    throw new XdpbedError('usage', `cpus is ${cpus}, not an integer from 1 to ${MAX_CPUS}`);
  }
  const object = applyMapSizes(await readSource(source, options), options.maxEntries ?? {});
  const selection = selectProgram(object, options.program);
  if ('problem' in selection) throw new XdpbedError('usage', selection.problem, { hint: selection.hint });
  const initial = parseMapInput(object, withGlobals(object, options), {
    limit: { cpus, hint: "set the option 'cpus'" },
  });

  const also = (options.also ?? []).flatMap((name) => partsCalled(object, name));
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
  const bench = await Workbench.open(registry, {
    executor,
    executorConfig: options.executorConfig,
    verifiers: typeof verifier === 'string' ? [verifier] : verifier,
    mapBackend: options.mapBackend,
    runtime: { cpus },
  });
  try {
    const session = await ProgramSession.open(bench, object, selection.program, initial, also);
    if ('code' in session) throw new ProgramRejectedError(session);
    return new TestProgram<Maps, Globals>(session, () => bench.close());
  } catch (error) {
    await bench.close();
    throw error;
  }
}

async function readSource(source: ProgramSource, { type }: LoadProgramOptions): Promise<ObjectSpec> {
  if (source instanceof Uint8Array) return parseObjectFile(source, 'object', { type });
  if (typeof source === 'object' && 'assembly' in source) {
    return parseObjectFile(new TextEncoder().encode(source.assembly), 'assembly.s', { type });
  }
  const path = typeof source === 'string' ? source : fileURLToPath(source);
  try {
    return await readObjectFile(path, { type });
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    throw new XdpbedError(error.code, `${path}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/** The program and the map of that name. Throws `usage` where there is neither. */
function partsCalled(object: ObjectSpec, name: string): ObjectPart[] {
  const isCalledSo = (part: { readonly name: string }): boolean => part.name === name;
  const parts: ObjectPart[] = [
    ...(object.maps.some(isCalledSo) ? [{ mapName: name }] : []),
    ...(object.programs.some(isCalledSo) ? [{ programName: name }] : []),
  ];
  if (parts.length > 0) return parts;
  const names = [...object.programs, ...object.maps].map((part) => part.name);
  const near = nearest(name, names);
  throw new XdpbedError('usage', `the object has neither a program nor a map '${name}'`, {
    hint: near === undefined ? `it has ${names.join(', ')}` : `did you mean '${near}'?`,
  });
}

/** Content of maps, with variables put into those of their sections. */
function withGlobals(object: ObjectSpec, { maps = {}, globals = {} }: LoadProgramOptions): MapInput {
  const input: Record<string, unknown> = { ...maps };
  for (const [name, variables] of Object.entries(globalsInput(object.maps, globals))) {
    input[name] = { ...(input[name] as object | undefined), ...variables };
  }
  return input;
}
