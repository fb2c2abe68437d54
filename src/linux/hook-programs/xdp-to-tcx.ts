import { assemble } from '../../bpf/assembler.js';
import { BPF_FUNC, helperName } from '../../bpf/helper-ids.js';
import type { Insn } from '../../bpf/insn.js';
import { BPF_PSEUDO_KFUNC_CALL, OP_CALL } from '../../bpf/opcodes.js';
import { BPF_PROG_TYPE_SCHED_CLS, type Program } from '../../bpf/program.js';
import { ProgramEditor, type Piece } from '../../bpf/rewrite/program-editor.js';
import { XDP_MD, XDP_PASS, XDP_TX } from '../../bpf/xdp.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { clearNumbers } from './clear-leftovers.js';
import { constantAt, loadConstant, type ConstantFields } from './constant-context.js';
import { countHopText, type HopCount } from './hop-limit.js';
import { calledHelper, insnsBySlot, mainFunctionEnd, replaceExits, whyNotOurs } from './main-function.js';
import { refuse, rewritten, type Rewriting, type RewritingRefusal } from './rewriting.js';
import { dropUnreachable } from './unreachable-insns.js';
import { TCX_ACTION } from './tcx-action.js';
import { countingText, freeAtExit } from './verdict-counters.js';

/** Byte offsets of `struct __sk_buff`, the context of a SCHED_CLS program; u32 fields. */
const SK_BUFF = {
  len: 0,
  vlan_present: 20,
  vlan_tci: 24,
  vlan_proto: 28,
  ifindex: 40,
  data: 76,
  data_end: 80,
} as const;

/** `flags` of bpf_redirect: into the device's receive path instead of out of it. */
const BPF_F_INGRESS = 1;

export interface TcxOptions {
  /** What the verifier found of the XDP program. */
  readonly facts: ProgramFacts;
  /** Where XDP_TX goes: `ingress` is the device's receive path, `egress` its wire. */
  readonly tx: { readonly ifindex: number; readonly into: 'ingress' | 'egress' } | 'drop';
  /** A map of VERDICT_COUNTERS_MAP, by handle: counts XDP verdicts, before they become tcx's. */
  readonly counters?: number | undefined;
  /**
   * The program counts in the skb that it has met it, and drops one that has met HOP_LIMIT programs. Such frames are in no
   * counter of verdicts.
   */
  readonly hops?: HopCount | undefined;
  /**
   * What the program finds in its context. Without it, ingress_ifindex is that of the device the hook is on; the other two
   * have nothing that corresponds to them.
   */
  readonly context?: ConstantFields | undefined;
}

/**
 * The XDP program as one of BPF_PROG_TYPE_SCHED_CLS for the egress of a tap (BPF_TCX_EGRESS), with the same view of the
 * packet and the same verdicts. docs/linux/hooks.md, "tcx-egress", has all that differs.
 *
 * Before the program begins, VLAN tags are moved from the skb's metadata into the packet, and the packet is made one piece
 * of memory. Where that fails, the frame is dropped as XDP_ABORTED. XDP_PASS becomes TCX_NEXT, XDP_TX a bpf_redirect, all
 * else TCX_DROP.
 */
