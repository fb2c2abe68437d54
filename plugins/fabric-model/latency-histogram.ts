/** Buckets of each power of two: a value is known to 1/64 of itself. */
const STEPS = 64;
const STEP_BITS = 6;
/** 2^46 ps is more than a minute. */
const POWERS = 47;

/** How often each latency was seen, in memory that does not grow with how many are. Values are integers. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(POWERS * STEPS);
  #total = 0;
  #max = 0;

  add(value: number): void {
    this.#counts[bucketOf(value)]!++;
    this.#total++;
    if (value > this.#max) this.#max = value;
  }

  /** Counts anew. */
  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
    this.#max = 0;
  }

  get total(): number {
    return this.#total;
  }

  get max(): number {
    return this.#max;
  }

  /** The value that this part of all, 0 to 1, do not exceed: the upper end of its bucket. */
  percentile(part: number): number {
    let left = Math.ceil(this.#total * part);
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      left -= this.#counts[bucket]!;
      if (left <= 0) return Math.min(upperEnd(bucket), this.#max);
    }
    return this.#max;
  }
}

function bucketOf(value: number): number {
  if (value < STEPS) return value;
  const power = Math.min(Math.floor(Math.log2(value)), POWERS - 1 + STEP_BITS - 1);
  const step = Math.floor(value / 2 ** (power - STEP_BITS)) - STEPS;
  return Math.min(
    (power - STEP_BITS + 1) * STEPS + Math.max(0, Math.min(step, STEPS - 1)),
    POWERS * STEPS - 1,
  );
}

function upperEnd(bucket: number): number {
  if (bucket < STEPS) return bucket;
  const power = Math.floor(bucket / STEPS) - 1 + STEP_BITS;
  return (STEPS + (bucket % STEPS) + 1) * 2 ** (power - STEP_BITS) - 1;
}
