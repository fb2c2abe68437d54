import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { workloadConformance, workloadContext } from '../../src/conformance/workload/index.js';
import { WORKLOAD, type Workload, type WorkloadContext } from '../../src/core/contract/workload.js';
import { Scope } from '../../src/core/plugin/scope.js';
import {
  checkChecksums,
  dissect,
  findLayer,
  internetChecksum,
  pseudoHeaderSum,
} from '../../src/packet/index.js';
import plugin from './index.js';

/** The workload as a testbed makes it: schema, defaults and all. */
function imix(config: object = {}): Workload {
  const filled = structuredClone(config);
  const check = new Ajv({ useDefaults: true, strict: false }).compile(plugin.configSchema);
  if (!check(filled)) throw new Error(JSON.stringify(check.errors));
  const scope = new Scope('test');
  void plugin.register(scope, filled);
  return scope.resolve(WORKLOAD);
}

const MANY_KINDS = {
  frames: 700,
  mix: [
    { weight: 3 },
    { protocol: 'tcp', size: 1514 },
    { protocol: 'icmp' },
    { ip: 6, vlan: 100 },
    { protocol: 'icmp', ip: 6 },
  ],
};

workloadConformance('imix', () => imix());
workloadConformance('imix, many kinds', () => imix(MANY_KINDS));

const sizes = (workload: Workload, context: WorkloadContext) =>
  [...workload.frames(context)].map(({ bytes }) => bytes.length);

const tally = (items: readonly (string | number)[]) =>
  items.reduce<Record<string, number>>(
    (counts, item) => ({ ...counts, [item]: (counts[item] ?? 0) + 1 }),
    {},
  );

describe('imix', () => {
  it('is the simple IMIX by default: 7:4:1, exactly, whatever the seed', () => {
    for (const seed of [1, 2, 3]) {
      expect(tally(sizes(imix(), workloadContext({ seed })))).toEqual({ 60: 700, 590: 400, 1514: 100 });
    }
  });

  it('has the exact proportions after every round of 12', () => {
    const all = sizes(imix(), workloadContext());
    for (let start = 0; start < all.length; start += 12) {
      expect(tally(all.slice(start, start + 12))).toEqual({ 60: 7, 590: 4, 1514: 1 });
    }
  });

  it('takes the order from the seed, a new one for each round', () => {
    const first = sizes(imix(), workloadContext({ seed: 1 }));
    expect(sizes(imix(), workloadContext({ seed: 2 }))).not.toEqual(first);
    expect(first.slice(0, 12)).not.toEqual(first.slice(12, 24));
  });

  it('sends each protocol as often as its weight says', () => {
    const kinds = [...imix(MANY_KINDS).frames(workloadContext())].map(({ bytes }) => {
      const dissection = dissect(bytes);
      expect(dissection.malformed ?? dissection.missing).toBeUndefined();
      expect(Object.values(checkChecksums(bytes, dissection))).not.toContain('bad');
      const protocol =
        findLayer(dissection, 'ipv4')?.header.protocol ?? findLayer(dissection, 'ipv6')?.header.nextHeader;
      const tag = findLayer(dissection, 'vlan')?.header.id;
      return `${findLayer(dissection, 'ipv6') ? 6 : 4}/${protocol}/${tag ?? '-'}/${bytes.length}`;
    });
    // Seven cards a round, 100 rounds. UDP over IPv6 behind a tag needs 14 + 4 + 40 + 8 bytes, ICMPv6 62.
    expect(tally(kinds)).toEqual({
      '4/17/-/60': 300,
      '4/6/-/1514': 100,
      '4/1/-/60': 100,
      '6/17/100/66': 100,
      '6/58/-/62': 100,
    });
  });

  it('sends echo requests whose checksums hold', () => {
    const [v4] = [...imix({ frames: 1, mix: [{ protocol: 'icmp' }] }).frames(workloadContext())];
    // Type 8, the rest zeros: the sum is 0800, its complement f7ff.
    expect([...v4!.bytes.subarray(34, 42)]).toEqual([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);

    const [v6] = [...imix({ frames: 1, mix: [{ protocol: 'icmp', ip: 6 }] }).frames(workloadContext())];
    expect(v6!.bytes[54]).toBe(128);
    // A sum over everything, checksum included, is all ones; internetChecksum complements it.
    expect(internetChecksum(v6!.bytes, 54, 62, pseudoHeaderSum(v6!.bytes, 22, 32, 58, 8))).toBe(0);
  });

  it.each([
    { mix: [] },
    { mix: [{ weight: 0 }] },
    { mix: [{ size: 40 }] },
    { mix: [{ protocol: 'gre' }] },
    { mix: [{ sise: 60 }] },
    { rate: 0.5 },
  ])('refuses the config %j', (config) => {
    expect(() => imix(config)).toThrow();
  });

  it('refuses to send to nobody', () => {
    expect(() => [...imix().frames(workloadContext({ targets: 0 }))]).toThrow('no guest to send to');
  });
});
