import type { WorkloadFrame } from '../contract/workload.js';

/** How far a run is. By the machine's clock, so it is no event: the stream of events is the same each time. */
export interface RunProgress {
  readonly phase: 'bring-up' | 'requests' | 'attack' | 'traffic' | 'measure';
  /** Frames of the workload that were sent, in phase `traffic`. */
  readonly frames?: number | undefined;
  /** How many there are, if the workload says so. */
  readonly of?: number | undefined;
}

/** Milliseconds between two reports of one phase. */
const INTERVAL_MS = 100;

/** Frames from one look at the clock to the next. */
const FRAMES_PER_LOOK = 64;

/** The same frames; `report` is told now and then how many were taken. */
export function* countedFrames(
  frames: Iterable<WorkloadFrame>,
  of: () => number | undefined,
  report: (progress: RunProgress) => void,
): Generator<WorkloadFrame> {
  let taken = 0;
  let due = performance.now() + INTERVAL_MS;
  for (const frame of frames) {
    yield frame;
    taken++;
    if (taken % FRAMES_PER_LOOK !== 0) continue;
    const now = performance.now();
    if (now < due) continue;
    due = now + INTERVAL_MS;
    report({ phase: 'traffic', frames: taken, of: of() });
  }
}
