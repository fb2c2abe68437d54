/**
 * What each helper that kernel 6.18 gives to XDP programs takes and returns: pure data. Which helpers these are,
 * and which of them ask for a GPL-compatible license, was read off a running kernel by trying all 211 numbers.
 */

import { BPF_FUNC } from './helper-ids.js';
import { BPF_MAP_TYPE } from './map-spec.js';

/** What may be passed in one argument register. */
export type HelperArgument =
  /** The program's context, unmodified. */
  | { readonly kind: 'context' }
  /** A map itself, of one of the types that the helper accepts (MAP_TYPES_OF_HELPER). */
  | { readonly kind: 'map' }
  /** Memory of `key_size` bytes of the map in the same call, read. */
  | { readonly kind: 'map-key' }
  /** Memory of `value_size` bytes of the map in the same call; `write` alone means that it need not be initialised. */
  | { readonly kind: 'map-value'; readonly access: MemoryAccess }
  /** Memory whose size is the next argument; with `orNull` (PTR_MAYBE_NULL), NULL will do where that is 0. */
  | {
      readonly kind: 'memory';
      readonly access: MemoryAccess;
      readonly orNull?: boolean;
      readonly leaves?: LeftByKernel;
    }
  /** Memory of a fixed size; with `aligned` (MEM_ALIGNED), at a multiple of it. */
  | {
      readonly kind: 'fixed-memory';
      readonly access: MemoryAccess;
      readonly bytes: number;
      readonly aligned?: boolean;
    }
  /** Size in bytes of the memory in the argument before; `zero` if it may be 0. */
  | { readonly kind: 'size'; readonly zero: boolean }
  /** A known constant: the size of what the helper returns. */
  | { readonly kind: 'allocation-size' }
  /** Any initialised scalar; a pointer would leak an address. */
  | { readonly kind: 'scalar' }
  /** The argument is not looked at before it is checked at run time, e.g. an address to probe. */
  | { readonly kind: 'address' }
  /** What the format in the arguments before may name: anything if it does, nothing has to be there otherwise. */
  | { readonly kind: 'print-argument' }
  /** A string in read-only map memory, with its end in it. */
  | { readonly kind: 'constant-string' }
  /** What `bpf_ringbuf_reserve` returned; the call takes it away. */
  | { readonly kind: 'ringbuf-record' }
  /** A socket of any kind; `release` if the call takes the reference away. */
  | { readonly kind: 'socket'; readonly release?: boolean }
  /** A `struct bpf_spin_lock` in a map's value. */
  | { readonly kind: 'spin-lock' }
  /** A local function; `parameters` tells what it gets. */
  | { readonly kind: 'callback'; readonly parameters: CallbackParameters }
  /** What is passed through to a callback: a pointer to the stack, or NULL. */
  | { readonly kind: 'callback-context' }
  /** Something that needs BTF of the kernel or of the map's value: nothing xdpbed can check. */
  | { readonly kind: 'unsupported'; readonly what: string };

/**
 * What the helper does with memory it is given. `write` initialises all of it, whatever the helper returns: where it has
 * no data, with zeros. Of two helpers that is so only here, and not in the kernel (LeftByKernel).
 */
export type MemoryAccess = 'read' | 'write' | 'read-write';

/**
 * What the kernel leaves as it was, though its verifier takes it for written: on a stack that is what others had there, their
 * addresses among it. `on-failure`: all of it, unless the helper returns 0. `behind`: what the data does not fill.
 */
export type LeftByKernel = 'on-failure' | 'behind';

export type CallbackParameters =
  /** `(u64 index, void *context)` */
  | 'loop'
  /** `(map, key, value, context)` */
  | 'map-element';

