import { describe, expect, it } from 'vitest';
import { mapFlagNames } from '../../src/bpf/map-flags.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { policyConformance } from '../../src/conformance/policy/index.js';
import type { PolicyRequest } from '../../src/core/contract/policy.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { SchemaValidator } from '../../src/core/testbed/schema-validator.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import plugin from './index.js';
import { checkMapTypes, MapTypes, MapTypesConfig } from './map-types.js';

/** With defaults filled in, as a testbed's config is. */
function limits(config: object): MapTypes {
  const whole = structuredClone(config) as MapTypesConfig;
  expect(new SchemaValidator().validate(MapTypesConfig, whole, 'own')).toEqual([]);
  return new MapTypes(whole);
}

function create(map: Partial<MapAttributes> = {}, guest = 'alice'): PolicyRequest {
  return {
    id: 1,
    time: 0,
    guest,
    nic: 'eth0',
    usage: NO_USAGE,
    totalUsage: NO_USAGE,
    operation: 'map-create',
    map: {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 64,
      flags: 0,
      ...map,
    },
    memoryBytes: 1000,
  };
}

policyConformance('map-types', () => limits({}));

describe('map-types', () => {
  it('allows by default maps of what is the guest’s own, and none of the host’s interfaces, CPUs and sockets', () => {
    const policy = limits({});
    const { BPF_MAP_TYPE_LPM_TRIE: trie, BPF_MAP_TYPE_QUEUE: queue } = BPF_MAP_TYPE;
    for (const type of [1, 2, 3, 5, 6, 9, 10, trie, 12, 13, queue, 23]) {
      expect(policy.rule(create({ type })).ruling, String(type)).toBe('allow');
    }
    for (const type of [0, 4, 7, 8, 14, 15, 16, 17, 18, 25, 28, 99, 0xffff_ffff]) {
      expect(policy.rule(create({ type })).ruling, String(type)).toBe('deny');
    }
  });

  it('denies by default flags that name something of the host, weaken a hash, or that nobody knows', () => {
    const policy = limits({});
    expect(policy.rule(create({ flags: 0b1_1001_1011 })).ruling).toBe('allow');
    expect(policy.rule(create({ flags: (1 << 2) | (1 << 6) | (2 ** 31) }))).toMatchObject({
      ruling: 'deny',
      reason: 'BPF_F_NUMA_NODE, BPF_F_ZERO_SEED, 0x80000000 are not allowed',
      toGuest: 'BPF_F_NUMA_NODE, BPF_F_ZERO_SEED, 0x80000000 are not allowed',
      breaches: [
        { rule: 'flags', asked: ['BPF_F_NUMA_NODE', 'BPF_F_ZERO_SEED', '0x80000000'], at: ['flags'] },
      ],
    });
  });

  it('names everything in the way, with the limits of the type before those of any', () => {
    const policy = limits({
      types: ['BPF_MAP_TYPE_HASH'],
      entries: 63,
      'key-size': 3,
      'per-type': { BPF_MAP_TYPE_ARRAY: { 'value-size': 7, 'key-size': 4 } },
    });
    expect(policy.rule(create())).toEqual({
      ruling: 'deny',
      reason:
        'maps of type BPF_MAP_TYPE_ARRAY are not allowed; 8 bytes of value exceed the limit of 7; 64 entries exceed the limit of 63',
      toGuest:
        'maps of type BPF_MAP_TYPE_ARRAY are not allowed; 8 bytes of value exceed the limit of 7; 64 entries exceed the limit of 63',
      breaches: [
        { rule: 'types', limit: ['BPF_MAP_TYPE_HASH'], asked: ['BPF_MAP_TYPE_ARRAY'], at: ['types'] },
        { rule: 'value-size', limit: 7, asked: 8, at: ['per-type', 'BPF_MAP_TYPE_ARRAY', 'value-size'] },
        { rule: 'entries', limit: 63, asked: 64, at: ['entries'] },
      ],
    });
    expect(policy.rule(create({ type: 1, keySize: 3, maxEntries: 63 })).ruling).toBe('allow');
    expect(policy.rule(create({ type: 1 }))).toMatchObject({
      breaches: [{ rule: 'key-size', limit: 3 }, { rule: 'entries' }],
    });
  });

  it('goes by what is said of a single guest, and by the rest for all', () => {
    const policy = limits({ entries: 1, guests: { alice: { entries: 64 }, bob: { types: [] } } });
    expect(policy.rule(create()).ruling).toBe('allow');
    expect(policy.rule(create({ maxEntries: 65 }))).toMatchObject({
      breaches: [{ rule: 'entries', limit: 64, at: ['guests', 'alice', 'entries'] }],
    });
    expect(policy.rule(create({}, 'bob'))).toMatchObject({
      breaches: [
        { rule: 'types', limit: [], at: ['guests', 'bob', 'types'] },
        { rule: 'entries', limit: 1, at: ['entries'] },
      ],
    });
    expect(policy.rule(create({}, 'constructor')).ruling).toBe('deny');
  });

  it('takes a size that is no number for one beyond every limit', () => {
    expect(limits({ entries: 10 }).rule(create({ maxEntries: NaN })).ruling).toBe('deny');
  });

  it('knows the guests of its testbed', () => {
    expect(checkMapTypes({ guests: { eve: {} } }, { guests: ['eva'], countsWork: false })).toEqual([
      { path: ['guests', 'eve'], message: "there is no guest 'eve'", hint: "did you mean 'eva'?" },
    ]);
  });

  it('refuses a type and a flag that there are not, and a key that it does not know', () => {
    const problems = new SchemaValidator()
      .validate(MapTypesConfig, { types: ['BPF_MAP_TYPE_ARAY'], flags: ['BPF_F_RDONL'], entrys: 1 }, 'own')
      .map(({ message, hint }) => `${message} ${hint ?? ''}`);
    expect(problems.join('\n')).toMatch(/BPF_MAP_TYPE_ARAY[^]*did you mean 'BPF_MAP_TYPE_ARRAY'/);
    expect(problems.join('\n')).toMatch(/BPF_F_RDONL[^]*did you mean 'BPF_F_RDONLY'/);
    expect(problems.join('\n')).toMatch(/entrys[^]*did you mean 'entries'/);
  });

  it('is the built-in plugin of its name', async () => {
    const registry = new PluginRegistry(BUILT_IN_PLUGINS);
    const location = await registry.locate('policy', 'map-types', '/');
    expect(await registry.load('policy', 'map-types', location)).toBe(plugin);
  });
});

describe('the flags of a map by name', () => {
  it('are each bit once, lowest first, and the rest as a number', () => {
    expect(mapFlagNames(0)).toEqual([]);
    expect(mapFlagNames(1)).toEqual(['BPF_F_NO_PREALLOC']);
    expect(mapFlagNames(0x400 | 0x80)).toEqual(['BPF_F_RDONLY_PROG', 'BPF_F_MMAPABLE']);
    expect(mapFlagNames(0xfff8_0000)).toEqual(['0xfff80000']);
    expect(mapFlagNames(-1)).toHaveLength(20);
  });
});
