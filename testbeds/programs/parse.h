/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Header parsing shared by the sample programs. Everything is inlined: each program is one
 * self-contained function, which is what the 2019 RFC could send over the control virtqueue.
 */
#ifndef XDPBED_PARSE_H
#define XDPBED_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_VLAN_TAGS 2

/* IEEE 802.1Q tag as it follows the MAC addresses' EtherType; not exported by the uapi headers. */
struct vlan_tag {
	__be16 tci;
	__be16 encapsulated_proto;
};

static __always_inline int is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/*
 * Moves *cursor behind the Ethernet header and up to two VLAN tags.
 * Returns the EtherType found there (network order), or -1 when the frame ends before it.
 * A third tag is left in place: its TPID is what is returned.
 */
static __always_inline int parse_ethernet(void **cursor, void *data_end)
{
	struct ethhdr *eth = *cursor;
	__be16 proto;
	int i;

	if ((void *)(eth + 1) > data_end)
		return -1;
	*cursor = eth + 1;
	proto = eth->h_proto;

#pragma unroll
	for (i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_tag *tag = *cursor;

		if (!is_vlan(proto))
			break;
		if ((void *)(tag + 1) > data_end)
			return -1;
		proto = tag->encapsulated_proto;
		*cursor = tag + 1;
	}
	return proto;
}

/*
 * The IP protocol number of a frame: IPv4's protocol or IPv6's first next header.
 * 0 for anything that is not IP, -1 when a header is cut short.
 */
static __always_inline int parse_ip_protocol(void *data, void *data_end)
{
	void *cursor = data;
	int proto = parse_ethernet(&cursor, data_end);

	if (proto < 0)
		return -1;
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = cursor;

		if ((void *)(ip + 1) > data_end)
			return -1;
		return ip->protocol;
	}
	if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = cursor;

		if ((void *)(ip6 + 1) > data_end)
			return -1;
		return ip6->nexthdr;
	}
	return 0;
}

#endif
