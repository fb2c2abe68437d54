import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InstalledPackage } from './installed-package.js';

/** Of the packed build: `npm test` builds first. */
describe('plugins in packages of their own, against the packed tarball', () => {
  let installed: InstalledPackage;
  beforeAll(() => {
    installed = new InstalledPackage(['xdpbed-plugin-workload-dns-queries', 'xdpbed-plugin-reporter-totals']);
  }, 60_000);
  afterAll(() => installed.remove());

  it('are type-checked by its declarations, pass its conformance suites, and run by its command', () => {
    installed.compile();

    const report = JSON.parse(installed.test()) as { numPassedTests: number; numTotalTests: number };
    expect(report.numTotalTests).toBeGreaterThan(20);
    expect(report.numPassedTests).toBe(report.numTotalTests);

    const programs = 'node_modules/xdpbed/testbeds/programs';
    writeFileSync(
      join(installed.folder, 'own.testbed.yaml'),
      `version: 1
name: own
plugins: { reporter: { use: totals, config: { unit: queries } } }
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
    expect(installed.xdpbed('run', 'own.testbed.yaml')).toBe('own: 1 runs, 12 queries\n');
    expect(installed.xdpbed('plugins', 'show', 'workload', 'dns-queries')).toContain('"default": 100');
  });
});
