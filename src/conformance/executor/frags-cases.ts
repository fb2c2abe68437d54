import { XDP_DROP, XDP_PASS, XDP_REDIRECT } from '../../bpf/xdp.js';
import { concat, u32, type XdpCase } from './executor-case.js';

const LAYOUT = 'net/bpf/test_run.c bpf_prog_test_run_xdp of 6.18';
const BYTES = 'net/core/filter.c bpf_xdp_pointer, bpf_xdp_copy_buf';
const TAIL = 'net/core/filter.c bpf_xdp_frags_increase_tail, bpf_xdp_frags_shrink_tail of 6.18';
const HEAD = 'net/core/filter.c bpf_xdp_adjust_head, _meta of 6.18';

/** Bytes of the linear part of a frame that has frags, of a page, and of the longest frame. */
const LINEAR = 3520;
const PAGE = 4096;
const LONGEST = LINEAR + 17 * PAGE;

/** Bytes that no two pages have at the same offset. */
function distinctBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i ^ ((i >> 8) * 31)) & 0xff);
}

/** Linear part, one full frag, and 1384 bytes in a second. */
const JUMBO = distinctBytes(9000);

/** `packet` with other bytes at an offset. */
function changed(packet: Uint8Array, offset: number, bytes: Uint8Array): Uint8Array {
  const copy = packet.slice();
  copy.set(bytes, offset);
  return copy;
}

/** Calls bpf_xdp_load_bytes or bpf_xdp_store_bytes with the 8 bytes at R10 - 8; the context is in R6. */
function copy(helper: 'load' | 'store', offset: number, length = 8): string {
  return `
      r1 = r6
      r2 = ${offset}
      r3 = r10
      r3 += -8
      r4 = ${length}
      call bpf_xdp_${helper}_bytes`;
}

/** Keeps the context in R6, and clears the 8 bytes at R10 - 8. */
const BEGIN = `
      r6 = r1
      *(u64 *)(r10 -8) = 0`;

function adjust(helper: 'head' | 'meta' | 'tail', delta: number): string {
  return `
      r1 = r6
      r2 = ${delta}
      call bpf_xdp_adjust_${helper}`;
}

/** Goes on when R0 is `result`; the program's end must be `PASS`. */
function expectResult(result: number): string {
  return `
      if r0 != ${result} goto bad`;
}

const PASS = `
      r0 = 2
      exit
    bad:
      r0 = 1
      exit`;

/** 8 bytes from `offset` are copied to the packet's start. */
function loadsFrom(name: string, packet: Uint8Array, offset: number): XdpCase {
  return {
    name: `bpf_xdp_load_bytes ${name}`,
    source: BYTES,
    frags: true,
    program: BEGIN + copy('load', offset) + expectResult(0) + copy('store', 0) + expectResult(0) + PASS,
    packet,
    verdict: XDP_PASS,
    packetAfter: changed(packet, 0, packet.slice(offset, offset + 8)),
  };
}

/** The first 8 bytes of the packet are copied to `offset`. */
function storesTo(name: string, packet: Uint8Array, offset: number): XdpCase {
  return {
    name: `bpf_xdp_store_bytes ${name}`,
    source: BYTES,
    frags: true,
    program: BEGIN + copy('load', 0) + expectResult(0) + copy('store', offset) + expectResult(0) + PASS,
    packet,
    verdict: XDP_PASS,
    packetAfter: changed(packet, offset, packet.slice(0, 8)),
  };
}

function refuses(name: string, program: string, result: number, packet = JUMBO): XdpCase {
  return {
    name,
    source: BYTES,
    frags: true,
    program: BEGIN + program + expectResult(result) + PASS,
    packet,
    verdict: XDP_PASS,
  };
}

