// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Programs that change where a packet starts and ends. Each drops what it cannot adjust.
 */
#include "parse.h"

/* What csum_headers found, in native order: slot 0 the folded sum of the IPv4 header (0 when right). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ip_csum SEC(".maps");

/* What meta_read found in front of the packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} meta_mark SEC(".maps");

/* Puts a second Ethernet header in front: locally administered addresses, experimental EtherType. */
SEC("xdp")
int push_header(struct xdp_md *ctx)
{
	struct ethhdr *eth;
	void *data_end;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*eth)))
		return XDP_DROP;
	/* Every packet pointer is void after the call: take them again. */
	data_end = (void *)(long)ctx->data_end;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	__builtin_memset(eth->h_dest, 0x02, ETH_ALEN);
	__builtin_memset(eth->h_source, 0x06, ETH_ALEN);
	eth->h_proto = bpf_htons(0x88b5);
	return XDP_PASS;
}

/* Takes the first 14 bytes away. */
SEC("xdp")
int pop_header(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, sizeof(struct ethhdr)) ? XDP_DROP : XDP_PASS;
}

/* Cuts the last 8 bytes off. */
SEC("xdp")
int trim_tail(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_tail(ctx, -8) ? XDP_DROP : XDP_PASS;
}

/* Adds 8 bytes at the end; the kernel zeroes them. */
SEC("xdp")
int grow_tail(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_tail(ctx, 8) ? XDP_DROP : XDP_PASS;
}

/* Puts a mark into 8 bytes of metadata in front of the packet and reads it back. */
SEC("xdp")
int meta_roundtrip(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *slot;
	__u64 *meta;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return XDP_DROP;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
	*meta = 0x0123456789abcdefULL;
	slot = bpf_map_lookup_elem(&meta_mark, &key);
	if (slot)
		*slot = *meta;
	return XDP_PASS;
}

/* Sums the IPv4 header; a right header sums to 0xffff, so 0 is stored. Then lowers the TTL. */
SEC("xdp")
int csum_headers(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	struct iphdr *ip;
	__u32 key = 0;
	__be32 before, after;
	__u64 *slot;
	__s64 sum;

	if (parse_ethernet(&cursor, data_end) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	ip = cursor;
	if ((void *)(ip + 1) > data_end || ip->ihl != 5 || ip->ttl <= 1)
		return XDP_PASS;
	sum = bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0);
	if (sum < 0)
		return XDP_ABORTED;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	slot = bpf_map_lookup_elem(&ip_csum, &key);
	if (slot)
		*slot = (__u16)~sum;

	/* RFC 1624, equation 3: the new checksum from the old one and the word that changed. */
	before = *(__be32 *)&ip->ttl & bpf_htonl(0xffff0000);
	ip->ttl--;
	after = *(__be32 *)&ip->ttl & bpf_htonl(0xffff0000);
	sum = bpf_csum_diff(&before, sizeof(before), &after, sizeof(after), (__u16)~ip->check);
	if (sum < 0)
		return XDP_ABORTED;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (__u16)~sum;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
