/** What a guest is told of a rule of all guests together, whichever it is: which one and by how much is what others hold or do. */
export const HOST_IS_FULL = 'the host has no more for its guests at present';

/**
 * `Ruling.toGuest` of a denial for rules of a guest's own and of all guests. A guest that breaks a rule of its own is told of
 * those alone: whether the others leave it room besides is then not to be seen.
 *
 * @param own texts of the rules of its own that it breaks
 */
export function denialText(own: readonly string[]): string {
  return own.length === 0 ? HOST_IS_FULL : own.join('; ');
}
