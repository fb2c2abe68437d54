import { afterEach, beforeEach, describe } from 'vitest';
import { arrayCases } from './array-cases.js';
import { creationCases } from './creation-cases.js';
import { everyTypeCases } from './every-type-cases.js';
import { fdMapCases } from './fd-map-cases.js';
import { hashCases } from './hash-cases.js';
import { lpmTrieCases } from './lpm-trie-cases.js';
import { queueCases } from './queue-cases.js';
import { redirectMapCases } from './redirect-map-cases.js';
import { MapBench, type MapBackendUnderTest, type MapConformanceOptions } from './map-bench.js';

/**
 * What bpf(2) promises of each map type: results and -errno. Every expectation was checked on Linux 6.18
 * (x86-64, root), so that a backend on a real kernel passes the same suite.
 */
export function mapBackendConformance(
  name: string,
  makeBackend: () => MapBackendUnderTest,
  options: MapConformanceOptions = {},
): void {
  describe(`map backend ${name}: bpf(2)`, () => {
    const bench = new MapBench(makeBackend, options);
    beforeEach(() => bench.setUp());
    afterEach(() => bench.tearDown());

    creationCases(bench);
    everyTypeCases(bench);
    arrayCases(bench);
    hashCases(bench);
    lpmTrieCases(bench);
    queueCases(bench);
    fdMapCases(bench);
    redirectMapCases(bench);
  });
}
