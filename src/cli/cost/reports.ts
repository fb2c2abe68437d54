import type { RunSensitivity } from '../../core/run/cost-sensitivity.js';
import type { CalibrationFit } from '../../core/run/fit-calibration.js';

/** What `calibrate --format json` prints. */
export interface CalibrationReport extends CalibrationFit {
  readonly schema: 'xdpbed.calibration-fit/1';
  readonly testbed: string;
  readonly calibration: string;
  /** Whose rates it was fitted to. */
  readonly reference: string;
  /** How far off a run may be, relative; and one that the others predict. */
  readonly limits: { readonly within: number; readonly leaveOneOut: number };
  readonly passed: boolean;
  readonly written: boolean;
}

/** What `sensitivity --format json` prints. */
export interface SensitivityReport {
  readonly schema: 'xdpbed.sensitivity/1';
  readonly testbed: string;
  readonly calibration: string;
  /** How far each cost was moved, relative. */
  readonly by: number;
  readonly runs: readonly RunSensitivity[];
  /** Id of the run that was under way when all was ended from outside. */
  readonly interrupted?: string | undefined;
}
