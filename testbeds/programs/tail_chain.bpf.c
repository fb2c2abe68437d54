// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * A chain of tail calls: the entry and four stages, each counting itself in `visits` (slot 0 is the
 * entry) before it jumps on. `stages` is filled by the loader from its static initialiser. A slot
 * that was emptied ends the chain early with the same verdict.
 */
#include "parse.h"

#define STAGES 4

int stage1(struct xdp_md *ctx);
int stage2(struct xdp_md *ctx);
int stage3(struct xdp_md *ctx);
int stage4(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct xdp_md *));
} stages SEC(".maps") = {
	.values = {
		[0] = (void *)&stage1,
		[1] = (void *)&stage2,
		[2] = (void *)&stage3,
		[3] = (void *)&stage4,
	},
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STAGES + 1);
	__type(key, __u32);
	__type(value, __u64);
} visits SEC(".maps");

static __always_inline void visit(__u32 stage)
{
	__u64 *count = bpf_map_lookup_elem(&visits, &stage);

	if (count)
		__sync_fetch_and_add(count, 1);
}

SEC("xdp")
int tail_entry(struct xdp_md *ctx)
{
	visit(0);
	bpf_tail_call(ctx, &stages, 0);
	return XDP_PASS;
}

SEC("xdp")
int stage1(struct xdp_md *ctx)
{
	visit(1);
	bpf_tail_call(ctx, &stages, 1);
	return XDP_PASS;
}

SEC("xdp")
int stage2(struct xdp_md *ctx)
{
	visit(2);
	bpf_tail_call(ctx, &stages, 2);
	return XDP_PASS;
}

SEC("xdp")
int stage3(struct xdp_md *ctx)
{
	visit(3);
	bpf_tail_call(ctx, &stages, 3);
	return XDP_PASS;
}

SEC("xdp")
int stage4(struct xdp_md *ctx)
{
	visit(4);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
