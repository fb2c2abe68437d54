import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../clock/virtual-clock.js';
import { CommandTurns } from './command-turns.js';

const COMMAND_COST = 5_000_000;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Two guests: one that has a command again as soon as it is answered, and one that asks once, in the middle of a command. */
async function flooded(service: 'turns' | 'queue', commands: number) {
  const clock = new VirtualClock();
  const turns = new CommandTurns(service, COMMAND_COST);
  const order: string[] = [];
  let waited = -1;
  const flood = async (): Promise<void> => {
    while (turns.isTimed) {
      await turns.take('loud', 0, () => {
        order.push('loud');
        return new Uint8Array(1);
      });
    }
  };
  const due = 2.5 * COMMAND_COST;
  clock.at(due, () => {
    void turns
      .take('quiet', 0, () => {
        order.push('quiet');
        return new Uint8Array(1);
      })
      .then(() => (waited = clock.now() - due));
  });
  clock.at(0, () => void flood());
  await turns.pass(clock, commands * COMMAND_COST, turn);
  await turn();
  return { order, waited, clock };
}

describe('turns of commands', () => {
  it('take no time, and need not be taken, unless time passes for them', () => {
    expect(new CommandTurns('turns', COMMAND_COST).isTimed).toBe(false);
  });

  it('by turns: a quiet guest waits for the rest of one command and for its own', async () => {
    const { order, waited } = await flooded('turns', 10);
    // The third is under way when the quiet guest asks.
    expect(order.slice(0, 5)).toEqual(['loud', 'loud', 'loud', 'quiet', 'loud']);
    expect(waited).toBe(1.5 * COMMAND_COST);
  });

  it('queue by queue: it waits until the other has nothing more', async () => {
    const { order, waited } = await flooded('queue', 10);
    expect(order.indexOf('quiet')).toBeGreaterThanOrEqual(10);
    expect(waited).toBeGreaterThanOrEqual(7.5 * COMMAND_COST);
  });

  it('a command that is under way is not broken off: a long one is waited for', async () => {
    const clock = new VirtualClock();
    const turns = new CommandTurns('turns', COMMAND_COST);
    let answered = 0;
    const ask = (nic: string, bytes: number): Promise<unknown> =>
      turns.take(nic, bytes, () => new Uint8Array(1)).then(() => (answered = clock.now()));
    clock.at(0, () => void ask('loud', 131_072));
    clock.at(COMMAND_COST, () => void ask('quiet', 0));
    await turns.pass(clock, 20 * COMMAND_COST, turn);
    // 240 ps a byte.
    expect(answered).toBe(2 * COMMAND_COST + 131_072 * 240);
  });

  it('as much time passes as was asked for, whether or not there are commands', async () => {
    const clock = new VirtualClock();
    const turns = new CommandTurns('turns', COMMAND_COST);
    await turns.pass(clock, 1_234_567, turn);
    expect(clock.now()).toBe(1_234_567);
  });

  it('among several that wait it is the turn of who has waited for its turn longest', async () => {
    const clock = new VirtualClock();
    const turns = new CommandTurns('turns', COMMAND_COST);
    const order: string[] = [];
    const ask = (nic: string): void => {
      void turns.take(nic, 0, () => {
        order.push(nic);
        return new Uint8Array(1);
      });
    };
    clock.at(0, () => ['a', 'a', 'a', 'b', 'c', 'b'].forEach(ask));
    await turns.pass(clock, 6.5 * COMMAND_COST, turn);
    expect(order).toEqual(['a', 'b', 'c', 'a', 'b', 'a']);
  });

  it('what still waits when the time is over is carried out all the same', async () => {
    const clock = new VirtualClock();
    const turns = new CommandTurns('turns', COMMAND_COST);
    const answers: Promise<Uint8Array>[] = [];
    clock.at(0, () => {
      for (let n = 0; n < 5; n++) answers.push(turns.take('a', 0, () => Uint8Array.of(n)));
    });
    await turns.pass(clock, 2 * COMMAND_COST, turn);
    expect((await Promise.all(answers)).map(([n]) => n)).toEqual([0, 1, 2, 3, 4]);
  });
});
