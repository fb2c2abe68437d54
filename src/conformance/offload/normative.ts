import { it } from 'vitest';

/**
 * A test of one or more normative sentences of a specification in docs/spec, by their ids. specification.test.ts sees to
 * it that each sentence has a test and each test a sentence.
 */
export function normative(
  ids: string | readonly string[],
  what: string,
  test: () => void | Promise<void>,
): void {
  it(`${what} [${[ids].flat().join(', ')}]`, test);
}

/** Bytes written out as hexadecimal digits; spaces, line ends and `|` between them mean nothing. */
export function hex(text: string): Uint8Array {
  const digits = text.replaceAll(/[\s|]/g, '');
  if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/.test(digits)) throw new RangeError(`no bytes: ${text}`);
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}
