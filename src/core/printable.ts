/**
 * Makes text of others fit to be printed: names and values come from object files and from guests, and what moves a
 * terminal's cursor, turns the direction of writing or breaks a line for some reader must not come through. Everything
 * that prints or records such text makes it printable here.
 *
 * What is not printable is written as its UTF-16 code units in the notation of JSON (`\u001b`; RFC 8259, section 7), so that
 * a JSON document is the same document afterwards: there such a character can only be in a string.
 */

/**
 * Control characters (C0, DEL, C1), format characters (bidirectional controls among them), lone surrogates, private use, and
 * what is no character or not assigned, by their Unicode category; what is ignored where a font does not have it (variation
 * selectors, fillers of Hangul); the line and paragraph separators; BRAILLE PATTERN BLANK, which is blank. Of marks that
 * combine, those that have no letter that is printed, or that two others are already on: piled up they cover the lines beside them.
 */
const UNPRINTABLE = /[\p{C}\p{DI}\u2028\u2029\u2800]|(?<!(?!\p{DI})\p{L}(?:(?!\p{DI})\p{M})?)\p{M}/gu;
/** Nearly all text, and told without a look at each character's category. */
const PLAIN = /^[\x20-\x7e]*$/;

/** One line, in which every character has a glyph, is on the one before it, or is a blank. */
export function printable(text: string): string {
  return replaceUnprintable(text, '', inJson);
}

/** As {@link printable}, but tabs stay: a line of source code. */
export function printableLine(text: string): string {
  return replaceUnprintable(text, '\t', inJson);
}

/** As {@link printable}, but tabs and line feeds stay: text of several lines, or a JSON document. */
export function printableText(text: string): string {
  return replaceUnprintable(text, '\t\n', inJson);
}

/** Has `escape` write what is not printable, for formats with a notation of their own; what is in `kept` stays. */
export function replaceUnprintable(
  text: string,
  kept: string,
  escape: (character: string) => string,
): string {
  if (PLAIN.test(text)) return text;
  return text.replace(UNPRINTABLE, (character) => (kept.includes(character) ? character : escape(character)));
}

function inJson(character: string): string {
  return character
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}
