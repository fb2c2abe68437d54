import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { ProgramWork } from '../../src/core/contract/executor.js';
import type { CostModel } from '../../src/core/cost-model/index.js';

/** What the programs of one party cost: by the insns that they execute, the helpers that they call, and their bytes. */
export class WorkMeter {
  #insns: number;
  #bytes: number;
  /** Of the helpers that programs may call: number, price, and calls that were paid. */
  #ids: readonly number[] = [];
  #prices: Picoseconds[] = [];
  #calls: number[] = [];

  constructor(
    readonly work: ProgramWork,
    readonly costs: CostModel,
  ) {
    this.#insns = work.insns;
    this.#bytes = work.bytes;
    this.#follow();
  }

  /** The price of what was done since it was last asked for. */
  take(): Picoseconds {
    const { work, costs } = this;
    const { insns, bytes, helpers } = work;
    let price = (insns - this.#insns) * costs.of.insn + (bytes - this.#bytes) * costs.of['helper-byte'];
    this.#insns = insns;
    this.#bytes = bytes;
    if (helpers !== this.#ids) this.#follow();
    for (let i = 0; i < this.#ids.length; i++) {
      const calls = work.calls(this.#ids[i]!);
      price += (calls - this.#calls[i]!) * this.#prices[i]!;
      this.#calls[i] = calls;
    }
    return price;
  }

  /** Other helpers may be called: those that are new have not been yet. */
  #follow(): void {
    const before = new Map(this.#ids.map((id, index) => [id, this.#calls[index]!]));
    this.#ids = this.work.helpers;
    this.#prices = this.#ids.map((id) => this.costs.helper(id));
    this.#calls = this.#ids.map((id) => before.get(id) ?? this.work.calls(id));
  }
}
