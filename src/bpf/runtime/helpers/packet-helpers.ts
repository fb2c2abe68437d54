import { EACCES, EFAULT, EINVAL } from '../../errno.js';
import { XDP_FRAME_RESERVED } from '../../xdp.js';
import { frameLength, loadFromFrame, storeToFrame } from '../frame-bytes.js';
import { fragsRoom } from '../xdp-frame.js';
import {
  chargeBytes,
  clear,
  FRAME_WORD,
  intactFrameWord,
  pointerArgument,
  type HelperContext,
  type HelperGroup,
} from './helper-context.js';

/** Bytes that a frame keeps in any case (kernel ETH_HLEN). */
export const ETH_HLEN = 14;
/** The longest metadata: `skb_shared_info.meta_len` is a u8, and lengths are multiples of 4. */
const META_MAX = 255;

/**
 * Helpers on the packet, with the bounds of net/core/filter.c of kernel 6.18. Offsets and lengths are in bytes. Of a
 * frame with frags, adjust_head and adjust_meta see the linear part only, the others all of the packet.
 */
export const PACKET_HELPERS: HelperGroup = {
  /** long (ctx, int delta): moves the start of the packet, and the metadata in front of it along. */
  bpf_xdp_adjust_head(context) {
    const { i32, u8 } = context.runtime.space;
    const frame = intactFrameWord(context);
    const delta = context.state.argLow(2);
    const oldData = i32[frame + FRAME_WORD.data]!;
    const oldMeta = i32[frame + FRAME_WORD.dataMeta]!;
    const metaLength = oldData - oldMeta;
    const data = oldData + delta;
    const lowest = i32[frame + FRAME_WORD.hardStart]! + XDP_FRAME_RESERVED + metaLength;
    if (data < lowest || data > i32[frame + FRAME_WORD.dataEnd]! - ETH_HLEN) {
      context.state.setResult(-EINVAL);
      return;
    }
    if (metaLength > 0) u8.copyWithin(oldMeta + delta, oldMeta, oldData);
    i32[frame + FRAME_WORD.dataMeta] = oldMeta + delta;
    i32[frame + FRAME_WORD.data] = data;
    context.state.setResult(0);
  },

  /**
   * long (ctx, int delta): moves the end of the packet; bytes that it gains are zero. A frame with frags grows within
   * its last page only; when it shrinks it loses pages, and without any left it is a frame in one buffer again.
   */
  bpf_xdp_adjust_tail(context) {
    const { i32, u8 } = context.runtime.space;
    const frame = intactFrameWord(context);
    const delta = context.state.argLow(2);
    if (i32[frame + FRAME_WORD.fragsLength] !== 0) {
      context.state.setResult(adjustTailOfFrags(context, frame, delta));
      return;
    }
    const oldEnd = i32[frame + FRAME_WORD.dataEnd]!;
    const end = oldEnd + delta;
    if (end > i32[frame + FRAME_WORD.hardEnd]! || end < i32[frame + FRAME_WORD.data]! + ETH_HLEN) {
      context.state.setResult(-EINVAL);
      return;
    }
    if (delta > 0) {
      chargeBytes(context, delta);
      u8.fill(0, oldEnd, end);
    }
    i32[frame + FRAME_WORD.dataEnd] = end;
    context.state.setResult(0);
  },

  /** long (ctx, int delta): moves the start of the metadata. */
  bpf_xdp_adjust_meta(context) {
    const { i32 } = context.runtime.space;
    const frame = intactFrameWord(context);
    const data = i32[frame + FRAME_WORD.data]!;
    const meta = i32[frame + FRAME_WORD.dataMeta]! + context.state.argLow(2);
    const length = data - meta;
    if (meta < i32[frame + FRAME_WORD.hardStart]! + XDP_FRAME_RESERVED || length < 0) {
      context.state.setResult(-EINVAL);
    } else if (length % 4 !== 0 || length > META_MAX) {
      context.state.setResult(-EACCES);
    } else {
      i32[frame + FRAME_WORD.dataMeta] = meta;
      context.state.setResult(0);
    }
  },

  /** u64 (ctx): length of the packet, its frags included. */
  bpf_xdp_get_buff_len(context) {
    context.state.setResult(frameLength(context.runtime.space.i32, 4 * intactFrameWord(context)));
  },

  /** long (ctx, u32 offset, void *buf, u32 len): packet to buffer. */
  bpf_xdp_load_bytes(context) {
    copyBytes(context, true);
  },

  /** long (ctx, u32 offset, void *buf, u32 len): buffer to packet. */
  bpf_xdp_store_bytes(context) {
    copyBytes(context, false);
  },

  /**
   * s64 (from, u32 from_size, to, u32 to_size, u32 seed): the checksum `seed` after the bytes of `from` were
   * replaced by those of `to`, folded to 16 bits (since 6.13 on every architecture).
   */
  bpf_csum_diff(context) {
    const { state } = context;
    const fromSize = state.argLow(2) >>> 0;
    const toSize = state.argLow(4) >>> 0;
    const from = fromSize === 0 ? 0 : pointerArgument(context, 1, fromSize, false);
    const to = toSize === 0 ? 0 : pointerArgument(context, 3, toSize, false);
    chargeBytes(context, fromSize + toSize);
    const { u8 } = context.runtime.space;
    let sum = state.argLow(5) >>> 0;
    if (toSize !== 0) sum = onesComplementSum(u8, to, toSize, sum);
    if (fromSize !== 0) {
      // Subtraction is addition of the complement. The kernel's two ways of writing it differ in which of the
      // two zeros they leave when all is zero, so both are kept.
      sum =
        toSize !== 0
          ? addWithCarry(sum, ~onesComplementSum(u8, from, fromSize, 0) >>> 0)
          : ~onesComplementSum(u8, from, fromSize, ~sum >>> 0) >>> 0;
    }
    const folded = (sum & 0xffff) + (sum >>> 16);
    state.setResult((folded & 0xffff) + (folded >>> 16));
  },
};

