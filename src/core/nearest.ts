import { closest, distance } from 'fastest-levenshtein';

/** The candidate a typing error away from `word`, if there is one: for «did you mean …?». */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined;
  // A name without the prefix of all of its kind: `drop` for XDP_DROP.
  const suffix = `_${word.toUpperCase()}`;
  const prefixed = candidates.filter((candidate) => candidate.toUpperCase().endsWith(suffix));
  if (prefixed.length === 1 && word !== '') return prefixed[0];
  const best = closest(word, candidates);
  return distance(word, best) <= Math.max(2, Math.floor(word.length / 3)) ? best : undefined;
}
