import { Type, type Static } from '@sinclair/typebox';
import type { LineInfo } from '../../src/bpf/btf/btf-ext.js';
import { disassemble, formatInsn } from '../../src/bpf/disassembler.js';
import {
  helperId,
  helperName,
  knownHelperName,
  HELPER_COUNT,
  MISSING_FUNCTION,
} from '../../src/bpf/helper-ids.js';
import { findInvalidInsn } from '../../src/bpf/insn-validity.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE, mapTypeName } from '../../src/bpf/map-spec.js';
import * as op from '../../src/bpf/opcodes.js';
import type {
  Rejection,
  Verification,
  Verifier,
  VerifierMap,
  VerifierStatistics,
  VerifyRequest,
} from '../../src/core/contract/verifier.js';
import { checkControlFlow, type Problem } from './function-graph.js';
import { STRUCTURAL_CODES } from './rejection-codes.js';

export const StructuralConfig = Type.Object(
  {
    'max-insns': Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      default: 1_000_000,
      description: "longest program in 8-byte slots; the default is the kernel's limit",
      examples: [4096],
    }),
    loops: Type.Unsafe<'reject' | 'allow'>({
      type: 'string',
      enum: ['reject', 'allow'],
      default: 'reject',
      description:
        'what to do about a jump back: this verifier cannot tell whether the loop ends, so allow it only for programs that are trusted',
    }),
  },
  { additionalProperties: false, description: 'limits of the structural verifier' },
);
export type StructuralConfig = Static<typeof StructuralConfig>;

/** Insns from which on a pass over them takes so long that others have their turn behind it. */
const LONG_PROGRAM = 1024;

/**
 * Judges a program by its form alone. It simulates nothing, so it knows nothing of values: pointers, packet
 * bounds, uninitialised registers and what helpers are passed are not looked at. What it lets pass may still
 * fault when it runs, and an executor that relies on a verifier must be given one that proves more.
 *
 * Total: whatever the insns are, there is an answer, and it takes time linear in their number. Others have their turn of
 * the event loop between its passes over a long program.
 */
export class StructuralVerifier implements Verifier {
  readonly name = 'structural';

  constructor(readonly config: StructuralConfig = { 'max-insns': 1_000_000, loops: 'reject' }) {}

  async verify(request: VerifyRequest): Promise<Verification> {
    const { insns } = request.program;
    const statistics: VerifierStatistics = { processedInsns: insns.length, peakStates: 0, totalStates: 0 };
    const log = request.log === true ? { log: disassemble(insns, { mapName: namesOf(request) }) } : {};
    const passes = this.#check(request);
    let pass = passes.next();
    for (; pass.done !== true; pass = passes.next()) {
      if (insns.length > LONG_PROGRAM) await new Promise((resolve) => setImmediate(resolve));
    }
    const problem = pass.value;
    if (problem === undefined) return { accepted: true, verifier: this.name, statistics, ...log };
    const { code, reason, insn } = problem;
    const rejection: Rejection = {
      accepted: false,
      verifier: this.name,
      code,
      reason,
      insn,
      suggestion: STRUCTURAL_CODES[code].suggestion,
      statistics,
      ...log,
    };
    if (insn === undefined) return rejection;
    return {
      ...rejection,
      disassembly: formatInsn(insns, insn, { mapName: namesOf(request) }),
      line: lineOf(request.program.debug?.lines, insn),
    };
  }

  /** In passes over the program, all of which take about as long. */
  *#check({ program, maps }: VerifyRequest): Generator<void, Problem | undefined> {
    const { insns, gplCompatible } = program;
    if (insns.length === 0) return { code: 'empty-program', reason: 'the program has no insns' };
    const limit = this.config['max-insns'];
    if (insns.length > limit) {
      return { code: 'program-too-long', reason: `${insns.length} insns exceed the limit of ${limit}` };
    }
    const invalid = findInvalidInsn(insns);
    if (invalid !== undefined) return { code: 'insn-invalid', ...invalid };
    yield;
    for (let index = 0; index < insns.length; index++) {
      const insn = insns[index]!;
      const problem = isLddw(insn)
        ? checkReference(insn, insns[index + 1]!, maps)
        : (checkCall(insn, gplCompatible) ?? checkStack(insn) ?? checkConstant(insn));
      if (problem !== undefined) return { ...problem, insn: index };
      if (isLddw(insn)) index++;
    }
    yield;
    return checkControlFlow(insns, this.config.loops === 'allow');
  }
}

function checkReference(
  insn: Insn,
  second: Insn,
  maps: ReadonlyMap<number, VerifierMap>,
): Problem | undefined {
  switch (insn.src) {
    case op.BPF_PSEUDO_MAP_FD:
    case op.BPF_PSEUDO_MAP_VALUE: {
      const map = maps.get(insn.imm);
      if (map === undefined) return { code: 'map-unknown', reason: `handle ${insn.imm} names no map` };
      return insn.src === op.BPF_PSEUDO_MAP_VALUE ? checkMapValue(map, second.imm >>> 0) : undefined;
    }
    case op.BPF_PSEUDO_BTF_ID:
      return { code: 'reference-unsupported', reason: `BTF id ${insn.imm} names a variable of one kernel` };
    case op.BPF_PSEUDO_MAP_IDX:
    case op.BPF_PSEUDO_MAP_IDX_VALUE:
      return {
        code: 'reference-unsupported',
        reason: `map index ${insn.imm} needs a list of maps beside the program`,
      };
    default:
      return undefined;
  }
}

