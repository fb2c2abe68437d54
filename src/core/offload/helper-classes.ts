import { helperId } from '../../bpf/helper-ids.js';

/**
 * Every helper that a kernel lets an XDP program call (Linux 6.18: `xdp_func_proto`, `bpf_sk_base_func_proto` and
 * `bpf_base_func_proto`, net/core/filter.c and kernel/bpf/helpers.c), by what it has to do with: each in one class, so that a
 * policy can speak of many at once. A test compares it with the kernel that it runs on.
 */
export const HELPER_CLASSES = {
  pure: {
    description: 'computes on what the program passes to it',
    helpers: ['bpf_csum_diff', 'bpf_strncmp', 'bpf_strtol', 'bpf_strtoul', 'bpf_loop'],
  },
  packet: {
    description: 'reads, writes, moves or measures the packet',
    helpers: [
      'bpf_xdp_adjust_head',
      'bpf_xdp_adjust_tail',
      'bpf_xdp_adjust_meta',
      'bpf_xdp_get_buff_len',
      'bpf_xdp_load_bytes',
      'bpf_xdp_store_bytes',
    ],
  },
  maps: {
    description: "works on the guest's own maps and on the programs in them",
    helpers: [
      'bpf_map_lookup_elem',
      'bpf_map_update_elem',
      'bpf_map_delete_elem',
      'bpf_map_push_elem',
      'bpf_map_pop_elem',
      'bpf_map_peek_elem',
      'bpf_for_each_map_elem',
      'bpf_tail_call',
    ],
  },
  records: {
    description: 'writes records for the guest into a ring buffer of its own',
    helpers: [
      'bpf_ringbuf_output',
      'bpf_ringbuf_reserve',
      'bpf_ringbuf_submit',
      'bpf_ringbuf_discard',
      'bpf_ringbuf_query',
    ],
  },
  random: {
    description: 'a number from a generator of its own',
    helpers: ['bpf_get_prandom_u32'],
  },
  dynptr: {
    description: 'views of memory whose bounds are known at run time',
    helpers: ['bpf_dynptr_from_mem', 'bpf_dynptr_read', 'bpf_dynptr_write', 'bpf_dynptr_data'],
  },
  kptr: {
    description: 'exchanges kernel objects with map values',
    helpers: ['bpf_kptr_xchg'],
  },
  locks: {
    description: 'locks in map values: a guest could make the host wait',
    helpers: ['bpf_spin_lock', 'bpf_spin_unlock'],
  },
  timers: {
    description: 'runs code on the host when no packet is there, so nothing would account for it',
    helpers: ['bpf_timer_init', 'bpf_timer_set_callback', 'bpf_timer_start', 'bpf_timer_cancel'],
  },
  events: {
    description: 'records for somebody else, which no command of the protocol would carry to the guest',
    helpers: [
      'bpf_perf_event_output',
      'bpf_ringbuf_reserve_dynptr',
      'bpf_ringbuf_submit_dynptr',
      'bpf_ringbuf_discard_dynptr',
      'bpf_user_ringbuf_drain',
    ],
  },
  time: {
    description: "the host's clocks and uptime",
    helpers: [
      'bpf_ktime_get_ns',
      'bpf_ktime_get_boot_ns',
      'bpf_ktime_get_coarse_ns',
      'bpf_ktime_get_tai_ns',
      'bpf_jiffies64',
    ],
  },
  redirect: {
    description: 'sends frames to interfaces, CPUs or sockets of the host',
    helpers: ['bpf_redirect', 'bpf_redirect_map'],
  },
  'host-network': {
    description: "the host's routes, neighbours and interfaces",
    helpers: ['bpf_fib_lookup', 'bpf_check_mtu'],
  },
  'host-sockets': {
    description: "the host's sockets and the secret of its SYN cookies",
    helpers: [
      'bpf_sk_lookup_tcp',
      'bpf_sk_lookup_udp',
      'bpf_skc_lookup_tcp',
      'bpf_sk_release',
      'bpf_tcp_check_syncookie',
      'bpf_tcp_gen_syncookie',
      'bpf_tcp_raw_gen_syncookie_ipv4',
      'bpf_tcp_raw_gen_syncookie_ipv6',
      'bpf_tcp_raw_check_syncookie_ipv4',
      'bpf_tcp_raw_check_syncookie_ipv6',
      'bpf_skc_to_tcp6_sock',
      'bpf_skc_to_tcp_sock',
      'bpf_skc_to_tcp_timewait_sock',
      'bpf_skc_to_tcp_request_sock',
      'bpf_skc_to_udp6_sock',
      'bpf_skc_to_unix_sock',
      'bpf_skc_to_mptcp_sock',
    ],
  },
  'host-state': {
    description: "the host's CPUs, tasks, control groups and variables, and what is kept with them",
    helpers: [
      'bpf_get_smp_processor_id',
      'bpf_get_numa_node_id',
      'bpf_map_lookup_percpu_elem',
      'bpf_per_cpu_ptr',
      'bpf_this_cpu_ptr',
      'bpf_get_current_pid_tgid',
      'bpf_get_ns_current_pid_tgid',
      'bpf_get_current_uid_gid',
      'bpf_get_current_comm',
      'bpf_get_current_task',
      'bpf_get_current_task_btf',
      'bpf_current_task_under_cgroup',
      'bpf_get_cgroup_classid',
      'bpf_get_current_cgroup_id',
      'bpf_get_current_ancestor_cgroup_id',
      'bpf_task_storage_get',
      'bpf_task_storage_delete',
      'bpf_cgrp_storage_get',
      'bpf_cgrp_storage_delete',
      'bpf_snprintf',
      'bpf_snprintf_btf',
    ],
  },
  tracing: {
    description: 'reads any memory of the host, writes its trace buffer, or acts on its tasks',
    helpers: [
      'bpf_trace_printk',
      'bpf_trace_vprintk',
      'bpf_probe_read_user',
      'bpf_probe_read_user_str',
      'bpf_probe_read_kernel',
      'bpf_probe_read_kernel_str',
      'bpf_perf_event_read',
      'bpf_perf_event_read_value',
      'bpf_get_branch_snapshot',
      'bpf_get_task_stack',
      'bpf_task_pt_regs',
      'bpf_find_vma',
      'bpf_copy_from_user',
      'bpf_copy_from_user_task',
      'bpf_send_signal',
      'bpf_send_signal_thread',
    ],
  },
} as const satisfies Record<string, { description: string; helpers: readonly string[] }>;

export type HelperClass = keyof typeof HELPER_CLASSES;

export const HELPER_CLASS_NAMES = Object.keys(HELPER_CLASSES) as HelperClass[];

/** Those of {@link OFFLOADABLE_HELPERS} (offloadable-helpers.ts), and no other helper is in them: nothing that reads the host's state. */
export const OFFLOADABLE_CLASSES: readonly HelperClass[] = ['pure', 'packet', 'maps', 'records', 'random'];

const CLASS_BY_ID: ReadonlyMap<number, HelperClass> = new Map(
  HELPER_CLASS_NAMES.flatMap((name) =>
    HELPER_CLASSES[name].helpers.map((helper) => [requireId(helper), name] as const),
  ),
);

/** The class of a helper by its number; undefined for one that XDP programs cannot call, or that nobody has looked at. */
export function helperClass(helper: number): HelperClass | undefined {
  return CLASS_BY_ID.get(helper);
}

/** Numbers of the helpers of a class. */
export function helpersOfClass(name: HelperClass): number[] {
  return HELPER_CLASSES[name].helpers.map(requireId);
}

function requireId(name: string): number {
  const id = helperId(name);
  if (id === undefined) throw new RangeError(`${name} is no helper`);
  return id;
}
