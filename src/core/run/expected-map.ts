import type { MapResult, RunResult } from '../contract/result.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { MapNumber } from '../testbed/map-number.js';
import type { Expectation } from './expected-counter.js';

/** What an expectation on a map finds in a run, as a sum over the nics that it is about. */
export type MapSum = { readonly sum: bigint } | { readonly problems: readonly string[] };

/** `run`: as far as the expectation is about it. */
export function sumOverMaps(run: RunResult, { map: name, numbers }: Expectation): MapSum {
  const ofNics = numbers?.get(run.id);
  const problems: string[] = [];
  let sum = 0n;
  let found = 0;
  for (const map of run.maps) {
    const node = `${map.guest}.${map.nic}`;
    const number = map.name === name ? ofNics?.get(node) : undefined;
    if (number === undefined) continue;
    found++;
    const value = numberOf(map, number);
    if (typeof value === 'bigint') sum += value;
    else problems.push(`map ${name} of ${node}: ${value.problem}`);
  }
  // A program that was refused has no maps, and then 0 would be no count.
  if (found === 0) problems.push(`no guest has map '${name}' in this run`);
  return problems.length === 0 ? { sum } : { problems };
}

function numberOf(map: MapResult, number: MapNumber): bigint | { readonly problem: string } {
  const entry = map.entries.find(({ key }) => key === number.key);
  if (entry === undefined) {
    // Results leave out elements that are all zeros, so that these and absent ones are the same here.
    return map.unreadable === undefined ? 0n : { problem: `not read: ${map.unreadable}` };
  }
  try {
    return number.read(Uint8Array.from(Buffer.from(entry.value, 'hex')));
  } catch (error) {
    if (error instanceof XdpbedError) return { problem: messageOf(error) };
    throw error;
  }
}
