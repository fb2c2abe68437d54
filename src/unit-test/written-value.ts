import { throwMapProblem } from '../core/testbed/map-input.js';
import { mapProblem } from '../core/testbed/map-values.js';
import { XdpbedError } from '../core/diagnostic.js';

/** What `parse` makes of a value. Where it cannot, the error has the name that may have been meant. */
export function written<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    return throwMapProblem(mapProblem(error, []));
  }
}
