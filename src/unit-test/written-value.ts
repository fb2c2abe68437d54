import { throwMapProblem } from '../core/program-test/map-input.js';
import { mapProblem } from '../core/testbed/map-values.js';
import { XdpbedError } from '../core/diagnostic.js';

/** The bytes that `parse` makes of a value. Where it cannot, the error has the name that may have been meant. */
export function written(parse: () => Uint8Array): Uint8Array {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    return throwMapProblem(mapProblem(error, []));
  }
}
