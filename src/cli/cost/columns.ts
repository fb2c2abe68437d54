/** Rows as lines, their cells below each other: the first column to the left, `left` ones as well, others to the right. */
export function columns(rows: readonly (readonly string[])[], left: readonly number[] = []): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths[column]!;
          return column === 0 || left.includes(column) ? cell.padEnd(width) : cell.padStart(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

export const mpps = (perSecond: number): string => (perSecond / 1e6).toFixed(3);

/** `+1.2 %`, of a part of one. */
export function signedPercent(part: number): string {
  const text = (Math.abs(part) * 100).toFixed(1);
  return `${Number(text) === 0 ? '' : part < 0 ? '−' : '+'}${text} %`;
}

/** Four digits at most. */
export const short = (value: number): string => String(Number(value.toPrecision(4)));
