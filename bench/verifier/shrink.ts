import { disassemble } from '../../src/bpf/disassembler.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import type { GeneratedCase } from '../../src/conformance/program-generator/index.js';
import { shrinkProgram } from '../../plugins/executor-differential/shrink-program.js';
import { withInsns } from './judges.js';

/** Candidates that are tried before the smallest so far has to do. */
const MAX_CANDIDATES = 3000;

/** Makes the first program of a case smaller as long as `holds` does. */
export async function shrinkCase(
  generated: GeneratedCase,
  holds: (smaller: GeneratedCase) => Promise<boolean>,
): Promise<GeneratedCase> {
  let best = generated;
  const alone = {
    ...generated,
    programs: generated.programs.slice(0, 1),
    maps: generated.maps.map((map) => ({ ...map, programs: undefined })),
  };
  if (generated.programs.length > 1 && (await holds(alone))) best = alone;
  const candidates = shrinkProgram(best.programs[0]!.insns);
  let next = candidates.next();
  for (let tried = 0; next.done !== true && tried < MAX_CANDIDATES; tried++) {
    const smaller = withInsns(best, next.value);
    const held = await holds(smaller);
    if (held) best = smaller;
    next = candidates.next(held);
  }
  return dropInsns(best, holds);
}

/** Takes out runs of insns, ever shorter ones, as long as `holds` does: those too whose results are not used. */
async function dropInsns(
  generated: GeneratedCase,
  holds: (smaller: GeneratedCase) => Promise<boolean>,
): Promise<GeneratedCase> {
  let best = generated;
  const nops = new Set<number>();
  best.programs[0]!.insns.forEach((insn, slot) => {
    if (insn.opcode === (op.BPF_JMP | op.BPF_JA) && insn.off === 0) nops.add(slot);
  });
  const compact = withInsns(best, withoutSlots(best.programs[0]!.insns, nops));
  if (await holds(compact)) best = compact;
  for (let size = best.programs[0]!.insns.length >> 1; size > 0; size >>= 1) {
    for (let start = 0; start < best.programs[0]!.insns.length;) {
      const { insns } = best.programs[0]!;
      const slots = new Set<number>();
      for (let slot = start; slot < start + size && slot < insns.length; slot++) {
        slots.add(slot);
        // Both slots of an lddw or none.
        if (isLddw(insns[slot])) slots.add(slot + 1);
      }
      if (insns[start]!.opcode === 0) slots.delete(start);
      const smaller = withInsns(best, withoutSlots(insns, slots));
      if (slots.size > 0 && slots.size < insns.length && (await holds(smaller))) best = smaller;
      else start += size;
    }
  }
  return best;
}

/** Jumps and calls to a slot that is gone lead to the next one that is left. */
function withoutSlots(insns: readonly Insn[], gone: ReadonlySet<number>): readonly Insn[] {
  const places: number[] = [];
  let left = 0;
  for (let slot = 0; slot <= insns.length; slot++) {
    places.push(left);
    if (!gone.has(slot)) left++;
  }
  return insns.flatMap((insn, slot) => {
    if (gone.has(slot)) return [];
    const { opcode, src, off, imm } = insn;
    const moved = (distance: number): number => {
      const target = places[Math.min(Math.max(slot + 1 + distance, 0), insns.length)]!;
      return target - places[slot]! - 1;
    };
    const insnClass = opcode & op.BPF_CLASS_MASK;
    const isLocal =
      (opcode === op.OP_CALL && src === op.BPF_PSEUDO_CALL) || (isLddw(insn) && src === op.BPF_PSEUDO_FUNC);
    if (isLocal || opcode === (op.BPF_JMP32 | op.BPF_JA)) return [{ ...insn, imm: moved(imm) }];
    const isJump = insnClass === op.BPF_JMP || insnClass === op.BPF_JMP32;
    if (!isJump || opcode === op.OP_CALL || opcode === op.OP_EXIT) return [insn];
    return [{ ...insn, off: moved(off) }];
  });
}

/** Program, maps and frames as text that can be put into a report. */
export function describeCase(
  { seed, programs, maps, frames, mutations }: GeneratedCase,
  frame?: number,
): string {
  return [
    `seed ${seed}${mutations.length > 0 ? `, mutated: ${mutations.join('; ')}` : ''}`,
    ...programs.map(({ name, insns }) => `program ${name}:\n${disassemble(insns)}`),
    ...maps.map(({ handle, name, attributes }) => `map ${handle} ${name} ${JSON.stringify(attributes)}`),
    ...(frame === undefined ? [] : [`packet: ${Buffer.from(frames[frame]!.packet).toString('hex')}`]),
  ].join('\n');
}
