import type { Clock, Picoseconds } from '../../src/core/contract/clock.js';
import type { ProgramWork } from '../../src/core/contract/executor.js';
import {
  COST_PARAMETER_NAMES,
  type CostModel,
  type CostParameterName,
} from '../../src/core/cost-model/index.js';
import type { VirtualCpu } from './virtual-cpu.js';
import { WorkMeter } from './work-meter.js';

type Costs = Readonly<Record<CostParameterName, number>>;

/** Nothing costs time, and nothing waits to be done together. */
const FREE = Object.fromEntries(
  COST_PARAMETER_NAMES.map((name) => [name, name === 'redirect-bulk' ? 1 : 0]),
) as Costs;

/**
 * What the parts of the model book their work with. While the traffic of a run goes through, nothing costs time: what
 * happens is what matters. While rates are measured, everything costs what the cost model says, on the CPU that works.
 *
 * What a part does to others takes effect when it has taken its time (`then`): a frame is in a ring once it was put
 * there, and whoever it is for is woken then, or is awake by then.
 */
export class Timing {
  costs: Costs = FREE;
  #model: CostModel | undefined;
  #cpu: VirtualCpu | undefined;
  readonly #meters = new WeakMap<ProgramWork, WorkMeter>();

  constructor(readonly clock: Clock) {}

  /** Whether anything costs time. */
  get isTimed(): boolean {
    return this.#model !== undefined;
  }

  /** From now on things cost time. */
  start(model: CostModel): void {
    this.#model = model;
    this.costs = model.of;
  }

  stop(): void {
    this.#model = undefined;
    this.#cpu = undefined;
    this.costs = FREE;
  }

  /** The CPU that works now; undefined where nothing costs time. */
  get cpu(): VirtualCpu | undefined {
    return this.#cpu;
  }

  /** What is charged from now on is this CPU's. */
  work(cpu: VirtualCpu): void {
    this.#cpu = cpu;
  }

  /** When the CPU that works is done with what it was charged. */
  get now(): Picoseconds {
    return this.#cpu === undefined ? this.clock.now() : this.#cpu.time;
  }

  charge(cost: Picoseconds): void {
    this.#cpu?.charge(cost);
  }

  /** Has this happen when the CPU is done with what it was charged so far; at once where nothing costs time. */
  then(effect: () => void): void {
    if (this.#cpu === undefined) effect();
    else this.#cpu.then(effect);
  }

  /** As `then`, of a function that is there already: with nothing to wait for, nothing is made for a frame. */
  thenCall<A, B>(effect: (a: A, b: B) => void, a: A, b: B): void {
    if (this.#cpu === undefined) effect(a, b);
    else deferCall(this.#cpu, effect, a, b);
  }

  /** What a program's run is to be charged by, asked for before it runs; undefined where nothing costs time. */
  meter(work: ProgramWork | undefined): WorkMeter | undefined {
    if (this.#model === undefined || work === undefined) return undefined;
    let meter = this.#meters.get(work);
    if (meter === undefined) this.#meters.set(work, (meter = new WorkMeter(work, this.#model)));
    return meter;
  }
}

/** Apart from who calls it, because V8 makes what a closure holds when the function is entered that it is in. */
function deferCall<A, B>(cpu: VirtualCpu, effect: (a: A, b: B) => void, a: A, b: B): void {
  cpu.then(() => effect(a, b));
}
