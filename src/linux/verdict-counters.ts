import { XDP_ACTION_NAMES } from '../bpf/xdp.js';
import { emptyVerdictCounts, type VerdictCounts } from '../core/contract/result.js';
import { CpuCounters } from './cpu-counters.js';
import { VERDICT_COUNTERS } from './hook-programs/index.js';

/** What programs returned, counted by themselves: the map that `countVerdicts` and `routeVerdicts` write to. */
export class VerdictCounters {
  readonly #counters = new CpuCounters('verdicts', VERDICT_COUNTERS);

  get fd(): number {
    return this.#counters.fd;
  }

  /** So far; once closed, what it was then. */
  read(): VerdictCounts {
    const counts = emptyVerdictCounts();
    // What is no verdict the driver takes for XDP_ABORTED.
    for (const [index, count] of this.#counters.read().entries()) {
      counts[XDP_ACTION_NAMES[index] ?? 'XDP_ABORTED'] += count;
    }
    return counts;
  }

  close(): void {
    this.#counters.close();
  }
}
