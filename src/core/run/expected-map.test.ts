import { describe, expect, it } from 'vitest';
import { exampleRun } from '../../conformance/reporter/index.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { MapResult, RunResult } from '../contract/result.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed, type ResolvedTestbed } from '../testbed/resolve-testbed.js';
import { evaluateCheck } from './checks.js';
import { runTestbed } from './run-testbed.js';

const objects = new URL('../../../testbeds/programs/', import.meta.url).pathname;

/** alice blocks addresses, bob counts protocols in `rxcnt`; 25 frames to each. */
function resolve(
  checks: readonly string[],
  placement = 'guest',
  alice = 'alice: {',
): Promise<ResolvedTestbed> {
  const rest = `placement: ${placement}, features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_BPF_OFFLOAD]`;
  const text = `version: 1
name: small
programs:
  blocklist:
    object: ${objects}blocklist.o
    maps: { blocked: [{ key: { prefixlen: 0, address: 0.0.0.0 }, value: 7 }] }
  count: { object: ${objects}xdp1.o, max-entries: { rxcnt: 64 } }
  flows: { object: ${objects}flow_count.o }
  globals: { object: ${objects}globals.o }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { alice: {}, bob: {} }
  bridges: { br0: { ports: [eth0, alice, bob] } }
guests:
  ${alice} nics: { eth0: { tap: alice, mac: 52:54:00:00:00:02, program: blocklist, ${rest} } } }
  bob: { nics: { eth1: { tap: bob, mac: 52:54:00:00:01:03, program: count, ${rest} } } }
workload: { use: udp-flood, config: { frames: 50, size: 64 } }
checks: [${checks.map((check) => `{ kind: expect, ${check} }`).join(', ')}]
`;
  return resolveTestbed('t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
}

const problemsOf = async (check: string, run: RunResult): Promise<readonly string[]> =>
  evaluateCheck((await resolve([check])).checks[0]!, [run]).problems;

/** A run in which nothing is known but what these maps hold. */
function runWith(...maps: readonly Partial<MapResult>[]): RunResult {
  const known: Pick<MapResult, 'guest' | 'nic' | 'readFrom'> = {
    guest: 'alice',
    nic: 'eth0',
    readFrom: 'guest-kernel',
  };
  const run = exampleRun('default');
  return {
    ...run,
    maps: maps.map((map) => ({
      name: 'counters',
      type: 'BPF_MAP_TYPE_PERCPU_ARRAY',
      entries: [],
      ...known,
      ...map,
    })),
  };
}

/** Two counters of 64 bits, little-endian, as `struct traffic` has them. */
const traffic = (packets: bigint, bytes: bigint): string => {
  const value = Buffer.alloc(16);
  value.writeBigUInt64LE(packets, 0);
  value.writeBigUInt64LE(bytes, 8);
  return value.toString('hex');
};

/** CPU 0 dropped 2 packets of 128 bytes in all, CPU 1 dropped 3 of 192. */
const DROPPED = { key: '01000000', value: traffic(2n, 128n) + traffic(3n, 192n) };

describe('an expectation on a map', () => {
  it.each([
    ['key: 1, member: packets', 5],
    ['key: 1, member: bytes', 320],
    ['key: 1, member: packets, cpu: 0', 2],
    ['key: 1, member: bytes, cpu: 1', 192],
    ['key: 1, member: packets, guest: alice, nic: eth0', 5],
    // Elements of zeros are not in a result.
    ['key: 0, member: packets', 0],
    ['key: { bytes: "01 00 00 00" }, member: packets', 5],
  ])('%s is %d', async (what, number) => {
    const run = runWith({ entries: [DROPPED] });
    expect(await problemsOf(`map: counters, ${what}, equals: ${number}`, run)).toEqual([]);
    expect(await problemsOf(`map: counters, ${what}, equals: ${number + 1}`, run)).toHaveLength(1);
    expect(await problemsOf(`map: counters, ${what}, at-least: ${number + 1}`, run)).toHaveLength(1);
    expect(await problemsOf(`map: counters, ${what}, at-most: ${number - 1}`, run)).toHaveLength(1);
    expect(await problemsOf(`map: counters, ${what}, between: [${number}, ${number}]`, run)).toEqual([]);
  });

  it('says in words what it looked at', async () => {
    const check = 'map: counters, key: 1, member: packets, cpu: 1, guest: alice, at-most: 2';
    const { checks } = await resolve([check]);
    expect(evaluateCheck(checks[0]!, [runWith({ entries: [DROPPED] })])).toMatchObject({
      description: 'map counters[1].packets on CPU 1 of alice is at most 2',
      problems: ['default: map counters[1].packets on CPU 1 of alice is 3, not at most 2'],
    });
  });

  it.each([
    // 2^53 + 1 and 2^64 - 1: as doubles they are 2^53 and 2^64.
    ['equals: 9007199254740993', 9007199254740993n, true],
    ['equals: "9007199254740993"', 9007199254740992n, false],
    ['at-most: 9007199254740991', 9007199254740992n, false],
    ['at-least: "0xffffffffffffffff"', 0xffff_ffff_ffff_ffffn, true],
    ['at-least: 18446744073709551615', 0xffff_ffff_ffff_fffen, false],
    ['between: [1, "9007199254740992"]', 9007199254740993n, false],
  ])('compares exactly: %s with %d is %s', async (demand, packets, holds) => {
    const run = runWith({ entries: [{ key: '00000000', value: traffic(packets, 0n) }] });
    const problems = await problemsOf(`map: counters, key: 0, member: packets, ${demand}`, run);
    expect(problems.length === 0).toBe(holds);
  });

  it('adds up what is in several guests', async () => {
    const run = runWith(
      { guest: 'alice0', entries: [DROPPED] },
      { guest: 'alice1', entries: [{ key: '01000000', value: traffic(100n, 0n) }] },
      { guest: 'bob', nic: 'eth1', entries: [{ key: '01000000', value: traffic(1000n, 0n) }] },
    );
    const of = async (what: string): Promise<readonly string[]> => {
      const check = `map: counters, key: 1, member: packets, ${what}`;
      const { checks } = await resolve([check], 'guest', 'alice: { count: 2,');
      return evaluateCheck(checks[0]!, [run]).problems;
    };
    // The program of bob has no such map, whatever a result says.
    expect(await of('equals: 105')).toEqual([]);
    expect(await of('guest: alice1, equals: 100')).toEqual([]);
    expect(await of('guest: alice1, equals: 99')).toHaveLength(1);
  });

  it('takes nothing for a number that was not read, and no missing map for zero', async () => {
    const check = 'map: counters, key: 1, member: packets, equals: 0';
    expect(await problemsOf(check, runWith({ unreadable: 'the device did not answer' }))).toEqual([
      'default: map counters of alice.eth0: not read: the device did not answer',
    ]);
    expect(await problemsOf(check, runWith())).toEqual(["default: no guest has map 'counters' in this run"]);
    const short = runWith({ entries: [{ key: '01000000', value: traffic(1n, 1n) }] });
    expect(await problemsOf(`${check}, cpu: 1`, short)).toEqual([
      'default: map counters of alice.eth0: there is no CPU 1, the last with a value is 0',
    ]);
  });

  it.each(['guest', 'host'])('holds for what programs counted in placement %s', async (placement) => {
    const checks = [
      // Everything is in 0.0.0.0/0. IPv4 frames of the default workload: 25 to each guest, 17 is UDP.
      'map: counters, key: 1, member: packets, equals: 25',
      'map: counters, key: 1, member: bytes, equals: 1600',
      'map: counters, key: 0, member: packets, equals: 0',
      'map: blocked, key: { prefixlen: 0, address: 0.0.0.0 }, equals: 7',
      'map: blocked, key: { prefixlen: 8, address: 10.0.0.0 }, equals: 0',
      'map: rxcnt, key: 17, guest: bob, equals: 25',
      'map: rxcnt, key: 6, equals: 0',
    ];
    const testbed = await resolve(checks, placement);
    const { checks: results, failures } = await runTestbed(testbed, { version: '0.0.0' });
    expect(failures).toBeUndefined();
    expect(results.flatMap(({ problems }) => problems)).toEqual([]);
    expect(results).toHaveLength(checks.length + 1);
  });
});

describe('an expectation on a map that is none', () => {
  it.each([
    ['map: counter, key: 1', "no program of these guests has a map 'counter' (did you mean 'counters'?)"],
    ['map: counters, key: 1, guest: bob, member: packets', "no program of these guests has a map 'counters'"],
    ['map: counters, member: packets', "'key' is missing: which element of map counters"],
    [
      'map: counters, key: 1',
      "counters is not an integer (give one of its members as 'member': packets, bytes)",
    ],
    ['map: counters, key: 1, member: packet', "counters has no member packet (did you mean 'packets'?)"],
    ['map: counters, key: 1, member: packets.low', 'counters.packets has no members'],
    ['map: counters, key: 2, member: packets', 'map counters has no element 2, its last is 1'],
    ['map: counters, key: one, member: packets', 'counters.key: an integer is expected, not "one"'],
    ['map: counters, key: 1, member: "[", ', "'[' is not a member such as packets, rx.bytes or hits[2]"],
    // 256 in the object, 64 in this testbed.
    ['map: rxcnt, key: 64', 'map rxcnt has no element 64, its last is 63'],
    ['map: rxcnt, key: 1, cpu: 0', 'map rxcnt is a BPF_MAP_TYPE_ARRAY, not per CPU'],
    ['map: blocked, key: { prefixlen: 8, adress: 10.0.0.0 }', "did you mean 'address'?"],
    ['map: events, key: 0', 'map events is a BPF_MAP_TYPE_RINGBUF and has no keys'],
    ['map: rxcnt, key: 1, value: audit', 'exactly one of value, map must be there'],
    ['map: rxcnt, key: 1, code: x', "'rxcnt' is no rejection of the verifier"],
    ['value: audit, key: 1', "'key' is of a map, and there is no 'map'"],
    ['value: audit, code: x', "'audit' is no rejection of the verifier"],
  ])('%s', async (check, message) => {
    const text = `${check.replace(/, $/, '')}, equals: 1`;
    await expect(resolve([text])).rejects.toThrow(message);
  });

  it.each([
    ['equals: 1.5', 'expected an integer or a string, found 1.5'],
    ['equals: 1e30', '1e+30 is not an exact integer (write all of its digits)'],
    ['equals: many', "'many' is not an integer"],
    ['equals: true', 'expected an integer or a string, found true'],
    ['between: ["9007199254740993", "9007199254740992"]', '9007199254740993 is more than 9007199254740992'],
  ])('%s', async (demand, message) => {
    await expect(resolve([`map: rxcnt, key: 1, ${demand}`])).rejects.toThrow(message);
  });

  it('of a counter, below 0', async () => {
    await expect(resolve(['value: audit, equals: -1'])).rejects.toThrow(
      '-1 is out of range: it must be >= 0',
    );
  });
});

describe('an expectation on the verifier', () => {
  const record = {
    time: 0,
    guest: 'guest0',
    nic: 'eth0',
    command: 'BPF/PROG_LOAD',
    outcome: 'error-ack',
  } as const;
  const run: RunResult = {
    ...exampleRun('redirect/xdp1/host', { guests: 2 }),
    audit: [
      { ...record, reason: 'rejected: by abstract', code: 'out-of-time' },
      { ...record, reason: 'rejected: by abstract', code: 'program-too-long' },
      { ...record, guest: 'guest1', reason: 'rejected: by abstract', code: 'out-of-time' },
      { ...record, reason: 'denied: by quota' },
    ],
  };
  const problems = (check: object, of = run): readonly string[] =>
    evaluateCheck({ kind: 'expect', ...check }, [of]).problems;

  it.each([
    [{ value: 'verifier.accepted' }, 2],
    [{ value: 'verifier.accepted', guest: 'guest1' }, 1],
    [{ value: 'verifier.rejected' }, 3],
    [{ value: 'verifier.rejected', code: 'out-of-time' }, 2],
    [{ value: 'verifier.rejected', code: 'out-of-time', guest: 'guest0' }, 1],
    [{ value: 'verifier.rejected', code: 'program-empty' }, 0],
  ])('%j is %d', (check, number) => {
    expect(problems({ ...check, equals: number })).toEqual([]);
    expect(problems({ ...check, equals: number + 1 })).toHaveLength(1);
  });

  it('counts no program as accepted that its guest runs itself', () => {
    expect(problems({ value: 'verifier.accepted', equals: 0 }, exampleRun('redirect/xdp1/guest'))).toEqual(
      [],
    );
  });

  it('does not count where records were left out', () => {
    const some = { ...run, dropped: { rulings: 0, audit: 1 } };
    expect(problems({ value: 'verifier.rejected', 'at-least': 0 }, some)).toEqual([
      "redirect/xdp1/host: 'verifier.rejected' is not a counter of this run",
    ]);
  });
});
