/**
 * Makes control and formatting characters visible. Names and values come from object files and from guests: an
 * escape sequence among them must not reach the terminal.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}
