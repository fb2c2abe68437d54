import { XdpbedError } from '../../core/diagnostic.js';
import type { XdpCase } from './executor-case.js';

/** What a case asks of an executor besides running the program on the frame. */
export type ExecutorNeed =
  /** `FrameSlots.redirect` tells where a frame would go. Without it, the verdict alone is compared. */
  | 'redirect-target'
  /** A program that a verifier refuses runs until it does what it must not: it is stopped there. */
  | 'faults'
  /** `ExecutionEnvironment.insnLimit`. */
  | 'insn-limit'
  /** `ExecutionEnvironment.countWork`. Cases of other things are then run with work counted, too. */
  | 'work'
  /** `HelperWorld.now` is the clock that helpers tell. */
  | 'clock'
  /** `HelperWorld.trace` gets what programs print. */
  | 'trace'
  /** `HelperWorld.network` answers for routes and devices. */
  | 'network'
  /** `FrameMetadata` may name any device and queue, and none is none. */
  | 'frame-origin'
  /** Frames shorter than an Ethernet header, 14 bytes. */
  | 'short-frames'
  /** Records that programs sent can be read from maps of this type. */
  | 'perf-records'
  /** `ExecutionEnvironment.helperOverrides`. */
  | 'helper-overrides'
  /** Programs, maps and frames lie in the BpfRuntime, which gets the memory back. */
  | 'runtime-memory';

/** In what an executor falls short of the suite, and why. What is left out is told with the reason, not passed over. */
export interface ExecutorLimits {
  /** Needs that it does not meet. */
  readonly lacks?: Partial<Readonly<Record<ExecutorNeed, string>>>;
  /** Cases, by name, that end otherwise here. They are not run. */
  readonly differs?: Readonly<Record<string, string>>;
  /**
   * Cases, by name, whose program it refuses to load, as it may where it verifies by itself. They are run up to there:
   * it must refuse them, with a message that matches.
   */
  readonly refuses?: Readonly<Record<string, RegExp>>;
  /**
   * What it has not at all, in words, with what it says then: a case whose program it refuses to load
   * (`executor-unsupported`) with such a message is left out. Each must be there for something.
   */
  readonly unsupported?: Readonly<Record<string, RegExp>>;
}

/** What a case needs that not every executor has, in the order in which it is told. */
export function needsOf(one: XdpCase): ExecutorNeed[] {
  const { ingressIfindex = 0, rxQueueIndex = 0, egressIfindex = 0 } = one.metadata ?? {};
  const needs: [ExecutorNeed, boolean][] = [
    ['faults', one.fault !== undefined],
    ['insn-limit', one.insnLimit !== undefined],
    ['work', one.work !== undefined],
    ['clock', one.now !== undefined],
    ['trace', one.trace !== undefined],
    ['network', one.network !== undefined],
    ['frame-origin', ingressIfindex !== 0 || rxQueueIndex !== 0 || egressIfindex !== 0],
    ['short-frames', (one.packet?.length ?? 64) < 14],
    ['perf-records', Object.values(one.maps ?? {}).some(({ type }) => type.includes('PERF_EVENT'))],
  ];
  return needs.flatMap(([need, wanted]) => (wanted ? [need] : []));
}

/** Which cases of a suite are run, and how the others are told. */
export class CaseSelection {
  readonly #limits: ExecutorLimits;
  readonly #seen = new Set<string>();
  readonly #unsupportedSeen = new Set<string>();

  constructor(limits: ExecutorLimits = {}) {
    this.#limits = limits;
  }

  /** Why a case is not run; undefined: it is. */
  whyNot(name: string, needs: readonly ExecutorNeed[] = []): string | undefined {
    this.#seen.add(name);
    const { lacks = {}, differs = {} } = this.#limits;
    const missing = needs.find((need) => lacks[need] !== undefined);
    return missing === undefined ? differs[name] : lacks[missing];
  }

  /** What the refusal of a case's program says; undefined: it is loaded. */
  refusal(name: string): RegExp | undefined {
    return this.#limits.refuses?.[name];
  }

  lacks(need: ExecutorNeed): string | undefined {
    return this.#limits.lacks?.[need];
  }

  /** Why a case is left out that ended in this error; undefined: it failed. */
  unsupported(error: unknown): string | undefined {
    if (!(error instanceof XdpbedError) || error.code !== 'executor-unsupported') return undefined;
    const { unsupported = {} } = this.#limits;
    const found = Object.entries(unsupported).find(([, pattern]) => pattern.test(error.message))?.[0];
    if (found !== undefined) this.#unsupportedSeen.add(found);
    return found;
  }

  /** Of `unsupported`, what no case so far was left out for. */
  unused(): string[] {
    return Object.keys(this.#limits.unsupported ?? {}).filter((what) => !this.#unsupportedSeen.has(what));
  }

  /** Names among the limits that no case has. */
  unknown(): string[] {
    const { differs = {}, refuses = {} } = this.#limits;
    return [...Object.keys(differs), ...Object.keys(refuses)].filter((name) => !this.#seen.has(name));
  }
}
