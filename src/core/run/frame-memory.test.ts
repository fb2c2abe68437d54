import { readFile } from 'node:fs/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { UdpFlood } from '../../../plugins/workload-udp-flood/udp-flood.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Frames after which everything that is made once is there. */
const WARM_UP = 20_000;
const FRAMES = 80_000;
/** What code and feedback of V8 may still grow by: less than the smallest object for each frame (16 bytes). */
const ROOM = FRAMES * 8;

function bytesInUse(): number {
  // V8 frees dead buffers, and takes them off the count, beside the program: the second collection waits for that.
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Bytes that a run of the main testbed holds more after FRAMES further frames, while it is still under way. */
async function growth(id: string, size: number): Promise<number> {
  const frames = Object.getOwnPropertyDescriptor(UdpFlood.prototype, 'frames')!.value as UdpFlood['frames'];
  let before = 0;
  let after = 0;
  vi.spyOn(UdpFlood.prototype, 'frames').mockImplementation(function* (this: UdpFlood, context) {
    let sent = 0;
    for (const frame of frames.call(this, context)) {
      if (sent++ === WARM_UP) before = bytesInUse();
      yield frame;
    }
    after = bytesInUse();
  });
  const file = 'testbeds/rfc-2019.testbed.yaml';
  const text = await readFile(file, 'utf8');
  const set = [
    'plugins.executor={use: wasm}',
    `workload={use: udp-flood, config: {frames: ${WARM_UP + FRAMES}, flows: 16, size: ${size}}}`,
  ];
  const testbed = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS), { set });
  const runs = testbed.runs.filter(({ plan }) => plan.id === id);
  const { runs: results } = await runTestbed({ ...testbed, runs, checks: [] }, { version: 'test' });
  expect(results[0]!.framesSent).toBe(WARM_UP + FRAMES);
  return after - before;
}

describe('the memory of a run does not depend on how many frames were sent', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  // Sent back by the guest: the frame passes every part of the model.
  it.each([
    ['redirect/xdp2/guest', 60],
    ['bridge/xdp2/guest', 60],
    ['bridge/xdp2/guest', 1514],
    ['bridge/xdp2/host', 60],
  ])('%s, frames of %i bytes', async (id, size) => {
    expect(await growth(id, size)).toBeLessThan(ROOM);
  });
});