/** What R0 holds after the call. */
export type HelperReturn =
  | {
      readonly kind: 'scalar';
      readonly min?: number;
      readonly max?: number;
      /** The only numbers it can be. */
      readonly values?: readonly number[];
    }
  /** XDP_REDIRECT, or what the low bits of the flags (R3) say. */
  | { readonly kind: 'redirect-map' }
  /** R0 is a scalar that nothing is known of and that the helper leaves undefined. */
  | { readonly kind: 'void' }
  /** Pointer to the map's value, or NULL; an inner map or socket where the map holds those. */
  | { readonly kind: 'map-value-or-null' }
  /** Memory of the size in the `allocation-size` argument, or NULL; to be given back. */
  | { readonly kind: 'ringbuf-record-or-null' }
  | { readonly kind: 'socket-or-null'; readonly socket: SocketKind; readonly acquires: boolean }
  /** Never returns to the program if it succeeds. */
  | { readonly kind: 'tail-call' };

export type SocketKind =
  'sock_common' | 'sock' | 'tcp_sock' | 'tcp6_sock' | 'tcp_timewait_sock' | 'tcp_request_sock' | 'udp6_sock';

export interface HelperPrototype {
  readonly id: number;
  readonly args: readonly HelperArgument[];
  readonly returns: HelperReturn;
  readonly gplOnly?: boolean;
  /** The packet may have moved: every packet pointer of before is void. */
  readonly changesPacket?: boolean;
  /** Memory arguments may point into the packet. */
  readonly packetMemory?: boolean;
  /** Reaches beyond the packet and the maps: kernel or user memory, or the task that happens to run. */
  readonly privileged?: boolean;
  /** Has to do with something that is not modelled: why xdpbed's verifier refuses it. */
  readonly unsupported?: string;
}

const context: HelperArgument = { kind: 'context' };
const map: HelperArgument = { kind: 'map' };
const mapKey: HelperArgument = { kind: 'map-key' };
const mapValue: HelperArgument = { kind: 'map-value', access: 'read' };
const mapValueOut: HelperArgument = { kind: 'map-value', access: 'write' };
const memory: HelperArgument = { kind: 'memory', access: 'read' };
const memoryInOut: HelperArgument = { kind: 'memory', access: 'read-write' };
const memoryOut: HelperArgument = { kind: 'memory', access: 'write' };
const memoryOrNull: HelperArgument = { kind: 'memory', access: 'read', orNull: true };
/** net/core/filter.c, __bpf_xdp_load_bytes. */
const packetBytesOut: HelperArgument = { kind: 'memory', access: 'write', leaves: 'on-failure' };
/** kernel/bpf/helpers.c, bpf_snprintf. */
const textOutOrNull: HelperArgument = { kind: 'memory', access: 'write', orNull: true, leaves: 'behind' };
const size: HelperArgument = { kind: 'size', zero: false };
const sizeOrZero: HelperArgument = { kind: 'size', zero: true };
const scalar: HelperArgument = { kind: 'scalar' };
const address: HelperArgument = { kind: 'address' };
const printed: HelperArgument = { kind: 'print-argument' };
const string: HelperArgument = { kind: 'constant-string' };
const socket: HelperArgument = { kind: 'socket' };
const releasedSocket: HelperArgument = { kind: 'socket', release: true };
const spinLock: HelperArgument = { kind: 'spin-lock' };
const callbackContext: HelperArgument = { kind: 'callback-context' };
const fixed = (bytes: number): HelperArgument => ({
  kind: 'fixed-memory',
  access: 'read',
  bytes,
});
/** A number of so many bytes that the helper writes as one. */
const numberAt = (bytes: 4 | 8, access: MemoryAccess): HelperArgument => ({
  kind: 'fixed-memory',
  access,
  bytes,
  aligned: true,
});
const number: HelperReturn = { kind: 'scalar' };
const nothing: HelperReturn = { kind: 'void' };

const BTF = 'it needs the types of the running kernel';
const TIMER = 'nothing here would run the timer and call back';
const KPTR = "pointers to the kernel's objects are not tracked here";
const DYNPTR = 'dynptrs are not tracked yet';
const CGROUP = 'it works on cgroups, which xdpbed does not have';

/** `struct iphdr`, `struct ipv6hdr`, `struct tcphdr`. */
const IPHDR = fixed(20);
const IPV6HDR = fixed(40);
const TCPHDR = fixed(20);

