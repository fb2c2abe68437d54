// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Events to user space: perf_event_output with the packet's first bytes appended by the kernel, and
 * a ring buffer by reserve/submit, by reserve/discard and by output.
 */
#include "parse.h"

#define SNAP_BYTES 64

struct event {
	__u64 ns;
	__u32 len;
	__u32 queue;
};

/* max_entries is left to the loader: one per possible CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} perf_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} ring SEC(".maps");

SEC("xdp")
int perf_sample(struct xdp_md *ctx)
{
	__u64 len = ctx->data_end - ctx->data;
	__u64 snap = len < SNAP_BYTES ? len : SNAP_BYTES;
	struct event event = {
		.ns = bpf_ktime_get_ns(),
		.len = len,
		.queue = ctx->rx_queue_index,
	};

	/* The flags' bits 32..51 say how many packet bytes the kernel appends to the event. */
	bpf_perf_event_output(ctx, &perf_events, BPF_F_CURRENT_CPU | snap << 32, &event, sizeof(event));
	return XDP_PASS;
}

/* Reserves, fills and submits; an event for a packet shorter than an Ethernet header is discarded. */
SEC("xdp")
int ring_reserve(struct xdp_md *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event)
		return XDP_PASS;
	event->ns = bpf_ktime_get_ns();
	event->len = ctx->data_end - ctx->data;
	event->queue = ctx->rx_queue_index;
	if (event->len < ETH_HLEN) {
		bpf_ringbuf_discard(event, 0);
		return XDP_DROP;
	}
	bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}

SEC("xdp")
int ring_output(struct xdp_md *ctx)
{
	struct event event = {
		.ns = bpf_ktime_get_ns(),
		.len = ctx->data_end - ctx->data,
		.queue = ctx->rx_queue_index,
	};

	bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
