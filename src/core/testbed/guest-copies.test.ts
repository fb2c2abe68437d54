import { describe, expect, it } from 'vitest';
import { entryToText } from '../../bpf/map-entry-text.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { MAX_VALUES } from './count-values.js';
import { copyGuests } from './guest-copies.js';
import { resolveTestbed, type ResolvedTestbed } from './resolve-testbed.js';

const file = new URL('../../../testbeds/guests.testbed.yaml', import.meta.url).pathname;
const TEXT = `
version: 1
name: guests
programs:
  xdp1: { object: programs/xdp1.o }
  to-tap:
    object: programs/xdp_redirect.o
    maps:
      fdb:
        - { key: { mac: other.eth0 }, value: 200 }
        - { key: { mac: guest.eth0 }, value: { index: guest } }
      tx_port:
        - { key: { index: guest }, value: { ifindex: tap } }
        - { key: 200, value: { ifindex: side } }
host:
  case: redirect
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap: { ring: 64 }, side: {} }
  bridges: { br0: { ports: [eth0, tap, side] } }
guests:
  guest:
    count: 3
    cpus: 2
    nics: { eth0: { tap: tap, mac: 52:54:00:00:01:FE, ipv4: 192.0.2.254, program: xdp1 } }
  other:
    nics: { eth0: { tap: side, mac: 52:54:00:00:09:00, program: xdp1 } }
measure: { nics: [other.eth0, guest.eth0], together: true }
matrix:
  guests:
    three: {}
    one: { guests.guest.count: 1 }
`;

