import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { policyConformance } from '../../src/conformance/policy/index.js';
import type { HostUsage, PolicyRequest } from '../../src/core/contract/policy.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import { checkQuota, Quota, QuotaConfig } from './quota.js';

const withDefaults = (config: object): QuotaConfig =>
  Value.Parse(QuotaConfig, Value.Default(QuotaConfig, config));
const MAP = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, maxEntries: 100, flags: 0 };

function create(
  usage: Partial<HostUsage> = {},
  total: Partial<HostUsage> = usage,
  memoryBytes = 1000,
): PolicyRequest {
  return {
    id: 1,
    time: 0,
    guest: 'g',
    nic: 'eth0',
    usage: { ...NO_USAGE, ...usage },
    totalUsage: { ...NO_USAGE, ...total },
    operation: 'map-create',
    map: MAP,
    memoryBytes,
  };
}

function load(insnCount: number, usage: Partial<HostUsage> = {}): PolicyRequest {
  const whole = { ...NO_USAGE, ...usage };
  const program = { insnCount, helpers: [], mapTypes: [], gplCompatible: true };
  return {
    id: 1,
    time: 0,
    guest: 'g',
    nic: 'eth0',
    usage: whole,
    totalUsage: whole,
    operation: 'program-load',
    program,
  };
}

policyConformance('quota', () => new Quota(withDefaults({})));

describe('quota', () => {
  it('fills in every default, at every depth', () => {
    const config = withDefaults({ 'per-guest': { maps: 1 } });
    expect(config['per-guest'].maps).toBe(1);
    expect(config['per-guest'].entries).toBe(1_048_576);
    expect(config.total.maps).toBe(1024);
    expect(config['insns-per-program']).toBe(4096);
  });

  it('allows up to the limit and denies the first beyond it, naming thing and limit', () => {
    const quota = new Quota(withDefaults({ 'per-guest': { maps: 2 } }));
    expect(quota.rule(create({ maps: 1 })).ruling).toBe('allow');
    expect(quota.rule(create({ maps: 2 }))).toEqual({
      ruling: 'deny',
      reason: '3 maps of guest g exceed the quota of 2',
      toGuest: '3 maps of guest g exceed the quota of 2',
      breaches: [{ rule: 'per-guest.maps', limit: 2, asked: 1, held: 2, at: ['per-guest', 'maps'] }],
    });
  });

  it('names every limit in the way, the guest’s and the total', () => {
    const quota = new Quota(withDefaults({ 'per-guest': { entries: 99 }, total: { 'map-memory': 999 } }));
    expect(quota.rule(create())).toEqual({
      ruling: 'deny',
      reason:
        '100 map entries of guest g exceed the quota of 99; 1000 bytes of map memory of all guests exceed the quota of 999',
      // Of what all hold together a guest is told no number: less its own, it is what others hold.
      toGuest: '100 map entries of guest g exceed the quota of 99',
      breaches: [
        { rule: 'per-guest.entries', limit: 99, asked: 100, held: 0, at: ['per-guest', 'entries'] },
        { rule: 'total.map-memory', limit: 999, asked: 1000, held: 0, at: ['total', 'map-memory'] },
      ],
    });
  });

  it('goes by what is said of a single guest, and by the rest for all', () => {
    const quota = new Quota(
      withDefaults({ 'per-guest': { maps: 1, entries: 50 }, guests: { g: { maps: 3 }, other: { maps: 9 } } }),
    );
    expect(quota.rule(create({ maps: 3 }))).toMatchObject({
      breaches: [
        { rule: 'per-guest.maps', limit: 3, at: ['guests', 'g', 'maps'] },
        { rule: 'per-guest.entries', limit: 50, at: ['per-guest', 'entries'] },
      ],
    });
    expect(quota.rule({ ...create({ maps: 1 }), guest: 'constructor' })).toMatchObject({
      breaches: [{ rule: 'per-guest.maps', limit: 1 }, { rule: 'per-guest.entries' }],
    });
  });

  it('knows the guests of its testbed', () => {
    const config = withDefaults({ guests: { alice: {}, bo: {} } });
    expect(checkQuota(config, { guests: ['alice', 'bob'], countsWork: false })).toEqual([
      { path: ['guests', 'bo'], message: "there is no guest 'bo'", hint: "did you mean 'bob'?" },
    ]);
  });

  it('counts what other guests hold against the total only', () => {
    const quota = new Quota(withDefaults({ 'per-guest': { maps: 5 }, total: { maps: 5 } }));
    expect(quota.rule(create({}, { maps: 4 })).ruling).toBe('allow');
    expect(quota.rule(create({}, { maps: 5 })).ruling).toBe('deny');
  });

  it('denies a cost that is no number', () => {
    expect(new Quota(withDefaults({})).rule(create({}, {}, NaN)).ruling).toBe('deny');
  });

  it('limits programs: how many, how long each, how long together', () => {
    const quota = new Quota(withDefaults({ 'per-guest': { programs: 1, insns: 5000 } }));
    expect(quota.rule(load(4096)).ruling).toBe('allow');
    expect(quota.rule(load(4097))).toEqual({
      ruling: 'deny',
      reason: '4097 insns exceed the quota of 4096 for one program',
      toGuest: '4097 insns exceed the quota of 4096 for one program',
      breaches: [{ rule: 'insns-per-program', limit: 4096, asked: 4097, at: ['insns-per-program'] }],
    });
    expect(quota.rule(load(10, { programs: 1 })).reason).toContain(
      '2 programs of guest g exceed the quota of 1',
    );
    expect(quota.rule(load(4000, { insns: 1001 })).reason).toContain('5001 insns of guest g');
  });

  it('refuses a config with an unknown key or a negative limit', () => {
    expect(Value.Check(QuotaConfig, { ...withDefaults({}), more: 1 })).toBe(false);
    expect(Value.Check(QuotaConfig, { ...withDefaults({}), 'insns-per-program': -1 })).toBe(false);
  });
});
