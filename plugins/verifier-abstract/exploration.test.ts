import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { Budget, BYTES_OF } from './budget.js';
import { DEFAULT_CONFIG } from './config.js';
import { analyseControlFlow } from './control-flow.js';
import { Exploration } from './exploration.js';
import { Simulation } from './simulation.js';

/** Explores all of a program; the most bytes that were counted at a time, and what is left of them. */
function explore(text: string) {
  const program = {
    name: 'p',
    type: 6,
    attachType: 'BPF_XDP' as const,
    gplCompatible: true,
    insns: assemble(text),
  };
  const flow = analyseControlFlow(program.insns);
  const budget = new Budget(DEFAULT_CONFIG);
  let most = 0;
  const observer = {
    before: () => {
      most = Math.max(most, budget.storedBytes);
    },
  };
  const exploration = new Exploration(flow, budget, undefined, { observer });
  exploration.attach(new Simulation(program, flow, new Map(), DEFAULT_CONFIG, exploration));
  while (exploration.run(1000));
  return { exploration, budget, most };
}

describe('memory that an exploration counts', () => {
  it('is that of branches while they wait', () => {
    const { exploration, budget, most } = explore(
      'r1 = *(u32 *)(r1 +12)\nr0 = 1\nif r1 > 3 goto +1\nr0 = 2\nexit',
    );
    expect(exploration.totalStates).toBe(0);
    expect(most).toBe(BYTES_OF.branch);
    expect(budget.storedBytes).toBe(0);
  });

  it('is that of states, and less once all paths from them have ended', () => {
    const { exploration, budget } = explore(`${'r0 = 2\n'.repeat(9)}goto a\na: goto b\nb: exit`);
    expect(exploration.totalStates).toBe(1);
    // Of its one state the only demand is on R0.
    expect(budget.storedBytes).toBe(BYTES_OF.settled + BYTES_OF.place + BYTES_OF.demand);
  });

  it('is no more that of states that were let go', () => {
    const { exploration, budget } = explore(
      'r0 = 2\nr1 = 0\nagain: r1 += 1\nr2 = r1\nif r2 != 20000 goto again\nexit',
    );
    const { totalStates, peakStates } = exploration;
    expect(totalStates).toBeGreaterThan(5 * peakStates);
    expect(budget.storedBytes).toBeLessThan(
      peakStates * (BYTES_OF.state + BYTES_OF.frame + 10 * BYTES_OF.demand),
    );
    expect(budget.storedBytes).toBeGreaterThanOrEqual(0);
  });
});
