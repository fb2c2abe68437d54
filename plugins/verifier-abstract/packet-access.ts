import { bytes } from './access.js';
import { boundAdvice } from './bound-advice.js';
import type { Simulation } from './simulation.js';
import { Kind, type Value } from './value.js';

export function checkPacketAccess(
  sim: Simulation,
  register: number,
  base: Value,
  fixed: number,
  size: number,
  write: boolean,
): void {
  const { range, scalar } = base;
  if (scalar.smin >= 0n && fixed >= 0 && range >= 0 && fixed + size <= range) return;
  const start = base.kind === Kind.Packet ? 'data' : 'data_meta';
  const end = base.kind === Kind.Packet ? 'data_end' : 'data';
  const variable = scalar.isConst ? '' : ' + the variable offset';
  const verb = write ? 'written' : 'read';
  if (scalar.smin < 0n) {
    sim.reject('packet-bounds', `R${register} may point ${-scalar.smin} bytes before ${start}`, {
      registers: [register],
      suggestion: boundAdvice(scalar, 'what was added', 'never negative'),
    });
  }
  if (fixed < 0) {
    sim.reject(
      'packet-bounds',
      `${bytes(size)} at ${start} - ${-fixed} would be ${verb}, before the start of the packet`,
      {
        registers: [register],
        suggestion:
          base.kind === Kind.Packet
            ? 'use data_meta for what is in front of the packet, or bpf_xdp_adjust_head to make room'
            : undefined,
      },
    );
  }
  const proved = range <= 0 ? 'no byte' : `only ${bytes(range)}`;
  const far = scalar.umax > 0xffffn && !scalar.isConst;
  const clue = copyClue(sim, register, base) ?? packetClue(sim, base);
  sim.reject(
    'packet-bounds',
    `${bytes(size)} at ${start}${variable} + ${fixed} would be ${verb}, but this path proved ${proved}`,
    {
      registers: [register],
      suggestion: far
        ? `the variable offset may be as large as ${scalar.umax}, and a comparison with ${end} proves nothing beyond 65535: mask it (offset &= 0x7fff) before adding it, then compare pointer + ${fixed + size} with ${end}`
        : `${clue}compare ${start}${variable} + ${fixed + size} against ${end} before this access${range > 0 ? ` (this path proved only ${bytes(range)})` : ''}, and leave if it is beyond: if (ptr + ${fixed + size} > ${end}) return XDP_DROP;`,
    },
  );
}

/** The comparison was made, but on a pointer that was computed a second time from the same parts, and is gone. */
function copyClue(sim: Simulation, register: number, base: Value): string | undefined {
  const { proved } = sim.state;
  if (proved === undefined || base.id === 0 || proved.value.id === base.id) return undefined;
  if (proved.value.kind !== base.kind || !proved.value.scalar.equals(base.scalar)) return undefined;
  // What is still there, packetClue can name.
  if (sim.state.top.regs.some(({ kind, id }) => kind === base.kind && id === proved.value.id))
    return undefined;
  return `insn ${proved.insn} compared R${proved.register}, a pointer that was added up on its own and is gone by now: it may have had another offset than R${register} as far as is tracked, so that what it proved does not count here. Add up one pointer, and compare and access that one, or `;
}

/** What the other packet pointers of the state tell of how the comparison may have gone wrong. */
function packetClue(sim: Simulation, base: Value): string {
  const { regs } = sim.state.top;
  for (let other = 0; other < 10; other++) {
    const value = regs[other]!;
    if (value.kind !== base.kind) continue;
    if (value.range < 0 && value.id === base.id) {
      return `this is the branch on which R${other} was found to lie past the end: are the branches of the comparison swapped? `;
    }
    if (value.range > 0 && value.id !== base.id && base.id !== 0) {
      return `the bytes that were proved belong to R${other}, which has another variable offset: access the pointer that was compared, or `;
    }
  }
  return '';
}
