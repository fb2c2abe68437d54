import { assemble } from '../../bpf/assembler.js';
import { BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import { XDP_MD, XDP_PASS, XDP_TX } from '../../bpf/xdp.js';
import { readMarkText, type FrameMark } from './frame-mark.js';
import { hopBeforeText } from './hop-limit.js';
import { TCX_ACTION } from './tcx-action.js';
import { countingText } from './verdict-counters.js';

/**
 * The host's own programs of hook `bridge-early`: docs/linux/hooks.md. Numbers of maps are handles.
 *
 * The map of addresses has a key of 8 bytes, `+0 MAC address u8[6] · +6 zero u16`, and a value of 8, `+0 slot u32 · +4
 * ifindex u32`: where in the PROG_ARRAY the program of the port is, and the port behind which the address is.
 */
export const ADDRESS_KEY_SIZE = 8;
export const ADDRESS_VALUE_SIZE = 8;

/** `flags` of bpf_redirect: into the device's receive path instead of out of it. */
const BPF_F_INGRESS = 1;
/** Bytes of an Ethernet header. */
const ETH_HLEN = 14;
/** Where the addresses are in it. */
const DESTINATION = 0;
const SOURCE = 6;

function program(type: number, name: string, text: string): Program {
  return { name, type, attachType: 'BPF_XDP', gplCompatible: true, insns: assemble(text) };
}

/** Looks the address up that is at an offset of the frame at R7; R0 is its value or 0. R6 to R9 stay. */
function lookUpText(addresses: number, offset: number): string {
  return `
      r1 = *(u32 *)(r7 +${offset})
      *(u32 *)(r10 -8) = r1
      r1 = *(u16 *)(r7 +${offset + 4})
      *(u32 *)(r10 -4) = r1
      r1 = map[fd:${addresses}]
      r2 = r10
      r2 += -8
      call bpf_map_lookup_elem`;
}

/**
 * On a NIC that is a port of a bridge: calls the program of the port behind which the destination address is. All other
 * frames go on into the bridge, and so do those whose source address the bridge does not know to be behind this NIC: it
 * shall learn it, or drop the frame, or see that it has moved.
 */
export function earlyEntry(maps: { readonly addresses: number; readonly programs: number }): Program {
  return program(
    BPF_PROG_TYPE_XDP,
    'bridge_early',
    `
      r6 = r1
      r7 = *(u32 *)(r1 +${XDP_MD.data})
      r2 = *(u32 *)(r1 +${XDP_MD.data_end})
      r3 = r7
      r3 += ${ETH_HLEN}
      if r3 > r2 goto pass
      ${lookUpText(maps.addresses, DESTINATION)}
      if r0 == 0 goto pass
      r8 = *(u32 *)(r0 +0)
      ${lookUpText(maps.addresses, SOURCE)}
      if r0 == 0 goto pass
      r1 = *(u32 *)(r0 +4)
      r2 = *(u32 *)(r6 +${XDP_MD.ingress_ifindex})
      if w1 != w2 goto pass
      r1 = r6
      r2 = map[fd:${maps.programs}]
      r3 = r8
      call bpf_tail_call
    pass:
      w0 = ${XDP_PASS}
      exit`,
  );
}

/**
 * What a guest's program sends back, as the bridge would forward it from the guest's port: XDP_TX where the destination is
 * behind the NIC that the frame came by. XDP_PASS for all else, which is the bridge's to decide.
 */
export function sentBackEarly(maps: { readonly addresses: number }): Program {
  return program(
    BPF_PROG_TYPE_XDP,
    'sent_back_early',
    `
      r6 = r1
      r7 = *(u32 *)(r1 +${XDP_MD.data})
      r2 = *(u32 *)(r1 +${XDP_MD.data_end})
      r3 = r7
      r3 += ${ETH_HLEN}
      if r3 > r2 goto bridge
      r1 = *(u8 *)(r7 +${SOURCE})
      w1 &= 1
      if w1 != 0 goto bridge
      r1 = *(u32 *)(r7 +${SOURCE})
      r2 = *(u16 *)(r7 +${SOURCE + 4})
      r1 |= r2
      if r1 == 0 goto bridge
      ${lookUpText(maps.addresses, DESTINATION)}
      if r0 == 0 goto bridge
      r1 = *(u32 *)(r0 +4)
      r2 = *(u32 *)(r6 +${XDP_MD.ingress_ifindex})
      if w1 != w2 goto bridge
      w0 = ${XDP_TX}
      exit
    bridge:
      w0 = ${XDP_PASS}
      exit`,
  );
}

/**
 * On the egress of a tap: calls the program at 0 of a PROG_ARRAY of tcx programs, but for frames with the mark, which have
 * met it already; these are counted as XDP_PASS. It writes to no packet itself, so that the kernel does not copy a shared
 * skb before it, by which the mark would be lost.
 */
export function unlessMarked(
  mark: FrameMark,
  maps: { readonly programs: number; readonly counters: number },
): Program {
  return program(
    BPF_PROG_TYPE_SCHED_CLS,
    'unless_marked',
    `
      ${readMarkText(mark.secret, 'call_it')}
      if w5 != ${mark.ifindex} goto call_it
      w0 = ${XDP_PASS}
      ${countingText(maps.counters, 6)}
      w0 = ${TCX_ACTION.TCX_NEXT}
      exit
    call_it:
      r2 = map[fd:${maps.programs}]
      r3 = 0
      call bpf_tail_call
      w0 = ${TCX_ACTION.TCX_NEXT}
      exit`,
  );
}

/** On the ingress of a NIC: frames with a mark of this secret go into the receive path of the interface that it names. */
export function intoReceivePath(secret: FrameMark['secret']): Program {
  return program(
    BPF_PROG_TYPE_SCHED_CLS,
    'sent_back_slow',
    `
      ${readMarkText(secret, 'next')}
      ${hopBeforeText()}
      r1 = r5
      r2 = ${BPF_F_INGRESS}
      call bpf_redirect
      exit
    next:
      w0 = ${TCX_ACTION.TCX_NEXT}
      exit`,
  );
}