const PROTOTYPES: readonly HelperPrototype[] = [
  // Maps
  {
    id: BPF_FUNC.map_lookup_elem,
    args: [map, mapKey],
    returns: { kind: 'map-value-or-null' },
    packetMemory: true,
  },
  {
    id: BPF_FUNC.map_update_elem,
    args: [map, mapKey, mapValue, scalar],
    returns: number,
    packetMemory: true,
  },
  { id: BPF_FUNC.map_delete_elem, args: [map, mapKey], returns: number, packetMemory: true },
  { id: BPF_FUNC.spin_lock, args: [spinLock], returns: nothing },
  { id: BPF_FUNC.spin_unlock, args: [spinLock], returns: nothing },
  { id: BPF_FUNC.map_push_elem, args: [map, mapValue, scalar], returns: number, packetMemory: true },
  { id: BPF_FUNC.map_pop_elem, args: [map, mapValueOut], returns: number },
  { id: BPF_FUNC.map_peek_elem, args: [map, mapValueOut], returns: number },
  {
    id: BPF_FUNC.map_lookup_percpu_elem,
    args: [map, mapKey, scalar],
    returns: { kind: 'map-value-or-null' },
    packetMemory: true,
  },
  {
    id: BPF_FUNC.for_each_map_elem,
    args: [map, { kind: 'callback', parameters: 'map-element' }, callbackContext, scalar],
    returns: number,
  },
  {
    id: BPF_FUNC.loop,
    args: [scalar, { kind: 'callback', parameters: 'loop' }, callbackContext, scalar],
    returns: number,
  },

  // Time, random numbers, where the program runs
  { id: BPF_FUNC.ktime_get_ns, args: [], returns: number },
  { id: BPF_FUNC.get_prandom_u32, args: [], returns: number },
  { id: BPF_FUNC.get_smp_processor_id, args: [], returns: { kind: 'scalar', min: 0, max: 8191 } },
  { id: BPF_FUNC.get_numa_node_id, args: [], returns: number },
  { id: BPF_FUNC.jiffies64, args: [], returns: number },
  { id: BPF_FUNC.ktime_get_boot_ns, args: [], returns: number },
  { id: BPF_FUNC.ktime_get_coarse_ns, args: [], returns: number },
  { id: BPF_FUNC.ktime_get_tai_ns, args: [], returns: number },
  { id: BPF_FUNC.get_current_pid_tgid, args: [], returns: number },
  { id: BPF_FUNC.get_current_uid_gid, args: [], returns: number },
  { id: BPF_FUNC.get_current_comm, args: [memoryOut, size], returns: number },
  { id: BPF_FUNC.get_cgroup_classid, args: [], returns: number },
  { id: BPF_FUNC.get_current_cgroup_id, args: [], returns: number },
  { id: BPF_FUNC.get_current_ancestor_cgroup_id, args: [scalar], returns: number },
  { id: BPF_FUNC.get_ns_current_pid_tgid, args: [scalar, scalar, memoryOut, size], returns: number },
  { id: BPF_FUNC.current_task_under_cgroup, args: [map, scalar], returns: number, unsupported: CGROUP },

  // Where the packet goes
  // The program that is called instead may move the packet, and when it ends, control is back in the caller of the
  // local function that made the call.
  {
    id: BPF_FUNC.tail_call,
    args: [context, map, scalar],
    returns: { kind: 'tail-call' },
    changesPacket: true,
  },
  { id: BPF_FUNC.redirect, args: [scalar, scalar], returns: { kind: 'scalar', values: [0, 4] } },
  { id: BPF_FUNC.redirect_map, args: [map, scalar, scalar], returns: { kind: 'redirect-map' } },

  // The packet
  {
    id: BPF_FUNC.csum_diff,
    args: [memoryOrNull, sizeOrZero, memoryOrNull, sizeOrZero, scalar],
    returns: number,
    packetMemory: true,
  },
  { id: BPF_FUNC.xdp_adjust_head, args: [context, scalar], returns: number, changesPacket: true },
  { id: BPF_FUNC.xdp_adjust_meta, args: [context, scalar], returns: number, changesPacket: true },
  { id: BPF_FUNC.xdp_adjust_tail, args: [context, scalar], returns: number, changesPacket: true },
  { id: BPF_FUNC.xdp_get_buff_len, args: [context], returns: number },
  { id: BPF_FUNC.xdp_load_bytes, args: [context, scalar, packetBytesOut, size], returns: number },
  { id: BPF_FUNC.xdp_store_bytes, args: [context, scalar, memory, size], returns: number },

  // Out to user space
  // What is printed is read by nobody who could tell addresses to a guest; how long it is, the program is told.
  {
    id: BPF_FUNC.trace_printk,
    args: [memory, size, printed, printed, printed],
    returns: number,
    gplOnly: true,
  },
  {
    id: BPF_FUNC.trace_vprintk,
    args: [memory, size, memoryOrNull, sizeOrZero],
    returns: number,
    gplOnly: true,
  },
  {
    id: BPF_FUNC.perf_event_output,
    args: [context, map, scalar, memory, sizeOrZero],
    returns: number,
    gplOnly: true,
  },
  { id: BPF_FUNC.perf_event_read, args: [map, scalar], returns: number, gplOnly: true },
  {
    id: BPF_FUNC.perf_event_read_value,
    args: [map, scalar, memoryOut, size],
    returns: number,
    gplOnly: true,
  },
  { id: BPF_FUNC.ringbuf_output, args: [map, memory, sizeOrZero, scalar], returns: number },
  {
    id: BPF_FUNC.ringbuf_reserve,
    args: [map, { kind: 'allocation-size' }, scalar],
    returns: { kind: 'ringbuf-record-or-null' },
  },
  { id: BPF_FUNC.ringbuf_submit, args: [{ kind: 'ringbuf-record' }, scalar], returns: nothing },
  { id: BPF_FUNC.ringbuf_discard, args: [{ kind: 'ringbuf-record' }, scalar], returns: nothing },
  { id: BPF_FUNC.ringbuf_query, args: [map, scalar], returns: number },

  // Routes and sockets
  { id: BPF_FUNC.fib_lookup, args: [context, memoryInOut, size, scalar], returns: number, gplOnly: true },
  {
    id: BPF_FUNC.check_mtu,
    args: [context, scalar, numberAt(4, 'read-write'), scalar, scalar],
    returns: number,
    gplOnly: true,
  },
  {
    id: BPF_FUNC.sk_lookup_tcp,
    args: [context, memory, size, scalar, scalar],
    returns: { kind: 'socket-or-null', socket: 'sock', acquires: true },
    packetMemory: true,
  },
  {
    id: BPF_FUNC.sk_lookup_udp,
    args: [context, memory, size, scalar, scalar],
    returns: { kind: 'socket-or-null', socket: 'sock', acquires: true },
    packetMemory: true,
  },
  {
    id: BPF_FUNC.skc_lookup_tcp,
    args: [context, memory, size, scalar, scalar],
    returns: { kind: 'socket-or-null', socket: 'sock_common', acquires: true },
    packetMemory: true,
  },
  { id: BPF_FUNC.sk_release, args: [releasedSocket], returns: number },
  {
    id: BPF_FUNC.tcp_check_syncookie,
    args: [socket, memory, size, memory, size],
    returns: number,
    gplOnly: true,
    packetMemory: true,
  },
  {
    id: BPF_FUNC.tcp_gen_syncookie,
    args: [socket, memory, size, memory, size],
    returns: number,
    gplOnly: true,
    packetMemory: true,
  },
  {
    id: BPF_FUNC.skc_to_tcp6_sock,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'tcp6_sock', acquires: false },
  },
  {
    id: BPF_FUNC.skc_to_tcp_sock,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'tcp_sock', acquires: false },
  },
  {
    id: BPF_FUNC.skc_to_tcp_timewait_sock,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'tcp_timewait_sock', acquires: false },
  },
  {
    id: BPF_FUNC.skc_to_tcp_request_sock,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'tcp_request_sock', acquires: false },
  },
  {
    id: BPF_FUNC.skc_to_udp6_sock,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'udp6_sock', acquires: false },
  },
  { id: BPF_FUNC.skc_to_unix_sock, args: [socket], returns: number, unsupported: BTF },
  { id: BPF_FUNC.skc_to_mptcp_sock, args: [socket], returns: number, unsupported: BTF },
  {
    id: BPF_FUNC.tcp_raw_gen_syncookie_ipv4,
    args: [IPHDR, memory, sizeOrZero],
    returns: number,
    gplOnly: true,
    packetMemory: true,
  },
  {
    id: BPF_FUNC.tcp_raw_gen_syncookie_ipv6,
    args: [IPV6HDR, memory, sizeOrZero],
    returns: number,
    gplOnly: true,
    packetMemory: true,
  },
  {
    id: BPF_FUNC.tcp_raw_check_syncookie_ipv4,
    args: [IPHDR, TCPHDR],
    returns: number,
    gplOnly: true,
    packetMemory: true,
  },
  {
    id: BPF_FUNC.tcp_raw_check_syncookie_ipv6,
    args: [IPV6HDR, TCPHDR],
    returns: number,
    gplOnly: true,
    packetMemory: true,
  },

  // Strings
  { id: BPF_FUNC.strtol, args: [memory, size, scalar, numberAt(8, 'write')], returns: number },
  { id: BPF_FUNC.strtoul, args: [memory, size, scalar, numberAt(8, 'write')], returns: number },
  {
    id: BPF_FUNC.snprintf,
    args: [textOutOrNull, sizeOrZero, string, memoryOrNull, sizeOrZero],
    returns: number,
    gplOnly: true,
  },
  { id: BPF_FUNC.strncmp, args: [memory, size, string], returns: number },

  // Beyond the packet and the maps
  {
    id: BPF_FUNC.probe_read_user,
    args: [memoryOut, sizeOrZero, address],
    returns: number,
    gplOnly: true,
    privileged: true,
  },
  {
    id: BPF_FUNC.probe_read_kernel,
    args: [memoryOut, sizeOrZero, address],
    returns: number,
    gplOnly: true,
    privileged: true,
  },
  {
    id: BPF_FUNC.probe_read_user_str,
    args: [memoryOut, sizeOrZero, address],
    returns: number,
    gplOnly: true,
    privileged: true,
  },
  {
    id: BPF_FUNC.probe_read_kernel_str,
    args: [memoryOut, sizeOrZero, address],
    returns: number,
    gplOnly: true,
    privileged: true,
  },
  { id: BPF_FUNC.get_current_task, args: [], returns: number, gplOnly: true, privileged: true },
  { id: BPF_FUNC.send_signal, args: [scalar], returns: number, privileged: true },
  { id: BPF_FUNC.send_signal_thread, args: [scalar], returns: number, privileged: true },

  // Refused: what they work on is not modelled
  { id: BPF_FUNC.timer_init, args: [], returns: number, gplOnly: true, unsupported: TIMER },
  { id: BPF_FUNC.timer_set_callback, args: [], returns: number, gplOnly: true, unsupported: TIMER },
  { id: BPF_FUNC.timer_start, args: [], returns: number, gplOnly: true, unsupported: TIMER },
  { id: BPF_FUNC.timer_cancel, args: [], returns: number, gplOnly: true, unsupported: TIMER },
  { id: BPF_FUNC.kptr_xchg, args: [], returns: number, unsupported: KPTR },
  { id: BPF_FUNC.get_task_stack, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.copy_from_user, args: [], returns: number, unsupported: 'it may sleep' },
  { id: BPF_FUNC.snprintf_btf, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.per_cpu_ptr, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.this_cpu_ptr, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.task_storage_get, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.task_storage_delete, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.get_current_task_btf, args: [], returns: number, gplOnly: true, unsupported: BTF },
  { id: BPF_FUNC.task_pt_regs, args: [], returns: number, gplOnly: true, unsupported: BTF },
  { id: BPF_FUNC.get_branch_snapshot, args: [], returns: number, gplOnly: true, unsupported: BTF },
  { id: BPF_FUNC.find_vma, args: [], returns: number, unsupported: BTF },
  { id: BPF_FUNC.copy_from_user_task, args: [], returns: number, gplOnly: true, unsupported: 'it may sleep' },
  { id: BPF_FUNC.dynptr_from_mem, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.ringbuf_reserve_dynptr, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.ringbuf_submit_dynptr, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.ringbuf_discard_dynptr, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.dynptr_read, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.dynptr_write, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.dynptr_data, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.user_ringbuf_drain, args: [], returns: number, unsupported: DYNPTR },
  { id: BPF_FUNC.cgrp_storage_get, args: [], returns: number, unsupported: CGROUP },
  { id: BPF_FUNC.cgrp_storage_delete, args: [], returns: number, unsupported: CGROUP },
];

