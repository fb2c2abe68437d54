import { replaceUnprintable } from '../core/printable.js';

/**
 * An element as lines. Content is text, kept byte for byte (no indentation is put into it), or other elements,
 * which are indented by two.
 */
export function element(
  name: string,
  attributes: Readonly<Record<string, string>>,
  content: string | readonly (readonly string[])[] = '',
): string[] {
  const tag = [
    name,
    ...Object.entries(attributes).map(([key, value]) => `${key}="${attribute(value)}"`),
  ].join(' ');
  if (content.length === 0) return [`<${tag}/>`];
  if (typeof content === 'string') return [`<${tag}>${escapeXml(content)}</${name}>`];
  return [`<${tag}>`, ...content.flat().map((line) => `  ${line}`), `</${name}>`];
}

/** A parser turns the white space of an attribute into blanks unless it is escaped (XML 1.0, 3.3.3). */
function attribute(text: string): string {
  return escapeXml(text).replace(/[\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  // A literal carriage return would be read as a line feed (XML 1.0, 2.11).
  '\r': '&#13;',
};

/**
 * Escapes text. What XML 1.0 has no way to write at all (most control characters, lone surrogates, U+FFFE and
 * U+FFFF) becomes U+FFFD: one such character would make the whole report unreadable. What else is not printable, line feeds
 * and tabs apart, becomes a character reference, which is the same text.
 */
export function escapeXml(text: string): string {
  const legal = text
    .replace(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '\ufffd')
    .replace(/[&<>"'\r]/g, (character) => ENTITIES[character]!);
  return replaceUnprintable(legal, '\t\n', (character) => `&#${character.codePointAt(0)!};`);
}
