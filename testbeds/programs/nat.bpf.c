// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * A carrier-grade NAT in one program, to try verifiers with: unrolled filter and translation rules,
 * connections in an LRU_HASH, address pools, policing, and checksums that are updated as headers
 * change. clang makes 8000 insns of it. No, one or two VLAN tags times TCP, UDP and ICMP are nine
 * kinds of packet, and a verifier walks most of the program once for each: the kernel processes
 * 121 000 insns.
 */
#include <linux/icmp.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include "parse.h"

#define FILTER_RULES 152
#define PORT_FORWARDS 72
#define POOLS 24
#define PORT_PROBES 10
#define POLICERS 8
#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000
#define FIRST_DYNAMIC_PORT 1024
#define NANOSECONDS 1000000000ull
#define MAX_TCP_OPTIONS 8

enum counter {
	COUNT_PACKETS,
	COUNT_NOT_IP,
	COUNT_SHORT,
	COUNT_FRAGMENT,
	COUNT_TTL,
	COUNT_FILTERED,
	COUNT_NO_PORT,
	COUNT_POLICED,
	COUNT_TRANSLATED,
	COUNT_NEW,
	COUNT_CLOSED,
	COUNT_UNKNOWN,
	COUNTERS,
};

/* All fields that come from packets are in network order. */
struct flow {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u32 protocol;
};

struct binding {
	__be32 addr;
	__be32 remote;
	__be16 port;
	__be16 remote_port;
	__u32 flags;
	__u64 last_seen;
	__u64 packets;
	__u64 bytes;
};

#define BINDING_SOURCE 1
#define BINDING_DESTINATION 2
#define BINDING_FIN 4
#define BINDING_RST 8
#define BINDING_ESTABLISHED 16

struct filter_rule {
	__be32 saddr;
	__be32 smask;
	__be32 daddr;
	__be32 dmask;
	__u16 low_port;
	__u16 high_port;
	__u8 protocol;
	__u8 action;
	__u16 dscp;
	__u64 hits;
};

#define ACTION_NONE 0
#define ACTION_ACCEPT 1
#define ACTION_DROP 2
#define ACTION_MARK 3

struct port_forward {
	__be32 public_addr;
	__be32 private_addr;
	__u16 low_port;
	__u16 high_port;
	__u16 private_port;
	__u8 protocol;
	__u8 enabled;
	__u64 hits;
};

struct pool {
	__be32 inside;
	__be32 mask;
	__be32 first_addr;
	__u32 addrs;
	__u32 next_port;
	__u32 policer;
};

/* Per CPU, so that no lock is needed: the rate is the configured one divided by the CPUs. */
struct policer {
	__u64 rate;
	__u64 burst;
	__u64 tokens;
	__u64 updated;
};

struct neighbour {
	__u8 dest[ETH_ALEN];
	__u8 source[ETH_ALEN];
	__u32 ifindex;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct binding);
} bindings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FILTER_RULES);
	__type(key, __u32);
	__type(value, struct filter_rule);
} filter_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PORT_FORWARDS);
	__type(key, __u32);
	__type(value, struct port_forward);
} port_forwards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POOLS);
	__type(key, __u32);
	__type(value, struct pool);
} pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, POLICERS);
	__type(key, __u32);
	__type(value, struct policer);
} policers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, struct neighbour);
} neighbours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* What is known of a packet; clang keeps it in registers and on the stack. */
struct packet {
	struct ethhdr *eth;
	struct iphdr *ip;
	__be16 *sport;
	__be16 *dport;
	__be16 *check;
	struct flow flow;
	__u32 length;
	__u8 tcp_flags;
	__u8 dscp;
};

static __always_inline int count(__u32 which, int verdict)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &which);

	if (counter)
		*counter += 1;
	return verdict;
}

static __always_inline __be16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* RFC 1624, equation 3. */
static __always_inline void replace16(__be16 *check, __be16 before, __be16 after)
{
	*check = ~fold((__u16)~*check + (__u16)~before + after);
}

