// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/* Passes everything: the cost of the hook itself. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
