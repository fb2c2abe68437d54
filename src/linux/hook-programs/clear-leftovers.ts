import { assemble } from '../../bpf/assembler.js';
import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE, type MapAttributes } from '../../bpf/map-spec.js';
import { MAX_BPF_STACK } from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import { callFunction, ProgramEditor, type Label, type Piece } from '../../bpf/rewrite/program-editor.js';
import { XDP_MD } from '../../bpf/xdp.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { calledHelper, insnsBySlot, whyNotOurs } from './main-function.js';
import { rewritten, type Rewriting } from './rewriting.js';

/** Bytes that are cleared in front of a packet at most: no driver leaves more headroom than a page. */
const MOST_HEADROOM = 4096;

/** What bytes in front of a packet are overwritten with: nothing ever writes to it, and programs cannot. */
export const ZEROS_MAP: MapAttributes = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: MOST_HEADROOM,
  maxEntries: 1,
  flags: BPF_F_RDONLY_PROG,
};

/** The longest metadata, in bytes (`skb_metadata_set` takes a u8, and lengths are multiples of 4). */
const MOST_METADATA = 252;

/**
 * The program without what helpers of the kernel let it read that was never its own (net/core/filter.c of 6.18): the
 * kernel trusts who loads programs, a host does not trust its guests.
 *
 * - bpf_xdp_load_bytes that fails leaves its buffer as it is, and the kernel's verifier takes it for written: on the stack
 *   is then what functions of the kernel had there, their return addresses among it. The buffer is cleared first where the call will fail.
 * - bpf_xdp_adjust_head and bpf_xdp_adjust_meta move the start into the headroom, where a page holds what it was used for before.
 *   What is gained is cleared, also where the program had itself given it up before.
 * - bpf_strtol and bpf_strtoul leave the result as it is where they fail, before 6.12.
 *
 * `zeros` is a map of ZEROS_MAP, by handle. What is inserted clobbers no more than the call does. The two functions that are added use no stack, yet
 * count in the kernel's limit of it for programs with functions: one that uses nearly all is rejected.
 */
export function clearLeftovers(
  program: Program,
  { zeros, facts }: { readonly zeros: number; readonly facts: ProgramFacts },
): Rewriting {
  const refusal = whyNotOurs(program, [zeros]);
  if (refusal !== undefined) return refusal;
  const editor = new ProgramEditor(program);
  const added = new Map<string, Label>();
  const callOf = (name: string, text: string): Piece => {
    const known = added.get(name);
    const label = known ?? editor.appendFunction(name, { insns: assemble(text) });
    added.set(name, label);
    return { insns: [callFunction()], targets: new Map([[0, label]]) };
  };
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    if (facts.unreachable.has(slot)) continue;
    const helper = calledHelper(insn);
    if (helper === BPF_FUNC.xdp_adjust_head) {
      editor.replace(slot, callOf('adjust_head', adjustHeadText(zeros)));
    } else if (helper === BPF_FUNC.xdp_adjust_meta) {
      editor.replace(slot, callOf('adjust_meta', ADJUST_META));
    } else if (helper === BPF_FUNC.xdp_load_bytes) {
      const text = clearBufferText(facts.calls.get(slot)?.constants.get(4));
      if (text !== undefined) editor.insertBefore(slot, { insns: assemble(text) });
    }
  }
  clearNumbers(editor, program, facts);
  return rewritten(editor.finish(), facts);
}

/** Has bpf_strtol and bpf_strtoul begin as those of 6.12 do: with a result of 0. */
export function clearNumbers(editor: ProgramEditor, program: Program, facts: ProgramFacts): void {
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    const helper = calledHelper(insn);
    if (helper !== BPF_FUNC.strtol && helper !== BPF_FUNC.strtoul) continue;
    if (!facts.unreachable.has(slot)) editor.insertBefore(slot, { insns: assemble('*(u64 *)(r4 +0) = 0') });
  }
}

/**
 * In front of bpf_xdp_load_bytes (R1 context, R2 offset, R3 buffer, R4 length): R0 and R5 are free. Undefined for a buffer
 * that is too long for the stack; what is in a map has been the guest's before. A length of which no constant is known is one
 * on each path: else the kernel wants the buffer to be written before.
 *
 * What is written is 0 and the verifier does not know: it would else tell the two ways to the call apart, and follow
 * both from there, and twice as many at each further call.
 */
function clearBufferText(length: bigint | undefined): string | undefined {
  if (length !== undefined && length > BigInt(MAX_BPF_STACK)) return undefined;
  return `
      r0 = *(u32 *)(r1 +${XDP_MD.data_end})
      r5 = *(u32 *)(r1 +${XDP_MD.data})
      r0 -= r5
      if w2 > 0xffff goto clear
      if w4 > 0xffff goto clear
      w5 = w2
      w5 += w4
      if w5 <= w0 goto load
    clear:
      r0 = *(u32 *)(r1 +${XDP_MD.data})
      r5 = r0
      r0 -= r5
      ${length === undefined ? CLEAR_TO_LENGTH : storesText(Number(length))}
    load:`;
}

function storesText(length: number): string {
  // Nothing is known of how the buffer is aligned, which the kernel wants on the stack.
  return Array.from({ length }, (_, at) => `*(u8 *)(r3 +${at}) = r0`).join('\n');
}

const CLEAR_TO_LENGTH = `
      r5 = 0
    byte:
      if r5 >= r4 goto cleared
      *(u8 *)(r3 +0) = r0
      r3 += 1
      r5 += 1
      if r5 != ${MAX_BPF_STACK} goto byte
    cleared:
      r5 = -r5
      r3 += r5`;

/** A function with the arguments and the result of the helper. That R4 is not 0 is said so that a verifier sees it. */
function adjustHeadText(zeros: number): string {
  return `
      r6 = r1
      r7 = r2
      call bpf_xdp_adjust_head
      if r0 != 0 goto out
      if w7 s>= 0 goto out
      w7 = -w7
      if w7 > ${MOST_HEADROOM} goto back
      r1 = r6
      r2 = 0
      r3 = map[fd:${zeros}][0] + 0
      r4 = r7
      w4 += -1
      w4 &= ${MOST_HEADROOM - 1}
      w4 += 1
      call bpf_xdp_store_bytes
      if r0 != 0 goto back
    out:
      exit
    back:
      r1 = r6
      r2 = r7
      call bpf_xdp_adjust_head
      r0 = -22
      exit`;
}

/** Likewise. Of metadata the helper grants no more than ${MOST_METADATA} bytes, so that no more can have been gained. */
const ADJUST_META = `
      r6 = r1
      r7 = r2
      call bpf_xdp_adjust_meta
      if r0 != 0 goto out
      if w7 s>= 0 goto out
      w7 = -w7
      if w7 > ${MOST_METADATA} goto out
      r2 = *(u32 *)(r6 +${XDP_MD.data_meta})
      r3 = *(u32 *)(r6 +${XDP_MD.data})
    word:
      r4 = r2
      r4 += 4
      if r4 > r3 goto out
      *(u32 *)(r2 +0) = 0
      r2 = r4
      w7 += -4
      if w7 s> 0 goto word
    out:
      exit`;