export function xdpToTcx(program: Program, options: TcxOptions): Rewriting {
  const { facts } = options;
  const editor = new ProgramEditor(program);
  const unfit =
    whyNotOurs(program, [options.counters, options.hops?.caught]) ??
    convertLoads(editor, program, options) ??
    convertCalls(editor, program, facts);
  if (unfit !== undefined) return unfit;
  clearNumbers(editor, program, facts);

  const mainEnd = mainFunctionEnd(program);
  const body = program.insns.slice(0, mainEnd);
  const counting = options.counters === undefined ? '' : countingText(options.counters, freeAtExit(body));
  const exitCode = assemble(`
      ${counting}
      if w0 == ${XDP_PASS} goto pass
      if w0 == ${XDP_TX} goto tx
      w0 = ${TCX_ACTION.TCX_DROP}
      exit
    pass:
      w0 = ${TCX_ACTION.TCX_NEXT}
      exit
    tx:
      ${transmitText(options.tx)}
      exit`);
  const atExit = replaceExits(editor, program, { insns: exitCode }, facts.unreachable);
  if (atExit === undefined) return refuse('the main function has no exit');
  const aborted: Piece = { insns: assemble('w0 = 0\ngoto +0'), targets: new Map([[1, atExit]]) };
  const returned: Piece = { insns: assemble('r0 = 0\nexit') };
  dropUnreachable(editor, program, facts.unreachable, (slot) => (slot < mainEnd ? aborted : returned));
  if (options.hops !== undefined) {
    editor.insertBefore(0, { insns: assemble(countHopText(options.hops)) }, { jumps: 'past' });
  }
  const needs = packetNeeds(program, facts);
  if (needs !== 'nothing') {
    const insns = assemble(prologueText(needs));
    editor.insertBefore(0, { insns, targets: new Map([[insns.length - 1, atExit]]) }, { jumps: 'past' });
  }
  const { program: converted, facts: moved } = rewritten(editor.finish(), withoutContext(facts));
  return {
    ok: true,
    program: { ...converted, type: BPF_PROG_TYPE_SCHED_CLS, frags: undefined },
    facts: moved,
  };
}

function transmitText(tx: TcxOptions['tx']): string {
  if (tx === 'drop') return `w0 = ${TCX_ACTION.TCX_DROP}`;
  return `w1 = ${tx.ifindex}
      w2 = ${tx.into === 'ingress' ? BPF_F_INGRESS : 0}
      call bpf_redirect`;
}

/** Loads from the context have other offsets now, and are none of an XDP program's. */
function withoutContext(facts: ProgramFacts): ProgramFacts {
  return {
    ...facts,
    accesses: new Map([...facts.accesses].filter(([, { region }]) => region !== 'context')),
  };
}

// The context ----------------------------------------------------------------------------------------------------

function convertLoads(
  editor: ProgramEditor,
  program: Program,
  { facts, context = {} }: TcxOptions,
): RewritingRefusal | undefined {
  for (const [slot, access] of facts.accesses) {
    if (access.region !== 'context') continue;
    const insn = program.insns[slot]!;
    const load = convertLoad(insn, access.minOffset, context);
    if (typeof load === 'string') return refuse(load, slot);
    editor.replace(slot, { insns: [load] });
  }
  return undefined;
}

function convertLoad(insn: Insn, offset: number, context: ConstantFields): Insn | string {
  const constant = constantAt(context, offset);
  if (constant !== undefined) return loadConstant(insn, constant);
  switch (offset) {
    case XDP_MD.data:
      return { ...insn, off: SK_BUFF.data };
    case XDP_MD.data_end:
      return { ...insn, off: SK_BUFF.data_end };
    case XDP_MD.ingress_ifindex:
      return { ...insn, off: SK_BUFF.ifindex };
    case XDP_MD.data_meta:
      return 'it reads data_meta: metadata in front of the packet is not there on egress';
    case XDP_MD.rx_queue_index:
      return 'it reads rx_queue_index, which an skb on egress does not have, and no number was given for it';
    case XDP_MD.egress_ifindex:
      return 'it reads egress_ifindex, for which no number was given';
    default:
      return `offset ${offset} is no field of xdp_md`;
  }
}

// Helpers --------------------------------------------------------------------------------------------------------

