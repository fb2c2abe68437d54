/**
 * Byte offsets of `struct bpf_fib_lookup` (include/uapi/linux/bpf.h), 64 bytes:
 *
 * ```
 *   +0   u8  family               AF_INET or AF_INET6
 *   +1   u8  l4_protocol
 *   +2   be16 sport, +4 be16 dport
 *   +6   u16 tot_len              in: length of the L3 packet, 0 for no check; out: mtu_result
 *   +8   u32 ifindex              in: of the device asked for; out: of the device to send on
 *   +12  u8 tos | be32 flowinfo   in; out: u32 rt_metric
 *   +16  source address           4 or 16 bytes
 *   +32  destination address      4 or 16 bytes; out: the next hop
 *   +48  u32 tbid                 in, with BPF_FIB_LOOKUP_TBID; out: be16 h_vlan_proto, be16 h_vlan_TCI
 *   +52  u32 mark                 in, with BPF_FIB_LOOKUP_MARK; out: u8 smac[6], u8 dmac[6]
 * ```
 */
export const BPF_FIB_LOOKUP = {
  family: 0,
  totLen: 6,
  ifindex: 8,
  rtMetric: 12,
  source: 16,
  destination: 32,
  tbid: 48,
  mark: 52,
  smac: 52,
  dmac: 58,
} as const;
export const BPF_FIB_LOOKUP_SIZE = 64;

/** Results of bpf_fib_lookup that are not errors. */
export const BPF_FIB_LKUP_RET = {
  SUCCESS: 0,
  BLACKHOLE: 1,
  UNREACHABLE: 2,
  PROHIBIT: 3,
  NOT_FWDED: 4,
  FWD_DISABLED: 5,
  UNSUPP_LWT: 6,
  NO_NEIGH: 7,
  FRAG_NEEDED: 8,
  NO_SRC_ADDR: 9,
} as const;

export const BPF_FIB_LOOKUP_DIRECT = 1 << 0;
export const BPF_FIB_LOOKUP_OUTPUT = 1 << 1;
export const BPF_FIB_LOOKUP_SKIP_NEIGH = 1 << 2;
export const BPF_FIB_LOOKUP_TBID = 1 << 3;
export const BPF_FIB_LOOKUP_SRC = 1 << 4;
export const BPF_FIB_LOOKUP_MARK = 1 << 5;
export const BPF_FIB_LOOKUP_MASK = (1 << 6) - 1;

export const AF_INET = 2;
export const AF_INET6 = 10;
