// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Counts packets by IPv4 5-tuple: look the flow up, add to it, or insert it. Packets beyond the
 * map's capacity pass uncounted, as does what is not IPv4. Ports are 0 for protocols without them
 * and for every fragment but the first.
 */
#include "parse.h"

#define IP_OFFSET_MASK 0x1fff

/* All fields in network order; 16 bytes without padding. */
struct flow_key {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u32 protocol;
};

struct ports {
	__be16 source;
	__be16 dest;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow_key);
	__type(value, __u64);
} flows SEC(".maps");

SEC("xdp")
int flow_count(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	struct flow_key key = {};
	struct iphdr *ip;
	__u64 one = 1;
	__u64 *count;

	if (parse_ethernet(&cursor, data_end) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	ip = cursor;
	if ((void *)(ip + 1) > data_end || ip->ihl < 5)
		return XDP_PASS;
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.protocol = ip->protocol;

	if ((ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) &&
	    !(ip->frag_off & bpf_htons(IP_OFFSET_MASK))) {
		struct ports *ports = cursor + ip->ihl * 4;

		if ((void *)(ports + 1) > data_end)
			return XDP_PASS;
		key.sport = ports->source;
		key.dport = ports->dest;
	}

	count = bpf_map_lookup_elem(&flows, &key);
	if (count) {
		__sync_fetch_and_add(count, 1);
		return XDP_PASS;
	}
	/* Another queue may have inserted it since: then add to what it made. */
	if (bpf_map_update_elem(&flows, &key, &one, BPF_NOEXIST)) {
		count = bpf_map_lookup_elem(&flows, &key);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