static __always_inline void replace32(__be16 *check, __be32 before, __be32 after)
{
	*check = ~fold((__u16)~*check + (__u16)~(before & 0xffff) + (__u16)~(before >> 16) +
		       (after & 0xffff) + (after >> 16));
}

/* 0, or why the packet goes no further. */
static __always_inline int parse(struct xdp_md *ctx, struct packet *packet)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	struct iphdr *ip;

	packet->eth = cursor;
	packet->length = data_end - cursor;
	if (parse_ethernet(&cursor, data_end) != bpf_htons(ETH_P_IP))
		return COUNT_NOT_IP;
	ip = cursor;
	if ((void *)(ip + 1) > data_end || ip->ihl < 5)
		return COUNT_SHORT;
	if (ip->frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS))
		return COUNT_FRAGMENT;
	if (ip->ttl <= 1)
		return COUNT_TTL;
	packet->ip = ip;
	packet->flow.saddr = ip->saddr;
	packet->flow.daddr = ip->daddr;
	packet->flow.protocol = ip->protocol;
	packet->dscp = ip->tos >> 2;
	packet->tcp_flags = 0;
	cursor += ip->ihl * 4;

	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = cursor;

		if ((void *)(tcp + 1) > data_end)
			return COUNT_SHORT;
		packet->sport = &tcp->source;
		packet->dport = &tcp->dest;
		packet->check = &tcp->check;
		packet->tcp_flags = ((__u8 *)tcp)[13];
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = cursor;

		if ((void *)(udp + 1) > data_end)
			return COUNT_SHORT;
		packet->sport = &udp->source;
		packet->dport = &udp->dest;
		packet->check = &udp->check;
	} else if (ip->protocol == IPPROTO_ICMP) {
		struct icmphdr *icmp = cursor;

		if ((void *)(icmp + 1) > data_end)
			return COUNT_SHORT;
		if (icmp->type != ICMP_ECHO && icmp->type != ICMP_ECHOREPLY)
			return COUNT_UNKNOWN;
		/* The identifier takes the part of both ports. */
		packet->sport = &icmp->un.echo.id;
		packet->dport = &icmp->un.echo.id;
		packet->check = &icmp->checksum;
	} else {
		return COUNT_UNKNOWN;
	}
	packet->flow.sport = *packet->sport;
	packet->flow.dport = *packet->dport;
	return 0;
}

/* Lowers the MSS option of a SYN to what fits behind the translation. */
static __always_inline void clamp_mss(struct xdp_md *ctx, struct packet *packet)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *option = (__u8 *)packet->sport + sizeof(struct tcphdr);
	int i;

#pragma unroll
	for (i = 0; i < MAX_TCP_OPTIONS; i++) {
		if ((void *)(option + 4) > data_end || option[0] == 0)
			return;
		if (option[0] == 1) {
			option++;
			continue;
		}
		if (option[0] == 2) {
			__be16 *mss = (__be16 *)(option + 2);

			if (option[1] == 4 && bpf_ntohs(*mss) > 1400) {
				__be16 before = *mss;

				*mss = bpf_htons(1400);
				replace16(packet->check, before, *mss);
			}
			return;
		}
		if (option[1] < 2)
			return;
		option += option[1] & 0x1f;
	}
}

/* The first rule that matches decides. */
static __always_inline int filter(struct packet *packet)
{
	__u16 port = bpf_ntohs(packet->flow.dport);
	__u32 i;

#pragma unroll
	for (i = 0; i < FILTER_RULES; i++) {
		__u32 key = i;
		struct filter_rule *rule = bpf_map_lookup_elem(&filter_rules, &key);

		if (!rule || rule->action == ACTION_NONE)
			continue;
		if ((packet->flow.saddr & rule->smask) != rule->saddr ||
		    (packet->flow.daddr & rule->dmask) != rule->daddr)
			continue;
		if (rule->protocol && rule->protocol != packet->flow.protocol)
			continue;
		if (port < rule->low_port || port > rule->high_port)
			continue;
		__sync_fetch_and_add(&rule->hits, 1);
		if (rule->action == ACTION_MARK) {
			packet->dscp = rule->dscp & 0x3f;
			continue;
		}
		return rule->action;
	}
	return ACTION_ACCEPT;
}

