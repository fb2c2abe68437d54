import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { costModel, readCalibration } from '../../../src/core/cost-model/index.js';
import { ArrivalQueue, WireDirection } from './wire-direction.js';

const bytes = readFileSync(new URL('../../../testbeds/calibration/rfc-2019.yaml', import.meta.url));
const COSTS = costModel(readCalibration('rfc-2019.yaml', bytes));
const FRAME = new Uint8Array(60);
/** 84 bytes at 10 Gbit/s. */
const TIME = 67_200;

describe('a direction of a wire', () => {
  it('carries a frame after the other, each for its time, and idles when there is none', () => {
    const queue = new ArrivalQueue(8);
    const wire = new WireDirection(COSTS, () => queue);
    expect([0, 0, 10 * TIME].map((now) => wire.send(FRAME, now))).toEqual([TIME, 2 * TIME, 11 * TIME]);
    expect(wire.busy).toBe(3 * TIME);
    expect(queue.take(TIME - 1)).toBeUndefined();
    expect(queue.nextAt).toBe(TIME);
    expect(queue.take(TIME)?.arrived).toBe(TIME);
    expect(queue.take(5 * TIME)?.arrived).toBe(2 * TIME);
    expect([queue.take(5 * TIME), queue.nextAt]).toEqual([undefined, 11 * TIME]);
  });

  it('loses what finds no descriptor at its other end', () => {
    const queue = new ArrivalQueue(2);
    const wire = new WireDirection(COSTS, () => queue);
    for (let sent = 0; sent < 5; sent++) wire.send(FRAME, 0);
    expect(queue.take(3 * TIME)?.arrived).toBe(TIME);
    // One descriptor has become free before the last two come: the first of them has it.
    expect([queue.take(5 * TIME)?.arrived, queue.take(5 * TIME)?.arrived]).toEqual([2 * TIME, 4 * TIME]);
    expect([queue.take(5 * TIME), queue.lost]).toEqual([undefined, 2]);
  });

  it('tells of a frame when none was on its way', () => {
    const queue = new ArrivalQueue(2);
    let told = 0;
    queue.onComing = () => told++;
    queue.push({ bytes: FRAME, arrived: 5 });
    queue.push({ bytes: FRAME, arrived: 6 });
    expect(told).toBe(1);
    while (queue.take(10) !== undefined);
    queue.push({ bytes: FRAME, arrived: 11 });
    expect(told).toBe(2);
  });
});
