// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Global data and subprograms: .rodata (configuration that a loader may set before the load), .data,
 * .bss, a string literal in .rodata.str1.1, a static and a global subprogram, and the helpers that a
 * program uses without looking at the packet.
 */
#include "parse.h"

/* Configuration. volatile, so that the compiler reads what the loader put there. */
const volatile __u32 sample_every = 1;
const volatile __u32 log_first = 2;
const volatile __u8 drop_short = 1;

__u64 min_len = 14;
__u32 seed = 0x9e3779b9;
__u64 packets;
__u64 bytes;
__u64 last_ns;
__u32 buckets[16];

static __attribute__((noinline)) __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash *= 0x85ebca6b;
	return hash ^ (hash >> 13);
}

/* Verified on its own, for any arguments: not static. */
__attribute__((noinline)) int verdict_for(__u32 len, __u32 hash)
{
	if (drop_short && len < min_len)
		return XDP_DROP;
	buckets[hash & 15]++;
	return XDP_PASS;
}

SEC("xdp")
int globals(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data;
	__u64 nth = __sync_fetch_and_add(&packets, 1);
	__u32 hash = mix(mix(seed, len), ctx->rx_queue_index);

	__sync_fetch_and_add(&bytes, len);
	last_ns = bpf_ktime_get_ns();
	if (sample_every > 1 && bpf_get_prandom_u32() % sample_every)
		return XDP_PASS;
	if (nth < log_first) {
		bpf_printk("packet %llu len %u", nth, len);
		bpf_trace_printk("globals\n", sizeof("globals\n"));
	}
	return verdict_for(len, hash);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
