import { BPF_PROG_TYPE_UNSPEC, BPF_PROG_TYPE_XDP, type XdpAttachType } from '../program.js';

/** What the name of an ELF section says about the programs in it. */
export interface SectionType {
  /** BPF_PROG_TYPE_UNSPEC: the name says nothing. */
  readonly type: number;
  readonly attachType: XdpAttachType;
  readonly frags: boolean;
}

/**
 * First parts of section names that loaders agree on, by program type number (libbpf documentation, "Program
 * Types and ELF Sections"). XDP is not among them, its names are parsed below.
 */
const PREFIXES: readonly (readonly [number, readonly string[]])[] = [
  [1, ['socket', 'socket_filter']],
  [2, ['kprobe', 'kprobe.multi', 'kprobe.session', 'kretprobe', 'kretprobe.multi', 'uprobe', 'uprobe.s']],
  [2, ['uprobe.multi', 'uprobe.multi.s', 'uretprobe', 'uretprobe.s', 'ksyscall', 'kretsyscall', 'usdt']],
  [3, ['tc', 'tcx', 'classifier', 'netkit']],
  [4, ['action']],
  [5, ['tracepoint', 'tp']],
  [7, ['perf_event']],
  [8, ['cgroup_skb', 'cgroup/skb']],
  [9, ['cgroup/sock', 'cgroup/sock_create', 'cgroup/sock_release', 'cgroup/post_bind4', 'cgroup/post_bind6']],
  [10, ['lwt_in']],
  [11, ['lwt_out']],
  [12, ['lwt_xmit']],
  [13, ['sockops']],
  [14, ['sk_skb']],
  [15, ['cgroup/dev']],
  [16, ['sk_msg']],
  [17, ['raw_tracepoint', 'raw_tp']],
  [18, ['cgroup/bind4', 'cgroup/bind6', 'cgroup/connect4', 'cgroup/connect6', 'cgroup/sendmsg4']],
  [
    18,
    ['cgroup/sendmsg6', 'cgroup/recvmsg4', 'cgroup/recvmsg6', 'cgroup/getpeername4', 'cgroup/getsockname4'],
  ],
  [19, ['lwt_seg6local']],
  [20, ['lirc_mode2']],
  [21, ['sk_reuseport']],
  [22, ['flow_dissector']],
  [23, ['cgroup/sysctl']],
  [24, ['raw_tracepoint.w', 'raw_tp.w']],
  [25, ['cgroup/getsockopt', 'cgroup/setsockopt']],
  [26, ['fentry', 'fentry.s', 'fexit', 'fexit.s', 'fmod_ret', 'fmod_ret.s', 'tp_btf', 'iter', 'iter.s']],
  [27, ['struct_ops', 'struct_ops.s']],
  [28, ['freplace']],
  [29, ['lsm', 'lsm.s', 'lsm_cgroup']],
  [30, ['sk_lookup']],
  [31, ['syscall']],
  [32, ['netfilter']],
];

const TYPE_BY_PREFIX = new Map(
  PREFIXES.flatMap(([type, names]) => names.map((name) => [name, type] as const)),
);

/**
 * XDP sections: `xdp`, `xdp.frags`, either with `/devmap`, `/cpumap` or a free name after a slash; the older
 * `xdp_devmap`, `xdp_cpumap`; and, as libbpf did before 1.0, anything else that begins with `xdp`. A leading `?`
 * means that loaders do not load the program unasked.
 */
export function sectionType(name: string): SectionType {
  const bare = name.startsWith('?') ? name.slice(1) : name;
  if (bare.startsWith('xdp')) {
    const [first = '', second] = bare.split('/', 2);
    const isMap = (kind: string): boolean => second === kind || first === `xdp_${kind}`;
    return {
      type: BPF_PROG_TYPE_XDP,
      attachType: isMap('devmap') ? 'BPF_XDP_DEVMAP' : isMap('cpumap') ? 'BPF_XDP_CPUMAP' : 'BPF_XDP',
      frags: first === 'xdp.frags',
    };
  }
  const parts = bare.split('/');
  const type =
    TYPE_BY_PREFIX.get(parts.slice(0, 2).join('/')) ?? TYPE_BY_PREFIX.get(parts[0]!) ?? BPF_PROG_TYPE_UNSPEC;
  return { type, attachType: 'BPF_XDP', frags: false };
}
