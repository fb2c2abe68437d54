import type { ProgramWork } from '../../contract/executor.js';

/**
 * What a guest's programs have done on the hosts that it left and on the one where it is: one count that goes on, as if it had
 * not moved. Keeps nothing of the hosts that were left.
 */
export class WorkOfHosts implements ProgramWork {
  readonly #insns: number;
  readonly #bytes: number;
  readonly #calls: ReadonlyMap<number, number>;
  #helpers: readonly number[];

  /**
   * @param before what was done until now, where nothing is done any more
   * @param here what is done from now on; undefined: nothing that was counted, so far
   */
  constructor(
    before: ProgramWork,
    readonly here: () => ProgramWork | undefined,
  ) {
    this.#insns = before.insns;
    this.#bytes = before.bytes;
    this.#calls = new Map(before.helpers.map((helper) => [helper, before.calls(helper)]));
    this.#helpers = before.helpers;
  }

  get insns(): number {
    return this.#insns + (this.here()?.insns ?? 0);
  }

  get bytes(): number {
    return this.#bytes + (this.here()?.bytes ?? 0);
  }

  calls(helper: number): number {
    return (this.#calls.get(helper) ?? 0) + (this.here()?.calls(helper) ?? 0);
  }

  get helpers(): readonly number[] {
    const here = this.here()?.helpers ?? [];
    // Another array only when there are more.
    if (here.some((helper) => !this.#helpers.includes(helper)))
      this.#helpers = [...new Set([...this.#helpers, ...here])].sort((a, b) => a - b);
    return this.#helpers;
  }
}
