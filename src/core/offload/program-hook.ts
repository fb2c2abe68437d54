import type { FrameRedirect, FrameSlots, LoadedProgram, ProgramWork } from '../contract/executor.js';
import type { Attachment, HookPlace } from '../contract/hook-place.js';
import { emptyVerdictCounts, type VerdictCounts } from '../contract/result.js';
import { MAX_FRAGS_FRAME_LENGTH } from '../../bpf/runtime/xdp-frame.js';
import { xdpActionName, type XdpActionName } from '../../bpf/xdp.js';
import { messageOf, XdpbedError } from '../diagnostic.js';

/** What a program made of a frame. */
export interface ProgramOutcome {
  readonly action: XdpActionName;
  /** The frame as the program left it; of one that goes nowhere (XDP_DROP, XDP_ABORTED), as it came. */
  readonly bytes: Uint8Array;
  /** Only with XDP_REDIRECT of another kind than `none`. */
  readonly redirect: FrameRedirect;
}

/** A program in the hook, with room for the frame that it runs on. */
interface Attached {
  program: LoadedProgram;
  frames: FrameSlots;
  readonly verdicts: VerdictCounts;
}

/** A place in this process where an XDP program can be attached; whoever has the frames runs it. */
export class ProgramHook implements HookPlace {
  readonly replacesAtOnce = true;
  #attached: Attached | undefined;
  /** Of the frame that is loaded: one for all of them. */
  readonly #metadata: { readonly ingressIfindex: number; rxQueueIndex: number };

  constructor(
    /** Where it is, for messages: `guest0.eth0`. */
    readonly node: string,
    /** What programs see as ingress interface. */
    readonly ifindex: number,
  ) {
    this.#metadata = { ingressIfindex: ifindex, rxQueueIndex: 0 };
  }

  async attach(program: LoadedProgram): Promise<Attachment> {
    if (this.#attached !== undefined) {
      throw new XdpbedError('plugin-failed', `${this.node}: a program is attached already`);
    }
    const frames = program.openFrames(1, MAX_FRAGS_FRAME_LENGTH);
    const attached: Attached = { program, frames, verdicts: emptyVerdictCounts() };
    this.#attached = attached;
    return {
      replace: async (other) => {
        if (this.#attached !== attached) {
          throw new XdpbedError(
            'plugin-failed',
            `${this.node}: the program to replace is not attached any more`,
          );
        }
        const frames = other.openFrames(1, MAX_FRAGS_FRAME_LENGTH);
        attached.frames.close();
        attached.frames = frames;
        attached.program = other;
      },
      detach: async () => {
        if (this.#attached !== attached) return;
        this.#attached = undefined;
        attached.frames.close();
      },
      counters: async () => ({ ...attached.verdicts }),
    };
  }

  get isEmpty(): boolean {
    return this.#attached === undefined;
  }

  /** What the programs of the attached one's party have done; undefined where nobody counts it. */
  get work(): ProgramWork | undefined {
    return this.#attached?.program.work;
  }

  /**
   * Bytes of the longest frame that the attached program takes, undefined without one. A driver gives a program without
   * BPF_F_XDP_HAS_FRAGS none of more than one buffer: virtio_net drops it.
   */
  get longestFrame(): number | undefined {
    return this.#attached?.frames.longestFrame;
  }

  /** Runs the attached program, or passes the frame on untouched when there is none. */
  runOn(bytes: Uint8Array, queue = 0): ProgramOutcome {
    if (this.#attached === undefined) return { action: 'XDP_PASS', bytes, redirect: NO_REDIRECT };
    const { program, frames, verdicts } = this.#attached;
    this.#metadata.rxQueueIndex = queue;
    frames.load(0, bytes, this.#metadata);
    const action = xdpActionName(this.#verdict(program, frames));
    verdicts[action]++;
    // Taking a packet out is most of what a hook costs.
    if (action === 'XDP_DROP' || action === 'XDP_ABORTED') return { action, bytes, redirect: NO_REDIRECT };
    return {
      action,
      bytes: frames.packet(0),
      redirect: action === 'XDP_REDIRECT' ? frames.redirect(0) : NO_REDIRECT,
    };
  }

  /** A fault is a verdict, XDP_ABORTED; what throws is a defect of the executor. */
  #verdict(program: LoadedProgram, frames: FrameSlots): number {
    try {
      return program.run(frames, 0).verdict;
    } catch (error) {
      if (error instanceof XdpbedError) throw error;
      throw new XdpbedError(
        'plugin-failed',
        `plugin executor ${program.executor} failed in run of ${program.name} at ${this.node}: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  close(): void {
    this.#attached?.frames.close();
    this.#attached = undefined;
  }
}

const NO_REDIRECT: FrameRedirect = { kind: 'none' };
