import { cpSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROLES } from '../src/core/contract/plugin.js';
import { probeBpf } from '../src/linux/index.js';
import { InstalledPackage } from './installed-package.js';

const kernel = probeBpf().status === 'supported';

const PACKAGES = [
  'blocklist-tests',
  'xdpbed-plugin-executor-plain',
  'xdpbed-plugin-fabric-vepa',
  'xdpbed-plugin-reporter-totals',
  'xdpbed-plugin-verifier-prog-load',
  'xdpbed-plugin-workload-dns-queries',
];
/** Pages whose examples are type-checked and run. */
const PAGES = ['docs/tutorial.md', 'docs/unit-tests.md', ...ROLES.map((role) => `docs/roles/${role}.md`)];

/** Their suites leave out what does not concern them: an executor of few features, types of maps. */
const NOT_ALL: ReadonlySet<string> = new Set([
  'xdpbed-plugin-executor-plain',
  'docs-roles-executor',
  'docs-roles-map-backend',
]);

function folderOf(page: string): string {
  return page.replace(/\.md$/, '').replaceAll('/', '-');
}

/** Of the packed build: `npm test` builds first. */
describe('plugins in packages of their own, against the packed tarball', () => {
  let installed: InstalledPackage;
  beforeAll(() => {
    installed = new InstalledPackage(PACKAGES);
    for (const page of PAGES) installed.addExamplesOf(page);
    // What the examples of docs/tutorial.md and docs/unit-tests.md read.
    for (const name of ['programs', 'calibration', 'rfc-2019.testbed.yaml', 'blocklist.testbed.yaml']) {
      cpSync(join(installed.folder, 'node_modules/xdpbed/testbeds', name), join(installed.folder, name), {
        recursive: true,
      });
    }
    for (const object of ['blocklist.o', 'globals.o', 'map_in_map.o', 'tail_chain.o']) {
      cpSync(join(installed.folder, 'programs', object), join(installed.folder, object));
    }
    // Their authors' type-check: by the declarations of the tarball.
    installed.compile();
  }, 120_000);
  afterAll(() => installed.remove());

  it('pass the conformance suites, all of them where there is a kernel to ask', () => {
    // A test that fails has thrown.
    const { testResults } = installed.test();
    const passed = new Map<string, number>();
    const skipped: string[] = [];
    for (const { name, assertionResults } of testResults) {
      const own = relative(join(installed.folder, 'packages'), name).split('/')[0]!;
      passed.set(
        own,
        (passed.get(own) ?? 0) + assertionResults.filter(({ status }) => status === 'passed').length,
      );
      if (NOT_ALL.has(own)) continue;
      skipped.push(...assertionResults.flatMap((test) => (test.status === 'passed' ? [] : [test.fullName])));
    }
    expect([...passed.keys()].toSorted()).toEqual([...PACKAGES, ...PAGES.map(folderOf)].toSorted());
    expect(passed.get('xdpbed-plugin-executor-plain')).toBeGreaterThan(100);
    // Those that need a kernel, or root, are skipped elsewhere.
    if (kernel && process.geteuid?.() === 0) expect(skipped).toEqual([]);
  }, 180_000);

  /** One guest that offloads a program, with all plugins but the named verifier from packages. */
  function testbed(verifier: string): string {
    const programs = 'node_modules/xdpbed/testbeds/programs';
    const file = `${verifier}.testbed.yaml`;
    writeFileSync(
      join(installed.folder, file),
      `version: 1
name: own
plugins:
  fabric: { use: vepa }
  verifier: { use: ${verifier} }
  reporter: { use: totals, config: { unit: queries } }
programs: { count: { object: ${programs}/xdp1.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count, placement: host } } } }
workload: { use: dns-queries, config: { count: 12 } }
checks: [{ kind: expect, value: ends.xdp-drop, equals: 12 }]
`,
    );
    return file;
  }

  it('are run by the installed command', () => {
    expect(installed.xdpbed('run', testbed('abstract'))).toBe('own: 1 runs, 12 queries\n');
    expect(installed.xdpbed('plugins', 'show', 'workload', 'dns-queries')).toContain('"default": 100');
  });

  it('ask the running kernel, or are told apart from those that can work here', () => {
    const run = () => installed.xdpbed('run', testbed('prog-load'));
    if (kernel) expect(run()).toBe('own: 1 runs, 12 queries\n');
    else expect(run).toThrow('plugin verifier prog-load cannot work here');
  });
});
