import { XdpbedError, messageOf } from '../diagnostic.js';
import { placeInPlugin } from './plugin-code.js';

/** What a plugin threw, with its name and the place in its code; an XdpbedError says enough by itself. */
export function pluginFailure(name: string, phase: string, error: unknown): XdpbedError {
  if (error instanceof XdpbedError) return error;
  return new XdpbedError('plugin-failed', `plugin ${name} failed in ${phase}: ${messageOf(error)}`, {
    at: placeInPlugin(error),
    cause: error,
  });
}
