import type { RunProgress } from '../core/run/run-progress.js';
import type { Progress } from './progress.js';

/** What a phase is called that has nothing to count. */
const PHASES: Readonly<Record<RunProgress['phase'], string>> = {
  'bring-up': 'bringing up',
  requests: 'requests',
  attack: 'attack',
  traffic: 'traffic',
  measure: 'measuring',
};

/** On a terminal, how far the run under way is: frames, their rate, and how long it may take to the end of the traffic. */
export class RunProgressLine {
  #run = '';
  #trafficBegan = 0;

  constructor(
    readonly progress: Progress,
    /** Milliseconds. */
    readonly clock: () => number = () => performance.now(),
  ) {}

  /** @param run `run 2 of 8: bridge/xdp1/host` */
  begin(run: string): void {
    this.#run = run;
    this.progress.say(run);
  }

  show(progress: RunProgress): void {
    const { phase, frames } = progress;
    if (phase === 'traffic' && frames === undefined) this.#trafficBegan = this.clock();
    const seconds = (this.clock() - this.#trafficBegan) / 1000;
    this.progress.mention(
      `${this.#run} – ${frames === undefined ? PHASES[phase] : trafficWords(frames, progress.of, seconds)}`,
    );
  }
}

/** `1 200 000 of 10 000 000 frames (12 %), 350 000/s, 26 s left` */
export function trafficWords(
  frames: number,
  of: number | undefined,
  seconds: number,
  unit = 'frames',
): string {
  const rate = seconds > 0 ? frames / seconds : 0;
  const perSecond = rate > 0 ? `, ${grouped(rate)}/s` : '';
  if (of === undefined || !Number.isSafeInteger(of) || of < frames)
    return `${grouped(frames)} ${unit}${perSecond}`;
  const left = rate > 0 ? `, ${duration((of - frames) / rate)} left` : '';
  return `${grouped(frames)} of ${grouped(of)} ${unit} (${Math.floor((100 * frames) / of)} %)${perSecond}${left}`;
}

/** `1 200 000` */
function grouped(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ' ');
}

/** `26 s`, `3 min 20 s`, `2 h 5 min` */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
