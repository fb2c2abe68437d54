import type { Line } from './text-layout.js';

/** Of a table and the notes under it, for tests: the cells of each row without blanks around them, and the notes. */
export function cellsAndNotes([table, notes]: readonly (string | readonly Line[])[]): {
  rows: string[][];
  notes: string[];
} {
  const rows = (table as string)
    .split('\n')
    .filter((line) => line.startsWith('│'))
    .map((line) =>
      line
        .split('│')
        .slice(1, -1)
        .map((text) => text.trim()),
    );
  return { rows, notes: (notes as readonly Line[]).map(({ text }) => text.trim()) };
}
