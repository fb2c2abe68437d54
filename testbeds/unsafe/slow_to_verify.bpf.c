// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Harmless, and made to be slow to verify: at each of its branches a stack slot may or may not change, so the states in
 * which paths meet differ, each has to be compared with many others slot by slot, and every slot decides an address in
 * the end. What a guest sends who wants to keep the host busy.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 48
#define BRANCHES 200

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u8[64]);
	__uint(max_entries, 1);
} sink SEC(".maps");

SEC("xdp")
int slow_to_verify(struct xdp_md *ctx)
{
	volatile __u64 slots[SLOTS];
	__u32 key = 0;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < SLOTS; i++)
		slots[i] = bpf_get_prandom_u32();
#pragma unroll
	for (int i = 0; i < BRANCHES; i++) {
		__u32 random = bpf_get_prandom_u32();

		if (random <= 3 * i + 1)
			slots[i % SLOTS] = random;
	}
#pragma unroll
	for (int i = 0; i < SLOTS; i++) {
		sum += slots[i];
		/* One after the other: clang would load all of them first. */
		asm volatile("" : "+r"(sum));
	}

	__u8 *value = bpf_map_lookup_elem(&sink, &key);

	if (value)
		value[sum & 63] = 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
