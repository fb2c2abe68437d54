import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { DeploymentParts } from './deployment-parts.js';

/** Virtual time that is simulated at once; then the event loop gets its turn. */
const SLICE: Picoseconds = 50_000_000;

type Parts = Pick<DeploymentParts, 'clock' | 'turns'>;

/** Lets so much virtual time pass. */
export async function runFor(parts: Parts, duration: Picoseconds): Promise<void> {
  const { clock } = parts;
  const end = clock.now() + duration;
  while (clock.now() < end) await slice(parts, Math.min(end, clock.now() + SLICE));
}

/** Lets virtual time pass for as long as somebody is busy, and until nothing more is due. */
export async function runUntilIdle(parts: Parts, isBusy: () => boolean): Promise<void> {
  const { clock } = parts;
  while (isBusy()) await slice(parts, clock.now() + SLICE);
  clock.runUntilIdle();
}

async function slice({ clock, turns }: Parts, end: Picoseconds): Promise<void> {
  clock.runUntil(end);
  const turn = turns.next();
  if (turn !== undefined) await turn;
}
