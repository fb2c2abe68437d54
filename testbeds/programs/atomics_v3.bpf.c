// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Every atomic that -mcpu=v3 emits, 64 and 32 bits wide, on two accumulators in `acc`. What each
 * fetching operation returned goes to `fetched`, so that executors can be compared bit by bit.
 */
#include "parse.h"

struct accumulators {
	__u64 wide;
	__u32 narrow;
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct accumulators);
} acc SEC(".maps");

struct fetched {
	__u64 wide[7];
	__u32 narrow[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fetched);
} fetched SEC(".maps");

SEC("xdp")
int atomics(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct accumulators *a = bpf_map_lookup_elem(&acc, &key);
	struct fetched *f = bpf_map_lookup_elem(&fetched, &key);
	__u32 len;

	if (!a || !f)
		return XDP_ABORTED;
	/* Not before the lookups: clang 14 would spill data_end as 32 bits, which the verifier refuses. */
	len = ctx->data_end - ctx->data;

	/* The result is unused: no fetch. */
	__sync_fetch_and_add(&a->wide, 0x100000001ULL);
	__sync_fetch_and_add(&a->narrow, 0x80000001);

	f->wide[0] = __sync_fetch_and_add(&a->wide, len);
	f->wide[1] = __sync_fetch_and_sub(&a->wide, 7);
	f->wide[2] = __sync_fetch_and_or(&a->wide, 0xf000000000000000ULL);
	f->wide[3] = __sync_fetch_and_and(&a->wide, ~0xffULL);
	f->wide[4] = __sync_fetch_and_xor(&a->wide, 0x5555555555555555ULL);
	f->wide[5] = __sync_val_compare_and_swap(&a->wide, f->wide[4] ^ 0x5555555555555555ULL, 42);
	f->wide[6] = __sync_lock_test_and_set(&a->wide, len);

	f->narrow[0] = __sync_fetch_and_add(&a->narrow, len);
	f->narrow[1] = __sync_fetch_and_sub(&a->narrow, 7);
	f->narrow[2] = __sync_fetch_and_or(&a->narrow, 0xf0000000);
	f->narrow[3] = __sync_fetch_and_and(&a->narrow, ~0xffU);
	f->narrow[4] = __sync_fetch_and_xor(&a->narrow, 0x55555555);
	f->narrow[5] = __sync_val_compare_and_swap(&a->narrow, f->narrow[4] ^ 0x55555555, 42);
	/* Fails: narrow is 42 now. It must still return 42. */
	f->narrow[6] = __sync_val_compare_and_swap(&a->narrow, 43, 44);
	f->narrow[7] = __sync_lock_test_and_set(&a->narrow, len);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
