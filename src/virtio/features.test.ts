import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkAcceptedFeatures,
  checkFeatures,
  FEATURE_BITS,
  featureNames,
  featureSet,
  hasFeature,
  negotiateFeatures,
  parseFeatureNames,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_XDP_OFFLOAD,
} from './features.js';

describe('feature bits', () => {
  it('have the numbers of virtio 1.3, sections 5.1.3 and 6', () => {
    expect(FEATURE_BITS).toMatchObject({
      VIRTIO_NET_F_CSUM: 0,
      VIRTIO_NET_F_MTU: 3,
      VIRTIO_NET_F_MAC: 5,
      VIRTIO_NET_F_MRG_RXBUF: 15,
      VIRTIO_NET_F_STATUS: 16,
      VIRTIO_NET_F_CTRL_VQ: 17,
      VIRTIO_NET_F_GUEST_ANNOUNCE: 21,
      VIRTIO_NET_F_MQ: 22,
      VIRTIO_NET_F_CTRL_MAC_ADDR: 23,
      VIRTIO_F_INDIRECT_DESC: 28,
      VIRTIO_F_EVENT_IDX: 29,
      VIRTIO_F_VERSION_1: 32,
      VIRTIO_F_RING_PACKED: 34,
      VIRTIO_F_RING_RESET: 40,
      VIRTIO_NET_F_NOTF_COAL: 53,
      VIRTIO_NET_F_RSS: 60,
      VIRTIO_NET_F_SPEED_DUPLEX: 63,
    });
    expect(new Set(Object.values(FEATURE_BITS)).size).toBe(Object.keys(FEATURE_BITS).length);
  });

  it('round-trip through names, and unknown bits keep their number', () => {
    const names = Object.keys(FEATURE_BITS);
    const parsed = parseFeatureNames(names);
    if (!parsed.ok) throw new Error(parsed.unknown.join());
    expect(featureNames(parsed.features).sort()).toEqual(names.sort());
    expect(featureNames(featureSet(0, 126))).toEqual(['VIRTIO_NET_F_CSUM', 'bit 126']);
    expect(hasFeature(featureSet(127), 127)).toBe(true);
    expect(parseFeatureNames(['VIRTIO_NET_F_MAC', 'VIRTIO_NET_F_XPD', 'toString'])).toEqual({
      ok: false,
      unknown: ['VIRTIO_NET_F_XPD', 'toString'],
    });
  });
});

describe('rules between features', () => {
  const problemsOf = (...bits: number[]): string[] =>
    checkFeatures(featureSet(VIRTIO_F_VERSION_1, ...bits)).map(({ message }) => message);

  it('are those of virtio 1.3, 5.1.3.1', () => {
    expect(problemsOf(VIRTIO_NET_F_MQ)).toEqual(['VIRTIO_NET_F_MQ requires VIRTIO_NET_F_CTRL_VQ']);
    expect(problemsOf(VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ)).toEqual([]);
    expect(problemsOf(VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO6)).toEqual([
      'VIRTIO_NET_F_GUEST_TSO6 requires VIRTIO_NET_F_GUEST_CSUM',
    ]);
    expect(problemsOf(VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM)).toEqual([]);
    expect(problemsOf(VIRTIO_NET_F_HASH_TUNNEL, VIRTIO_NET_F_CTRL_VQ)).toEqual([
      'VIRTIO_NET_F_HASH_TUNNEL requires VIRTIO_NET_F_RSS or VIRTIO_NET_F_HASH_REPORT',
    ]);
    expect(problemsOf(VIRTIO_NET_F_HASH_TUNNEL, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_HASH_REPORT)).toEqual([]);
    expect(problemsOf(VIRTIO_NET_F_XDP_OFFLOAD)).toEqual([
      'VIRTIO_NET_F_XDP_OFFLOAD requires VIRTIO_NET_F_CTRL_VQ',
    ]);
    expect(checkFeatures(0n).map(({ kind }) => kind)).toEqual(['version-1-missing']);
  });

  it('keep XDP offload and coalescing apart, which share control class 6', () => {
    const both = featureSet(
      VIRTIO_F_VERSION_1,
      VIRTIO_NET_F_CTRL_VQ,
      VIRTIO_NET_F_XDP_OFFLOAD,
      VIRTIO_NET_F_NOTF_COAL,
    );
    expect(checkFeatures(both)).toEqual([]); // a device may offer both
    expect(checkAcceptedFeatures(both, both).map(({ kind }) => kind)).toEqual(['conflicts']);
    expect(featureNames(negotiateFeatures(both, both))).not.toContain('VIRTIO_NET_F_NOTF_COAL');
  });

  it('refuse what was not offered', () => {
    const offered = featureSet(VIRTIO_F_VERSION_1);
    const accepted = featureSet(VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX);
    expect(checkAcceptedFeatures(offered, accepted)).toMatchObject([
      { kind: 'not-offered', feature: VIRTIO_F_EVENT_IDX },
    ]);
  });

  it('are met by whatever is negotiated, and negotiation drops no more than it must', () => {
    const set = fc
      .subarray(Object.values(FEATURE_BITS))
      .map((bits) => featureSet(VIRTIO_F_VERSION_1, ...bits));
    fc.assert(
      fc.property(set, set, (offered, supported) => {
        const accepted = negotiateFeatures(offered, supported);
        expect(checkAcceptedFeatures(offered, accepted)).toEqual([]);
        expect(accepted & ~supported).toBe(0n);
        const common = offered & supported;
        for (let bit = 0n; bit < 64n; bit++) {
          const dropped = ((common & ~accepted) >> bit) & 1n;
          if (dropped === 1n) {
            expect(checkAcceptedFeatures(offered, accepted | (1n << bit)).length).toBeGreaterThan(0);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
