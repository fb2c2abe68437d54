import { describe, expect, it } from 'vitest';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import type { Verifier } from '../contract/verifier.js';
import { testingParty, type TestingParty } from './testing-party.js';

/** A verifier that is no step of its own. */
const ACCEPTS: Verifier = {
  name: 'accepts',
  verify: async ({ program }) => ({
    accepted: true,
    verifier: 'accepts',
    statistics: { processedInsns: program.insns.length, peakStates: 0, totalStates: 0 },
  }),
};

function party(name: string): TestingParty {
  return testingParty(name, { verifier: ACCEPTS });
}

/** `r0 = 0`, again and again, and exit. */
function programOf(length: number): Uint8Array {
  const insns = new Uint8Array(8 * length);
  for (let at = 0; at < insns.length; at += 8) insns[at] = 0xb7;
  insns[insns.length - 8] = 0x95;
  return insns;
}

/** Runs `work` with each turn of the event loop until what was started settles: how often. */
async function turnsUntil(start: () => Promise<unknown>, work: (turn: number) => void): Promise<number> {
  let turns = 0;
  let isDone = false;
  const next = (): void => {
    if (isDone) return;
    work(++turns);
    setImmediate(next);
  };
  setImmediate(next);
  await start();
  isDone = true;
  return turns;
}

describe('a long program', () => {
  it('is loaded in steps, between which others have their turn', async () => {
    const g = new BpfOffloadGuest({ host: party('host'), guest: party('guest') });
    expect(
      await turnsUntil(
        () => g.program(programOf(65_536)),
        () => undefined,
      ),
    ).toBe(3);
    expect(g.device.objectCount).toBe(1);
  });

  it.each([1, 2, 3])('leaves nothing of itself when the device is reset at turn %i', async (at) => {
    const g = new BpfOffloadGuest({ host: party('host'), guest: party('guest') });
    const load = { kind: 'load-program', name: '', gplCompatible: true, frags: false } as const;
    let reset: Promise<void> | undefined;
    await turnsUntil(
      async () => {
        const answer = await g.send({ ...load, insns: programOf(65_536) });
        expect(answer).toMatchObject({ kind: 'error' });
      },
      (turn) => {
        if (turn === at) reset = g.device.reset();
      },
    );
    await reset;
    await g.device.idle();
    expect([g.device.objectCount, g.accounts.guests]).toEqual([0, []]);
  });
});
