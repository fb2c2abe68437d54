import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/core/clock/virtual-clock.js';
import { costModel, readCalibration } from '../../src/core/cost-model/index.js';
import { TimedScheduler } from './timed-scheduler.js';
import { Timing } from './timing.js';
import { VirtualCpu } from './virtual-cpu.js';
import { Worker, type SleepCosts } from './worker.js';

const NONE: SleepCosts = { wake: 0, latency: 0, jitter: 0, enter: 0, leave: 0, pollTimeout: 0 };
const bytes = readFileSync(new URL('../../testbeds/calibration/rfc-2019.yaml', import.meta.url));
/** 100 ns for each change of task, 1 µs for a slice. */
const MODEL = costModel(readCalibration('rfc-2019.yaml', bytes), { 'context-switch': 0.1, slice: 1 });
const SWITCH = 100;
const SLICE = 1_000_000;

let clock: VirtualClock;
let timing: Timing;
let scheduler: TimedScheduler;
let log: string[];
beforeEach(() => {
  clock = new VirtualClock();
  timing = new Timing(clock);
  timing.start(MODEL);
  scheduler = new TimedScheduler(clock, timing, () => 2 ** 31);
  log = [];
});

/** Does so many things, each of which takes so long, and says when it began with each. */
function worker(
  name: string,
  cpu: VirtualCpu,
  job: { left: number; each: number },
  costs: Partial<SleepCosts> = {},
) {
  return new Worker({
    cpu,
    batch: 1,
    polls: (costs.pollTimeout ?? 0) > 0,
    costs: () => ({ ...NONE, ...costs }),
    work: () => {
      if (job.left === 0) return false;
      job.left--;
      log.push(`${name}@${timing.now}`);
      timing.charge(job.each);
      return true;
    },
  });
}