/** Cases of frames in several buffers. Those without maps are also run in a kernel, which must say the same. */
export const FRAGS_CASES: readonly XdpCase[] = [
  {
    name: 'the program sees the linear part, bpf_xdp_get_buff_len tells the whole length',
    source: LAYOUT,
    frags: true,
    program: `
      r6 = *(u32 *)(r1 +4)
      r2 = *(u32 *)(r1 +0)
      r6 -= r2
      call bpf_xdp_get_buff_len
      r0 <<= 14
      r0 += r6
      exit`,
    packet: JUMBO,
    verdict: (9000 << 14) + LINEAR,
  },
  {
    name: 'a frame that fits one buffer has no frags',
    source: LAYOUT,
    frags: true,
    program: `${BEGIN}${adjust('tail', 1)}${expectResult(-22)}${PASS}`,
    packet: distinctBytes(LINEAR),
    verdict: XDP_PASS,
  },
  {
    name: 'one byte more is in a frag, which has room for 4095',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', 4096)}${expectResult(-22)}${adjust('tail', 4095)}${expectResult(0)}${PASS}`,
    packet: distinctBytes(LINEAR + 1),
    verdict: XDP_PASS,
    packetAfter: concat(distinctBytes(LINEAR + 1), new Uint8Array(4095)),
  },
  {
    name: 'a program without frags is not in the way of frames in one buffer',
    source: LAYOUT,
    program: 'call bpf_xdp_get_buff_len\nexit',
    packet: distinctBytes(LINEAR),
    verdict: LINEAR,
  },
  {
    name: 'direct access ends with the linear part',
    source: LAYOUT,
    frags: true,
    program: `
        r2 = *(u32 *)(r1 +4)
        r1 = *(u32 *)(r1 +0)
        r1 += ${LINEAR + 1}
        r0 = 1
        if r1 > r2 goto out
        r0 = 2
      out:
        exit`,
    packet: JUMBO,
    verdict: XDP_DROP,
  },

  loadsFrom('within the linear part', JUMBO, LINEAR - 8),
  loadsFrom('over the end of the linear part', JUMBO, LINEAR - 3),
  loadsFrom('from the first byte of a frag', JUMBO, LINEAR),
  loadsFrom('from one frag to the next', JUMBO, LINEAR + PAGE - 5),
  loadsFrom('up to the last byte', JUMBO, 8992),
  storesTo('over the end of the linear part', JUMBO, LINEAR - 3),
  storesTo('from one frag to the next', JUMBO, LINEAR + PAGE - 5),
  storesTo('up to the last byte', JUMBO, 8992),
  storesTo('to the highest offset that there is, of the longest frame', distinctBytes(LONGEST), 0xffff),
  refuses('bpf_xdp_load_bytes over the end is -EINVAL', copy('load', 8993), -22),
  refuses('bpf_xdp_store_bytes over the end is -EINVAL', copy('store', 8993), -22),
  refuses('bpf_xdp_load_bytes from 65536 is -EFAULT', copy('load', 0x10000, 1), -14, distinctBytes(LONGEST)),
  refuses('bpf_xdp_store_bytes to 65536 is -EFAULT', copy('store', 0x10000, 1), -14, distinctBytes(LONGEST)),
  {
    name: 'bpf_xdp_load_bytes over the linear part, a whole frag and some of the next',
    source: BYTES,
    frags: true,
    maps: {
      big: {
        type: 'BPF_MAP_TYPE_ARRAY',
        valueSize: 4616,
        entries: [[u32(0), new Uint8Array(4616)]],
      },
    },
    program: `
      r6 = r1
      *(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r1 = map[big]
      call bpf_map_lookup_elem
      if r0 == 0 goto bad
      r7 = r0
      r1 = r6
      r2 = 3020
      r3 = r7
      r4 = 4616
      call bpf_xdp_load_bytes
      if r0 != 0 goto bad${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    mapsAfter: { big: [[u32(0), JUMBO.slice(3020, 7636)]] },
  },

  {
    name: 'bpf_xdp_adjust_tail grows to the end of the last page with zeros',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', 2712)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: concat(JUMBO, new Uint8Array(2712)),
  },
  refuses('bpf_xdp_adjust_tail beyond the last page is -EINVAL', adjust('tail', 2713), -22),
  {
    name: 'bpf_xdp_adjust_tail clears what it cut off before',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', -100)}${expectResult(0)}${adjust('tail', 50)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: concat(JUMBO.subarray(0, 8900), new Uint8Array(50)),
  },
  {
    name: 'bpf_xdp_adjust_tail takes away a page, and the one before it is full',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', -1384)}${expectResult(0)}${adjust('tail', 1)}${expectResult(-22)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: JUMBO.slice(0, 7616),
  },
  {
    name: 'bpf_xdp_adjust_tail over two pages: the rest has room again',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', -1484)}${expectResult(0)}${adjust('tail', 100)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: concat(JUMBO.slice(0, 7516), new Uint8Array(100)),
  },
  {
    name: 'bpf_xdp_adjust_tail into the linear part, which grows again as far as one buffer goes',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', -8900)}${expectResult(0)}${adjust('tail', 3421)}${expectResult(-22)}
      ${adjust('tail', 3420)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: concat(JUMBO.slice(0, 100), new Uint8Array(3420)),
  },
  {
    name: 'bpf_xdp_adjust_tail to the end of the linear part leaves one buffer',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', LINEAR - 9000)}${expectResult(0)}${adjust('tail', 1)}${expectResult(-22)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: JUMBO.slice(0, LINEAR),
  },
  {
    name: 'bpf_xdp_adjust_tail leaves 14 bytes',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('tail', 13 - 9000)}${expectResult(-22)}${adjust('tail', 14 - 9000)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: JUMBO.slice(0, 14),
  },
  refuses('bpf_xdp_adjust_tail by nothing is no error', adjust('tail', 0), 0),
  refuses('bpf_xdp_adjust_tail by the smallest number does nothing', adjust('tail', -(2 ** 31)), 0),
  refuses('bpf_xdp_adjust_tail by the smallest number but one is -EINVAL', adjust('tail', 1 - 2 ** 31), -22),

  {
    name: 'bpf_xdp_adjust_head strips, and offsets count from the new start',
    source: HEAD,
    frags: true,
    program: `${BEGIN}${adjust('head', 14)}${expectResult(0)}${copy('load', LINEAR - 14)}${expectResult(0)}
      ${copy('store', 0)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: changed(JUMBO.slice(14), 0, JUMBO.slice(LINEAR, LINEAR + 8)),
  },
  {
    name: 'bpf_xdp_adjust_head leaves 14 bytes of the linear part, whatever follows',
    source: HEAD,
    frags: true,
    program: `${BEGIN}${adjust('head', LINEAR - 13)}${expectResult(-22)}${adjust('head', LINEAR - 14)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: JUMBO.slice(LINEAR - 14),
  },
  {
    name: 'bpf_xdp_adjust_tail takes what is missing from a linear part that has lost its head',
    source: TAIL,
    frags: true,
    program: `${BEGIN}${adjust('head', 3500)}${expectResult(0)}${adjust('tail', -5481)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: JUMBO.slice(3500, 3519),
  },
  {
    name: 'bpf_xdp_adjust_head gains headroom',
    source: HEAD,
    frags: true,
    program: `${BEGIN}${adjust('head', -8)}${expectResult(0)}${copy('store', 0)}${expectResult(0)}${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    packetAfter: concat(new Uint8Array(8), JUMBO),
  },
  {
    name: 'bpf_xdp_adjust_meta makes room in front of the linear part',
    source: HEAD,
    frags: true,
    program: `${BEGIN}${adjust('meta', -4)}${expectResult(0)}
        r1 = *(u32 *)(r6 +8)
        r2 = *(u32 *)(r6 +0)
        r3 = r1
        r3 += 4
        if r3 > r2 goto bad
        *(u32 *)(r1 +0) = 0x01020304${PASS}`,
    packet: JUMBO,
    verdict: XDP_PASS,
    metadataAfter: Uint8Array.of(4, 3, 2, 1),
  },
  {
    name: 'bpf_redirect takes a frame with frags as any other',
    source: 'net/core/filter.c bpf_xdp_redirect',
    frags: true,
    program: 'r1 = 7\nr2 = 0\ncall bpf_redirect\nexit',
    packet: JUMBO,
    verdict: XDP_REDIRECT,
    redirect: { kind: 'ifindex', ifindex: 7, flags: 0 },
  },
  {
    name: 'bpf_perf_event_output: the start of the packet goes on in the frags',
    source: 'net/core/filter.c bpf_xdp_event_output, bpf_xdp_copy',
    frags: true,
    maps: {
      events: {
        type: 'BPF_MAP_TYPE_PERF_EVENT_ARRAY',
        maxEntries: 2,
        entries: [[u32(0), u32(3)]],
      },
    },
    // 8000 bytes of the packet.
    program: `
      *(u64 *)(r10 -8) = 0x11223344
      r2 = map[events]
      r3 = 0x1f40ffffffffll
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_perf_event_output
      r0 += 2
      exit`,
    packet: JUMBO,
    verdict: XDP_PASS,
    records: { events: [concat([0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0], JUMBO.subarray(0, 8000))] },
  },
  {
    name: 'bpf_perf_event_output of more than linear part and frags hold is -EFAULT',
    source: 'net/core/filter.c bpf_xdp_event_output',
    frags: true,
    maps: {
      events: {
        type: 'BPF_MAP_TYPE_PERF_EVENT_ARRAY',
        maxEntries: 2,
        entries: [[u32(0), u32(3)]],
      },
    },
    program: `
      *(u64 *)(r10 -8) = 0
      r2 = map[events]
      r3 = 0x2329ffffffffll
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_perf_event_output
      exit`,
    packet: JUMBO,
    verdict: 0xffff_fff2,
    records: { events: [] },
  },
  {
    name: 'bpf_check_mtu looks at the linear part only',
    source: 'net/core/filter.c bpf_xdp_check_mtu of 6.18',
    frags: true,
    network: { mtu: () => LINEAR - 14, fibLookup: () => ({ result: 0 }) },
    program: `
      *(u32 *)(r10 -4) = 0
      r2 = 1
      r3 = r10
      r3 += -4
      r4 = 0
      r5 = 0
      call bpf_check_mtu
      r0 += 2
      exit`,
    packet: JUMBO,
    verdict: XDP_PASS,
  },
];
