import { token } from './injection.js';

/**
 * What every run binds besides its plugins, for those to take by constructor: RANDOM and RUN_SIGNAL here, CLOCK
 * (clock.ts), EVENTS (event.ts), OBJECTS (run-spec.ts), PARTY_FACTORY (party.ts), POLICY_CHAIN (policy.ts) and
 * TRANSPORT (transport.ts).
 */

/** Draws from the run's seed: the same name gives the same stream of unsigned 32-bit integers. */
export type Random = (stream: string) => () => number;

export const RANDOM = token<Random>('random');

/** Fires when the run is interrupted: whoever works for long looks at it and throws `interrupted`. */
export const RUN_SIGNAL = token<AbortSignal>('run-signal');
