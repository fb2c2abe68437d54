import { EINVAL, ENODEV } from '../../errno.js';
import {
  AF_INET,
  AF_INET6,
  BPF_FIB_LKUP_RET,
  BPF_FIB_LOOKUP,
  BPF_FIB_LOOKUP_MARK,
  BPF_FIB_LOOKUP_MASK,
  BPF_FIB_LOOKUP_OUTPUT,
  BPF_FIB_LOOKUP_SIZE,
  BPF_FIB_LOOKUP_SKIP_NEIGH,
  BPF_FIB_LOOKUP_SRC,
  BPF_FIB_LOOKUP_TBID,
} from '../fib-lookup.js';
import type { FibAnswer } from '../helper-world.js';
import { ETH_HLEN } from './packet-helpers.js';
import { FRAME_WORD, intactFrameWord, pointerArgument, type HelperGroup } from './helper-context.js';

const EAFNOSUPPORT = 97;
const EPROTONOSUPPORT = 93;

const BPF_MTU_CHK_RET_FRAG_NEEDED = 1;

/**
 * Helpers that ask the network stack (net/core/filter.c). Routes, neighbours and devices are those of
 * `HelperWorld.network`, none where nobody gives one; there are no sockets, so every socket lookup finds nothing.
 */
export const NETWORK_HELPERS: HelperGroup = {
  /** long (ctx, struct bpf_fib_lookup *params, int plen, u32 flags) */
  bpf_fib_lookup(context) {
    const { host, state } = context;
    const { view, u8 } = context.runtime.space;
    const length = state.argLow(3);
    const flags = state.argLow(4);
    const at = pointerArgument(context, 2, Math.max(length, 0), true);
    if (length < BPF_FIB_LOOKUP_SIZE || (flags & ~BPF_FIB_LOOKUP_MASK) !== 0) {
      state.setResult(-EINVAL);
      return;
    }
    const family = u8[at + BPF_FIB_LOOKUP.family]!;
    if (family !== AF_INET && family !== AF_INET6) {
      state.setResult(-EAFNOSUPPORT);
      return;
    }
    const addressSize = family === AF_INET ? 4 : 16;
    const ifindex = view.getUint32(at + BPF_FIB_LOOKUP.ifindex, true);
    if (host.network?.mtu(ifindex) === undefined) {
      state.setResult(-ENODEV);
      return;
    }
    const totalLength = view.getUint16(at + BPF_FIB_LOOKUP.totLen, true);
    const answer = host.network.fibLookup({
      family: family === AF_INET ? 'inet' : 'inet6',
      source: u8.slice(at + BPF_FIB_LOOKUP.source, at + BPF_FIB_LOOKUP.source + addressSize),
      destination: u8.slice(at + BPF_FIB_LOOKUP.destination, at + BPF_FIB_LOOKUP.destination + addressSize),
      ifindex,
      output: (flags & BPF_FIB_LOOKUP_OUTPUT) !== 0,
      totalLength,
      ...(flags & BPF_FIB_LOOKUP_TBID ? { tableId: view.getUint32(at + BPF_FIB_LOOKUP.tbid, true) } : {}),
      ...(flags & BPF_FIB_LOOKUP_MARK ? { mark: view.getUint32(at + BPF_FIB_LOOKUP.mark, true) } : {}),
    });
    state.setResult(writeFibAnswer(view, u8, at, answer, { totalLength, flags }));
  },

  /**
   * long (ctx, u32 ifindex, u32 *mtu_len, s32 len_diff, u64 flags); ifindex 0 is the device of the frame. Of a frame
   * with frags the kernel looks at the linear part only.
   */
  bpf_check_mtu(context) {
    const { host, state } = context;
    const { i32, view } = context.runtime.space;
    const frame = intactFrameWord(context);
    const mtuLength = pointerArgument(context, 3, 4, true);
    if (state.argLow(5) !== 0 || state.argHigh(5) !== 0) {
      state.setResult(-EINVAL);
      return;
    }
    const ifindex = state.argLow(2) >>> 0 || i32[frame + FRAME_WORD.ingressIfindex]! >>> 0;
    const mtu = host.network?.mtu(ifindex);
    if (mtu === undefined) {
      state.setResult(-ENODEV);
      return;
    }
    const l3Length = view.getUint32(mtuLength, true);
    const linear = i32[frame + FRAME_WORD.dataEnd]! - i32[frame + FRAME_WORD.data]!;
    const length = (l3Length !== 0 ? l3Length + ETH_HLEN : linear) + state.argLow(4);
    view.setUint32(mtuLength, mtu, true);
    state.setResult(length > mtu + ETH_HLEN ? BPF_MTU_CHK_RET_FRAG_NEEDED : 0);
  },

  // A reference that these helpers would have to release is never given out: what follows a successful lookup
  // must load, and is never reached.
  bpf_sk_lookup_tcp: noSocket,
  bpf_sk_lookup_udp: noSocket,
  bpf_skc_lookup_tcp: noSocket,
  bpf_skc_to_tcp_sock: noSocket,
  bpf_skc_to_tcp6_sock: noSocket,
  bpf_skc_to_tcp_timewait_sock: noSocket,
  bpf_skc_to_tcp_request_sock: noSocket,
  bpf_skc_to_udp6_sock: noSocket,

  bpf_sk_release({ state }) {
    state.setResult(0);
  },

  bpf_tcp_check_syncookie({ state }) {
    state.setResult(-EINVAL);
  },

  bpf_tcp_gen_syncookie({ state }) {
    state.setResult(-EPROTONOSUPPORT);
  },
};