/** Helpers of XDP that SCHED_CLS has under the same number and that do the same there. */
export const SAME_HELPERS: ReadonlySet<number> = new Set([
  BPF_FUNC.map_lookup_elem,
  BPF_FUNC.map_update_elem,
  BPF_FUNC.map_delete_elem,
  BPF_FUNC.map_push_elem,
  BPF_FUNC.map_pop_elem,
  BPF_FUNC.map_peek_elem,
  BPF_FUNC.map_lookup_percpu_elem,
  BPF_FUNC.for_each_map_elem,
  BPF_FUNC.loop,
  BPF_FUNC.spin_lock,
  BPF_FUNC.spin_unlock,
  BPF_FUNC.ktime_get_ns,
  BPF_FUNC.ktime_get_boot_ns,
  BPF_FUNC.ktime_get_coarse_ns,
  BPF_FUNC.ktime_get_tai_ns,
  BPF_FUNC.jiffies64,
  BPF_FUNC.get_prandom_u32,
  BPF_FUNC.get_smp_processor_id,
  BPF_FUNC.get_numa_node_id,
  BPF_FUNC.csum_diff,
  BPF_FUNC.strtol,
  BPF_FUNC.strtoul,
  BPF_FUNC.strncmp,
  BPF_FUNC.snprintf,
  BPF_FUNC.trace_printk,
  BPF_FUNC.trace_vprintk,
  BPF_FUNC.perf_event_output,
  BPF_FUNC.ringbuf_output,
  BPF_FUNC.ringbuf_reserve,
  BPF_FUNC.ringbuf_submit,
  BPF_FUNC.ringbuf_discard,
  BPF_FUNC.ringbuf_query,
  BPF_FUNC.timer_init,
  BPF_FUNC.timer_set_callback,
  BPF_FUNC.timer_start,
  BPF_FUNC.timer_cancel,
  BPF_FUNC.probe_read_kernel,
  BPF_FUNC.probe_read_kernel_str,
]);

/** Why a helper has no twin, after its name. */
const WITHOUT_TWIN: ReadonlyMap<number, string> = new Map([
  [BPF_FUNC.xdp_adjust_head, 'has no twin: what moves the start of an skb changes its headers, too'],
  [BPF_FUNC.xdp_adjust_meta, 'has no twin: on egress there is no metadata'],
  [
    BPF_FUNC.xdp_adjust_tail,
    'has no twin: bpf_skb_change_tail cuts no frame shorter than its headers, and none that is to be segmented',
  ],
  [
    BPF_FUNC.redirect,
    'returns other numbers and takes other flags in tcx; where a frame may go is the host’s matter',
  ],
  [BPF_FUNC.redirect_map, 'is not to be had in tcx'],
  [BPF_FUNC.tail_call, 'goes to XDP programs, which would have to be rewritten as well'],
  [BPF_FUNC.fib_lookup, 'compares the skb with the MTU as well in tcx'],
  [BPF_FUNC.check_mtu, 'lets frames that are to be segmented pass in tcx'],
]);

function convertCalls(
  editor: ProgramEditor,
  program: Program,
  facts: ProgramFacts,
): RewritingRefusal | undefined {
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    if (facts.unreachable.has(slot)) continue;
    if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_KFUNC_CALL) {
      return refuse('it calls a function of the kernel, which need not be there for tcx', slot);
    }
    const helper = calledHelper(insn);
    if (helper === undefined || SAME_HELPERS.has(helper)) continue;
    const twin = twinOf(helper);
    if (twin === undefined) {
      const why = WITHOUT_TWIN.get(helper) ?? 'is not known to do the same in tcx';
      return refuse(`${helperName(helper)} ${why}`, slot);
    }
    editor.replace(slot, twin);
  }
  return undefined;
}

function twinOf(helper: number): Piece | undefined {
  switch (helper) {
    case BPF_FUNC.xdp_get_buff_len:
      return { insns: assemble(`r0 = *(u32 *)(r1 +${SK_BUFF.len})`) };
    case BPF_FUNC.xdp_load_bytes:
      return { insns: assemble(copyText('bpf_skb_load_bytes', CLEAR_BUFFER)) };
    case BPF_FUNC.xdp_store_bytes:
      return { insns: assemble(copyText('bpf_skb_store_bytes', '')) };
    default:
      return undefined;
  }
}

/** bpf_skb_load_bytes at an offset that is none clears the buffer, which verifiers take for written. */
const CLEAR_BUFFER = `
      w2 = -1
      call bpf_skb_load_bytes`;

/**
 * The skb's helpers return other errors: so bpf_xdp_pointer's own checks come first (net/core/filter.c), and `failing`
 * behind those that fail. R0 and R5 are free before a call of four arguments; R5 is the store's fifth, flags.
 */
function copyText(helper: string, failing: string): string {
  return `
      if w2 > 0xffff goto fault
      if w4 > 0xffff goto fault
      w5 = w2
      w5 += w4
      r0 = *(u32 *)(r1 +${SK_BUFF.len})
      if w5 <= w0 goto copy
      ${failing}
      r0 = -22
      goto copied
    fault:
      ${failing}
      r0 = -14
      goto copied
    copy:
      w5 = 0
      call ${helper}
    copied:`;
}

