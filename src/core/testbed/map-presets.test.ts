import { describe, expect, it } from 'vitest';
import { entryToText } from '../../bpf/map-entry-text.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { decodeRunSpec, encodeRunSpec } from '../run/run-spec-codec.js';
import { resolveTestbed } from './resolve-testbed.js';

const file = new URL('../../../testbeds/presets.testbed.yaml', import.meta.url).pathname;

/** `maps` of a program of g0, which has four CPUs where the host has two. */
function text(object: string, maps: string, nic = 'placement: guest', more = ''): string {
  return `version: 1
name: presets
programs: { own: { object: programs/${object}.o, maps: ${maps} ${more} } }
host:
  case: bridge
  cpus: 2
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { cpus: 4, nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: own, ${nic} } } } }
`;
}

async function presets(...args: Parameters<typeof text>): Promise<unknown> {
  const { runs } = await resolveTestbed(file, text(...args), new PluginRegistry(BUILT_IN_PLUGINS));
  const [run] = runs;
  // What another process is told.
  expect(decodeRunSpec(encodeRunSpec(run!))).toEqual(run);
  const { presets: own } = run!.plan.programs['own']!;
  return Object.fromEntries(Object.entries(own).map(([name, entries]) => [name, entries.map(entryToText)]));
}

