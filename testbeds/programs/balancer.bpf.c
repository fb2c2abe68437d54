// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * A layer-4 load balancer: services by address and port, connections in an LRU_HASH, a ring of
 * backends by consistent hashing, and delivery by tunnel: IPIP or VXLAN in front of the packet, whose
 * headers are parsed once more after each adjustment. The entry program only looks at the EtherType
 * and leaves the rest to the program for it by a tail call.
 */
#include <linux/tcp.h>
#include <linux/udp.h>
#include "parse.h"

#define RING_SIZE 4099
#define VXLAN_PORT 4789
#define VXLAN_FLAG_VNI 0x08000000

struct service_key {
	__be32 addr;
	__be16 port;
	__u16 protocol;
};

struct service {
	__u32 number;
	__u32 flags;
};

#define SERVICE_VXLAN 1
#define SERVICE_NO_CONNECTIONS 2

struct flow_key {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u32 protocol;
};

struct connection {
	__u32 backend;
	__u32 padding;
	__u64 last_seen;
};

struct backend {
	__be32 addr;
	__u32 vni;
	__u8 mac[ETH_ALEN];
	__u16 weight;
};

struct prefix {
	__u32 length;
	__be32 addr;
};

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct vxlan_header {
	__be32 flags;
	__be32 vni;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct service_key);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64 * RING_SIZE);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

/* Sources that are not served: the value is the reason. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} refused SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

/* Slot 0: our own address; 1: the gateway's MAC address in the low 6 bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} settings SEC(".maps");

int balance_ipv4(struct xdp_md *ctx);
int echo_ipv6(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, int(struct xdp_md *));
} protocols SEC(".maps") = {
	.values = { [0] = (void *)balance_ipv4, [1] = (void *)echo_ipv6 },
};

static __always_inline __u32 rotate(__u32 word, int by)
{
	return (word << by) | (word >> (32 - by));
}

/* A 32-bit mix of three words, in the manner of multiply-rotate hashes. */
static __always_inline __u32 mix(__u32 a, __u32 b, __u32 c)
{
	__u32 h = a * 0xcc9e2d51;

	h = rotate(h, 15) * 0x1b873593;
	h ^= rotate(b * 0xcc9e2d51, 13);
	h = h * 5 + 0xe6546b64;
	h ^= rotate(c * 0x1b873593, 17);
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	return h;
}

/* The checksum of an IPv4 header without options whose checksum field is 0. */
static __always_inline __u16 header_checksum(struct iphdr *ip)
{
	__s64 sum = bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __noinline __u32 pick_backend(struct flow_key *flow, __u32 service)
{
	__u32 hash = mix(flow->saddr, flow->daddr ^ flow->protocol,
			 ((__u32)flow->sport << 16) | flow->dport);
	__u32 index = service % 64 * RING_SIZE + hash % RING_SIZE;
	__u32 *backend = bpf_map_lookup_elem(&ring, &index);

	return backend ? *backend : 0;
}

static __noinline void account(__u32 service, __u32 bytes)
{
	struct traffic *entry = bpf_map_lookup_elem(&traffic, &service);

	if (entry) {
		entry->packets++;
		entry->bytes += bytes;
	}
}

/* Fills in the outer IPv4 header; the pointers stay valid, as no helper here moves the packet. */
static __always_inline int write_outer(struct iphdr *outer, void *data_end, __u8 tos, __u16 length,
				       __u8 protocol, __be32 daddr)
{
	__u32 key = 0;
	__u64 *own;

	if ((void *)(outer + 1) > data_end)
		return -1;
	own = bpf_map_lookup_elem(&settings, &key);
	if (!own)
		return -1;
	outer->version = 4;
	outer->ihl = 5;
	outer->tos = tos;
	outer->tot_len = bpf_htons(length);
	outer->id = 0;
	outer->frag_off = bpf_htons(0x4000);
	outer->ttl = 64;
	outer->protocol = protocol;
	outer->check = 0;
	outer->saddr = *own;
	outer->daddr = daddr;
	outer->check = header_checksum(outer);
	return 0;
}

static __always_inline int write_ethernet(struct xdp_md *ctx, const __u8 *mac)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 key = 1;
	__u64 *gateway;

	if ((void *)(eth + 1) > data_end)
		return -1;
	gateway = bpf_map_lookup_elem(&settings, &key);
	if (!gateway)
		return -1;
	__builtin_memcpy(eth->h_source, gateway, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	return 0;
}

static __always_inline int encapsulate_ipip(struct xdp_md *ctx, struct backend *backend, __u8 tos,
					    __u16 length)
{
	struct iphdr *outer;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*outer)))
		return -1;
	outer = (void *)(long)ctx->data + sizeof(struct ethhdr);
	if (write_outer(outer, (void *)(long)ctx->data_end, tos, length + sizeof(*outer),
			IPPROTO_IPIP, backend->addr))
		return -1;
	return write_ethernet(ctx, backend->mac);
}

