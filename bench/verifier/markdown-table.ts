/** A table in Markdown, padded so that it reads well as text; columns of numbers are aligned to the right. */
export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const isNumeric = header.map((_, column) =>
    rows.every((row) => /^(-?[\d.]+ ?%?|NaN|–)$/.test(row[column]!)),
  );
  const widths = header.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((text, column) => (isNumeric[column] ? text.padStart(widths[column]!) : text.padEnd(widths[column]!))).join(' | ')} |`;
  const rule = widths.map(
    (width, column) => '-'.repeat(isNumeric[column] ? width - 1 : width) + (isNumeric[column] ? ':' : ''),
  );
  return [line(header), line(rule), ...rows.map(line)].join('\n');
}