function noSocket({ state }: { readonly state: { setResult(value: number): void } }): void {
  state.setResult(0);
}

/** Fills in `struct bpf_fib_lookup` as bpf_ipv4_fib_lookup does; returns what the helper returns. */
function writeFibAnswer(
  view: DataView,
  u8: Uint8Array,
  at: number,
  answer: FibAnswer,
  { totalLength, flags }: { readonly totalLength: number; readonly flags: number },
): number {
  const { SUCCESS, NO_NEIGH, FRAG_NEEDED } = BPF_FIB_LKUP_RET;
  const tooLong = answer.mtu !== undefined && totalLength > answer.mtu;
  if (answer.result === FRAG_NEEDED || (tooLong && [SUCCESS, NO_NEIGH].includes(answer.result as 0 | 7))) {
    if (answer.mtu !== undefined) view.setUint16(at + BPF_FIB_LOOKUP.totLen, answer.mtu, true);
    return FRAG_NEEDED;
  }
  if (answer.result !== SUCCESS && answer.result !== NO_NEIGH) return answer.result;
  view.setUint32(at + BPF_FIB_LOOKUP.rtMetric, answer.metric ?? 0, true);
  if (answer.ifindex !== undefined) view.setUint32(at + BPF_FIB_LOOKUP.ifindex, answer.ifindex, true);
  if ((flags & BPF_FIB_LOOKUP_SRC) !== 0) {
    if (answer.preferredSource === undefined) return BPF_FIB_LKUP_RET.NO_SRC_ADDR;
    u8.set(answer.preferredSource, at + BPF_FIB_LOOKUP.source);
  }
  if (answer.nextHop !== undefined) {
    // A gateway of the other family: IPv4 routes may go through IPv6 neighbours (RFC 5549).
    u8[at + BPF_FIB_LOOKUP.family] = answer.nextHop.length === 4 ? AF_INET : AF_INET6;
    u8.set(answer.nextHop, at + BPF_FIB_LOOKUP.destination);
  }
  if ((flags & BPF_FIB_LOOKUP_SKIP_NEIGH) === 0) {
    if (answer.result === NO_NEIGH) return NO_NEIGH;
    if (answer.destinationMac !== undefined) u8.set(answer.destinationMac, at + BPF_FIB_LOOKUP.dmac);
    if (answer.sourceMac !== undefined) u8.set(answer.sourceMac, at + BPF_FIB_LOOKUP.smac);
  }
  view.setUint32(at + BPF_FIB_LOOKUP.tbid, 0, true); // h_vlan_proto and h_vlan_TCI
  if (answer.mtu !== undefined) view.setUint16(at + BPF_FIB_LOOKUP.totLen, answer.mtu, true);
  return SUCCESS;
}
