import { batches, direct, over, overRfc2019, type Contender } from './contenders.js';
import { TRANSPORTS } from './transports.js';

const ROUNDS = 7;
const LOOKUPS = 20_000;

/**
 * Lookups a second of an element of a HASH with 1024 elements, by how much lies between the asker and the map, with the
 * policies of the main testbed; both ends of a channel are in this process. Protocol 2, unless it is said otherwise. Rounds are interleaved, so that a machine that
 * slows down slows all of them down; of each, the median of both clocks.
 */
const all: Contender[] = [...(await direct())];
for (const transport of TRANSPORTS) all.push(...(await over(transport)));
all.push(...(await overRfc2019(TRANSPORTS[0]!)));
for (const transport of TRANSPORTS) all.push(...(await batches(transport)));

interface Spent {
  /** Seconds. */
  readonly wall: number;
  readonly cpu: number;
}
const spent = new Map(all.map(({ name }) => [name, [] as Spent[]]));
for (const { round } of all) await round(LOOKUPS);
for (let index = 0; index < ROUNDS; index++) {
  for (const { name, round } of all) {
    const cpu = process.cpuUsage();
    const start = performance.now();
    await round(LOOKUPS);
    const wall = (performance.now() - start) / 1e3;
    const { user, system } = process.cpuUsage(cpu);
    spent.get(name)!.push({ wall, cpu: (user + system) / 1e6 });
  }
}
for (const { close } of all) await close?.();

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;
const rate = (seconds: number): string => Math.round(LOOKUPS / seconds).toLocaleString('en');
const wallOf = (name: string): number => median(spent.get(name)!.map(({ wall }) => wall));
const reference = wallOf('virtqueue');
console.log(`lookups a second, median of ${ROUNDS} interleaved rounds of ${LOOKUPS}`);
console.log(`${''.padEnd(42)}${'second'.padStart(12)}${'CPU second'.padStart(14)}   time of \`virtqueue\``);
for (const { name } of all) {
  const wall = wallOf(name);
  const cpu = median(spent.get(name)!.map((each) => each.cpu));
  const ratio = `${(wall / reference).toFixed(2)} ×`;
  console.log(`${name.padEnd(42)}${rate(wall).padStart(12)}${rate(cpu).padStart(14)}   ${ratio}`);
}
