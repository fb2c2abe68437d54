import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { probeBpf } from '../src/linux/index.js';
import { InstalledPackage } from './installed-package.js';

const kernel = probeBpf().status === 'supported';

/** Of the packed build: `npm test` builds first. */
describe('plugins in packages of their own, against the packed tarball', () => {
  let installed: InstalledPackage;
  beforeAll(() => {
    installed = new InstalledPackage([
      'blocklist-tests',
      'xdpbed-plugin-fabric-vepa',
      'xdpbed-plugin-reporter-totals',
      'xdpbed-plugin-verifier-prog-load',
      'xdpbed-plugin-workload-dns-queries',
    ]);
    // Their authors' type-check: by the declarations of the tarball.
    installed.compile();
  }, 120_000);
  afterAll(() => installed.remove());

  it('pass the conformance suites, all of them where there is a kernel to ask', () => {
    const { numTotalTests, numPassedTests } = installed.test();
    expect(numTotalTests).toBeGreaterThan(kernel ? 120 : 90);
    // Those that need one, or root, are skipped elsewhere; a test that fails has thrown.
    if (kernel && process.geteuid?.() === 0) expect(numPassedTests).toBe(numTotalTests);
  });

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
