// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Looks deep into packets with loops that stay loops: IPv4 options, IPv6 extension headers, TCP
 * options and the labels of a DNS name, each a list of elements with lengths of their own, at offsets
 * that are known only when the packet is there. Static functions take packet pointers.
 */
#include <linux/tcp.h>
#include <linux/udp.h>
#include "parse.h"

#define MAX_IP_OPTIONS 6
#define MAX_EXTENSIONS 3
#define MAX_TCP_OPTIONS 6
#define MAX_LABEL 63
#define NAME_BYTES 32
#define MAX_HEADER 60
#define DNS_PORT 53

enum finding {
	FOUND_SOURCE_ROUTE,
	FOUND_ROUTER_ALERT,
	FOUND_FRAGMENT,
	FOUND_ROUTING_HEADER,
	FOUND_SYN_WITHOUT_MSS,
	FOUND_SMALL_MSS,
	FOUND_BAD_OPTION,
	FOUND_REFUSED_NAME,
	FOUND_LONG_NAME,
	FINDINGS,
};

/* What a finding leads to, set from outside: bits of this kind. */
#define WANT_DROP 1

volatile const __u32 actions[FINDINGS];

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FINDINGS);
	__type(key, __u32);
	__type(value, __u64);
} findings SEC(".maps");

struct name_key {
	__u32 hash;
	__u32 labels;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct name_key);
	__type(value, __u32);
} refused_names SEC(".maps");

struct cursor {
	void *at;
	void *end;
};

/*
 * Counts a finding and tells what it leads to. What a verifier knows nothing of does not multiply its
 * paths, as bits that say which findings there were would.
 */
static __noinline __u32 note(__u32 which)
{
	__u64 *count = bpf_map_lookup_elem(&findings, &which);

	if (count)
		*count += 1;
	return which < FINDINGS ? actions[which] : 0;
}

/* What the options lead to that stand behind the fixed part of an IPv4 header. */
static __noinline __u32 ip_options(struct iphdr *ip, void *data_end)
{
	__u32 offset = sizeof(*ip), length, wanted = 0;
	int i;

	if ((void *)(ip + 1) > data_end)
		return 0;
	length = ip->ihl * 4;
	for (i = 0; i < MAX_IP_OPTIONS; i++) {
		__u8 *option;

		/* Offsets from a pointer that stays are what a verifier bounds best. */
		if (offset >= length || offset >= MAX_HEADER)
			break;
		option = (void *)ip + offset;
		if ((void *)(option + 2) > data_end)
			break;
		switch (option[0]) {
		case 0:
			return wanted;
		case 1:
			offset++;
			continue;
		case 131:
		case 137:
			wanted |= note(FOUND_SOURCE_ROUTE);
			break;
		case 148:
			wanted |= note(FOUND_ROUTER_ALERT);
			break;
		}
		if (option[1] < 2)
			return wanted | note(FOUND_BAD_OPTION);
		offset += option[1];
	}
	return wanted;
}

static __noinline __u32 tcp_options(struct tcphdr *tcp, void *data_end)
{
	__u32 offset = sizeof(*tcp), length, wanted = 0, mss = 0;
	int i;

	if ((void *)(tcp + 1) > data_end || tcp->doff < 5)
		return note(FOUND_BAD_OPTION);
	length = tcp->doff * 4;
	for (i = 0; i < MAX_TCP_OPTIONS; i++) {
		__u8 *option;

		if (offset >= length || offset >= MAX_HEADER)
			break;
		option = (void *)tcp + offset;
		if ((void *)(option + 4) > data_end || option[0] == 0)
			break;
		if (option[0] == 1) {
			offset++;
			continue;
		}
		if (option[1] < 2)
			return wanted | note(FOUND_BAD_OPTION);
		if (option[0] == 2 && option[1] == 4)
			mss = bpf_ntohs(*(__be16 *)(option + 2));
		offset += option[1];
	}
	if (tcp->syn && !mss)
		wanted |= note(FOUND_SYN_WITHOUT_MSS);
	if (mss && mss < 536)
		wanted |= note(FOUND_SMALL_MSS);
	return wanted;
}

/* The transport protocol behind the extension headers; moves the cursor there. -1: cut short. */
static __always_inline int skip_extensions(struct cursor *cursor, __u8 next, __u32 *wanted)
{
	int i;

	for (i = 0; i < MAX_EXTENSIONS; i++) {
		__u8 *header = cursor->at;

		switch (next) {
		case 0:
		case 43:
		case 60:
			if ((void *)(header + 2) > cursor->end)
				return -1;
			if (next == 43)
				*wanted |= note(FOUND_ROUTING_HEADER);
			next = header[0];
			cursor->at = header + (header[1] + 1) * 8;
			break;
		case 51:
			if ((void *)(header + 2) > cursor->end)
				return -1;
			next = header[0];
			cursor->at = header + (header[1] + 2) * 4;
			break;
		case 44:
			if ((void *)(header + 8) > cursor->end)
				return -1;
			*wanted |= note(FOUND_FRAGMENT);
			next = header[0];
			cursor->at = header + 8;
			break;
		default:
			return next;
		}
	}
	return -1;
}

/* Walks the labels of the first question and looks their hash up. */
static __noinline __u32 dns_name(__u8 *message, void *data_end)
{
	struct name_key key = { .hash = 0x811c9dc5 };
	__u8 *at = message + 12;
	__u32 *refused;
	__u32 left = 0;
	int i;

	for (i = 0; i < NAME_BYTES; i++) {
		__u8 byte;

		if ((void *)(at + 1) > data_end)
			return 0;
		byte = *at++;
		if (left == 0) {
			if (byte == 0)
				break;
			if (byte > MAX_LABEL)
				return note(FOUND_LONG_NAME);
			key.labels++;
			left = byte;
			continue;
		}
		left--;
		/* Names are the same in any case of letters. */
		if (byte >= 'A' && byte <= 'Z')
			byte |= 0x20;
		key.hash = (key.hash ^ byte) * 0x01000193;
	}
	if (i == NAME_BYTES)
		return note(FOUND_LONG_NAME);
	refused = bpf_map_lookup_elem(&refused_names, &key);
	return refused && *refused ? note(FOUND_REFUSED_NAME) : 0;
}

SEC("xdp")
int inspect(struct xdp_md *ctx)
{
	struct cursor cursor = {
		.at = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	int proto, transport = -1;
	__u32 wanted = 0;

	proto = parse_ethernet(&cursor.at, cursor.end);
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = cursor.at;

		if ((void *)(ip + 1) > cursor.end || ip->ihl < 5)
			return XDP_DROP;
		if (ip->ihl > 5)
			wanted |= ip_options(ip, cursor.end);
		if (ip->frag_off & bpf_htons(0x3fff))
			wanted |= note(FOUND_FRAGMENT);
		else
			transport = ip->protocol;
		cursor.at += ip->ihl * 4;
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = cursor.at;

		if ((void *)(ip6 + 1) > cursor.end)
			return XDP_DROP;
		cursor.at = ip6 + 1;
		transport = skip_extensions(&cursor, ip6->nexthdr, &wanted);
	} else {
		return XDP_PASS;
	}

	if (transport == IPPROTO_TCP) {
		wanted |= tcp_options(cursor.at, cursor.end);
	} else if (transport == IPPROTO_UDP) {
		struct udphdr *udp = cursor.at;

		if ((void *)(udp + 1) <= cursor.end && udp->dest == bpf_htons(DNS_PORT))
			wanted |= dns_name((__u8 *)(udp + 1), cursor.end);
	}

	return wanted & WANT_DROP ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
