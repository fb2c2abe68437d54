// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The tap's Rx-path program: what the offloaded program sends by XDP_TX enters the tap as if the
 * guest had sent it, and ends here. Slot 0 of `rx_stats` counts packets, slot 1 bytes.
 */
#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} rx_stats SEC(".maps");

SEC("xdp")
int tap_drop(struct xdp_md *ctx)
{
	__u32 packets_key = 0, bytes_key = 1;
	__u64 *packets = bpf_map_lookup_elem(&rx_stats, &packets_key);
	__u64 *bytes = bpf_map_lookup_elem(&rx_stats, &bytes_key);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	if (bytes)
		__sync_fetch_and_add(bytes, ctx->data_end - ctx->data);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
