import { describe, expect, it } from 'vitest';
import { exampleRun } from '../../conformance/reporter/index.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { ElementWords } from '../contract/reporter.js';
import type { MapResult } from '../contract/result.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { elementWords } from './element-words.js';

const objects = new URL('../../../testbeds/programs/', import.meta.url).pathname;

/** Of the only nic of a testbed with this program; `keeps` is what its guest keeps loading. */
async function words(
  object: string,
  map: Partial<MapResult>,
  [key, value]: readonly [string, string],
  keeps = '',
): Promise<ElementWords> {
  const text = `version: 1
name: words
programs: { own: { object: ${objects}${object}.o }, other: { object: ${objects}flow_count.o } }
host: { case: bridge, nics: { eth0: { mac: 52:54:00:00:00:01 } }, taps: { tap0: {} }, bridges: { br0: { ports: [eth0, tap0] } } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: own ${keeps} } } } }
`;
  const testbed = await resolveTestbed('t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const run = { ...exampleRun(), id: 'default' };
  const whole: MapResult = {
    guest: 'g0',
    nic: 'eth0',
    name: '',
    type: '',
    readFrom: 'device',
    entries: [],
    ...map,
  };
  return elementWords(testbed)(run, whole, { key, value });
}

/** Little-endian. */
const u64 = (value: number): string => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.toString('hex');
};

describe('an element in words', () => {
  it('has key and value by their types', async () => {
    // 24 bits of 198.51.100.0.
    const network: readonly [string, string] = ['18000000c6336400', '07000000'];
    expect(await words('blocklist', { name: 'blocked' }, network)).toEqual({
      key: '{ prefixlen: 24, address: 198.51.100.0 }',
      value: '7',
    });
  });

  it('has the values of CPUs by their numbers, but zeros', async () => {
    const values = `${u64(3)}${u64(180)}${'00'.repeat(16)}${u64(1)}${u64(60)}`;
    expect(await words('blocklist', { name: 'counters' }, ['01000000', values])).toEqual({
      key: '1',
      value: '{ 0: { packets: 3, bytes: 180 }, 2: { packets: 1, bytes: 60 } }',
    });
  });

  it('has global variables by name', async () => {
    // min_len u64, seed u32.
    expect(await words('globals', { name: '.data' }, ['00000000', `${u64(61)}05000000`])).toEqual({
      value: '{ min_len: 61, seed: 5 }',
    });
  });

  it('has nothing of what is an index and a number, or leads to something else', async () => {
    expect(await words('xdp1', { name: 'rxcnt' }, ['11000000', u64(1000)])).toEqual({});
    expect(await words('map_in_map', { name: 'by_queue' }, ['01000000', '07000000'])).toEqual({});
  });

  it('has nothing of maps, guests and runs that there are not', async () => {
    const element = ['11000000', u64(1)] as const;
    expect(await words('blocklist', { name: 'blocks' }, element)).toEqual({});
    expect(await words('blocklist', { name: 'blocked', guest: 'g1' }, element)).toEqual({});
    expect(await words('blocklist', { name: 'blocked', nic: 'eth1' }, element)).toEqual({});
  });

  it('is of the program that is there in the end', async () => {
    // `struct flow`: saddr, daddr, then ports in network order, protocol.
    const flow = ['c0000201c0000202003500350600'.padEnd(32, '0'), u64(9)] as const;
    const found = await words('blocklist', { name: 'flows' }, flow, ', requests: { load: other }');
    expect(found.key).toMatch(/^\{ saddr: 192\.0\.2\.1, daddr: 192\.0\.2\.2, sport: 53, dport: 53, /);
    expect(await words('blocklist', { name: 'flows' }, flow)).toEqual({});
  });

  it('is not tried of what is too long', async () => {
    expect(await words('globals', { name: '.data' }, ['00000000', '01'.repeat(65_537)])).toEqual({});
  });
});
