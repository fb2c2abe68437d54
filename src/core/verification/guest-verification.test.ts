import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { OffloadRig, u32Key } from '../../conformance/offload/offload-rig.js';
import type { VerificationPlan } from '../contract/plan.js';
import type { Verifier } from '../contract/verifier.js';
import { GuestVerification } from './guest-verification.js';
import type { JudgeRecipe } from './judge-messages.js';
import { testingParty } from '../offload/testing-party.js';

const library = new URL('../../../dist/src/index.js', import.meta.url).href;
const PLAN: VerificationPlan = { milliseconds: 20_000, memoryMiB: 128, atOnce: 2, atOncePerGuest: 1 };

/** Takes for ever over programs of more than two insns, and does not listen. */
let recipe: JudgeRecipe;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'verification-'));
  const path = join(folder, 'verifier.mjs');
  writeFileSync(
    path,
    `import { definePlugin, VERIFIER } from ${JSON.stringify(library)};
     export default definePlugin({
       name: 'slow', version: '1.0.0', role: 'verifier', api: '^2', description: 'for a test',
       configSchema: { type: 'object' },
       register(scope) {
         scope.bindValue(VERIFIER, {
           name: 'slow',
           verify: async ({ program }) => {
             if (program.insns.length > 2) for (;;);
             return { accepted: true, verifier: 'slow', statistics: { processedInsns: 2, peakStates: 0, totalStates: 0 } };
           },
         });
       },
     });`,
  );
  recipe = { rule: 'all', verifiers: [{ module: pathToFileURL(path).href, config: {} }] };
});
afterAll(() => rmSync(folder, { recursive: true }));

function guest(name: string, verification: GuestVerification, onCost?: (ms: number) => void): OffloadRig {
  const host = testingParty(`host for ${name}`);
  const verifier = verification.for(name, host.verifier, onCost);
  return new OffloadRig({ name, host: { ...host, verifier }, guest: testingParty(name) });
}

const set = (text: string) =>
  ({ kind: 'set-offload', insns: encodeInsns(assemble(text)), gplCompatible: true }) as const;
const GOOD = set('r0 = 2\nexit');
const SLOW = set('r0 = 1\nr0 = 2\nexit');

/** What became of a promise so far. */
function watch<T>(promise: Promise<T>): { value: T | undefined } {
  const watched: { value: T | undefined } = { value: undefined };
  void promise.then((value) => (watched.value = value));
  return watched;
}

describe('verifying on behalf of guests', () => {
  it('does not keep other guests waiting: their commands are answered, their programs judged', async () => {
    const verification = new GuestVerification(PLAN, recipe, new AbortController().signal);
    const [hostile, quiet] = [guest('hostile', verification), guest('quiet', verification)];
    const judged = hostile.send(SLOW);
    const answer = watch(judged);
    const map = await quiet.createArray();
    for (let i = 0; i < 100; i++) {
      const lookup = { kind: 'lookup-elem', handle: map, key: u32Key(0), valueSize: 8 } as const;
      expect(await quiet.send(lookup)).toMatchObject({ kind: 'value' });
    }
    expect(await quiet.send(GOOD)).toEqual({ kind: 'done' });
    expect(answer.value).toBeUndefined();
    await hostile.device.reset();
    expect(await judged).toMatchObject({ kind: 'error' });
  });

  it('has as many under way as the host says, for one guest and in all', async () => {
    const verification = new GuestVerification(
      { ...PLAN, milliseconds: 3_000 },
      recipe,
      new AbortController().signal,
    );
    const [first, second] = [guest('one', verification), guest('one', verification)];
    const [other, another] = [guest('other', verification), guest('another', verification)];
    const slow = first.send(SLOW);
    const order: string[] = [];
    const done = Promise.all([
      slow.then(() => order.push('slow')),
      second.send(GOOD).then(() => order.push("the guest's second")),
      other.send(SLOW).then(() => order.push('the other slow')),
      another.send(GOOD).then(() => order.push('the third guest')),
    ]);
    await done;
    // Two are under way for the whole of their time; nobody else before one of them has ended.
    expect(order).toHaveLength(4);
    expect(['slow', 'the other slow']).toContain(order[0]);
    expect(order.indexOf("the guest's second")).toBeGreaterThan(order.indexOf('slow'));
    expect(verification.cost).toMatchObject({ programs: 4, outOfTime: 2, outOfMemory: 0, cancelled: 0 });
  });

  it('ends with a reset, which does not wait; nothing of the program is left', async () => {
    const verification = new GuestVerification(PLAN, recipe, new AbortController().signal);
    const rig = guest('guest', verification);
    expect(await rig.send(GOOD)).toEqual({ kind: 'done' });
    const judged = rig.send(SLOW);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await rig.device.reset();
    expect(rig.place.program).toBeUndefined();
    expect(rig.device.objectCount).toBe(0);
    await judged;
    expect(await rig.send(GOOD)).toEqual({ kind: 'done' });
    await rig.device.idle();
    expect(verification.cost).toMatchObject({ programs: 2, cancelled: 1 });
    expect(rig.accounts.usageOf('guest')).toMatchObject({ programs: 1 });
    expect(rig.device.statistics.refusals).toMatchObject({ stale: 1 });
  });

  it('says what CPU time each program took, also of one that was given up or ended by the host', async () => {
    const costs: number[] = [];
    const verification = new GuestVerification(
      { ...PLAN, milliseconds: 500 },
      recipe,
      new AbortController().signal,
    );
    const rig = guest('guest', verification, (milliseconds) => costs.push(milliseconds));
    expect(await rig.send(GOOD)).toEqual({ kind: 'done' });
    // The start of the process, and the program.
    expect(costs).toHaveLength(2);
    expect(costs[0]).toBeGreaterThan(0);
    expect(costs[1]).toBeLessThan(200);
    // Ended at the limit of 500 ms.
    expect(await rig.send(SLOW)).toMatchObject({ kind: 'error' });
    expect(costs).toHaveLength(3);
    expect(costs[2]).toBeGreaterThan(400);
    expect(costs[2]).toBeLessThan(1_000);
    // Resets are no way to have it for nothing. A process that is ready first.
    expect(await rig.send(GOOD)).toEqual({ kind: 'done' });
    const judged = rig.send(SLOW);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await rig.device.reset();
    await judged;
    await rig.device.idle();
    expect(costs).toHaveLength(6);
    expect(costs[5]).toBeGreaterThan(20);
  });

  it('of a verifier that works only in its run tells it the limits and when to stop', async () => {
    const verification = new GuestVerification(PLAN, undefined, new AbortController().signal);
    const asked: unknown[] = [];
    const own: Verifier = {
      name: 'own',
      verify: async ({ limits, signal }) => {
        asked.push(limits);
        if (asked.length > 1) await new Promise((_, reject) => signal!.addEventListener('abort', reject));
        return {
          accepted: true,
          verifier: 'own',
          statistics: { processedInsns: 2, peakStates: 0, totalStates: 0 },
        };
      },
    };
    const host = { ...testingParty('host'), verifier: verification.for('guest', own) };
    const rig = new OffloadRig({ host, guest: testingParty('guest') });
    expect(await rig.send(GOOD)).toEqual({ kind: 'done' });
    expect(asked).toEqual([{ milliseconds: 20_000, memoryMiB: 128 }]);
    const judged = rig.send(SLOW);
    await new Promise((resolve) => setTimeout(resolve, 10));
    await rig.device.reset();
    await judged;
    await rig.device.idle();
    expect(asked).toHaveLength(2);
    expect(verification.cost).toMatchObject({ programs: 1, cancelled: 1 });
  });
});
