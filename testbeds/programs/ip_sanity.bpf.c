// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Drops IPv4 packets that no neighbour should send, and remembers something of each kind: how many
 * had a TTL of 0, who claimed to be in 127.0.0.0/8, how many bytes were in fragments. No case of
 * testbeds/cases/ip_sanity.cases.yaml takes the last of the three branches, as
 * `xdpbed prog test --coverage` tells.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

__u64 expired;
__be32 spoofer;
__u64 fragment_bytes;

SEC("xdp")
int ip_sanity(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;

	if (ip->ttl == 0) {
		expired++;
		return XDP_DROP;
	}
	if ((ip->saddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)) {
		spoofer = ip->saddr;
		return XDP_DROP;
	}
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)) {
		fragment_bytes += data_end - data;
		return XDP_DROP;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
