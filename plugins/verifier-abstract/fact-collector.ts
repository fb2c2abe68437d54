import type { AccessFact, CallFact, ProgramFacts } from '../../src/core/contract/verifier.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { xdpActionName, type XdpActionName } from '../../src/bpf/xdp.js';
import { truncate } from './scalar/scalar-arithmetic.js';
import type { Scalar } from './scalar/scalar.js';

type Region = AccessFact['region'];

interface MutableAccess {
  region: Region;
  write: boolean;
  size: number;
  minOffset: number;
  maxOffset: number;
  map: number | undefined;
}

interface MutableCall {
  helper: number;
  map: number | undefined;
  constants: Map<number, bigint>;
  visits: number;
}

/** Of a call whose arguments are not looked at. */
export const NO_CONSTANTS: ReadonlyMap<number, bigint> = new Map();

/** Gathers what holds at an insn on every path. What paths disagree on is dropped for good. */
export class FactCollector {
  readonly #accesses = new Map<number, MutableAccess | 'disagree'>();
  readonly #calls = new Map<number, MutableCall>();
  readonly #helpers = new Set<number>();
  readonly #mapTypes = new Set<number>();
  readonly #verdicts = new Set<XdpActionName>();
  readonly #visited: Uint8Array;
  writesPacket = false;

  constructor(slots: number) {
    this.#visited = new Uint8Array(slots);
  }

  visit(insn: number): void {
    this.#visited[insn] = 1;
  }

  access(
    insn: number,
    region: Region,
    write: boolean,
    size: number,
    minOffset: number,
    maxOffset: number,
    map?: number,
  ): void {
    if (write && (region === 'packet' || region === 'packet-meta')) this.writesPacket = true;
    const known = this.#accesses.get(insn);
    if (known === undefined) {
      this.#accesses.set(insn, { region, write, size, minOffset, maxOffset, map });
      return;
    }
    if (known === 'disagree') return;
    if (known.region !== region || known.map !== map) {
      this.#accesses.set(insn, 'disagree');
      return;
    }
    if (minOffset < known.minOffset) known.minOffset = minOffset;
    if (maxOffset > known.maxOffset) known.maxOffset = maxOffset;
  }

  /** Something is accessed that the facts have no region for. */
  accessElsewhere(insn: number): void {
    this.#accesses.set(insn, 'disagree');
  }

  call(insn: number, helper: number, map: number | undefined, constants: ReadonlyMap<number, bigint>): void {
    if (helper >= 0) this.#helpers.add(helper);
    const known = this.#calls.get(insn);
    if (known === undefined) {
      this.#calls.set(insn, { helper, map, constants: new Map(constants), visits: 1 });
      return;
    }
    known.visits++;
    if (known.map !== map) known.map = undefined;
    for (const [argument, value] of known.constants) {
      if (constants.get(argument) !== value) known.constants.delete(argument);
    }
  }

  mapType(type: number): void {
    this.#mapTypes.add(type);
  }

  /** R0 at the end of the program; its low 32 bits are the verdict, and what is no verdict counts as aborted. */
  returns(result: Scalar): void {
    const verdict = truncate(result, 4);
    for (let value = 0n; value <= 4n; value++) {
      if (verdict.admits(value)) this.#verdicts.add(xdpActionName(Number(value)));
    }
    if (verdict.umax > 4n) this.#verdicts.add('XDP_ABORTED');
  }

  get verdicts(): XdpActionName[] {
    return [...this.#verdicts].sort();
  }

  get helpers(): number[] {
    return [...this.#helpers].sort((a, b) => a - b);
  }

  get mapTypes(): number[] {
    return [...this.#mapTypes].sort((a, b) => a - b);
  }

  /** Slots no path came to, the second halves of lddw aside. */
  finish(insns: readonly Insn[]): ProgramFacts {
    const accesses = new Map<number, AccessFact>();
    for (const [insn, fact] of this.#accesses) {
      if (fact === 'disagree') continue;
      const { map, ...rest } = fact;
      accesses.set(insn, map === undefined ? rest : { ...rest, map });
    }
    const calls = new Map<number, CallFact>();
    for (const [insn, { helper, map, constants }] of this.#calls) {
      calls.set(insn, map === undefined ? { helper, constants } : { helper, map, constants });
    }
    const unreachable = new Set<number>();
    insns.forEach((insn, index) => {
      const isSecondHalf = insn.opcode === 0 && isLddw(insns[index - 1]);
      if (this.#visited[index] === 0 && !isSecondHalf) unreachable.add(index);
    });
    return { accesses, calls, unreachable };
  }
}
