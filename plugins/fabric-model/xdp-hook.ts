import type { LoadedProgram } from '../../src/core/contract/executor.js';
import type { Party } from '../../src/core/contract/fabric.js';
import { emptyVerdictCounts, type HookResult } from '../../src/core/contract/result.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing, type FrameRedirect } from '../../src/bpf/runtime/xdp-frame.js';
import { xdpActionName, type XdpActionName } from '../../src/bpf/xdp.js';
import { messageOf, XdpbedError } from '../../src/core/diagnostic.js';
import type { Frame } from './frame-accounting.js';

/** What a hook made of a frame. */
export interface HookOutcome {
  readonly action: XdpActionName;
  /** The frame as the program left it. */
  readonly frame: Frame;
  readonly redirect: FrameRedirect;
}

/** A place where an XDP program can be attached, and the counts of what attached programs returned. */
export class XdpHook {
  readonly #ring: FrameRing;
  readonly #results = new Map<string, HookResult>();
  #attached: { program: LoadedProgram; result: HookResult } | undefined;

  constructor(
    readonly site: HookResult['site'],
    readonly node: string,
    readonly ifindex: number,
    readonly party: Pick<Party, 'runtime' | 'executor'>,
  ) {
    this.#ring = new FrameRing(party.runtime.space, 1);
  }

  get runtime(): BpfRuntime {
    return this.party.runtime;
  }

  /** Attaches or replaces; frames that come later meet the new program. `name` is the testbed's. */
  attach(program: LoadedProgram, name: string): void {
    let result = this.#results.get(name);
    if (result === undefined) {
      result = { site: this.site, node: this.node, program: name, frames: 0, verdicts: emptyVerdictCounts() };
      this.#results.set(name, result);
    }
    this.#attached = { program, result };
  }

  detach(): void {
    this.#attached = undefined;
  }

  /** Runs the attached program, or passes the frame on untouched when there is none. */
  run(frame: Frame, queue = 0): HookOutcome {
    if (this.#attached === undefined) return { action: 'XDP_PASS', frame, redirect: NO_REDIRECT };
    const { program, result } = this.#attached;
    this.#ring.load(0, frame.bytes, { ingressIfindex: this.ifindex, rxQueueIndex: queue });
    this.runtime.state.now = frame.at;
    const action = xdpActionName(this.#verdict(program, result.program));
    result.frames++;
    result.verdicts[action]++;
    return {
      action,
      frame: { bytes: this.#ring.packet(0), at: frame.at, hopsLeft: frame.hopsLeft - 1 },
      redirect: this.#ring.redirect(0),
    };
  }

  /** A fault is a verdict, XDP_ABORTED; what throws is a defect of the executor. */
  #verdict(program: LoadedProgram, name: string): number {
    try {
      return program.run(this.#ring, 0).verdict;
    } catch (error) {
      if (error instanceof XdpbedError) throw error;
      throw new XdpbedError(
        'plugin-failed',
        `plugin executor ${this.party.executor.name} failed in run of ${name} at ${this.node}: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  results(): HookResult[] {
    return [...this.#results.values()];
  }

  close(): void {
    this.#attached = undefined;
    this.#ring.close();
  }
}

const NO_REDIRECT: FrameRedirect = { kind: 0, target: 0, mapAddress: 0, flags: 0 };
