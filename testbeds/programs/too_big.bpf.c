// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Two programs that a router or a sensor at its side runs. too_big answers IPv4 packets that are longer
 * than the next link takes with "fragmentation needed" (RFC 792, RFC 1191): it trims the packet at its
 * end, puts new headers in front and sums what is now in it. bypass passes flows that a sensor has
 * judged and spreads the others over CPUs.
 */
#include <linux/icmp.h>
#include <linux/udp.h>
#include "parse.h"

#define QUOTED_BYTES 8
#define MAX_IP_HEADER 60
#define CPUS 64

/* Set from outside: the MTU of the next link, and how many CPUs there are to spread over. */
volatile const __u32 next_mtu = 1400;
volatile const __u32 cpu_count = 1;

struct budget {
	__u64 updated;
	__u64 tokens;
};

/* Answers that may be sent, per CPU: RFC 1812 asks for a limit. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} answers SEC(".maps");

struct flow4 {
	__be32 addrs[2];
	__be16 ports[2];
	__u16 vlan;
	__u8 protocol;
	__u8 reserved;
};

struct flow6 {
	__be32 addrs[2][4];
	__be16 ports[2];
	__u16 vlan;
	__u8 protocol;
	__u8 reserved;
};

struct passed {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct flow4);
	__type(value, struct passed);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct flow6);
	__type(value, struct passed);
} flows6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, CPUS);
	__type(key, __u32);
	__type(value, __u32);
} cpus SEC(".maps");

static __always_inline __u16 fold_checksum(__s64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline int may_answer(void)
{
	__u64 now = bpf_ktime_get_ns();
	struct budget *budget;
	__u32 key = 0;

	budget = bpf_map_lookup_elem(&answers, &key);
	if (!budget)
		return 0;
	if (now - budget->updated > 1000000000ull) {
		budget->updated = now;
		budget->tokens = 1000;
	}
	if (!budget->tokens)
		return 0;
	budget->tokens--;
	return 1;
}

/* Sums words of the quoted packet, whose length only the packet tells. */
static __noinline __s64 sum_words(__be32 *words, __u32 count, void *data_end)
{
	__s64 sum = 0;
	__u32 i;

	for (i = 0; i < (MAX_IP_HEADER + QUOTED_BYTES) / 4; i++) {
		if (i >= count || (void *)(words + i + 1) > data_end)
			break;
		sum += words[i] & 0xffff;
		sum += words[i] >> 16;
	}
	return sum;
}

SEC("xdp")
int too_big(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	const int added = sizeof(struct iphdr) + sizeof(struct icmphdr);
	__be32 saddr, daddr;
	struct icmphdr *icmp;
	struct ethhdr old;
	struct iphdr *ip;
	__u32 header, kept;
	__s64 sum;

	if ((void *)(eth + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end || ip->ihl < 5)
		return XDP_DROP;
	if (bpf_ntohs(ip->tot_len) <= next_mtu || !(ip->frag_off & bpf_htons(0x4000)))
		return XDP_PASS;
	/* No answer to what is an error itself, nor to a later fragment. */
	if (ip->protocol == IPPROTO_ICMP || ip->frag_off & bpf_htons(0x1fff) || !may_answer())
		return XDP_DROP;
	header = ip->ihl * 4;
	kept = header + QUOTED_BYTES;
	saddr = ip->saddr;
	daddr = ip->daddr;
	__builtin_memcpy(&old, eth, sizeof(old));
	if (bpf_xdp_adjust_tail(ctx, (int)(sizeof(*eth) + kept) - (int)(data_end - (void *)eth)))
		return XDP_DROP;
	if (bpf_xdp_adjust_head(ctx, -added))
		return XDP_DROP;

	data_end = (void *)(long)ctx->data_end;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	icmp = (void *)(ip + 1);
	if ((void *)(icmp + 1) > data_end)
		return XDP_DROP;
	__builtin_memcpy(eth->h_dest, old.h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, old.h_dest, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(added + kept);
	ip->ttl = 64;
	ip->protocol = IPPROTO_ICMP;
	ip->saddr = daddr;
	ip->daddr = saddr;
	sum = bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0);
	if (sum < 0)
		return XDP_DROP;
	ip->check = fold_checksum(sum);
	__builtin_memset(icmp, 0, sizeof(*icmp));
	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = ICMP_FRAG_NEEDED;
	icmp->un.frag.mtu = bpf_htons(next_mtu);
	sum = sum_words((__be32 *)(icmp + 1), kept / 4, data_end);
	sum = bpf_csum_diff(0, 0, (__be32 *)icmp, sizeof(*icmp), (sum & 0xffffff) + (sum >> 24));
	if (sum < 0)
		return XDP_DROP;
	icmp->checksum = fold_checksum(sum);
	return XDP_TX;
}

static __always_inline int bypassed(struct passed *passed, __u32 length)
{
	if (!passed)
		return 0;
	passed->packets++;
	passed->bytes += length;
	passed->last_seen = bpf_ktime_get_ns();
	return 1;
}

/* The ports of TCP and UDP, which lie at the same place; 0 where there are none. */
static __always_inline void read_ports(void *header, void *data_end, __u8 protocol, __be16 ports[2])
{
	struct udphdr *udp = header;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return;
	if ((void *)(udp + 1) > data_end)
		return;
	ports[0] = udp->source;
	ports[1] = udp->dest;
}

SEC("xdp")
int bypass(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	struct ethhdr *eth = cursor;
	__u32 length = ctx->data_end - ctx->data;
	__u32 hash = 0;
	__u16 vlan = 0;
	int proto;

	if ((void *)(eth + 1) > data_end)
		return XDP_PASS;
	if (is_vlan(eth->h_proto) && (void *)(eth + 1) + sizeof(struct vlan_tag) <= data_end)
		vlan = bpf_ntohs(((struct vlan_tag *)(eth + 1))->tci) & 0xfff;
	proto = parse_ethernet(&cursor, data_end);
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = cursor;
		struct flow4 flow = { .vlan = vlan };

		if ((void *)(ip + 1) > data_end || ip->ihl < 5)
			return XDP_PASS;
		flow.addrs[0] = ip->saddr;
		flow.addrs[1] = ip->daddr;
		flow.protocol = ip->protocol;
		read_ports(cursor + ip->ihl * 4, data_end, ip->protocol, flow.ports);
		if (bypassed(bpf_map_lookup_elem(&flows4, &flow), length))
			return XDP_DROP;
		/* The same in both directions. */
		hash = flow.addrs[0] ^ flow.addrs[1];
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = cursor;
		struct flow6 flow = { .vlan = vlan };
		int i;

		if ((void *)(ip6 + 1) > data_end)
			return XDP_PASS;
		__builtin_memcpy(flow.addrs[0], &ip6->saddr, sizeof(flow.addrs[0]));
		__builtin_memcpy(flow.addrs[1], &ip6->daddr, sizeof(flow.addrs[1]));
		flow.protocol = ip6->nexthdr;
		read_ports(ip6 + 1, data_end, ip6->nexthdr, flow.ports);
		if (bypassed(bpf_map_lookup_elem(&flows6, &flow), length))
			return XDP_DROP;
		for (i = 0; i < 4; i++)
			hash ^= flow.addrs[0][i] ^ flow.addrs[1][i];
	} else {
		return XDP_PASS;
	}
	if (!cpu_count)
		return XDP_PASS;
	hash ^= hash >> 16;
	return bpf_redirect_map(&cpus, hash % cpu_count, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
