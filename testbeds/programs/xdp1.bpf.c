// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Counts every packet by IP protocol and drops it. Frames that are not IP count as protocol 0;
 * frames cut short inside a header are dropped uncounted.
 */
#include "rxcnt.h"

SEC("xdp")
int xdp1(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	int protocol = parse_ip_protocol(data, data_end);

	if (protocol < 0)
		return XDP_DROP;
	count_protocol(protocol);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
