/**
 * The parts in one array of its own. Not Buffer.concat: its result may share a pool's ArrayBuffer, and a
 * Buffer's slice() is not a Uint8Array's.
 */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}
