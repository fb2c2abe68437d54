import type { RunResult } from '../../src/core/contract/result.js';
import { printable } from '../../src/core/printable.js';
import { drawTable, fitTable, type Line } from './text-layout.js';

/** What the tables of measured figures have in common. */
export type Row = readonly (readonly Line[])[];

export const cell = (text: string | undefined): Line[] => [{ text: printable(text ?? '–') }];
export const strong = (text: string): Line[] => [{ text: printable(text), tone: 'strong' }];
export const head = (cells: readonly (readonly string[])[]): Row =>
  cells.map((lines) => lines.map((text): Line => ({ text: printable(text), tone: 'strong' })));

/** Columns as wide as what stands in them, as long as there is room. */
export function drawRows(rows: readonly Row[], color: boolean): string {
  const natural = rows[0]!.map((_, column) =>
    Math.max(...rows.flatMap((row) => row[column]!.map(({ text }) => text.length))),
  );
  return drawTable(rows, fitTable(natural), color);
}

/** Of one value a group with all that have it, in the order of the first of each. */
export function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return [...groups.values()];
}

/** The same for figures of `what` in runs that differ only on the axis; without one, for those of one run. */
export function comparedWith({ axes }: RunResult, axis: string | undefined, ...what: unknown[]): string {
  return JSON.stringify([Object.entries(axes).filter(([name]) => name !== axis), ...what]);
}

export function isBaseline(
  { axes }: RunResult,
  axis: string | undefined,
  baseline: string | undefined,
): boolean {
  return axis !== undefined && axes[axis] === baseline;
}

export function ratio(a: number, b: number): string | undefined {
  if (b === 0) return undefined;
  const value = a / b;
  return value < 10 ? value.toFixed(2) : value.toFixed(1);
}
