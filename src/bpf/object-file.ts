import { readAssembly } from './assembly-object.js';
import { readObject, type ObjectSpec } from './elf/object-spec.js';
import { resizeMaps, type MapSizes } from './map-sizes.js';
import { BPF_PROG_TYPE_UNSPEC, BPF_PROG_TYPE_XDP } from './program.js';

export interface ObjectFileOptions {
  /** What programs are whose section does not say it, as `bpftool prog load … type xdp`. */
  readonly type?: 'xdp' | undefined;
  /** Other sizes of maps than the object’s. */
  readonly maxEntries?: MapSizes | undefined;
}

/**
 * What an object file holds: an ELF object, or programs as text when its name ends in `.s`. Throws `object-invalid`,
 * `object-unsupported` or `asm-invalid`, and what `resizeMaps` throws.
 */
export function parseObjectFile(
  bytes: Uint8Array,
  name: string,
  { type, maxEntries }: ObjectFileOptions = {},
): ObjectSpec {
  const object = name.endsWith('.s')
    ? readAssembly(new TextDecoder().decode(bytes), name)
    : readObject(bytes, name);
  const typed = type === undefined ? object : takeForXdp(object);
  return maxEntries === undefined ? typed : resizeMaps(typed, maxEntries);
}

/** The object with every program an XDP program whose section does not say what it is. */
export function takeForXdp(object: ObjectSpec): ObjectSpec {
  return {
    ...object,
    programs: object.programs.map((program) =>
      program.type === BPF_PROG_TYPE_UNSPEC ? { ...program, type: BPF_PROG_TYPE_XDP } : program,
    ),
  };
}
