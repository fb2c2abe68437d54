/**
 * Latencies in nanoseconds, counted in buckets that are at most 1/128 of their values wide: a percentile read from it is
 * less than 1 % too long. Values below 256 have a bucket each; above, each power of two has 128.
 */
export const LATENCY_BUCKETS = 256 + 30 * 128;

/** The bucket of a value. Self-contained: an exchange's thread gets its source. */
export function latencyBucket(nanoseconds: number): number {
  if (nanoseconds < 256) return Math.max(0, Math.floor(nanoseconds));
  const exponent = Math.min(37, Math.floor(Math.log2(nanoseconds)));
  const step = Math.min(255, Math.floor(nanoseconds / 2 ** (exponent - 7)));
  return 256 + (exponent - 8) * 128 + (step - 128);
}

/** The longest value of a bucket, in nanoseconds. */
export function longestOf(bucket: number): number {
  if (bucket < 256) return bucket;
  const exponent = 8 + Math.floor((bucket - 256) / 128);
  return (128 + ((bucket - 256) % 128) + 1) * 2 ** (exponent - 7) - 1;
}

/** The value that `share` (0 to 1) of what was counted does not exceed; undefined when nothing was. */
export function percentile(counts: ArrayLike<number>, share: number): number | undefined {
  let total = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) total += counts[bucket]!;
  if (total === 0) return undefined;
  let seen = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) {
    seen += counts[bucket]!;
    if (seen >= share * total) return longestOf(bucket);
  }
  return undefined;
}