/* Whether a port of ours leads to a host inside. */
static __always_inline int forward_port(struct packet *packet, struct binding *binding)
{
	__u16 port = bpf_ntohs(packet->flow.dport);
	__u32 i;

#pragma unroll
	for (i = 0; i < PORT_FORWARDS; i++) {
		__u32 key = i;
		struct port_forward *forward = bpf_map_lookup_elem(&port_forwards, &key);

		if (!forward || !forward->enabled)
			continue;
		if (forward->public_addr != packet->flow.daddr ||
		    forward->protocol != packet->flow.protocol)
			continue;
		if (port < forward->low_port || port > forward->high_port)
			continue;
		forward->hits++;
		binding->addr = forward->private_addr;
		binding->port = bpf_htons(forward->private_port + (port - forward->low_port));
		binding->flags = BINDING_DESTINATION;
		return 1;
	}
	return 0;
}

/* Takes an address and a port that no other flow of this remote end has. */
static __always_inline int bind_source(struct packet *packet, struct binding *binding, __u32 *policer)
{
	__u32 i, probe;

#pragma unroll
	for (i = 0; i < POOLS; i++) {
		struct flow back = {};
		struct pool *pool;
		__u32 key = i;
		__u32 hash;

		pool = bpf_map_lookup_elem(&pools, &key);
		if (!pool || !pool->addrs)
			continue;
		if ((packet->flow.saddr & pool->mask) != pool->inside)
			continue;
		*policer = pool->policer;
		hash = packet->flow.saddr * 0x9e3779b1;
		binding->addr = bpf_htonl(bpf_ntohl(pool->first_addr) + (hash >> 16) % pool->addrs);
		binding->flags = BINDING_SOURCE;
		back.saddr = packet->flow.daddr;
		back.daddr = binding->addr;
		back.sport = packet->flow.dport;
		back.protocol = packet->flow.protocol;
		hash = __sync_fetch_and_add(&pool->next_port, 1);
#pragma unroll
		for (probe = 0; probe < PORT_PROBES; probe++) {
			struct binding reply = {
				.addr = packet->flow.saddr,
				.remote = packet->flow.daddr,
				.port = packet->flow.sport,
				.remote_port = packet->flow.dport,
				.flags = BINDING_DESTINATION,
			};
			__u32 port = FIRST_DYNAMIC_PORT + ((hash + probe * 0x2003) & 0x7fff);

			back.dport = bpf_htons(port);
			if (packet->flow.protocol == IPPROTO_ICMP)
				back.sport = back.dport;
			if (!bpf_map_update_elem(&bindings, &back, &reply, BPF_NOEXIST)) {
				binding->port = back.dport;
				return 1;
			}
		}
		return 0;
	}
	return 0;
}

/* Whether the packet is within the rate. */
static __always_inline int police(__u32 which, __u32 length, __u64 now)
{
	struct policer *policer = bpf_map_lookup_elem(&policers, &which);
	__u64 elapsed, tokens;
	int conforms = 0;

	if (!policer)
		return 1;
	elapsed = now - policer->updated;
	if (elapsed > NANOSECONDS)
		elapsed = NANOSECONDS;
	tokens = policer->tokens + elapsed * policer->rate / NANOSECONDS;
	if (tokens > policer->burst)
		tokens = policer->burst;
	if (tokens >= length) {
		tokens -= length;
		conforms = 1;
	}
	policer->tokens = tokens;
	policer->updated = now;
	return conforms;
}

