/** Characters of a line that are kept. */
export const MAX_LINE = 400;

/** One line that a guest has written, without escape sequences and control characters; ASCII, as the kernel writes. */
export function printableLine(line: string): string {
  return (
    line
      .slice(0, MAX_LINE)
      // eslint-disable-next-line no-control-regex -- escape sequences are what is looked for
      .replaceAll(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]/g, '')
      .replaceAll(/[^\x20-\x7e]/g, '')
      .trimEnd()
  );
}

/** Text of several lines that a guest has written, for a terminal. */
export function printableText(text: string): string {
  return text.split('\n').map(printableLine).join('\n');
}