/** As the kernel's array_map_direct_value_addr. */
function checkMapValue(map: VerifierMap, offset: number): Problem | undefined {
  if (map.type !== BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY || map.maxEntries !== 1) {
    return {
      code: 'map-value',
      reason: `${map.name} (${mapTypeName(map.type)} of ${map.maxEntries}) has no single value to point into`,
    };
  }
  if (offset >= map.valueSize) {
    return {
      code: 'map-value',
      reason: `offset ${offset} is past the ${map.valueSize} bytes of ${map.name}`,
    };
  }
  return undefined;
}

/**
 * Helpers with `gpl_only` set in the kernel's prototypes, as far as they can be called by number from XDP or
 * from the programs that people confuse with it.
 */
const GPL_ONLY: ReadonlySet<number | undefined> = new Set(
  [
    'bpf_probe_read',
    'bpf_trace_printk',
    'bpf_perf_event_read',
    'bpf_perf_event_output',
    'bpf_get_stackid',
    'bpf_get_current_task',
    'bpf_probe_write_user',
    'bpf_probe_read_str',
    'bpf_perf_event_read_value',
    'bpf_perf_prog_read_value',
    'bpf_override_return',
    'bpf_get_stack',
    'bpf_probe_read_user',
    'bpf_probe_read_kernel',
    'bpf_probe_read_user_str',
    'bpf_probe_read_kernel_str',
    'bpf_xdp_output',
    'bpf_skb_output',
    'bpf_snprintf_btf',
    'bpf_snprintf',
    'bpf_trace_vprintk',
    'bpf_timer_init',
    'bpf_timer_set_callback',
    'bpf_timer_start',
    'bpf_timer_cancel',
  ].map(helperId),
);

function checkCall(insn: Insn, gplCompatible: boolean): Problem | undefined {
  if (insn.opcode !== op.OP_CALL) return undefined;
  if (insn.src === op.BPF_PSEUDO_KFUNC_CALL) {
    return { code: 'kfunc-call', reason: `call of the kernel function with BTF id ${insn.imm}` };
  }
  if (insn.src !== op.BPF_CALL_HELPER) return undefined;
  // Whether a path comes there depends on values; a run that does ends.
  if (insn.imm === MISSING_FUNCTION) return undefined;
  // 0 and the last are markers of the enumeration.
  if (insn.imm === 0 || insn.imm >= HELPER_COUNT - 1 || knownHelperName(insn.imm) === undefined) {
    return { code: 'helper-unknown', reason: `there is no helper ${insn.imm}` };
  }
  if (!gplCompatible && GPL_ONLY.has(insn.imm)) {
    return {
      code: 'helper-gpl-only',
      reason: `${helperName(insn.imm)} needs a GPL-compatible license, which the program does not have`,
    };
  }
  return undefined;
}

const SIZE_BYTES: Readonly<Record<number, number>> = {
  [op.BPF_B]: 1,
  [op.BPF_H]: 2,
  [op.BPF_W]: 4,
  [op.BPF_DW]: 8,
};

/** Accesses whose base register is the frame pointer itself; pointers derived from it are not followed. */
function checkStack(insn: Insn): Problem | undefined {
  const insnClass = insn.opcode & op.BPF_CLASS_MASK;
  const base =
    insnClass === op.BPF_LDX
      ? insn.src
      : insnClass === op.BPF_ST || insnClass === op.BPF_STX
        ? insn.dst
        : undefined;
  if (base !== op.FRAME_POINTER) return undefined;
  const size = SIZE_BYTES[insn.opcode & op.BPF_SIZE_MASK]!;
  if (insn.off >= -op.MAX_BPF_STACK && insn.off + size <= 0) return undefined;
  return {
    code: 'stack-bounds',
    reason: `access of ${size} bytes at r10${insn.off < 0 ? '' : '+'}${insn.off} is outside the stack frame of ${op.MAX_BPF_STACK} bytes`,
  };
}

function checkConstant(insn: Insn): Problem | undefined {
  const insnClass = insn.opcode & op.BPF_CLASS_MASK;
  const is64 = insnClass === op.BPF_ALU64;
  if ((insnClass !== op.BPF_ALU && !is64) || (insn.opcode & op.BPF_SRC_MASK) !== op.BPF_K) return undefined;
  switch (insn.opcode & op.BPF_OP_MASK) {
    case op.BPF_DIV:
    case op.BPF_MOD:
      return insn.imm === 0 ? { code: 'division-by-zero', reason: 'division by the constant 0' } : undefined;
    case op.BPF_LSH:
    case op.BPF_RSH:
    case op.BPF_ARSH: {
      const width = is64 ? 64 : 32;
      return insn.imm < 0 || insn.imm >= width
        ? { code: 'shift-range', reason: `shift of a ${width}-bit number by ${insn.imm}` }
        : undefined;
    }
    default:
      return undefined;
  }
}

function namesOf(request: VerifyRequest): (handle: number) => string | undefined {
  return (handle) => request.maps.get(handle)?.name;
}

/** The source line that made an insn: the last one that starts at or before it. */
function lineOf(lines: readonly LineInfo[] | undefined, insn: number): LineInfo | undefined {
  return lines?.filter((line) => line.insn <= insn).at(-1);
}
