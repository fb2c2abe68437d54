import { HELPER_NAMES, helperId } from '../../bpf/helper-ids.js';

/**
 * The helpers that a guest's program may call on the host unless somebody says otherwise, each with the reason.
 * The rule: it works on the packet, on the guest's own maps, or on numbers that say nothing about the host.
 *
 * RFC 2019's guest driver checks an "experimental" list before it sends anything, and its reviewers asked that
 * helpers which read host kernel data be kept from a guest's program; this is one list for both places.
 */
export const OFFLOADABLE_HELPERS: Readonly<Record<string, string>> = {
  bpf_map_lookup_elem: "reads the guest's own maps",
  bpf_map_update_elem: "writes the guest's own maps",
  bpf_map_delete_elem: "writes the guest's own maps",
  bpf_map_push_elem: "writes the guest's own maps",
  bpf_map_pop_elem: "writes the guest's own maps",
  bpf_map_peek_elem: "reads the guest's own maps",
  bpf_for_each_map_elem: "walks the guest's own maps",
  bpf_tail_call: "jumps to the guest's own programs, which were verified and ruled on like this one",
  bpf_ringbuf_output: 'writes records for the guest, which come back over the control queue',
  bpf_ringbuf_reserve: 'writes records for the guest, which come back over the control queue',
  bpf_ringbuf_submit: 'writes records for the guest, which come back over the control queue',
  bpf_ringbuf_discard: 'writes records for the guest, which come back over the control queue',
  bpf_ringbuf_query: "tells how full the guest's own ring buffer is",
  bpf_loop: 'runs a verified function a bounded number of times',
  bpf_get_prandom_u32: 'a number from a generator of its own',
  bpf_csum_diff: 'arithmetic on bytes that the program passes',
  bpf_strncmp: 'compares bytes that the program passes',
  bpf_strtol: 'arithmetic on bytes that the program passes',
  bpf_strtoul: 'arithmetic on bytes that the program passes',
  bpf_xdp_adjust_head: 'moves the start of the packet',
  bpf_xdp_adjust_tail: 'moves the end of the packet',
  bpf_xdp_adjust_meta: 'moves the metadata in front of the packet',
  bpf_xdp_get_buff_len: "the packet's length",
  bpf_xdp_load_bytes: 'reads the packet',
  bpf_xdp_store_bytes: 'writes the packet',
};

/**
 * Helpers that an XDP program can call in a kernel but that are left out above, each with the reason. What is
 * in neither table is not an XDP helper, or nobody has looked at it yet; it is left out for that alone.
 */
export const WITHHELD_HELPERS: Readonly<Record<string, string>> = {
  bpf_fib_lookup: "reads the host's routing and neighbour tables",
  bpf_check_mtu: 'tells which interfaces the host has',
  bpf_redirect:
    'names an interface of the host by its index, so that frames could leave where the guest has no port',
  bpf_redirect_map: 'sends frames to interfaces, CPUs or sockets of the host',
  bpf_ktime_get_ns: "the host's uptime, and a clock precise enough to time what others do on it",
  bpf_ktime_get_boot_ns: "the host's uptime, and a clock precise enough to time what others do on it",
  bpf_ktime_get_coarse_ns: "the host's uptime",
  bpf_ktime_get_tai_ns: "the host's clock, precise enough to time what others do on it",
  bpf_jiffies64: "the host's uptime",
  bpf_get_smp_processor_id: 'which CPU of the host the packet is on',
  bpf_get_numa_node_id: "the host's layout",
  bpf_map_lookup_percpu_elem: 'tells how many CPUs the host has',
  bpf_get_socket_cookie: "names the host's sockets",
  bpf_sk_lookup_tcp: "reads the host's sockets",
  bpf_sk_lookup_udp: "reads the host's sockets",
  bpf_skc_lookup_tcp: "reads the host's sockets",
  bpf_sk_release: "belongs to the look-up of the host's sockets",
  bpf_tcp_check_syncookie: "reads the host's sockets",
  bpf_tcp_gen_syncookie: "reads the host's sockets",
  bpf_get_current_task: "an address of the host's kernel",
  bpf_probe_read: "reads any memory of the host's kernel",
  bpf_probe_read_kernel: "reads any memory of the host's kernel",
  bpf_probe_read_kernel_str: "reads any memory of the host's kernel",
  bpf_trace_printk: "writes to the host's trace buffer, which is shared with everybody",
  bpf_trace_vprintk: "writes to the host's trace buffer, which is shared with everybody",
  bpf_perf_event_output: 'tells which CPU of the host the packet is on',
  bpf_xdp_output: 'tells which CPU of the host the packet is on',
  bpf_spin_lock: 'a guest could make the host wait for it',
  bpf_spin_unlock: 'a guest could make the host wait for it',
  bpf_timer_init: 'runs code on the host when no packet is there, so nothing would account for it',
  bpf_timer_start: 'runs code on the host when no packet is there, so nothing would account for it',
  bpf_sys_bpf: 'is the whole of bpf(2)',
};

/** The numbers of {@link OFFLOADABLE_HELPERS}. */
export const OFFLOADABLE_HELPER_IDS: ReadonlySet<number> = new Set(
  Object.keys(OFFLOADABLE_HELPERS).map((name) => {
    const id = helperId(name);
    if (id === undefined) throw new RangeError(`${name} is not among ${HELPER_NAMES.length} helpers`);
    return id;
  }),
);
