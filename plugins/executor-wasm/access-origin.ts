import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ADD,
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_CALL,
  BPF_CALL_HELPER,
  BPF_CLASS_MASK,
  BPF_CMPXCHG,
  BPF_DW,
  BPF_FETCH,
  BPF_JMP,
  BPF_JMP32,
  BPF_LDX,
  BPF_MODE_MASK,
  BPF_MOV,
  BPF_OP_MASK,
  BPF_SIZE_MASK,
  BPF_SRC_MASK,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_W,
  BPF_X,
  FRAME_POINTER,
  OP_LDDW,
  REGISTER_COUNT,
} from '../../src/bpf/opcodes.js';
import { XDP_MD } from '../../src/bpf/xdp.js';
import type { BpfFunction } from './control-flow-graph.js';

/**
 * What a pointer most likely points to: the context, the packet, or the value that the lookup at a slot found. It decides
 * which bounds an access is compared with first, and nothing else: whoever relies on it for more than speed is wrong.
 */
export type Origin = 'context' | 'packet' | number | undefined;

export interface Origins {
  readonly registers: Origin[];
  /** Of 8-byte cells of the function's own stack frame, by their offset from R10. */
  readonly spilled: Map<number, Origin>;
}

export interface FoundOrigins {
  /** At the start of each block; undefined for a block that no path reaches. */
  readonly before: readonly (Origins | undefined)[];
  /** Of lookups whose values meet in a register, one that stands for all of them. */
  representative(lookup: number): number;
}

/** Finds the origins of a function whose registers begin with those of `entry`. */
export function findOrigins(
  insns: readonly Insn[],
  { blocks }: BpfFunction,
  successors: readonly (readonly number[])[],
  entry: readonly Origin[],
): FoundOrigins {
  const meets = new Map<number, number>();
  const representative = (lookup: number): number => {
    let at = lookup;
    for (let next = meets.get(at); next !== undefined; next = meets.get(at)) at = next;
    return at;
  };
  /** What is left of an origin where another arrives. */
  const join = (known: Origin, arriving: Origin): Origin => {
    if (known === arriving) return known;
    if (typeof known !== 'number' || typeof arriving !== 'number') return undefined;
    const [to, from] = [representative(known), representative(arriving)];
    if (to !== from) meets.set(from, to);
    return known;
  };
  const before = new Array<Origins | undefined>(blocks.length).fill(undefined);
  before[0] = { registers: [...entry], spilled: new Map() };
  const pending = [0];
  for (let index = pending.pop(); index !== undefined; index = pending.pop()) {
    const block = blocks[index]!;
    const after = copyOrigins(before[index]!);
    for (let slot = block.start; slot < block.end; slot++) {
      stepOrigins(insns, slot, after);
      if (insns[slot]!.opcode === OP_LDDW) slot++;
    }
    for (const next of successors[index]!) {
      const known = before[next];
      if (known === undefined) before[next] = copyOrigins(after);
      else if (!joinInto(known, after, join)) continue;
      pending.push(next);
    }
  }
  return { before, representative };
}

export function copyOrigins({ registers, spilled }: Origins): Origins {
  return { registers: [...registers], spilled: new Map(spilled) };
}

/** Applies one insn. */
export function stepOrigins(insns: readonly Insn[], slot: number, { registers, spilled }: Origins): void {
  const insn = insns[slot]!;
  const { opcode, dst, src, off } = insn;
  switch (opcode & BPF_CLASS_MASK) {
    case BPF_ALU64:
      registers[dst] = sumOrigin(insn, registers);
      return;
    case BPF_LDX:
      if (src === FRAME_POINTER && (opcode & BPF_SIZE_MASK) === BPF_DW) registers[dst] = spilled.get(off);
      else registers[dst] = registers[src] === 'context' ? fieldOrigin(insn) : undefined;
      return;
    case BPF_STX:
      if ((opcode & BPF_MODE_MASK) === BPF_ATOMIC) {
        if ((insn.imm & BPF_FETCH) !== 0) registers[insn.imm === BPF_CMPXCHG ? 0 : src] = undefined;
      } else if (dst === FRAME_POINTER && (opcode & BPF_SIZE_MASK) === BPF_DW) {
        if (registers[src] === undefined) spilled.delete(off);
        else spilled.set(off, registers[src]);
      }
      return;
    case BPF_JMP:
      if ((opcode & BPF_OP_MASK) !== BPF_CALL) return;
      registers.fill(undefined, 0, 6);
      if (src === BPF_CALL_HELPER && insn.imm === BPF_FUNC.map_lookup_elem) registers[0] = slot;
      return;
    case BPF_JMP32:
    case BPF_ST:
      return;
    case BPF_ALU:
    default:
      registers[dst] = undefined;
  }
}

/** Moves keep the origin, and so do sums with what is no pointer. */
function sumOrigin({ opcode, dst, src, off }: Insn, registers: readonly Origin[]): Origin {
  const other = (opcode & BPF_SRC_MASK) === BPF_X ? registers[src] : undefined;
  switch (opcode & BPF_OP_MASK) {
    case BPF_MOV:
      return off === 0 ? other : undefined;
    case BPF_ADD:
      return registers[dst] ?? other;
    case BPF_SUB:
      return other === undefined ? registers[dst] : undefined;
    default:
      return undefined;
  }
}

/** data, data_end and data_meta of the context. */
function fieldOrigin({ opcode, off }: Insn): Origin {
  return (opcode & BPF_SIZE_MASK) === BPF_W && off >= 0 && off <= XDP_MD.data_meta ? 'packet' : undefined;
}

/** Joins what arrives into what is known; whether that changed it. */
function joinInto(
  known: Origins,
  arriving: Origins,
  join: (known: Origin, arriving: Origin) => Origin,
): boolean {
  let changed = false;
  for (let r = 0; r < REGISTER_COUNT; r++) {
    const joined = join(known.registers[r], arriving.registers[r]);
    if (joined === known.registers[r]) continue;
    known.registers[r] = joined;
    changed = true;
  }
  for (const [off, origin] of known.spilled) {
    if (join(origin, arriving.spilled.get(off)) !== undefined) continue;
    known.spilled.delete(off);
    changed = true;
  }
  return changed;
}
