// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Maps in maps. `by_family` (ARRAY_OF_MAPS) counts IP protocols in one inner array for IPv4 and one
 * for IPv6; `by_queue` (HASH_OF_MAPS) counts EtherTypes in one inner hash per Rx queue. Queues
 * without an inner map are not counted. Both are filled by the loader from static initialisers.
 */
#include "parse.h"

struct protocol_counts {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} counts_v4 SEC(".maps"), counts_v6 SEC(".maps");

struct ethertype_counts {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} queue0 SEC(".maps"), queue1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct protocol_counts);
} by_family SEC(".maps") = {
	/* Slots 1 and 3 stay empty on purpose. */
	.values = {[0] = &counts_v4, [2] = &counts_v6},
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct ethertype_counts);
} by_queue SEC(".maps") = {
	.values = {[0] = &queue0, [1] = &queue1},
};

static __always_inline void count_ethertype(__u32 queue, __u32 ethertype)
{
	void *inner = bpf_map_lookup_elem(&by_queue, &queue);
	__u64 one = 1;
	__u64 *count;

	if (!inner)
		return;
	count = bpf_map_lookup_elem(inner, &ethertype);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(inner, &ethertype, &one, BPF_ANY);
}

SEC("xdp")
int map_in_map(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	void *cursor = data;
	int ethertype = parse_ethernet(&cursor, data_end);
	int protocol = parse_ip_protocol(data, data_end);
	__u32 family, key;
	void *inner;
	__u64 *count;

	if (ethertype < 0 || protocol < 0)
		return XDP_DROP;
	count_ethertype(ctx->rx_queue_index, bpf_ntohs(ethertype));
	if (ethertype == bpf_htons(ETH_P_IP))
		family = 0;
	else if (ethertype == bpf_htons(ETH_P_IPV6))
		family = 2;
	else
		return XDP_PASS;
	inner = bpf_map_lookup_elem(&by_family, &family);
	if (!inner)
		return XDP_PASS;
	key = protocol;
	count = bpf_map_lookup_elem(inner, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
