import { XdpbedError } from '../../core/diagnostic.js';
import { applyMapSizes, parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import { selectProgram } from '../../core/offload/select-program.js';
import { readObjectFile } from '../../core/testbed/object-file.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';

/** Options of every verb that reads an object. */
export interface ObjectOptions {
  readonly type?: 'xdp';
  /** `NAME.max_entries=N`, each of them. */
  readonly map?: readonly string[];
}

/** Options of every verb that takes one program of an object. */
export interface ProgramOptions extends ObjectOptions {
  readonly program?: string;
  readonly section?: string;
}

/** Reads an object. Throws what reading it throws, with the object's name in front. */
export async function openObject(path: string, { type, map = [] }: ObjectOptions): Promise<ObjectSpec> {
  try {
    const sizes = parseMapSizes(map);
    return applyMapSizes(await readObjectFile(path, { type }), sizes);
  } catch (error) {
    if (!(error instanceof XdpbedError) || error.code === 'usage') throw error;
    // The offset is in the message already.
    throw new XdpbedError(error.code, `${path}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/** Reads the object and the program in it that the options name. Throws `usage` when they name none. */
export async function openProgram(
  path: string,
  options: ProgramOptions,
): Promise<{ readonly object: ObjectSpec; readonly spec: ProgramSpec }> {
  const object = await openObject(path, options);
  const selection = selectProgram(object, options.program ?? options.section);
  if ('problem' in selection) {
    throw new XdpbedError('usage', `${path}: ${selection.problem}`, { hint: selection.hint });
  }
  return { object, spec: selection.program };
}
