// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Drops IPv4 packets from the networks of `blocked`, counts what was dropped and passed for each
 * CPU, and reports each packet that was dropped. docs/tutorial.md is about it.
 */
#include "parse.h"

struct network {
	__u32 prefixlen;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct network);
	__type(value, __u32); /* number of the rule */
} blocked SEC(".maps");

enum outcome {
	PASSED,
	DROPPED,
	OUTCOMES,
};

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, struct traffic);
} counters SEC(".maps");

struct drop_event {
	__be32 source;
	__be32 destination;
	__u32 rule;
	__u8 protocol;
	__u8 padding[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

/* Without a reference to its type the object's BTF would not have it. */
const struct drop_event *drop_event_type __attribute__((unused));

static __always_inline void count(__u32 outcome, __u64 bytes)
{
	struct traffic *traffic = bpf_map_lookup_elem(&counters, &outcome);

	if (traffic) {
		traffic->packets++;
		traffic->bytes += bytes;
	}
}

SEC("xdp")
int blocklist(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	void *cursor = data;
	struct network source = { .prefixlen = 32 };
	struct drop_event *event;
	struct iphdr *ip;
	__u32 *rule;

	if (parse_ethernet(&cursor, data_end) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	ip = cursor;
	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;

	source.address = ip->saddr;
	rule = bpf_map_lookup_elem(&blocked, &source);
	if (!rule) {
		count(PASSED, data_end - data);
		return XDP_PASS;
	}

	count(DROPPED, data_end - data);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->source = ip->saddr;
		event->destination = ip->daddr;
		event->rule = *rule;
		event->protocol = ip->protocol;
		__builtin_memset(event->padding, 0, sizeof(event->padding));
		bpf_ringbuf_submit(event, 0);
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
