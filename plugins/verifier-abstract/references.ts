import { MAX_BPF_STACK, MAX_CALL_FRAMES } from '../../src/bpf/opcodes.js';
import type { Simulation } from './simulation.js';
import { RELEASED } from './value.js';

/**
 * Registers and stack slots of all frames. Of more references, one has no pointer left that it could be given back by, so
 * that the program would be rejected in the end; and each state has a list of its own.
 */
export const MOST_REFERENCES = MAX_CALL_FRAMES * (10 + MAX_BPF_STACK / 8);

export function rejectHeldReferences(sim: Simulation, event: string): void {
  const [held] = sim.state.references;
  if (held === undefined) return;
  sim.reject(
    'reference-leak',
    `${event}, but ${held.what} that insn ${held.insn} acquired is not given back on this path`,
    {
      suggestion: `${held.what.includes('ring buffer') ? 'call bpf_ringbuf_submit or bpf_ringbuf_discard' : 'call bpf_sk_release'} on every path after the check for NULL`,
    },
  );
}

/** The number of a new reference; the pointer that holds it has it as `id` too, one made from that only as `ref`. */
export function acquire(sim: Simulation, what: string): number {
  if (sim.state.references.length >= MOST_REFERENCES) {
    rejectHeldReferences(sim, `${MOST_REFERENCES} are held, more than there is room for pointers to them`);
  }
  const id = sim.newId();
  sim.state.references = [...sim.state.references, { id, insn: sim.pc, what }];
  return id;
}

/** Everything that came with the reference is void. */
export function release(sim: Simulation, ref: number): void {
  sim.state.references = sim.state.references.filter((reference) => reference.id !== ref);
  sim.updateAll((candidate) => (candidate.ref === ref ? RELEASED : undefined), undefined);
}
