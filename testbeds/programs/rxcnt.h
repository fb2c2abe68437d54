/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * One packet counter per IP protocol number. A plain ARRAY, not a PERCPU_ARRAY: ARRAY and HASH are
 * the only map types that the 2019 RFC offloads. The add is atomic because several queues share it.
 */
#ifndef XDPBED_RXCNT_H
#define XDPBED_RXCNT_H

#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} rxcnt SEC(".maps");

static __always_inline void count_protocol(__u32 protocol)
{
	__u64 *count = bpf_map_lookup_elem(&rxcnt, &protocol);

	if (count)
		__sync_fetch_and_add(count, 1);
}

#endif
