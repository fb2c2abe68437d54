import { assemble } from '../../bpf/assembler.js';
import { decodeInsns, type Insn } from '../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { VerifierMap } from '../../core/contract/verifier.js';
import type { SeededRandom } from './seeded-random.js';

/** The handle and the attributes of the one map that the suite's programs may use. */
export const CONFORMANCE_MAP_HANDLE = 7;
export const CONFORMANCE_MAP: VerifierMap = {
  name: 'counters',
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 1,
  flags: 0,
};

/** Programs that every verifier has to let pass: safe, and nothing in them is hard to see. */
export const VALID_PROGRAMS: Readonly<Record<string, string>> = {
  'the shortest program': 'r0 = 2\nexit',
  'a branch whose paths meet': 'r2 = *(u32 *)(r1 +12)\nr0 = 1\nif r2 > 5 goto out\nr0 = 2\nout:\nexit',
  'a bounds-checked packet access': `
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    r0 = 1
    if r4 > r3 goto out
    r5 = *(u8 *)(r2 +12)
    r0 = 2
  out:
    exit`,
  'a checked map lookup': `
    r1 = 0
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[counters]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
  out:
    r0 = 2
    exit`,
  'a local call': 'call helper\nr0 = 2\nexit\nhelper:\nr0 = 0\nexit',
};

/** Random slots: bytes without sense, or a mutation of a program that makes some. */
export function randomProgram(random: SeededRandom): Insn[] {
  if (random.chance(30)) return decodeInsns(random.bytes(8 * (1 + random.below(24))));
  const text = random.pick(Object.values(VALID_PROGRAMS));
  const insns = assemble(text, { maps: new Map([[CONFORMANCE_MAP.name, CONFORMANCE_MAP_HANDLE]]) });
  for (let mutations = random.below(4); mutations > 0; mutations--) {
    const index = random.below(insns.length);
    const insn = insns[index]!;
    const change = random.below(7);
    if (change === 0) insns[index] = { ...insn, opcode: random.below(256) };
    else if (change === 1) insns[index] = { ...insn, dst: random.below(16) };
    else if (change === 2) insns[index] = { ...insn, src: random.below(16) };
    else if (change === 3) insns[index] = { ...insn, off: random.below(65_536) - 32_768 };
    else if (change === 4) insns[index] = { ...insn, imm: random.u32() | 0 };
    else if (change === 5) insns.splice(index, 1);
    else insns.splice(index, 0, random.pick(insns));
    if (insns.length === 0) return insns;
  }
  return insns;
}
