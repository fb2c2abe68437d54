import { readAssembly } from './assembly-object.js';
import { readObject, type ObjectSpec } from './elf/object-spec.js';

/**
 * What an object file holds: an ELF object, or programs as text when its name ends in `.s`. Throws `object-invalid`,
 * `object-unsupported` or `asm-invalid`.
 */
export function parseObjectFile(bytes: Uint8Array, name: string): ObjectSpec {
  return name.endsWith('.s') ? readAssembly(new TextDecoder().decode(bytes), name) : readObject(bytes, name);
}
