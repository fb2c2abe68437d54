import { readFile } from 'node:fs/promises';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { type ResolvedTestbed, resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { pieces } from './pieces.js';

const ROUNDS = 3;
const FRAMES = 400_000;
/** What a run with so few costs is its start: verifying, compiling, memory. */
const FRAMES_OF_START = 64;
/** Frames through each piece in a round, and rounds that only warm it up. */
const PIECE_FRAMES = 32_768;
const PIECE_ROUNDS = 11;
const WARM_UP_ROUNDS = 4;

const file = process.argv[2] ?? 'testbeds/rfc-2019.testbed.yaml';

/**
 * Stations of a frame in each run of the main testbed. Redirected, it meets the NIC's hook and the tap; bridged, the
 * NIC, the bridge and the tap; then the guest's program at the tap, or the reader and the program in the guest's
 * driver. What xdp2 sends back goes by the reader (from a guest) to the tap's Rx path, where it ends in case redirect,
 * and else by the bridge to the NIC.
 */
const STATIONS: Readonly<Record<string, number>> = {
  'redirect/xdp1/guest': 4,
  'redirect/xdp1/host': 3,
  'redirect/xdp2/guest': 6,
  'redirect/xdp2/host': 4,
  'bridge/xdp1/guest': 5,
  'bridge/xdp1/host': 4,
  'bridge/xdp2/guest': 9,
  'bridge/xdp2/host': 7,
};

/**
 * Frames, and stations that they passed, per CPU second of the whole model beyond its start: each run of the main
 * testbed with equal UDP frames and executor `wasm`. Rounds are interleaved.
 */
async function measureRuns(): Promise<void> {
  const few = await resolve(FRAMES_OF_START);
  const many = await resolve(FRAMES);
  const spent = new Map(
    many.runs.map(({ plan }) => [plan.id, { few: [] as number[], many: [] as number[] }]),
  );
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, { plan }] of many.runs.entries()) {
      const samples = spent.get(plan.id)!;
      samples.few.push(await cpuSeconds(few, index));
      samples.many.push(await cpuSeconds(many, index));
    }
  }
  console.log(`${FRAMES} frames a run, wasm, median of ${ROUNDS} interleaved rounds, without start`);
  console.log(
    `${'run'.padEnd(32)} ${'start ms'.padStart(10)} ${'frames/CPU s'.padStart(14)} ${'hops/CPU s'.padStart(14)}`,
  );
  for (const [id, samples] of spent) {
    const start = median(samples.few);
    const perSecond = (FRAMES - FRAMES_OF_START) / (median(samples.many) - start);
    const stations = STATIONS[id];
    const hops = stations === undefined ? '' : thousands(stations * perSecond);
    console.log(
      `${id.padEnd(32)} ${(1000 * start).toFixed(0).padStart(10)} ${thousands(perSecond).padStart(14)} ${hops.padStart(14)}`,
    );
  }
}

async function resolve(frames: number): Promise<ResolvedTestbed> {
  const set = [
    'plugins.executor={use: wasm}',
    `workload={use: udp-flood, config: {frames: ${frames}, flows: 16}}`,
  ];
  return resolveTestbed(file, await readFile(file, 'utf8'), new PluginRegistry(BUILT_IN_PLUGINS), { set });
}

/** CPU seconds of the run at an index. */
async function cpuSeconds(testbed: ResolvedTestbed, index: number): Promise<number> {
  const start = process.cpuUsage();
  await runTestbed({ ...testbed, runs: [testbed.runs[index]!], checks: [] }, { version: 'bench' });
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
}

/** Each part of a frame's way by itself, the pieces in turn. */
async function measurePieces(): Promise<void> {
  const all = await pieces();
  const spent = new Map(all.map(({ name }) => [name, [] as number[]]));
  for (let round = -WARM_UP_ROUNDS; round < PIECE_ROUNDS; round++) {
    for (const piece of all) {
      const start = process.cpuUsage();
      piece.run(PIECE_FRAMES);
      const { user, system } = process.cpuUsage(start);
      if (round >= 0) spent.get(piece.name)!.push((user + system) / 1e6);
    }
  }
  console.log(`\npieces, ${PIECE_FRAMES} frames a round, median of ${PIECE_ROUNDS} interleaved rounds`);
  console.log(`${'piece'.padEnd(32)} ${'ns/frame'.padStart(10)} ${'hops/CPU s'.padStart(14)}`);
  for (const { name } of all) {
    const seconds = median(spent.get(name)!);
    const rate = thousands(PIECE_FRAMES / seconds);
    console.log(
      `${name.padEnd(32)} ${((1e9 * seconds) / PIECE_FRAMES).toFixed(0).padStart(10)} ${rate.padStart(14)}`,
    );
  }
}

function thousands(value: number): string {
  return Math.round(value).toLocaleString('en');
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[samples.length >> 1]!;
}

await measureRuns();
await measurePieces();
