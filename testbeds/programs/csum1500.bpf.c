// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The Internet checksum (RFC 1071) of the first 1500 bytes of a frame, or of all of it when it is
 * shorter: a bounded loop that the verifier has to walk. Slot 0 of `csum` holds the last checksum
 * as it would stand in a header, read as a native 16-bit number; slot 1 the bytes covered.
 */
#include "parse.h"

#define MAX_BYTES 1500

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} csum SEC(".maps");

SEC("xdp")
int csum1500(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = (void *)(long)ctx->data;
	__u32 sum_key = 0, len_key = 1;
	__u64 sum = 0, len = 0;
	__u64 *slot;
	int i;

	/* Kept rolled: the loop is the point. */
#pragma clang loop unroll(disable) vectorize(disable)
	for (i = 0; i < MAX_BYTES / 2; i++) {
		if (cursor + 2 > data_end)
			break;
		sum += *(__u16 *)cursor;
		cursor += 2;
		len += 2;
	}
	/* An odd last byte counts as if a zero byte followed it. */
	if (len < MAX_BYTES && cursor + 1 <= data_end) {
		__u8 last = *(__u8 *)cursor;

		sum += bpf_htons((__u16)last << 8);
		len++;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);

	slot = bpf_map_lookup_elem(&csum, &sum_key);
	if (slot)
		*slot = (__u16)~sum;
	slot = bpf_map_lookup_elem(&csum, &len_key);
	if (slot)
		*slot = len;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
