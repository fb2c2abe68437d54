import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { TestbedError } from './problem-list.js';
import { resolveTestbed } from './resolve-testbed.js';

const registry = new PluginRegistry(BUILT_IN_PLUGINS);
const object = new URL('../../../testbeds/programs/xdp1.o', import.meta.url).pathname;

/** A valid testbed, by section, each on lines of its own. */
const SECTIONS = {
  head: 'version: 1\nname: sections',
  programs: `programs:\n  count: { object: ${object} }`,
  host: `host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }`,
  guests: 'guests:\n  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count } } }',
  policies: 'policies:\n  - { use: quota }',
  workload: 'workload: { use: udp-flood }',
  plugins: 'plugins: { executor: { use: interpreter } }',
  matrix: 'matrix: { executor: { wasm: { plugins.executor.use: wasm } } }',
  checks: 'checks: [{ kind: conservation }]',
};
type Section = keyof typeof SECTIONS;

async function messages(changed: Partial<Record<Section, string>>): Promise<string[]> {
  const text = Object.values({ ...SECTIONS, ...changed }).join('\n');
  try {
    await resolveTestbed('/nowhere/t.yaml', text, registry);
    return [];
  } catch (error) {
    if (!(error instanceof TestbedError)) throw error;
    return error.problems.map((problem) => problem.message);
  }
}

/** One mistake in each section, as it is told when it is the only one. */
const MISTAKES: readonly [Section, string, string][] = [
  ['head', 'version: 2\nname: sections', 'expected 1, found 2'],
  ['head', 'version: 1\nname: sections\nseed: many', "expected an integer, found 'many'"],
  ['programs', 'programs: { count: { object: gone.o } }', 'gone.o: there is no such file'],
  ['programs', 'programs: { count: {} }', "'object' is missing in programs.count"],
  ['programs', 'programs: 5', 'expected an object, found 5'],
  ['host', SECTIONS.host.replace('bridge\n', 'brigde\n'), "'brigde' is not one of redirect, bridge"],
  ['host', SECTIONS.host.replace('tap0]', 'tap9]'), "there is no NIC, tap or bridge 'tap9'"],
  [
    'host',
    SECTIONS.host.replace('taps: { tap0: {} }', 'taps: { TAP: {}, tap0: {} }'),
    "'TAP' cannot be used",
  ],
  ['host', 'host: [bridge]', 'expected an object, found a list'],
  ['guests', SECTIONS.guests.replace('tap: tap0', 'tap: tap7'), "there is no tap 'tap7'"],
  ['guests', SECTIONS.guests.replace('tap: tap0, ', ''), "'tap' is missing in guests.g0.nics.eth0"],
  ['guests', 'guests: { g0: none }', "expected an object, found 'none'"],
  ['guests', 'guests: {}', 'at least 1 needed in guests'],
  ['policies', 'policies: [{ use: quotas }]', "no policy plugin is called 'quotas'"],
  ['policies', 'policies: [{ config: {} }]', "'use' is missing in policies.0"],
  ['policies', 'policies: [{ use: quota, config: { totl: {} } }]', "unknown key 'totl'"],
  ['workload', 'workload: { use: udp-flood, config: { frames: -1 } }', '-1 is out of range'],
  ['plugins', 'plugins: { transport: { use: virtqeue } }', "no transport plugin is called 'virtqeue'"],
  ['plugins', 'plugins: { fabric: { use: 1 } }', 'expected a string, found 1'],
  ['plugins', 'plugins: { reporter: { use: tabel } }', "no reporter plugin is called 'tabel'"],
  [
    'matrix',
    'matrix: { executor: { wasm: { plugins.executor.use: wsam } } }',
    "no executor plugin is called 'wsam'",
  ],
  ['matrix', 'matrix: { case: { bridge: { host.caes: bridge } } }', "unknown key 'caes'"],
  ['checks', 'checks: [{ kind: conversation }]', "'conversation' is not one of conservation"],
  ['checks', 'checks: [{ kind: same-across, axis: cas }]', "the matrix has no axis 'cas'"],
];

describe('a mistake in one section hides none in another, and has no consequences', () => {
  it('the testbed without mistakes has no problems', async () => {
    expect(await messages({})).toEqual([]);
  });

  it.each(MISTAKES)('%s: %j alone is one problem', async (section, text, message) => {
    expect(await messages({ [section]: text })).toEqual([expect.stringContaining(message)]);
  });

  const pairs = MISTAKES.flatMap((one, index) =>
    MISTAKES.slice(index + 1)
      .filter((other) => other[0] !== one[0])
      .map((other) => [one, other] as const),
  );
  // What cannot be read hides what is asked of it: programs and host the wiring between them, a host that is no
  // map the names of its keys.
  const noHost = 'host: [bridge]';
  const badTap = MISTAKES.find(([, , message]) => message.includes("'TAP'"))![1];
  const isHidden = ([, , message]: (typeof MISTAKES)[number], by: (typeof MISTAKES)[number]): boolean =>
    (/there is no (NIC|tap)/.test(message) && ['programs: 5', noHost, badTap].includes(by[1])) ||
    (message.includes('caes') && by[1] === noHost);

  it.each(pairs)('%j and %j are both told', async (one, other) => {
    const found = await messages({ [one[0]]: one[1], [other[0]]: other[1] });
    const expected = [...(isHidden(one, other) ? [] : [one[2]]), ...(isHidden(other, one) ? [] : [other[2]])];
    for (const message of expected) {
      expect(
        found.some((text) => text.includes(message)),
        `${message} among ${found.join(' | ')}`,
      ).toBe(true);
    }
    expect(found).toHaveLength(new Set(expected).size);
  });
});
