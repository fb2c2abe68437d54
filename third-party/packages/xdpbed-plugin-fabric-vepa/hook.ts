import {
  emptyVerdictCounts,
  XdpbedError,
  type Attachment,
  type FrameRedirect,
  type FrameSlots,
  type HookPlace,
  type LoadedProgram,
  type VerdictCounts,
} from 'xdpbed';
import { BPF_MAP_TYPE, xdpActionName, type XdpActionName } from 'xdpbed/bpf';

/** What a hook made of a frame. */
export interface Verdict {
  readonly action: XdpActionName;
  /** The frame as the program left it. */
  readonly bytes: Uint8Array;
  /** Where XDP_REDIRECT leads, an ifindex; undefined when that is nowhere. */
  readonly target: number | undefined;
}

interface Attached {
  program: LoadedProgram;
  slots: FrameSlots;
  readonly counts: VerdictCounts;
}

/** A place for one program, which has one slot: a frame is through with a hook before the next one comes. */
export class Hook implements HookPlace {
  #attached: Attached | undefined;

  /** @param ifindex what programs see as the interface that a frame came in by. */
  constructor(readonly ifindex: number) {}

  async attach(program: LoadedProgram): Promise<Attachment> {
    if (this.#attached !== undefined) {
      throw new XdpbedError('plugin-failed', `interface ${this.ifindex}: a program is attached already`);
    }
    const attached: Attached = { program, slots: program.openFrames(1), counts: emptyVerdictCounts() };
    this.#attached = attached;
    return {
      replace: async (other) => {
        // First what may throw: the old program then stays.
        const slots = other.openFrames(1);
        attached.slots.close();
        attached.program = other;
        attached.slots = slots;
      },
      detach: async () => {
        if (this.#attached === attached) this.close();
      },
      counters: async () => ({ ...attached.counts }),
    };
  }

  /** The frame is one that XDP can take: not longer than MAX_FRAME_LENGTH. */
  run(bytes: Uint8Array): Verdict {
    if (this.#attached === undefined) return { action: 'XDP_PASS', bytes, target: undefined };
    const { program, slots, counts } = this.#attached;
    slots.load(0, bytes, { ingressIfindex: this.ifindex, rxQueueIndex: 0 });
    const action = xdpActionName(program.run(slots, 0).verdict);
    counts[action]++;
    const target = action === 'XDP_REDIRECT' ? targetOf(slots.redirect(0)) : undefined;
    return { action, bytes: slots.packet(0), target };
  }

  close(): void {
    this.#attached?.slots.close();
    this.#attached = undefined;
  }
}

/** bpf_redirect_map's flag for all of a device map (include/uapi/linux/bpf.h); frames are not multiplied here. */
const BPF_F_BROADCAST = 1 << 3;

function targetOf(redirect: FrameRedirect): number | undefined {
  if (redirect.kind === 'ifindex') return redirect.ifindex;
  if (redirect.kind === 'none' || redirect.map === undefined) return undefined;
  const { map, index, flags } = redirect;
  const { BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH } = BPF_MAP_TYPE;
  const { type } = map.attributes;
  if (type !== BPF_MAP_TYPE_DEVMAP && type !== BPF_MAP_TYPE_DEVMAP_HASH) return undefined;
  if ((flags & BPF_F_BROADCAST) !== 0) return undefined;
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, index, true);
  const value = map.lookup(key);
  // `struct bpf_devmap_val`: +0 ifindex u32.
  return typeof value === 'number'
    ? undefined
    : new DataView(value.buffer, value.byteOffset).getUint32(0, true);
}