/** bpf_xdp_frags_increase_tail and bpf_xdp_frags_shrink_tail, on the frame at word `frame`. Returns what they return. */
function adjustTailOfFrags(context: HelperContext, frame: number, delta: number): number {
  const { i32, u8 } = context.runtime.space;
  const length = i32[frame + FRAME_WORD.fragsLength]!;
  if (delta >= 0) {
    if (delta > fragsRoom(length) - length) return -EINVAL;
    chargeBytes(context, delta);
    const end = i32[frame + FRAME_WORD.frags]! + length;
    u8.fill(0, end, end + delta);
    i32[frame + FRAME_WORD.fragsLength] = length + delta;
    return 0;
  }
  // The kernel negates in 32 bits: the smallest number stays negative, and nothing is cut off.
  const shrink = -delta | 0;
  if (shrink > frameLength(i32, 4 * frame) - ETH_HLEN) return -EINVAL;
  if (shrink < 0) return 0;
  const ofFrags = Math.min(shrink, length);
  i32[frame + FRAME_WORD.fragsLength] = length - ofFrags;
  i32[frame + FRAME_WORD.dataEnd] = i32[frame + FRAME_WORD.dataEnd]! - (shrink - ofFrags);
  return 0;
}

function copyBytes(context: HelperContext, fromPacket: boolean): void {
  const { state } = context;
  const { space } = context.runtime;
  const frame = 4 * intactFrameWord(context);
  const offset = state.argLow(2) >>> 0;
  const length = state.argLow(4) >>> 0;
  const buffer = pointerArgument(context, 3, length, fromPacket);
  chargeBytes(context, length);
  const tooLong = offset > 0xffff || length > 0xffff;
  if (tooLong || offset + length > frameLength(space.i32, frame)) {
    if (fromPacket) clear(context, buffer, length);
    state.setResult(tooLong ? -EFAULT : -EINVAL);
    return;
  }
  if (fromPacket) loadFromFrame(space, frame, offset, buffer, length);
  else storeToFrame(space, frame, offset, buffer, length);
  state.setResult(0);
}

/** The 32-bit ones' complement sum of little-endian words, the rest padded with zero bytes. */
function onesComplementSum(u8: Uint8Array, at: number, size: number, start: number): number {
  let sum = start;
  const end = at + size;
  for (let i = at; i < end; i += 4) {
    const word =
      u8[i]! |
      ((i + 1 < end ? u8[i + 1]! : 0) << 8) |
      ((i + 2 < end ? u8[i + 2]! : 0) << 16) |
      ((i + 3 < end ? u8[i + 3]! : 0) << 24);
    sum = addWithCarry(sum, word >>> 0);
  }
  return sum;
}

function addWithCarry(a: number, b: number): number {
  const sum = a + b;
  return sum > 0xffffffff ? sum - 0xffffffff : sum;
}