/** By number: every helper that an XDP program may name. */
export const XDP_HELPER_PROTOTYPES: ReadonlyMap<number, HelperPrototype> = new Map(
  PROTOTYPES.map((prototype) => [prototype.id, prototype]),
);

/**
 * Which map types a helper's map argument may have, by helper number. A type that is in neither table can be
 * looked up, updated and deleted from.
 */
export const MAP_TYPES_OF_HELPER: ReadonlyMap<number, readonly number[]> = new Map<number, readonly number[]>(
  [
    [BPF_FUNC.tail_call, [BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY]],
    [BPF_FUNC.perf_event_read, [BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY]],
    [BPF_FUNC.perf_event_output, [BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY]],
    [BPF_FUNC.perf_event_read_value, [BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY]],
    [BPF_FUNC.current_task_under_cgroup, [BPF_MAP_TYPE.BPF_MAP_TYPE_CGROUP_ARRAY]],
    [
      BPF_FUNC.redirect_map,
      [
        BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
        BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP,
        BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP,
        BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH,
      ],
    ],
    [BPF_FUNC.map_push_elem, [BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE.BPF_MAP_TYPE_STACK]],
    [BPF_FUNC.map_pop_elem, [BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE.BPF_MAP_TYPE_STACK]],
    [BPF_FUNC.map_peek_elem, [BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE.BPF_MAP_TYPE_STACK]],
    [BPF_FUNC.ringbuf_output, [BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF]],
    [BPF_FUNC.ringbuf_reserve, [BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF]],
    [BPF_FUNC.ringbuf_query, [BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF]],
    [
      BPF_FUNC.for_each_map_elem,
      [
        BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
        BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
        BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
        BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
        BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
        BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
      ],
    ],
    [
      BPF_FUNC.map_lookup_percpu_elem,
      [
        BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
        BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
        BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
      ],
    ],
  ],
);

