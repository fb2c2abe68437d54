import { parentPort, workerData } from 'node:worker_threads';
import { JudgePriority } from './judge-priority.js';

/* A thread of the process behind a JudgeProcess, which looks after the one that judges: that one may never give way. */

/** What the two share: the number of what is under way, of a verification or of a verifier that is made; 0 for none. */
export interface JudgeWatchData {
  readonly underWay: SharedArrayBuffer;
  /** The process that started this one: asked of the system here, it could be gone already. */
  readonly parent: number;
}

/** Milliseconds between looks. */
const MS_PER_LOOK = 100;
/** Of what a core could have done meanwhile: a judge that got less is in want of it. */
const WANT = 0.25;
/** Looks after which a judge that takes part stands back again, to see whether it still has to. */
const LOOKS_TO_TAKE_PART = 20;

function watch(underWay: Int32Array, parent: number): void {
  let stake: Stake | undefined;
  setInterval(() => {
    // Who started this process is gone, and whatever this one is at, it is for nobody.
    if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL');
    stake?.look(Atomics.load(underWay, 0));
  }, MS_PER_LOOK);
  // Not before: starting is the host's own work.
  parentPort!.once('message', () => {
    const priority = new JudgePriority();
    if (priority.changes) stake = new Stake(priority);
    parentPort!.postMessage('ready');
  });
}

/** Whether the judge stands back or takes part, by what it gets. */
class Stake {
  /** Looks until it stands back again; 0 when it does. */
  #looks = 0;
  #id = 0;
  #wall = performance.now();
  #cpu = cpuMilliseconds();

  constructor(readonly priority: JudgePriority) {
    priority.standBack();
  }

  /** @param id what is under way, 0 for nothing */
  look(id: number): void {
    const wall = performance.now();
    const cpu = cpuMilliseconds();
    const isInWant = id !== 0 && id === this.#id && cpu - this.#cpu < (wall - this.#wall) * WANT;
    [this.#id, this.#wall, this.#cpu] = [id, wall, cpu];
    if (this.#looks > 0) {
      this.#looks = id === 0 ? 0 : this.#looks - 1;
      if (this.#looks === 0) this.priority.standBack();
    } else if (isInWant) {
      this.#looks = LOOKS_TO_TAKE_PART;
      this.priority.takePart();
    }
  }
}

/** Of the process. */
function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

const { underWay, parent } = workerData as JudgeWatchData;
watch(new Int32Array(underWay), parent);
