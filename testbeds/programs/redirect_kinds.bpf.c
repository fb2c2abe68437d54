// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Every redirect target and every XDP section kind in one object: DEVMAP_HASH, CPUMAP and XSKMAP,
 * the programs that run on a devmap or cpumap entry, and one that takes multi-buffer packets.
 */
#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} tx_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Slot 0: packets seen by on_devmap; 1: by on_cpumap; 2: bytes seen by count_frags. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __always_inline void add(__u32 slot, __u64 n)
{
	__u64 *count = bpf_map_lookup_elem(&seen, &slot);

	if (count)
		__sync_fetch_and_add(count, n);
}

/* To the device whose key is the ingress interface's index; dropped when there is none. */
SEC("xdp")
int to_device(struct xdp_md *ctx)
{
	return bpf_redirect_map(&tx_hash, ctx->ingress_ifindex, XDP_DROP);
}

/* To every device of the map but the one it came from. */
SEC("xdp")
int to_all_devices(struct xdp_md *ctx)
{
	return bpf_redirect_map(&tx_hash, 0, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
}

/* Spread over the CPUs by Rx queue. */
SEC("xdp")
int to_cpu(struct xdp_md *ctx)
{
	return bpf_redirect_map(&cpus, ctx->rx_queue_index & 3, XDP_PASS);
}

/* To the AF_XDP socket of the Rx queue; to the stack when the queue has none. */
SEC("xdp")
int to_socket(struct xdp_md *ctx)
{
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
}

/* By interface index, without a map: back to where it came from. */
SEC("xdp")
int to_ifindex(struct xdp_md *ctx)
{
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

/* Runs on a devmap entry, after the redirect; the only place where egress_ifindex may be read. */
SEC("xdp/devmap")
int on_devmap(struct xdp_md *ctx)
{
	add(0, 1);
	return ctx->egress_ifindex ? XDP_PASS : XDP_DROP;
}

/* Runs on a cpumap entry, on the remote CPU. */
SEC("xdp/cpumap")
int on_cpumap(struct xdp_md *ctx)
{
	add(1, 1);
	return XDP_PASS;
}

/* Accepts packets in several buffers: data_end covers the first one only. */
SEC("xdp.frags")
int count_frags(struct xdp_md *ctx)
{
	add(2, bpf_xdp_get_buff_len(ctx));
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
