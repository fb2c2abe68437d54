import { assemble } from '../../bpf/assembler.js';
import { formatInsn } from '../../bpf/disassembler.js';
import { BPF_FUNC, helperName } from '../../bpf/helper-ids.js';
import { isLddw } from '../../bpf/insn.js';
import { BPF_MAP_TYPE, mapTypeName, type MapAttributes } from '../../bpf/map-spec.js';
import { BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_FD, OP_CALL } from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import { fetchKept, findKeeper, keepRegister } from '../../bpf/rewrite/keeper.js';
import { ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { XDP_REDIRECT } from '../../bpf/xdp.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { calledHelper, insnsBySlot, mainFunctionEnd, replaceExits, whyNotOurs } from './main-function.js';
import { refuse, rewritten, type Rewriting, type RewritingRefusal } from './rewriting.js';

export interface TailCallRedirection {
  /** PROG_ARRAY, by handle: the program for the device under the same key of the device map. */
  readonly programs: number;
  /** What the program's maps are, by handle. */
  readonly maps: ReadonlyMap<number, Pick<MapAttributes, 'type'>>;
  /**
   * Keys to be looked for first, few: a tail call with a constant index is a jump, any other an indirect one, which costs
   * ten and more nanoseconds where the kernel guards against Spectre (arch/x86/net/bpf_jit_comp.c, emit_bpf_tail_call).
   */
  readonly likelyKeys?: readonly number[] | undefined;
  readonly stackBytes?: number | undefined;
  readonly facts?: ProgramFacts | undefined;
}

/** `flags` of bpf_redirect_map: the key means nothing, the frame goes to every device. */
const BPF_F_BROADCAST = 8;
/** Of no element: a PROG_ARRAY has fewer entries than that, so that a tail call with it fails. */
const NO_KEY = -1;

const DEVICE_MAPS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH,
]);
const REDIRECT_MAPS: ReadonlySet<number> = new Set([
  ...DEVICE_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CPUMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP,
]);
const MAPS_OF_MAPS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
]);

/**
 * Lets the program that redirects frames into a device map hand each over to the program that belongs to the device: at
 * each bpf_redirect_map of the main function the key is remembered, and where the program ends with XDP_REDIRECT it
 * tail-calls `programs[key]`. What it redirected to stays set, so that the other program may return XDP_REDIRECT without
 * a call of its own; where there is no other program, XDP_REDIRECT is returned as before. With BPF_F_BROADCAST no key is
 * remembered.
 *
 * Refused: redirects in other functions, by bpf_redirect, into another map than the one device map, and a main function
 * that leaves no room to keep context and key in.
 */
export function redirectByTailCall(
  program: Program,
  options: TailCallRedirection,
): Rewriting<{ /** Handle of the device map. */ readonly deviceMap: number }> {
  const deviceMap = findDeviceMap(program, options.maps);
  if (typeof deviceMap !== 'number') return deviceMap;
  const refusal = whyNotOurs(program, [options.programs]);
  if (refusal !== undefined) return refusal;
  const calls = findRedirects(program);
  if (!Array.isArray(calls)) return calls;

  const body = program.insns.slice(0, mainFunctionEnd(program));
  const { stackBytes, facts } = options;
  const context = findKeeper(body, { stackBytes });
  const key = context && findKeeper(body, { stackBytes, taken: [context] });
  if (context === undefined || key === undefined) {
    return refuse('the main function leaves no registers or stack to keep the context and the key in');
  }
  const editor = new ProgramEditor(program);
  editor.insertBefore(
    0,
    { insns: [keepRegister(context, 1), ...assemble(`r0 = ${NO_KEY}`), keepRegister(key, 0)] },
    { jumps: 'past' },
  );
  for (const slot of calls) {
    const flags = facts?.calls.get(slot)?.constants.get(3);
    const always = flags !== undefined && (flags & BigInt(BPF_F_BROADCAST)) === 0n;
    // The call takes R0 and needs R1 to R3.
    const remember = always
      ? 'w0 = w2'
      : `w0 = ${NO_KEY}
         if r3 & ${BPF_F_BROADCAST} goto remember
         w0 = w2
       remember:`;
    editor.insertBefore(slot, { insns: [...assemble(remember), keepRegister(key, 0)] });
  }
  const direct = (options.likelyKeys ?? []).map(
    (likely, index) => `
      if w3 != ${likely} goto other_${index}
      w3 = ${likely}
      call bpf_tail_call
      w0 = ${XDP_REDIRECT}
      exit
    other_${index}:`,
  );
  const text = `
      if w0 != ${XDP_REDIRECT} goto out
      ${formatInsn([fetchKept(context, 1)], 0)}
      r2 = map[fd:${options.programs}]
      ${formatInsn([fetchKept(key, 3)], 0)}
      ${direct.join('')}
      call bpf_tail_call
      w0 = ${XDP_REDIRECT}
    out:
      exit`;
  replaceExits(editor, program, { insns: assemble(text) });
  return { ...rewritten(editor.finish(), facts), deviceMap };
}

/** The one map that the program can redirect into. Where it names no other, every redirect goes there. */
function findDeviceMap(
  { insns }: Program,
  maps: ReadonlyMap<number, Pick<MapAttributes, 'type'>>,
): number | RewritingRefusal {
  let found: number | undefined;
  for (const [slot, insn] of insnsBySlot(insns)) {
    if (!isLddw(insn) || insn.src !== BPF_PSEUDO_MAP_FD) continue;
    const type = maps.get(insn.imm)?.type;
    if (type === undefined)
      return refuse(`the program names map ${insn.imm}, of which nothing is known`, slot);
    if (MAPS_OF_MAPS.has(type)) {
      return refuse(
        'the program takes maps out of a map, so that it is not known what it redirects into',
        slot,
      );
    }
    if (!REDIRECT_MAPS.has(type)) continue;
    if (!DEVICE_MAPS.has(type)) return refuse(`the program redirects into a ${mapTypeName(type)}`, slot);
    if (found !== undefined && found !== insn.imm) {
      return refuse('the program redirects into more than one device map', slot);
    }
    found = insn.imm;
  }
  return found ?? refuse('the program names no device map');
}

/** Slots of the calls of bpf_redirect_map. */
function findRedirects(program: Program): number[] | RewritingRefusal {
  const end = mainFunctionEnd(program);
  const slots: number[] = [];
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    const helper = calledHelper(insn);
    if (helper === BPF_FUNC.redirect) {
      return refuse(
        `${helperName(helper)} names a device by its ifindex, for which there is no program`,
        slot,
      );
    }
    if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_KFUNC_CALL) {
      return refuse('the program calls a function of the kernel, of which nothing is known', slot);
    }
    if (helper !== BPF_FUNC.redirect_map) continue;
    if (slot >= end) {
      return refuse(`${helperName(helper)} is called in another function than the main one`, slot);
    }
    slots.push(slot);
  }
  return slots.length > 0 ? slots : refuse('the program redirects nothing');
}
