import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { REDIRECT_IFINDEX, REDIRECT_MAP, type FrameRedirect } from '../../src/bpf/runtime/xdp-frame.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';

/** bpf_redirect_map flags for device maps (include/uapi/linux/bpf.h). */
const BPF_F_BROADCAST = 1 << 3;
const BPF_F_EXCLUDE_INGRESS = 1 << 4;

/** Where a redirect leads: interfaces, another CPU's stack, or nowhere that exists. */
export type RedirectTarget =
  | { readonly kind: 'interfaces'; readonly ifindexes: readonly number[] }
  | { readonly kind: 'host-stack' }
  | { readonly kind: 'nowhere' };

/** Resolves what bpf_redirect or bpf_redirect_map left in the frame's slot (net/core/filter.c, xdp_do_redirect). */
export function resolveRedirect(
  redirect: FrameRedirect,
  runtime: BpfRuntime,
  ingressIfindex: number,
): RedirectTarget {
  if (redirect.kind === REDIRECT_IFINDEX) return { kind: 'interfaces', ifindexes: [redirect.target] };
  if (redirect.kind !== REDIRECT_MAP) return { kind: 'nowhere' };
  const map = runtime.maps.get(redirect.mapAddress);
  if (map === undefined) return { kind: 'nowhere' };
  switch (map.attributes.type) {
    case BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH: {
      if ((redirect.flags & BPF_F_BROADCAST) === 0) {
        const ifindex = ifindexOf(map.lookup(littleEndian(redirect.target)));
        return ifindex === undefined ? { kind: 'nowhere' } : { kind: 'interfaces', ifindexes: [ifindex] };
      }
      const exclude = (redirect.flags & BPF_F_EXCLUDE_INGRESS) !== 0 ? ingressIfindex : 0;
      const ifindexes: number[] = [];
      for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) {
        const ifindex = ifindexOf(map.lookup(key));
        if (ifindex !== undefined && ifindex !== exclude) ifindexes.push(ifindex);
      }
      return ifindexes.length === 0 ? { kind: 'nowhere' } : { kind: 'interfaces', ifindexes };
    }
    case BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP:
      return typeof map.lookup(littleEndian(redirect.target)) === 'number'
        ? { kind: 'nowhere' }
        : { kind: 'host-stack' };
    default:
      return { kind: 'nowhere' };
  }
}

/** First word of a device map's value (`struct bpf_devmap_val`). */
function ifindexOf(value: Uint8Array | number): number | undefined {
  if (typeof value === 'number') return undefined;
  const ifindex = new DataView(value.buffer, value.byteOffset, value.byteLength).getUint32(0, true);
  return ifindex === 0 ? undefined : ifindex;
}

function littleEndian(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
