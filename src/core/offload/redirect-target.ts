import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { FrameRedirect } from '../contract/executor.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';

/** bpf_redirect_map flags for device maps (include/uapi/linux/bpf.h). */
const BPF_F_BROADCAST = 1 << 3;
const BPF_F_EXCLUDE_INGRESS = 1 << 4;

/** Where a redirect leads: interfaces, another CPU's stack, or nowhere that exists. */
export type RedirectTarget =
  | { readonly kind: 'interfaces'; readonly ifindexes: readonly number[] }
  | { readonly kind: 'stack' }
  | { readonly kind: 'nowhere' };

const NOWHERE: RedirectTarget = { kind: 'nowhere' };

/** Resolves what bpf_redirect or bpf_redirect_map left behind (net/core/filter.c, xdp_do_redirect). */
export function resolveRedirect(redirect: FrameRedirect, ingressIfindex: number): RedirectTarget {
  if (redirect.kind === 'ifindex') return interfaceTarget(redirect.ifindex);
  if (redirect.kind === 'none' || redirect.map === undefined) return NOWHERE;
  const { map, index, flags } = redirect;
  switch (map.attributes.type) {
    case BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH: {
      if ((flags & BPF_F_BROADCAST) === 0) {
        const ifindex = ifindexAt(map, index);
        return ifindex === undefined ? NOWHERE : interfaceTarget(ifindex);
      }
      const exclude = (flags & BPF_F_EXCLUDE_INGRESS) !== 0 ? ingressIfindex : 0;
      const existing = everyIfindex(map)
        .filter((ifindex) => ifindex !== undefined)
        .filter((ifindex) => ifindex !== exclude);
      return existing.length === 0 ? NOWHERE : { kind: 'interfaces', ifindexes: existing };
    }
    case BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP:
      return typeof map.lookup(littleEndian(index)) === 'number' ? NOWHERE : { kind: 'stack' };
    default:
      return NOWHERE;
  }
}

/** What was told last: one frame mostly goes where the one before it went. */
let last: RedirectTarget & { readonly kind: 'interfaces' } = { kind: 'interfaces', ifindexes: [0] };

function interfaceTarget(ifindex: number): RedirectTarget {
  if (last.ifindexes[0] !== ifindex) last = { kind: 'interfaces', ifindexes: [ifindex] };
  return last;
}

function ifindexAt(map: BpfMap, index: number): number | undefined {
  // An array is read where it lies. A hash is not: what its chains take would be charged to the next program that runs.
  if (map.attributes.type === BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP && isResidentMap(map)) {
    const address = map.lookupIndex?.(index) ?? 0;
    const ifindex = address === 0 ? 0 : map.space.i32[address >>> 2]! >>> 0;
    return ifindex === 0 ? undefined : ifindex;
  }
  return ifindexOf(map.lookup(littleEndian(index)));
}

/** Of each element, in the map's order. */
function everyIfindex(map: BpfMap): (number | undefined)[] {
  const ifindexes: (number | undefined)[] = [];
  let key = map.nextKey(null);
  for (let step = 0; typeof key !== 'number' && step < map.attributes.maxEntries; step++) {
    ifindexes.push(ifindexOf(map.lookup(key)));
    key = map.nextKey(key);
  }
  return ifindexes;
}

/** First word of a device map's value (`struct bpf_devmap_val`). */
function ifindexOf(value: Uint8Array | number): number | undefined {
  if (typeof value === 'number') return undefined;
  // Byte by byte, here and below: a DataView costs more than the lookup.
  const ifindex = (value[0]! | (value[1]! << 8) | (value[2]! << 16) | (value[3]! << 24)) >>> 0;
  return ifindex === 0 ? undefined : ifindex;
}

/** A map looks at the key during the call only, so that one is enough. */
const KEY = new Uint8Array(4);

function littleEndian(value: number): Uint8Array {
  KEY[0] = value;
  KEY[1] = value >>> 8;
  KEY[2] = value >>> 16;
  KEY[3] = value >>> 24;
  return KEY;
}