// The packet -----------------------------------------------------------------------------------------------------

type PacketNeeds =
  | 'nothing'
  /** Helpers read the packet. */
  | 'tags'
  /** The program reads or writes it in memory. */
  | 'tags-and-linear';

function packetNeeds(program: Program, facts: ProgramFacts): PacketNeeds {
  for (const { region, minOffset } of facts.accesses.values()) {
    if (region === 'context' && (minOffset === XDP_MD.data || minOffset === XDP_MD.data_end)) {
      return 'tags-and-linear';
    }
  }
  const readers: ReadonlySet<number> = new Set([
    BPF_FUNC.xdp_get_buff_len,
    BPF_FUNC.xdp_load_bytes,
    BPF_FUNC.xdp_store_bytes,
    BPF_FUNC.perf_event_output,
  ]);
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    const helper = calledHelper(insn);
    if (helper !== undefined && readers.has(helper) && !facts.unreachable.has(slot)) return 'tags';
  }
  return 'nothing';
}

/**
 * What runs first. Registers but R1 and all of the stack are free; it leaves the context in R1. Its last insn is the jump
 * to the exit with XDP_ABORTED.
 */
function prologueText(needs: PacketNeeds): string {
  return `
      r6 = r1
      r2 = *(u32 *)(r6 +${SK_BUFF.vlan_present})
      if r2 == 0 goto untagged
      ${insertTagsText()}
    untagged:
      ${needs === 'tags-and-linear' ? linearText() : ''}
      r1 = r6
      goto begin
    abort:
      w0 = 0
      goto begin
    begin:`;
}

/**
 * Moves one or two VLAN tags from the skb's metadata to where they stand in a frame, behind the addresses. With
 * bpf_skb_vlan_pop the one in the metadata goes, and one that is in the packet takes its place: so outer and inner tag
 * come out one after the other. A third one makes the frame aborted. On the stack:
 *
 *   R10 - 20  addresses, 12 bytes · R10 - 8  outer tag: TPID, TCI · R10 - 4  inner tag
 */
function insertTagsText(): string {
  const takeTag = (off: number): string => `
      r2 = *(u32 *)(r6 +${SK_BUFF.vlan_proto})
      *(u16 *)(r10 -${off}) = r2
      r2 = *(u32 *)(r6 +${SK_BUFF.vlan_tci})
      r2 = be16 r2
      *(u16 *)(r10 -${off - 2}) = r2
      r1 = r6
      call bpf_skb_vlan_pop
      if r0 != 0 goto abort
      r2 = *(u32 *)(r6 +${SK_BUFF.vlan_present})`;
  return `
      ${takeTag(8)}
      w7 = 4
      if r2 == 0 goto insert_tags
      ${takeTag(4)}
      w7 = 8
      if r2 != 0 goto abort
    insert_tags:
      r1 = r6
      r2 = r7
      r3 = 0
      call bpf_skb_change_head
      if r0 != 0 goto abort
      r1 = r6
      r2 = r7
      r3 = r10
      r3 += -20
      r4 = 12
      call bpf_skb_load_bytes
      if r0 != 0 goto abort
      r1 = r6
      r2 = 0
      r3 = r10
      r3 += -20
      r4 = r7
      r4 += 12
      r5 = 0
      call bpf_skb_store_bytes
      if r0 != 0 goto abort`;
}

/** A frame of one piece, which most are, is found to be one without a call. */
function linearText(): string {
  return `
      r2 = *(u32 *)(r6 +${SK_BUFF.len})
      if r2 > 0xffff goto pull
      r3 = *(u32 *)(r6 +${SK_BUFF.data})
      r4 = *(u32 *)(r6 +${SK_BUFF.data_end})
      r3 += r2
      if r3 <= r4 goto linear
    pull:
      r1 = r6
      r2 = *(u32 *)(r6 +${SK_BUFF.len})
      call bpf_skb_pull_data
      if r0 != 0 goto abort
    linear:`;
}
