import { BPF_MAP_TYPE } from '../../map-spec.js';
import { XDP_ABORTED, XDP_REDIRECT } from '../../xdp.js';
import { REDIRECT_ACTION_MASK, REDIRECT_IFINDEX, REDIRECT_MAP, REDIRECT_NONE } from '../xdp-frame.js';
import {
  chargeOwed,
  FRAME_WORD,
  frameWord,
  HelperFault,
  mapArgument,
  type HelperGroup,
} from './helper-context.js';

/** Flags of bpf_redirect_map for DEVMAP and DEVMAP_HASH (include/uapi/linux/bpf.h). */
export const BPF_F_BROADCAST = 1 << 3;
export const BPF_F_EXCLUDE_INGRESS = 1 << 4;

const FLAG_MASK: Readonly<Record<number, number>> = {
  [BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP]: BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS,
  [BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH]: BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS,
  [BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP]: 0,
  [BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP]: 0,
};

/**
 * Redirects (net/core/filter.c bpf_xdp_redirect, include/linux/filter.h __bpf_xdp_redirect_map). They leave
 * their target in the frame slot, where the hook finds it if the program returns XDP_REDIRECT; the last call
 * of a run counts.
 */
export const REDIRECT_HELPERS: HelperGroup = {
  /** long (ifindex, flags); XDP takes no flags. */
  bpf_redirect(context) {
    const { state } = context;
    const { i32 } = context.runtime.space;
    const frame = frameWord(context);
    if (state.argLow(2) !== 0 || state.argHigh(2) !== 0) {
      state.setResult(XDP_ABORTED);
      return;
    }
    i32[frame + FRAME_WORD.redirectKind] = REDIRECT_IFINDEX;
    i32[frame + FRAME_WORD.redirectTarget] = state.argLow(1);
    i32[frame + FRAME_WORD.redirectMap] = 0;
    i32[frame + FRAME_WORD.redirectFlags] = 0;
    state.setResult(XDP_REDIRECT);
  },

  /**
   * long (map, key, flags). Returns XDP_REDIRECT when there is a target under the key or the flags ask for all
   * of them, else the action in the flags' lower two bits.
   */
  bpf_redirect_map(context) {
    const { state } = context;
    const { i32 } = context.runtime.space;
    const frame = frameWord(context);
    const map = mapArgument(context, 1);
    const mask = FLAG_MASK[map.attributes.type];
    if (mask === undefined) throw new HelperFault(`bpf_redirect_map cannot use map ${map.name}`);
    const flags = state.argLow(3);
    if ((flags & ~(REDIRECT_ACTION_MASK | mask)) !== 0 || state.argHigh(3) !== 0) {
      state.setResult(XDP_ABORTED);
      return;
    }
    // The kernel takes the key's lower 32 bits and no more.
    const key = state.argLow(2);
    const broadcast = (flags & BPF_F_BROADCAST) !== 0;
    const found = broadcast || (map.lookupIndex?.(key >>> 0) ?? 0) !== 0;
    chargeOwed(context);
    if (!found) {
      // A miss also forgets what an earlier call of the run left behind.
      i32.fill(0, frame + FRAME_WORD.redirectKind, frame + FRAME_WORD.redirectFlags + 1);
      i32[frame + FRAME_WORD.redirectKind] = REDIRECT_NONE;
      state.setResult(flags & REDIRECT_ACTION_MASK);
      return;
    }
    i32[frame + FRAME_WORD.redirectKind] = REDIRECT_MAP;
    i32[frame + FRAME_WORD.redirectTarget] = key;
    i32[frame + FRAME_WORD.redirectMap] = map.address;
    // Flags matter to the hook only when the frame goes to all devices of the map.
    i32[frame + FRAME_WORD.redirectFlags] = broadcast ? flags : 0;
    state.setResult(XDP_REDIRECT);
  },
};