/** Which helpers may be given a map of that type; types that are absent take the helpers of MAP_ELEMENT_HELPERS. */
export const HELPERS_OF_MAP_TYPE: ReadonlyMap<number, readonly number[]> = new Map<number, readonly number[]>(
  [
    [BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, [BPF_FUNC.tail_call]],
    [
      BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
      [BPF_FUNC.perf_event_read, BPF_FUNC.perf_event_output, BPF_FUNC.perf_event_read_value],
    ],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_STACK_TRACE, []],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_CGROUP_ARRAY, [BPF_FUNC.current_task_under_cgroup]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, [BPF_FUNC.map_lookup_elem]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS, [BPF_FUNC.map_lookup_elem]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP, [BPF_FUNC.map_lookup_elem, BPF_FUNC.redirect_map]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKMAP, [BPF_FUNC.map_lookup_elem, BPF_FUNC.map_delete_elem]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP, [BPF_FUNC.redirect_map]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP, [BPF_FUNC.map_lookup_elem, BPF_FUNC.redirect_map]],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKHASH, [BPF_FUNC.map_lookup_elem, BPF_FUNC.map_delete_elem]],
    [
      BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
      [BPF_FUNC.map_push_elem, BPF_FUNC.map_pop_elem, BPF_FUNC.map_peek_elem],
    ],
    [
      BPF_MAP_TYPE.BPF_MAP_TYPE_STACK,
      [BPF_FUNC.map_push_elem, BPF_FUNC.map_pop_elem, BPF_FUNC.map_peek_elem],
    ],
    [BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH, [BPF_FUNC.map_lookup_elem, BPF_FUNC.redirect_map]],
    [
      BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF,
      [BPF_FUNC.ringbuf_output, BPF_FUNC.ringbuf_reserve, BPF_FUNC.ringbuf_query],
    ],
  ],
);
