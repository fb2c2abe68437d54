import { assemble } from '../../bpf/assembler.js';
import { formatInsn } from '../../bpf/disassembler.js';
import { BPF_FUNC, helperName } from '../../bpf/helper-ids.js';
import { isLddw } from '../../bpf/insn.js';
import { BPF_MAP_TYPE, mapTypeName, type MapAttributes } from '../../bpf/map-spec.js';
import {
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_PSEUDO_MAP_FD,
  OP_CALL,
  OP_EXIT,
} from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import { fetchKept, findKeeper, keepRegister, type Keeper } from '../../bpf/rewrite/keeper.js';
import { ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { XDP_REDIRECT } from '../../bpf/xdp.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import { calledHelper, insnsBySlot, mainFunctionEnd, replaceExits, whyNotOurs } from './main-function.js';
import { COUNTING_STACK, countingText, freeAtExit } from './verdict-counters.js';
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
  /** A map of VERDICT_COUNTERS_MAP, by handle: counts what the program returns, as `countVerdicts` does. */
  readonly counters?: number | undefined;
  readonly stackBytes?: number | undefined;
  readonly facts?: ProgramFacts | undefined;
}

/** `flags` of bpf_redirect_map: the key means nothing, the frame goes to every device. */
const BPF_F_BROADCAST = 8n;
/** What is returned where nothing is under the key. With bits that mean nothing the helper returns XDP_ABORTED. */
const ACTION_MASK = 3n;
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
 * Lets the program that redirects frames into a device map hand each over to the program that belongs to the device, by a
 * tail call of `programs[key]`.
 *
 * Where the program returns what bpf_redirect_map says, and the flags are known, the tail call comes in the redirect's
 * place, which takes place where there is no other program. At any other bpf_redirect_map of the main function the key is
 * remembered, and where the program ends with XDP_REDIRECT it makes the tail call; where there is no other program,
 * XDP_REDIRECT is returned as before. With BPF_F_BROADCAST no key is remembered.
 *
 * Programs in `programs` must redirect by themselves: whether there is a redirect already depends on which of the two it
 * was. A frame that is handed over counts as redirected.
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
  const { stackBytes, facts, counters, programs, likelyKeys = [] } = options;
  const refusal = whyNotOurs(program, [programs, counters]);
  if (refusal !== undefined) return refusal;
  const calls = findRedirects(program);
  if (!Array.isArray(calls)) return calls;

  const body = program.insns.slice(0, mainFunctionEnd(program));
  const scratchBytes = counters === undefined ? 0 : COUNTING_STACK;
  const context = findKeeper(body, { stackBytes, scratchBytes });
  const key = context && findKeeper(body, { stackBytes, scratchBytes, taken: [context] });
  if (context === undefined || key === undefined) {
    return refuse('the main function leaves no registers or stack to keep the context and the key in');
  }
  const handing: Handing = {
    deviceMap,
    context,
    key,
    programs,
    likelyKeys,
    counting: counters === undefined ? undefined : { counters, saved: freeAtExit(body, [context, key]) },
  };
  const sites = calls.map((slot) => ({ slot, flags: facts?.calls.get(slot)?.constants.get(3) }));
  const inPlace = sites.filter((site): site is { slot: number; flags: bigint } => {
    const { slot, flags } = site;
    return flags !== undefined && flags <= ACTION_MASK && leadsToExit(program, slot);
  });
  const atExit = sites.filter((site) => !inPlace.some(({ slot }) => slot === site.slot));

  const editor = new ProgramEditor(program);
  const noKey = [...assemble(`r0 = ${NO_KEY}`), keepRegister(key, 0)];
  const prologue = [keepRegister(context, 1), ...(atExit.length > 0 ? noKey : [])];
  editor.insertBefore(0, { insns: prologue }, { jumps: 'past' });
  for (const { slot, flags } of inPlace) {
    editor.insertBefore(slot, { insns: assemble(insteadText(handing, Number(flags))) });
    if (handing.counting !== undefined)
      editor.insertAfter(slot, { insns: assemble(afterRedirectText(handing.counting)) });
  }
  for (const { slot, flags } of atExit) {
    // The call takes R0 and needs R1 to R3.
    const remember =
      flags !== undefined && (flags & BPF_F_BROADCAST) === 0n
        ? 'w0 = w2'
        : `w0 = ${NO_KEY}
         if r3 & ${BPF_F_BROADCAST} goto remember
         w0 = w2
       remember:`;
    editor.insertBefore(slot, { insns: [...assemble(remember), keepRegister(key, 0)] });
  }
  const text = [
    handing.counting === undefined ? '' : countingText(handing.counting.counters, handing.counting.saved),
    atExit.length > 0 ? atExitText(handing) : '',
    'exit',
  ].join('\n');
  replaceExits(editor, program, { insns: assemble(text) });
  return { ...rewritten(editor.finish(), facts), deviceMap };
}