function resolve(set: readonly string[] = [], text = TEXT): Promise<ResolvedTestbed> {
  return resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS), { set });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('a guest of which there are several', () => {
  it('is there as often, each with the next addresses and a tap of its own', async () => {
    const [three] = (await resolve(['host.case=bridge'])).runs;
    const { guests, host, measure } = three!.plan;
    expect(
      guests.map(({ name, cpus, nics }) => [name, cpus, nics[0]!.tap, nics[0]!.mac, nics[0]!.ipv4]),
    ).toEqual([
      ['guest0', 2, 'tap0', '52:54:00:00:01:fe', '192.0.2.254'],
      ['guest1', 2, 'tap1', '52:54:00:00:01:ff', '192.0.2.255'],
      ['guest2', 2, 'tap2', '52:54:00:00:02:00', '192.0.3.0'],
      ['other', 1, 'side', '52:54:00:00:09:00', '192.0.2.1'],
    ]);
    expect(host.taps.map(({ name, ring, ifindex }) => [name, ring, ifindex])).toEqual([
      ['tap0', 64, 3],
      ['tap1', 64, 4],
      ['tap2', 64, 5],
      ['side', 1024, 6],
    ]);
    expect(host.bridges).toEqual([{ name: 'br0', ports: ['eth0', 'tap0', 'tap1', 'tap2', 'side'] }]);
    expect(measure!.nics).toEqual(['other.eth0', 'guest0.eth0', 'guest1.eth0', 'guest2.eth0']);
  });

  it('has elements of map presets that name it once for each, and its number in them', async () => {
    const [three, one] = (await resolve()).runs;
    const presets = (run: typeof three) =>
      Object.entries(run!.plan.programs['to-tap']!.presets).map(([map, elements]) => [
        map,
        elements.map(entryToText).map((entry) => `${entry.key} ${'value' in entry ? entry.value : ''}`),
      ]);
    expect(presets(three)).toEqual([
      [
        'fdb',
        [
          '5254000009000000 c8000000',
          '5254000001fe0000 00000000',
          '5254000001ff0000 01000000',
          '5254000002000000 02000000',
        ],
      ],
      ['tx_port', ['00000000 03000000', '01000000 04000000', '02000000 05000000', 'c8000000 06000000']],
    ]);
    expect(one!.plan.guests.map(({ name }) => name)).toEqual(['guest0', 'other']);
    expect(presets(one)[1]).toEqual(['tx_port', ['00000000 03000000', 'c8000000 04000000']]);
  });

  it('is one with a number of 0 where no count is given', async () => {
    const text = TEXT.replace('    count: 3\n', '').replace(/matrix:[^]*/, '');
    const [run] = (await resolve([], text)).runs;
    expect(run!.plan.guests.map(({ name }) => name)).toEqual(['guest', 'other']);
    expect(hex(run!.plan.programs['to-tap']!.presets['tx_port']![0]!.key)).toBe('00000000');
  });

  it('is told apart in values of single CPUs, and not in global variables', async () => {
    const set = (maps: string) =>
      resolve([
        'guests.other.cpus=2',
        'programs.xdp1.object=programs/blocklist.o',
        `programs.xdp1.maps=${maps}`,
      ]);
    const each = '{ counters: [{ key: 1, cpus: { 1: { packets: { index: guest } } } }] }';
    const [three] = (await set(each)).runs;
    expect(three!.plan.programs['xdp1']!.presets['counters']!.map(entryToText)).toEqual(
      [0, 1, 2].map((index) => ({
        key: '01000000',
        cpuValues: [{ cpu: 1, value: `0${index}${'00'.repeat(15)}` }],
      })),
    );
    await expect(set('{ .bss: { unused: { index: guest } } }')).rejects.toThrow(
      "'guest' stands for 3 guests, and a global variable has one value",
    );
  });

  it.each([
    ['guests.guest.nics.eth0.tap=tip', "there is no tap 'tip' (did you mean 'tap'?)"],
    ['guests.guest.nics.eth0.program=xdp2', "there is no program 'xdp2' (did you mean 'xdp1'?)"],
    ['guests.other.nics.eth0.tap=tap', "tap 'tap' already backs guest.eth0"],
    ['guests.guest.count=0', 'guests.guest.count'],
    ['guests.guest.count=257', 'guests.guest.count'],
    ['guests.guest.count=two', 'guests.guest.count'],
    ['guests.guest1={ nics: {} }', "'guest1', one of the 3 that 'guest' stands for, is there already"],
    ['measure.nics=[guest3.eth0]', "there is no guest nic 'guest3.eth0'"],
  ])('has its mistakes told where they are written: %s', async (set, message) => {
    const text = TEXT.replace(/matrix:[^]*/, '');
    await expect(resolve([set], text)).rejects.toThrow(message);
    await expect(resolve([set], text)).rejects.toThrow(`--set ${set}`);
  });

  it('must leave the names of its copies to them', async () => {
    const text = TEXT.replace('side: {}', 'tap2: {}').replaceAll('side', 'tap2');
    await expect(resolve([], text)).rejects.toThrow(
      "yaml:18:16: 'tap2', one of the 3 that 'tap' stands for, is there already",
    );
  });

  it('has a mistake told once, and of its place in the file', async () => {
    const text = TEXT.replace('mac: guest.eth0', 'mac: guest.eth1').replace(
      'ports: [eth0, tap, side]',
      'ports: [eth0, tap, sade]',
    );
    const problems = await resolve([], text).then(
      () => [],
      (error: unknown) => String(error).split('\n'),
    );
    expect(problems.map((line) => line.replace(/^.*yaml/, ''))).toEqual([
      expect.stringMatching(/^:11:18: there is no interface 'guest0.eth1'/),
      expect.stringMatching(/^:11:18: there is no interface 'guest1.eth1'/),
      expect.stringMatching(/^:11:18: there is no interface 'guest2.eth1'/),
      expect.stringMatching(/^:19:40: there is no NIC, tap or bridge 'sade' \(did you mean 'side'\?\)/),
    ]);
  });

  it('is not copied beyond what a testbed may expand to', async () => {
    const guests = Array.from(
      { length: 30 },
      (_, index) =>
        `  g${index}x: { count: 256, nics: { eth0: &n${index} { tap: t, mac: 1, features: [${'a, '.repeat(100)}a] } } }`,
    );
    const text = `version: 1\nname: many\nhost: { case: bridge, nics: {}, taps: {} }\nguests:\n${guests.join('\n')}\n`;
    await expect(resolve([], text)).rejects.toThrow(`exceed the limit of ${MAX_VALUES} values`);
    expect(copyGuests({ guests: { g: { count: 200, nics: {} } } }, 100).problems).toHaveLength(1);
  });
});