static __always_inline void translate(struct packet *packet, const struct binding *binding)
{
	struct iphdr *ip = packet->ip;
	__be16 *check = packet->check;
	/* UDP without a checksum stays without; ICMP's does not cover addresses. */
	int has_check = packet->flow.protocol != IPPROTO_UDP || *check;
	int covers = packet->flow.protocol != IPPROTO_ICMP;
	__be32 addr = binding->addr;
	__be16 port = binding->port;

	if (binding->flags & BINDING_SOURCE) {
		if (has_check && covers)
			replace32(check, ip->saddr, addr);
		if (has_check)
			replace16(check, *packet->sport, port);
		replace32(&ip->check, ip->saddr, addr);
		ip->saddr = addr;
		*packet->sport = port;
	} else {
		if (has_check && covers)
			replace32(check, ip->daddr, addr);
		if (has_check)
			replace16(check, *packet->dport, port);
		replace32(&ip->check, ip->daddr, addr);
		ip->daddr = addr;
		*packet->dport = port;
	}
	if (packet->flow.protocol == IPPROTO_UDP && has_check && !*check)
		*check = 0xffff;
}

static __always_inline void mark_and_age(struct packet *packet)
{
	struct iphdr *ip = packet->ip;
	__be16 before = *(__be16 *)ip;

	ip->tos = (ip->tos & 3) | (packet->dscp << 2);
	replace16(&ip->check, before, *(__be16 *)ip);
	before = *(__be16 *)&ip->ttl;
	ip->ttl--;
	replace16(&ip->check, before, *(__be16 *)&ip->ttl);
}

static __always_inline int deliver(struct packet *packet)
{
	__be32 key = packet->ip->daddr;
	struct neighbour *neighbour = bpf_map_lookup_elem(&neighbours, &key);

	if (!neighbour) {
		/* A default gateway is the neighbour 0.0.0.0. */
		key = 0;
		neighbour = bpf_map_lookup_elem(&neighbours, &key);
		if (!neighbour)
			return XDP_PASS;
	}
	__builtin_memcpy(packet->eth->h_dest, neighbour->dest, ETH_ALEN);
	__builtin_memcpy(packet->eth->h_source, neighbour->source, ETH_ALEN);
	if (neighbour->ifindex)
		return bpf_redirect(neighbour->ifindex, 0);
	return XDP_TX;
}

SEC("xdp")
int nat(struct xdp_md *ctx)
{
	struct packet packet = {};
	struct binding fresh = {};
	struct binding *binding;
	__u32 policer = 0;
	__u64 now;
	int problem;

	problem = parse(ctx, &packet);
	if (problem == COUNT_TTL || problem == COUNT_FRAGMENT || problem == COUNT_SHORT)
		return count(problem, XDP_DROP);
	if (problem || packet.eth->h_dest[0] & 1)
		return count(problem, XDP_PASS);
	if (filter(&packet) == ACTION_DROP)
		return count(COUNT_FILTERED, XDP_DROP);

	now = bpf_ktime_get_ns();
	binding = bpf_map_lookup_elem(&bindings, &packet.flow);
	if (!binding) {
		if (!forward_port(&packet, &fresh) && !bind_source(&packet, &fresh, &policer))
			return count(COUNT_NO_PORT, XDP_DROP);
		fresh.remote = packet.flow.daddr;
		fresh.remote_port = packet.flow.dport;
		fresh.last_seen = now;
		bpf_map_update_elem(&bindings, &packet.flow, &fresh, BPF_ANY);
		count(COUNT_NEW, 0);
		binding = bpf_map_lookup_elem(&bindings, &packet.flow);
		if (!binding)
			return count(COUNT_NO_PORT, XDP_DROP);
	}
	if (!police(policer, packet.length, now))
		return count(COUNT_POLICED, XDP_DROP);
	binding->last_seen = now;
	binding->packets++;
	binding->bytes += packet.length;
	if (packet.tcp_flags & 1)
		binding->flags |= BINDING_FIN;
	if (packet.tcp_flags & 4)
		binding->flags |= BINDING_RST;
	if (packet.flow.protocol == IPPROTO_TCP && packet.tcp_flags & 2)
		clamp_mss(ctx, &packet);
	translate(&packet, binding);
	mark_and_age(&packet);
	if ((binding->flags & (BINDING_FIN | BINDING_RST)) == (BINDING_FIN | BINDING_RST)) {
		bpf_map_delete_elem(&bindings, &packet.flow);
		count(COUNT_CLOSED, 0);
	}
	count(COUNT_TRANSLATED, 0);
	return deliver(&packet);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
