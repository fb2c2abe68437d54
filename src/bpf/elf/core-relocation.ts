import type { Btf } from '../btf/btf.js';
import type { CoreRelocation } from '../btf/btf-ext.js';

/**
 * CO-RE relocations adapt a program to the types of the kernel it is loaded into, which nobody here has. But
 * objects compiled against vmlinux.h carry them for every struct, packet headers included; and those whose
 * layout is a wire format or UAPI are the same in every kernel, so what the compiler put down is right.
 */
const SAME_IN_EVERY_KERNEL = new Set([
  // Packet headers
  ...['ethhdr', 'vlan_hdr', 'vlan_ethhdr', 'arphdr', 'iphdr', 'ipv6hdr', 'ipv6_opt_hdr', 'frag_hdr'],
  ...[
    'tcphdr',
    'udphdr',
    'icmphdr',
    'icmp6hdr',
    'igmphdr',
    'sctphdr',
    'gre_base_hdr',
    'vxlanhdr',
    'genevehdr',
  ],
  ...['ip_esp_hdr', 'ip_auth_hdr', 'in_addr', 'in6_addr', 'mpls_label'],
  // UAPI of BPF
  ...['xdp_md', 'bpf_fib_lookup', 'bpf_redir_neigh', 'bpf_sock_tuple', 'bpf_devmap_val', 'bpf_cpumap_val'],
  ...['bpf_spin_lock', 'bpf_timer', 'bpf_dynptr', 'bpf_lpm_trie_key', 'bpf_lpm_trie_key_u8', 'xdp_action'],
  ...['bpf_func_id', 'bpf_map_type', 'bpf_prog_type', 'bpf_attach_type'],
]);

/** Why the relocation cannot be resolved, or undefined when the compiled value stands. */
export function needsKernelTypes(btf: Btf, relocation: CoreRelocation): string | undefined {
  if (relocation.kind === 'TYPE_ID_LOCAL') return undefined;
  const type = btf.type(btf.resolve(relocation.typeId));
  // `struct iphdr___mine` is a flavour of `struct iphdr`.
  const name = type.name.split('___')[0]!;
  if (relocation.kind !== 'TYPE_ID_TARGET' && SAME_IN_EVERY_KERNEL.has(name)) return undefined;
  return (
    `needs ${relocation.kind} of ${btf.describe(relocation.typeId)} (${relocation.access}) ` +
    `from the kernel's types (CO-RE), which an object alone does not have`
  );
}
