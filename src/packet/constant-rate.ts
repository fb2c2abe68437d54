/**
 * When frame `index` of a flow of `rate` frames per second is sent: picoseconds since frame 0, rounded down once and
 * not once for each frame, so that the rate holds over any number of them.
 */
export function sendTime(index: number, rate: number): number {
  return Number((BigInt(index) * 1_000_000_000_000n) / BigInt(rate));
}