describe('content of maps in a testbed', () => {
  it('is of every CPU, or of those that are named', async () => {
    // `struct traffic`: packets and bytes, 64 bits each.
    const maps =
      '{ counters: [{ key: 0, value: { packets: 1 } }, { key: 1, cpus: { 3: { bytes: 2 }, 0: { packets: { ifindex: tap0 } } } }] }';
    expect(await presets('blocklist', maps)).toEqual({
      counters: [
        { key: '00000000', value: `01${'00'.repeat(15)}` },
        {
          key: '01000000',
          cpuValues: [
            { cpu: 0, value: `03${'00'.repeat(15)}` },
            { cpu: 3, value: `${'00'.repeat(8)}02${'00'.repeat(7)}` },
          ],
        },
      ],
    });
  });

  it('is of global variables by name, and others keep what the object gives them', async () => {
    const maps = '{ .data: { min_len: 100 }, .bss: { buckets: [0, { ifindex: tap0 }] } }';
    const bss = Buffer.alloc(88);
    const content = (await presets('globals', maps)) as Record<string, { key: string; value: string }[]>;
    expect(Object.keys(content)).toEqual(['.data', '.bss']);
    // min_len u64, then seed u32.
    expect(content['.data']).toEqual([{ key: '00000000', value: '6400000000000000b979379e' }]);
    bss.set([3], Buffer.from(content['.bss']![0]!.value, 'hex').indexOf(3));
    expect(content['.bss']).toEqual([{ key: '00000000', value: bss.toString('hex') }]);
  });

  it('is maps and programs of the object by name', async () => {
    expect(await presets('map_in_map', '{ by_family: [{ key: 1, value: counts_v6 }] }')).toEqual({
      by_family: [{ key: '01000000', mapName: 'counts_v6' }],
    });
    const section = ', section: tail_entry';
    expect(await presets('tail_chain', '{ stages: [{ key: 0, value: stage4 }] }', '', section)).toEqual({
      stages: [{ key: '00000000', programName: 'stage4' }],
    });
  });

  // What is wrong is behind the mark.
  it.each([
    [
      'blocklist',
      '{ counters: [{ key: 0, cpus: { ¦4: {} } }] }',
      '',
      "counters[0].cpus: there is no CPU 4; there are 0 to 3 (set 'guests.g0.cpus')",
    ],
    [
      'blocklist',
      '{ counters: [{ key: 0, cpus: { ¦2: {} } }] }',
      'placement: host',
      "counters[0].cpus: there is no CPU 2; there are 0 to 1 (set 'host.cpus')",
    ],
    [
      'blocklist',
      '{ counters: [{ key: 0, cpus: { ¦2: {} } }] }',
      'requests: { load: own }',
      "counters[0].cpus: there is no CPU 2; there are 0 to 1 (set 'host.cpus')",
    ],
    [
      'blocklist',
      '{ blocked: [{ key: { prefixlen: 8 }, cpus: ¦{ 0: 1 } }] }',
      '',
      "blocked[0].cpus: map blocked is a BPF_MAP_TYPE_LPM_TRIE, not per CPU (give 'value' instead of 'cpus')",
    ],
    [
      'blocklist',
      '{ counters: [¦{ key: 0, value: {}, cpus: { 0: {} } }] }',
      '',
      'counters[0] is neither { key: …, value: … } nor { key: …, cpus: … }',
    ],
    [
      'blocklist',
      '{ counters: [¦{ key: 0 }] }',
      '',
      'counters[0] is neither { key: …, value: … } nor { key: …, cpus: … }',
    ],
    [
      'blocklist',
      '{ counters: [{ key: ¦2, value: {} }] }',
      '',
      'map counters has no element 2, its last is 1',
    ],
    [
      'blocklist',
      '{ counters: ¦{ packets: 1 } }',
      '',
      'counters: a list of { key: …, value: … } is expected',
    ],
    [
      'blocklist',
      '{ ¦events: [] }',
      '',
      'events is a BPF_MAP_TYPE_RINGBUF: what is in it only programs send',
    ],
    [
      'globals',
      '{ .bss: { ¦packet: 1 } }',
      '',
      ".bss.packet: there is no variable packet, but buckets, packets, bytes, last_ns (did you mean 'packets'?)",
    ],
    [
      'globals',
      '{ .rodata: { drop_short: ¦256 } }',
      '',
      '.rodata.drop_short: 256 does not fit in 8 unsigned bits',
    ],
    ['globals', '{ .bss: ¦5 }', '', 'expected an array or an object, found 5 (a list of'],
    [
      'map_in_map',
      '{ by_family: [{ key: 1, value: ¦counts_v5 }] }',
      '',
      "by_family[0].value: the object has no map 'counts_v5' (did you mean 'counts_v4'?)",
    ],
    [
      'map_in_map',
      '{ by_family: [{ key: 1, value: ¦1 }] }',
      '',
      'by_family[0].value: the name of a map of the object is expected (maps: counts_v4, counts_v6, by_family',
    ],
    [
      'map_in_map',
      '{ by_family: [{ key: 1, value: ¦queue0 }] }',
      '',
      'by_family[0].value: map queue0, a BPF_MAP_TYPE_HASH of 4 + 8 bytes, is not like those that by_family holds: BPF_MAP_TYPE_ARRAY of 4 + 8 bytes',
    ],
    [
      'tail_chain',
      '{ stages: [{ key: 1, value: ¦stage5 }] }',
      '',
      "stages[0].value: the object has no program 'stage5' (did you mean 'stage1'?)",
    ],
  ])('of %s, %s with %s is refused', async (object, marked, nic, message) => {
    const more = object === 'tail_chain' ? ', section: tail_entry' : '';
    const column = text(object, marked, nic).split('\n')[2]!.indexOf('¦') + 1;
    const refused = presets(object, marked.replace('¦', ''), nic, more);
    await expect(refused).rejects.toThrow(`:3:${column}: ${message}`);
  });

  it('is set by a variant of a matrix', async () => {
    const matrix = `matrix: { drop: { no: {}, yes: { programs.own.maps: { .rodata: { drop_short: 0 } } } } }`;
    const { runs } = await resolveTestbed(
      file,
      text('globals', '{ .data: { min_len: 1 } }') + matrix,
      new PluginRegistry(BUILT_IN_PLUGINS),
    );
    const maps = runs.map(({ plan }) => Object.keys(plan.programs['own']!.presets));
    expect(maps).toEqual([['.data'], ['.rodata']]);
  });

  it('may be of as many elements as the testbed says', async () => {
    const maps = '{ counters: [{ key: 4, value: {} }] }';
    const sizes = (count: number): string => `, max-entries: { counters: ${count} }`;
    expect(await presets('blocklist', maps, '', sizes(5))).toHaveProperty('counters');
    await expect(presets('blocklist', maps, '', sizes(4))).rejects.toThrow('its last is 3');
  });
});
