import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from './virtual-clock.js';

describe('VirtualClock', () => {
  it('stands still until somebody runs it, and runs nothing before at() returns', () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    clock.at(0, () => ran.push('now'));
    clock.at(5, () => ran.push('later'));
    expect([clock.now(), ran]).toEqual([0, []]);
    clock.runUntil(4);
    expect([clock.now(), ran]).toEqual([4, ['now']]);
    clock.runUntilIdle();
    expect([clock.now(), ran]).toEqual([5, ['now', 'later']]);
  });

  it('runs what is due at one time in the order it was asked for, also what is asked for meanwhile', () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    clock.at(10, () => {
      ran.push(`a@${clock.now()}`);
      clock.at(10, () => ran.push(`c@${clock.now()}`));
      // The past counts as now.
      clock.at(3, () => ran.push(`d@${clock.now()}`));
      clock.at(11, () => ran.push(`e@${clock.now()}`));
    });
    clock.at(10, () => ran.push(`b@${clock.now()}`));
    clock.runUntilIdle();
    expect(ran).toEqual(['a@10', 'b@10', 'c@10', 'd@10', 'e@11']);
  });

  it('does not run what was called off, before or while it is due', () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    const cancels = [
      clock.at(1, () => {
        ran.push('first');
        cancels[1]!();
      }),
      clock.at(1, () => ran.push('second')),
      clock.at(2, () => ran.push('third')),
    ];
    cancels[2]!();
    clock.runUntilIdle();
    cancels[0]!();
    expect(ran).toEqual(['first']);
  });

  it('leaves the rest due when something throws', () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    clock.at(1, () => {
      throw new Error('torn');
    });
    clock.at(1, () => ran.push('same time'));
    clock.at(2, () => ran.push('later'));
    expect(() => clock.runUntilIdle()).toThrow('torn');
    expect(ran).toEqual([]);
    clock.runUntilIdle();
    expect(ran).toEqual(['same time', 'later']);
  });

  it('leaps where nothing is due on the way, and not beyond where it is to stop', () => {
    const clock = new VirtualClock();
    const seen: (number | boolean)[] = [];
    clock.at(10, () => {
      seen.push(clock.leapTo(19), clock.now());
      // Something is due then; it comes first.
      seen.push(clock.leapTo(20), clock.now());
      clock.at(19, () => seen.push(-1));
      seen.push(clock.leapTo(19));
    });
    clock.at(20, () => seen.push(clock.leapTo(30), clock.leapTo(31), clock.now()));
    clock.runUntil(30);
    expect(seen).toEqual([true, 19, false, 19, false, -1, true, false, 30]);
    expect(clock.now()).toBe(30);
  });

  it('takes no time that is none', () => {
    const clock = new VirtualClock();
    for (const time of [0.5, NaN, Infinity]) {
      expect(() => clock.at(time, () => {})).toThrow(RangeError);
    }
    // A week.
    clock.at(6.048e17, () => {});
    clock.runUntilIdle();
    expect(clock.now()).toBe(6.048e17);
  });

  it('orders any mix of times as a stable sort does', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20), { maxLength: 200 }), (times) => {
        const clock = new VirtualClock();
        const ran: [number, number][] = [];
        times.forEach((time, index) => clock.at(time, () => void ran.push([clock.now(), index])));
        clock.runUntilIdle();
        const sorted = times.map((time, index): [number, number] => [time, index]);
        expect(ran).toEqual(sorted.sort((a, b) => a[0] - b[0] || a[1] - b[1]));
      }),
    );
  });
});
