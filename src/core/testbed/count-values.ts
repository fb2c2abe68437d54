/**
 * Values of all runs together that a testbed may expand to: validating and wiring take one or two microseconds
 * for each.
 */
export const MAX_VALUES = 500_000;

/** Numbers, texts, lists and maps that plain data consists of. */
export function countValues(data: unknown): number {
  if (typeof data !== 'object' || data === null) return 1;
  return Object.values(data).reduce((count: number, value) => count + countValues(value), 1);
}