/** What the tail call is made of. */
interface Handing {
  readonly deviceMap: number;
  readonly context: Keeper;
  readonly key: Keeper;
  readonly programs: number;
  readonly likelyKeys: readonly number[];
  readonly counting: Counting | undefined;
}

interface Counting {
  readonly counters: number;
  /** A callee-saved register. */
  readonly saved: number;
}

/** Falls through where there is no program for the key. */
function tailCallText({ context, key, programs, likelyKeys }: Handing): string {
  const direct = likelyKeys.map(
    (likely, index) => `
      if w3 != ${likely} goto other_${index}
      w3 = ${likely}
      call bpf_tail_call
      goto nobody
    other_${index}:`,
  );
  return `
      ${formatInsn([fetchKept(context, 1)], 0)}
      r2 = map[fd:${programs}]
      ${formatInsn([fetchKept(key, 3)], 0)}
      ${direct.join('')}
      call bpf_tail_call
    nobody:`;
}

/** In front of bpf_redirect_map, which finds its arguments as they were. All else is free, for the program is at its end. */
function insteadText(handing: Handing, flags: number): string {
  const { counting, key, deviceMap } = handing;
  return `
      w0 = w2
      ${formatInsn([keepRegister(key, 0)], 0)}
      ${counting === undefined ? '' : `w0 = ${XDP_REDIRECT}\n${countingText(counting.counters, counting.saved)}`}
      ${tailCallText(handing)}
      r1 = map[fd:${deviceMap}]
      ${formatInsn([fetchKept(key, 2)], 0)}
      w3 = ${flags}`;
}

/** Behind it: XDP_REDIRECT has been counted; what else it returns is counted at the exit, in its stead. */
function afterRedirectText({ counters, saved }: Counting): string {
  return `
      if w0 != ${XDP_REDIRECT} goto none
      exit
    none:
      w${saved} = w0
      *(u32 *)(r10 -4) = ${XDP_REDIRECT}
      r2 = r10
      r2 += -4
      r1 = map[fd:${counters}]
      call bpf_map_lookup_elem
      if r0 == 0 goto uncounted
      r1 = *(u64 *)(r0 +0)
      r1 += -1
      *(u64 *)(r0 +0) = r1
    uncounted:
      w0 = w${saved}`;
}

function atExitText(handing: Handing): string {
  return `
      if w0 != ${XDP_REDIRECT} goto out
      ${tailCallText(handing)}
      w0 = ${XDP_REDIRECT}
    out:`;
}

/** Whether nothing but jumps is between an insn and an exit. */
function leadsToExit({ insns }: Program, slot: number): boolean {
  let next = slot + 1;
  // A loop of jumps alone ends nowhere.
  for (let step = 0; step < insns.length; step++) {
    const insn = insns[next];
    if (insn === undefined) return false;
    if (insn.opcode === OP_EXIT) return true;
    if (insn.opcode === (BPF_JMP | BPF_JA)) next += 1 + insn.off;
    else if (insn.opcode === (BPF_JMP32 | BPF_JA)) next += 1 + insn.imm;
    else return false;
  }
  return false;
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
