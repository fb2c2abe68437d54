const PS_PER_US = 1_000_000;
const US_PER_SECOND = 1_000_000;
/** Before it, picoseconds are below 2^53. */
const EXACT_SECONDS = 9007;

/**
 * When frame `index` of a flow of `rate` frames per second, at most 10^9, is sent: picoseconds since frame 0, rounded
 * down once and not once for each frame, so that the rate holds over any number of them.
 */
export function sendTime(index: number, rate: number): number {
  // Long division, by whole seconds, microseconds and picoseconds: each dividend is below 2^53, so all is exact.
  const seconds = Math.floor(index / rate);
  if (seconds >= EXACT_SECONDS) return Number((BigInt(index) * 1_000_000_000_000n) / BigInt(rate));
  const us = (index - seconds * rate) * US_PER_SECOND;
  const wholeUs = Math.floor(us / rate);
  const ps = (us - wholeUs * rate) * PS_PER_US;
  return (seconds * US_PER_SECOND + wholeUs) * PS_PER_US + Math.floor(ps / rate);
}
