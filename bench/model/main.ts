import { readFile } from 'node:fs/promises';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { pieces } from './pieces.js';

const ROUNDS = 5;
const FRAMES = 100_000;
/** Frames through each piece in a round, and rounds that only warm it up. */
const PIECE_FRAMES = 32_768;
const WARM_UP_ROUNDS = 4;

const file = process.argv[2] ?? 'testbeds/rfc-2019.testbed.yaml';

/**
 * Frames, and hooks that they passed, per CPU second of the whole model: each run of the main testbed with equal UDP
 * frames and executor `wasm`. Rounds are interleaved.
 */
async function main(): Promise<void> {
  const registry = new PluginRegistry(BUILT_IN_PLUGINS);
  const text = await readFile(file, 'utf8');
  const set = [
    'plugins.executor={use: wasm}',
    `workload={use: udp-flood, config: {frames: ${FRAMES}, flows: 16}}`,
  ];
  const testbed = await resolveTestbed(file, text, registry, { set });
  const spent = new Map<string, number[]>();
  const hops = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const run of testbed.runs) {
      const start = process.cpuUsage();
      const { runs } = await runTestbed({ ...testbed, runs: [run], checks: [] }, { version: 'bench' });
      const { user, system } = process.cpuUsage(start);
      const samples = spent.get(run.plan.id) ?? [];
      spent.set(run.plan.id, [...samples, (user + system) / 1e6]);
      hops.set(
        run.plan.id,
        runs[0]!.hooks.reduce((sum, hook) => sum + hook.frames, 0),
      );
    }
  }
  console.log(
    `${FRAMES} frames a run, wasm, median of ${ROUNDS} interleaved rounds, verifying and start included`,
  );
  console.log(`${'run'.padEnd(24)} ${'frames/CPU s'.padStart(14)} ${'hops/CPU s'.padStart(14)}`);
  for (const [id, samples] of spent) {
    const seconds = median(samples);
    const rate = (count: number): string =>
      Math.round(count / seconds)
        .toLocaleString('en')
        .padStart(14);
    console.log(`${id.padEnd(24)} ${rate(FRAMES)} ${rate(hops.get(id)!)}`);
  }
}

/** Each part of a frame's way by itself, the pieces in turn. */
async function measurePieces(): Promise<void> {
  const all = await pieces();
  const spent = new Map(all.map(({ name }) => [name, [] as number[]]));
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const piece of all) {
      const start = process.cpuUsage();
      piece.run(PIECE_FRAMES);
      const { user, system } = process.cpuUsage(start);
      if (round >= 0) spent.get(piece.name)!.push((user + system) / 1e6);
    }
  }
  console.log(`\npieces, ${PIECE_FRAMES} frames a round, median of ${ROUNDS} interleaved rounds`);
  console.log(`${'piece'.padEnd(32)} ${'ns/frame'.padStart(10)} ${'hops/CPU s'.padStart(14)}`);
  for (const { name } of all) {
    const seconds = median(spent.get(name)!);
    const rate = Math.round(PIECE_FRAMES / seconds).toLocaleString('en');
    console.log(
      `${name.padEnd(32)} ${((1e9 * seconds) / PIECE_FRAMES).toFixed(0).padStart(10)} ${rate.padStart(14)}`,
    );
  }
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[samples.length >> 1]!;
}

await main();
await measurePieces();
