import { execFileSync } from 'node:child_process';
import { getPriority, setPriority } from 'node:os';

/**
 * How far judges stand back where they take part like others, setpriority(2): on a core of which somebody else wants all, a
 * quarter is left for them.
 */
const NICE = 5;
/** Milliseconds for a program that changes one attribute of a process. */
const MS_TO_CHANGE = 5_000;

/**
 * When a judge runs. What the host does itself comes first, other guests' commands and frames: so judging is for cores that
 * have nothing else to do (SCHED_IDLE, sched(7)), and what else wakes there does not wait for it. Of a low priority alone, a
 * thread that wakes waits for the slice that is running, up to a tick of 4 ms, and with it the host, whose threads help each
 * other to collect garbage. But where all cores are wanted, such a judge gets next to nothing, so that it takes part like others
 * for a while.
 *
 * Of the thread that judges only: threads that look after it are not kept from it.
 */
export class JudgePriority {
  /** Whether the judge may go from one to the other, which needs chrt(1) and the right to come back (CAP_SYS_NICE). */
  readonly changes: boolean;

  constructor() {
    try {
      // Not before the host, whatever that has.
      setPriority(process.pid, Math.max(getPriority(process.pid), NICE));
    } catch {
      // Then it is as it was.
    }
    // By a process that tries both with itself: who may not come back must not go.
    this.changes = done('sh', ['-c', 'chrt -i -p 0 $$ && chrt -o -p 0 $$']);
  }

  /** Runs only where nobody else wants to. */
  standBack(): void {
    done('chrt', ['-i', '-p', '0', String(process.pid)]);
  }

  /** Takes part in what is shared, at its lower priority. */
  takePart(): void {
    done('chrt', ['-o', '-p', '0', String(process.pid)]);
  }
}

function done(command: string, args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore', timeout: MS_TO_CHANGE });
    return true;
  } catch {
    return false;
  }
}