static __always_inline int encapsulate_vxlan(struct xdp_md *ctx, struct backend *backend, __u8 tos,
					     __u16 length, __u32 hash)
{
	struct vxlan_header *vxlan;
	struct udphdr *udp;
	struct iphdr *outer;
	const int added = sizeof(struct ethhdr) + sizeof(*outer) + sizeof(*udp) + sizeof(*vxlan);

	if (bpf_xdp_adjust_head(ctx, -added))
		return -1;
	outer = (void *)(long)ctx->data + sizeof(struct ethhdr);
	udp = (void *)(outer + 1);
	vxlan = (void *)(udp + 1);
	if ((void *)(vxlan + 1) > (void *)(long)ctx->data_end)
		return -1;
	udp->source = bpf_htons(0xc000 | (hash & 0x3fff));
	udp->dest = bpf_htons(VXLAN_PORT);
	udp->len = bpf_htons(length + sizeof(struct ethhdr) + sizeof(*udp) + sizeof(*vxlan));
	udp->check = 0;
	vxlan->flags = bpf_htonl(VXLAN_FLAG_VNI);
	vxlan->vni = bpf_htonl(backend->vni << 8);
	if (write_outer(outer, (void *)(long)ctx->data_end, tos, length + added, IPPROTO_UDP,
			backend->addr))
		return -1;
	return write_ethernet(ctx, backend->mac);
}

SEC("xdp")
int balance_ipv4(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	struct prefix prefix = { .length = 32 };
	struct service_key key = {};
	struct connection *connection;
	struct flow_key flow = {};
	struct service *service;
	struct backend *backend;
	__u32 number = 0;
	struct iphdr *ip;
	__be16 *ports;
	__u16 length;
	__u8 tos, flags = 0;

	if (parse_ethernet(&cursor, data_end) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	ip = cursor;
	if ((void *)(ip + 1) > data_end || ip->ihl < 5)
		return XDP_DROP;
	prefix.addr = ip->saddr;
	if (bpf_map_lookup_elem(&refused, &prefix))
		return XDP_DROP;
	ports = cursor + ip->ihl * 4;
	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)ports;

		if ((void *)(tcp + 1) > data_end)
			return XDP_DROP;
		flags = ((__u8 *)tcp)[13];
	} else if (ip->protocol == IPPROTO_UDP) {
		if ((void *)ports + sizeof(struct udphdr) > data_end)
			return XDP_DROP;
	} else {
		return XDP_PASS;
	}
	key.addr = ip->daddr;
	key.port = ports[1];
	key.protocol = ip->protocol;
	service = bpf_map_lookup_elem(&services, &key);
	if (!service)
		return XDP_PASS;

	/* ip and ports survive the lookups, which do not move the packet: clang spills them. */
	flow.saddr = ip->saddr;
	flow.daddr = ip->daddr;
	flow.sport = ports[0];
	flow.dport = ports[1];
	flow.protocol = ip->protocol;
	connection = bpf_map_lookup_elem(&connections, &flow);
	if (connection && !(flags & 2)) {
		number = connection->backend;
		connection->last_seen = bpf_ktime_get_ns();
	} else {
		number = pick_backend(&flow, service->number);
		if (!(service->flags & SERVICE_NO_CONNECTIONS)) {
			struct connection fresh = {
				.backend = number,
				.last_seen = bpf_ktime_get_ns(),
			};

			bpf_map_update_elem(&connections, &flow, &fresh, BPF_ANY);
		}
	}
	backend = bpf_map_lookup_elem(&backends, &number);
	if (!backend || !backend->addr)
		return XDP_DROP;
	length = bpf_ntohs(ip->tot_len);
	tos = ip->tos;
	account(service->number, length);
	if (service->flags & SERVICE_VXLAN) {
		__u32 hash = mix(flow.saddr, flow.sport, flow.dport);

		if (encapsulate_vxlan(ctx, backend, tos, length, hash))
			return XDP_DROP;
	} else if (encapsulate_ipip(ctx, backend, tos, length)) {
		return XDP_DROP;
	}
	return XDP_TX;
}

/* Echoes ICMPv6 echo requests, so that a prober sees that the balancer lives. */
SEC("xdp")
int echo_ipv6(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	struct ethhdr *eth = cursor;
	struct in6_addr addr;
	struct ipv6hdr *ip6;
	__u8 mac[ETH_ALEN];
	__u8 *icmp;
	__u32 sum;

	if (parse_ethernet(&cursor, data_end) != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	ip6 = cursor;
	icmp = (void *)(ip6 + 1);
	if ((void *)(icmp + 8) > data_end || ip6->nexthdr != IPPROTO_ICMPV6 || icmp[0] != 128)
		return XDP_PASS;
	/* 128 becomes 129: the checksum sinks by 0x0100. */
	icmp[0] = 129;
	sum = bpf_ntohs(*(__be16 *)(icmp + 2)) + 0xfeff;
	*(__be16 *)(icmp + 2) = bpf_htons((sum & 0xffff) + (sum >> 16));
	addr = ip6->saddr;
	ip6->saddr = ip6->daddr;
	ip6->daddr = addr;
	__builtin_memcpy(mac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	return XDP_TX;
}

SEC("xdp")
int balance(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	int proto = parse_ethernet(&cursor, data_end);

	if (proto == bpf_htons(ETH_P_IP))
		bpf_tail_call(ctx, &protocols, 0);
	else if (proto == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(ctx, &protocols, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
