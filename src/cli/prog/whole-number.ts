import { XdpbedError } from '../../core/diagnostic.js';

/** A whole number of an option, from `least` on. Throws `usage`. */
export function wholeNumber(option: string, text: string, least = 1): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number) || number < least)
    throw new XdpbedError('usage', `${option} '${text}' is not a whole number from ${least} on`);
  return number;
}
