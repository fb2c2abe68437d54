import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../../src/core/clock/virtual-clock.js';
import { costModel, readCalibration } from '../../../src/core/cost-model/index.js';
import { FrameAccounting, type Frame } from '../frame-accounting.js';
import { Timing } from '../timing.js';
import { VirtualCpu } from '../virtual-cpu.js';
import { FrameMaker, MAX_SEGMENT, readSegment } from './exchange-frames.js';
import { ReceiveOffload } from './receive-offload.js';

const bytes = readFileSync(new URL('../../../testbeds/calibration/rfc-2019.yaml', import.meta.url));
const COSTS = costModel(readCalibration('rfc-2019.yaml', bytes), { 'skb-receive': 500, 'gro-merge': 100 });
const GUEST = { mac: '52:54:00:00:01:00', ipv4: '192.0.2.10' };

let accounting: FrameAccounting;
let cpu: VirtualCpu;
let passed: Frame[];
let gro: ReceiveOffload;
beforeEach(() => {
  accounting = new FrameAccounting();
  cpu = new VirtualCpu('c');
  const timing = new Timing(new VirtualClock());
  timing.start(COSTS);
  timing.work(cpu);
  passed = [];
  gro = new ReceiveOffload(timing, (frame) => passed.push(frame));
});

const segment = (seq: number, length = MAX_SEGMENT, stream = 0): Frame =>
  accounting.begin(
    new FrameMaker('tcp', 'to-server', stream, GUEST).segment({ seq, ack: 0, window: 0, length }),
    0,
  );
const lengths = (): number[] => passed.map(({ bytes }) => readSegment(bytes).length);

describe('GRO', () => {
  it('makes one frame of a poll’s segments, for the price of an skb and of adding to it', () => {
    for (let index = 0; index < 4; index++) gro.receive(segment(index * MAX_SEGMENT));
    expect(passed).toEqual([]);
    gro.flush();
    expect(lengths()).toEqual([4 * MAX_SEGMENT]);
    expect(cpu.busy).toBe((500 + 3 * 100) * 1000);
    // It ends as the four that it is.
    accounting.end(passed[0]!, 'here', 'guest-stack');
    expect(accounting.whole.ends()).toEqual([{ place: 'here', fate: 'guest-stack', frames: 4 }]);
  });

  it('lets it go when it is full, 45 segments, or its last one is short', () => {
    for (let index = 0; index < 46; index++) gro.receive(segment(index * MAX_SEGMENT));
    expect(lengths()).toEqual([45 * MAX_SEGMENT]);
    gro.receive(segment(46 * MAX_SEGMENT, 10));
    expect(lengths()).toEqual([45 * MAX_SEGMENT, MAX_SEGMENT + 10]);
    gro.flush();
    expect(passed).toHaveLength(2);
  });

  it('keeps streams apart, eight at a time, and what does not follow', () => {
    for (let stream = 0; stream < 9; stream++) gro.receive(segment(0, MAX_SEGMENT, stream));
    expect(passed).toHaveLength(1);
    gro.receive(segment(2 * MAX_SEGMENT, MAX_SEGMENT, 8));
    gro.flush();
    expect(lengths()).toEqual(new Array(10).fill(MAX_SEGMENT));
  });

  it('holds nothing else back', () => {
    gro.receive(segment(0, 0));
    gro.receive(accounting.begin(new FrameMaker('udp', 'to-server', 0, GUEST).message(18), 0));
    expect(passed).toHaveLength(2);
    expect(cpu.busy).toBe(2 * 500 * 1000);
  });
});