describe('TimedScheduler', () => {
  it('has one thing after the other done, each in its time, and effects when that is over', () => {
    const cpu = new VirtualCpu('c');
    const done: number[] = [];
    const job = { left: 2, each: 500 };
    const a = new Worker({
      cpu,
      batch: 1,
      costs: () => ({ ...NONE, latency: 50, enter: 10 }),
      work: () => {
        if (job.left === 0) return false;
        job.left--;
        timing.charge(job.each);
        timing.then(() => done.push(clock.now()));
        return true;
      },
    });
    scheduler.wakeAt(a, 1000);
    clock.runUntil(10_000);
    expect(done).toEqual([1560, 2060]);
    expect([cpu.busy, a.awake, a.wakeUps]).toEqual([1010, false, 1]);
  });

  it('has who wakes somebody pay, but not for one who is awake or still on the way to sleep', () => {
    const [cpu, other] = [new VirtualCpu('c'), new VirtualCpu('d')];
    const job = { left: 1, each: 100 };
    const sleeper = worker('s', cpu, job, { wake: 40, latency: 5, leave: 300 });
    const wakes: number[] = [];
    const waker = new Worker({
      cpu: other,
      batch: 1,
      costs: () => NONE,
      work: () => {
        if (wakes.length === 3) return false;
        const before = timing.now;
        scheduler.wake(sleeper);
        wakes.push(timing.now - before);
        job.left++;
        timing.charge(200);
        return true;
      },
    });
    scheduler.wakeAt(waker, 0);
    clock.runUntil(100_000);
    // The second and third come while it works or leaves.
    expect(wakes).toEqual([40, 0, 0]);
    expect([sleeper.wakeUps, job.left]).toEqual([1, 0]);
  });

  it('adds what is drawn of the jitter to the latency', () => {
    const a = worker('a', new VirtualCpu('c'), { left: 1, each: 1 }, { latency: 1000, jitter: 600 });
    scheduler.wakeAt(a, 0);
    clock.runUntil(10_000);
    expect(log).toEqual(['a@1300']);
  });

  it('has two on one CPU take turns by slices, at the price of each change', () => {
    const cpu = new VirtualCpu('c');
    scheduler.wakeAt(worker('a', cpu, { left: 3, each: SLICE }), 0);
    scheduler.wakeAt(worker('b', cpu, { left: 2, each: SLICE }), 0);
    clock.runUntil(100 * SLICE);
    const at = (slices: number, changes: number): number => slices * SLICE + changes * SWITCH;
    expect(log).toEqual(['a@0', `b@${at(1, 1)}`, `a@${at(2, 2)}`, `b@${at(3, 3)}`, `a@${at(4, 4)}`]);
  });

  it('has a worker look on without being woken, until its time is over', () => {
    const job = { left: 1, each: 100 };
    const poller = worker('p', new VirtualCpu('c'), job, { wake: 40, pollTimeout: 10_000 });
    scheduler.wakeAt(poller, 0);
    clock.at(5_000, () => {
      job.left++;
      scheduler.wake(poller);
    });
    clock.runUntil(15_000);
    expect(log).toEqual(['p@0', 'p@5000']);
    expect(poller.awake).toBe(true);
    clock.runUntil(15_200);
    expect([poller.awake, poller.wakeUps]).toEqual([false, 1]);
  });

  it('has a worker that looks on give way at once to another that wants its CPU', () => {
    const cpu = new VirtualCpu('c');
    const poller = worker('p', cpu, { left: 1, each: 100 }, { pollTimeout: 1_000_000, leave: 20 });
    scheduler.wakeAt(poller, 0);
    scheduler.wakeAt(worker('b', cpu, { left: 1, each: 100 }), 5_000);
    clock.runUntil(20_000);
    expect(log).toEqual(['p@0', `b@${5_000 + 20 + SWITCH}`]);
    expect(poller.awake).toBe(false);
  });

  it('has a process give way to an interrupt at once, and go on where it was', () => {
    const cpu = new VirtualCpu('c');
    const process = new Worker({
      ...worker('p', cpu, { left: 3, each: 1000 }, { enter: 50 }).options,
      isProcess: true,
    });
    const softirq = worker('i', cpu, { left: 1, each: 300 }, { enter: 20 });
    scheduler.wakeAt(process, 0);
    scheduler.wakeAt(softirq, 1500);
    clock.runUntil(10_000);
    // The process is entered once, at its beginning; there is no change of task with the interrupt's.
    expect(log).toEqual(['p@50', 'p@1050', 'i@2070', 'p@2370']);
    expect([process.awake, softirq.awake]).toEqual([false, false]);
  });

  it('has an interrupt that lasts longer than a slice share with processes from then on', () => {
    const cpu = new VirtualCpu('c');
    const softirq = worker('i', cpu, { left: 10, each: 400_000 });
    const process = new Worker({ ...worker('p', cpu, { left: 1, each: 1000 }).options, isProcess: true });
    scheduler.wakeAt(softirq, 0);
    scheduler.wakeAt(process, 10);
    clock.runUntil(10 * SLICE);
    expect(log.indexOf('p@1200000')).toBe(3);
    expect(log).toHaveLength(11);
    // Asleep in between, it comes first again.
    expect(softirq.overdue).toBe(false);
  });

  it('wakes a CPU later that has been idle for long, but none that has not been seen to work, and no guest’s', () => {
    timing.start(
      costModel(readCalibration('rfc-2019.yaml', bytes), {
        'idle-residency': 5,
        'idle-exit': 2,
        'context-switch': 0,
      }),
    );
    const begun = (cpu: VirtualCpu, ...times: number[]): string[] => {
      log = [];
      const start = clock.now();
      for (const time of times) {
        clock.at(start + time, () =>
          scheduler.wakeAt(worker('w', cpu, { left: 1, each: 100 }), start + time),
        );
      }
      clock.runUntil(start + 100_000);
      return log.map((line) => String(Number(line.slice(2)) - start));
    };
    // 100 ps of work, then idle for 4 and for 5 ns.
    expect(begun(new VirtualCpu('host'), 0, 4099, 9199)).toEqual(['0', '4099', '11199']);
    expect(begun(new VirtualCpu('guest', false), 0, 9199)).toEqual(['0', '9199']);
  });
});
