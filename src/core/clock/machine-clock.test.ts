import { describe, expect, it } from 'vitest';
import { MachineClock } from './machine-clock.js';

const PS_PER_MS = 1e9;

describe('MachineClock', () => {
  it('begins at 0, goes forward in whole picoseconds, and is never early', async () => {
    const clock = new MachineClock();
    const start = clock.now();
    expect(start).toBeGreaterThanOrEqual(0);
    expect(Number.isInteger(start)).toBe(true);
    const due = start + 3.5 * PS_PER_MS;
    const ran = await new Promise<number>((resolve) => clock.at(due, () => resolve(clock.now())));
    expect(ran).toBeGreaterThanOrEqual(due);
  });

  it('runs nothing before at() returns, and nothing that was called off', async () => {
    const clock = new MachineClock();
    const ran: string[] = [];
    clock.at(0, () => ran.push('due'));
    const cancel = clock.at(0, () => ran.push('called off'));
    expect(ran).toEqual([]);
    cancel();
    await new Promise((resolve) => clock.at(clock.now() + PS_PER_MS, () => resolve(undefined)));
    expect(ran).toEqual(['due']);
  });

  it('keeps the order in which things of one time were asked for, and goes on after one that throws', async () => {
    const clock = new MachineClock();
    const ran: number[] = [];
    const torn = new Promise<unknown>((resolve) => process.once('uncaughtException', resolve));
    const time = clock.now() + PS_PER_MS;
    clock.at(time + 1, () => ran.push(3));
    clock.at(time, () => {
      ran.push(1);
      throw new Error('torn');
    });
    clock.at(time, () => ran.push(2));
    expect(await torn).toMatchObject({ message: 'torn' });
    await new Promise((resolve) => clock.at(time + PS_PER_MS, () => resolve(undefined)));
    expect(ran).toEqual([1, 2, 3]);
  });
});
