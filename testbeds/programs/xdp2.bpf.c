// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Counts every packet by IP protocol, swaps its MAC addresses and sends it back out of the device
 * it came in by. Frames cut short inside a header are dropped uncounted.
 */
#include "rxcnt.h"

static __always_inline void swap_macs(void *data)
{
	/* Halfwords: the addresses are 2-byte aligned only. */
	__u16 *mac = data;
	__u16 dst[3] = {mac[0], mac[1], mac[2]};

	mac[0] = mac[3];
	mac[1] = mac[4];
	mac[2] = mac[5];
	mac[3] = dst[0];
	mac[4] = dst[1];
	mac[5] = dst[2];
}

SEC("xdp")
int xdp2(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	int protocol = parse_ip_protocol(data, data_end);

	if (protocol < 0)
		return XDP_DROP;
	count_protocol(protocol);
	/* Implied by the parse, but the verifier wants to see it on this path. */
	if (data + sizeof(struct ethhdr) > data_end)
		return XDP_DROP;
	swap_macs(data);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
