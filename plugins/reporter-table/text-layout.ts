/** Text for a terminal: lines with a tone, wrapped to a width, painted last so that colours take no room. */

/** Fixed, not the terminal's: the same result gives the same bytes wherever it is printed. */
export const MAX_WIDTH = 120;

export type Tone = 'good' | 'bad' | 'strong';

export interface Line {
  readonly text: string;
  readonly tone?: Tone | undefined;
}

/** SGR codes, on and off (ECMA-48, 8.3.117). */
const SGR: Readonly<Record<Tone, readonly [number, number]>> = {
  good: [32, 39],
  bad: [31, 39],
  strong: [1, 22],
};

export function paint({ text, tone }: Line, color: boolean): string {
  if (!color || tone === undefined || text === '') return text;
  const [on, off] = SGR[tone];
  return `\u001b[${on}m${text}\u001b[${off}m`;
}

/**
 * Breaks a line at blanks; what follows is indented by two more than the line. A word that is wider than the
 * width is cut.
 */
export function wrap(line: Line, width: number): Line[] {
  const indent = /^ */.exec(line.text)![0];
  const lines: string[] = [];
  let current = '';
  // At least one character: a column narrower than its indent must not hold up the loop below.
  const room = () => Math.max(1, width - indent.length - (lines.length === 0 ? 0 : 2));
  for (let word of line.text.split(' ').filter((part) => part !== '')) {
    const joined = current === '' ? word : `${current} ${word}`;
    if (joined.length <= room()) {
      current = joined;
      continue;
    }
    if (current !== '') lines.push(current);
    while (word.length > room()) {
      const fits = room();
      lines.push(word.slice(0, fits));
      word = word.slice(fits);
    }
    current = word;
  }
  if (current !== '' || lines.length === 0) lines.push(current);
  return lines.map((text, index) => ({ text: indent + (index === 0 ? '' : '  ') + text, tone: line.tone }));
}

/** Widths of columns that together take at most `budget`: the widest give way first, none below `least`. */
export function fitColumns(natural: readonly number[], budget: number, least = 8): number[] {
  const widths = [...natural];
  let excess = widths.reduce((sum, width) => sum + width, 0) - budget;
  for (; excess > 0; excess--) {
    const widest = widths.indexOf(Math.max(...widths));
    if (widths[widest]! <= least) break;
    widths[widest]!--;
  }
  return widths;
}

/** Widths of the columns of a table that is no wider than `MAX_WIDTH`. */
export function fitTable(natural: readonly number[]): number[] {
  // Each column has a blank on either side and a border, and there is one border more.
  return fitColumns(natural, MAX_WIDTH - 3 * natural.length - 1);
}

/**
 * Draws cells of several lines in a grid. Not by cli-table3: it takes 60 ms and more for a row like ours, a
 * minute and more for a testbed of a thousand runs.
 */
export function drawTable(
  rows: readonly (readonly (readonly Line[])[])[],
  widths: readonly number[],
  color: boolean,
): string {
  const border = (left: string, middle: string, right: string) =>
    left + widths.map((width) => '─'.repeat(width + 2)).join(middle) + right;
  const bodies = rows.map((row) => {
    const cells = row.map((cell, column) => cell.flatMap((line) => wrap(line, widths[column]!)));
    const height = Math.max(...cells.map((cell) => cell.length));
    return Array.from({ length: height }, (_, index) => {
      const texts = cells.map((cell, column) => {
        const line = cell[index] ?? { text: '' };
        return paint(line, color) + ' '.repeat(Math.max(0, widths[column]! - line.text.length));
      });
      return `│ ${texts.join(' │ ')} │`;
    }).join('\n');
  });
  const between = `\n${border('├', '┼', '┤')}\n`;
  return [border('┌', '┬', '┐'), bodies.join(between), border('└', '┴', '┘')].join('\n');
}

/** The first `limit` items and, when there are more, a word on how many. */
export function cut<T>(items: readonly T[], limit: number, more: (rest: readonly T[]) => T): T[] {
  // One item in place of one item says less and is no shorter.
  if (items.length <= limit + 1) return [...items];
  return [...items.slice(0, limit), more(items.slice(limit))];
}

/** `1 run`, `8 runs` */
export function quantity(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
