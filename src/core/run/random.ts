import { xoroshiro128plus } from 'pure-rand';

/**
 * A stream of unsigned 32-bit numbers drawn from a run's seed. Streams of different names are independent, so
 * that a part that draws more numbers than before does not shift what the others get.
 */
export function randomStream(seed: bigint, name: string): () => number {
  let mixed = Number(BigInt.asIntN(32, seed ^ (seed >> 32n)));
  for (const character of name) mixed = Math.imul(mixed ^ character.codePointAt(0)!, 0x01000193);
  const generator = xoroshiro128plus(mixed);
  return () => generator.unsafeNext() >>> 0;
}
