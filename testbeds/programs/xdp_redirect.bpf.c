// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The NIC's program in case "redirect": sends each frame to the tap of the guest that owns its
 * destination MAC. `fdb` maps a MAC to an index in `tx_port`, so one program serves any number of
 * guests. An unknown MAC (broadcast and multicast among them) and an empty slot both pass to the
 * host's stack.
 */
#include "parse.h"

/* Padded to 8 bytes so that the hash covers no uninitialised tail. */
struct fdb_key {
	__u8 mac[ETH_ALEN];
	__u16 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct fdb_key);
	__type(value, __u32);
} fdb SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} tx_port SEC(".maps");

SEC("xdp")
int xdp_redirect(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct fdb_key key = {};
	__u32 *port;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	__builtin_memcpy(key.mac, eth->h_dest, ETH_ALEN);
	port = bpf_map_lookup_elem(&fdb, &key);
	if (!port)
		return XDP_PASS;
	/* The flags' low two bits are the verdict when the slot is empty. */
	return bpf_redirect_map(&tx_port, *port, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
