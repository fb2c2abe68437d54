import { XdpbedError } from '../core/diagnostic.js';
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

/** The longest object file that is read; those of real programs, debug information included, have some MiB at most. */
export const MAX_OBJECT_BYTES = 16 * 1024 * 1024;

/**
 * What an object file holds: an ELF object, or programs as text when its name ends in `.s`. Throws `object-invalid`,
 * `object-unsupported` or `asm-invalid`, and what `resizeMaps` throws.
 */
export function parseObjectFile(
  bytes: Uint8Array,
  name: string,
  { type, maxEntries }: ObjectFileOptions = {},
): ObjectSpec {
  if (bytes.length > MAX_OBJECT_BYTES) {
    throw new XdpbedError(
      'object-invalid',
      `the object file has more than ${MAX_OBJECT_BYTES} bytes (${MAX_OBJECT_BYTES / 2 ** 20} MiB)`,
      { at: { offset: MAX_OBJECT_BYTES }, hint: 'leave out what no program needs: llvm-strip -g' },
    );
  }
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
