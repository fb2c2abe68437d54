import { describe, expect, it } from 'vitest';
import { policyConformance } from '../../src/conformance/policy/index.js';
import type { Breach, PolicyRequest } from '../../src/core/contract/policy.js';
import type { ProgramProperties } from '../../src/core/contract/verifier.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { ProgramLimits, type ProgramLimitsConfig } from './program-limits.js';

const limits = (config: Partial<ProgramLimitsConfig>) =>
  new ProgramLimits({ 'write-packet': true, ...config });

const PROPERTIES: ProgramProperties = {
  helpers: [1],
  mapTypes: [2],
  writesPacket: true,
  verdicts: ['XDP_PASS', 'XDP_TX'],
  worstCaseInsns: 100,
  stackBytes: 64,
};

function attach(properties: ProgramProperties | undefined): PolicyRequest {
  const program = { insnCount: 10, helpers: [1], mapTypes: [2], gplCompatible: true };
  return {
    id: 1,
    time: 0,
    guest: 'g',
    nic: 'eth0',
    usage: NO_USAGE,
    totalUsage: NO_USAGE,
    operation: 'program-attach',
    program,
    properties,
  };
}

policyConformance('program-limits', () => limits({}));

describe('program-limits', () => {
  it('without limits allows what the verifier vouches for, and nothing else', () => {
    expect(limits({}).rule(attach(PROPERTIES)).ruling).toBe('allow');
    expect(limits({}).rule(attach(undefined))).toEqual({
      ruling: 'deny',
      reason: 'the verifier does not say what the program is able to do',
      toGuest: 'the verifier does not say what the program is able to do',
    });
  });

  it.each<[Partial<ProgramLimitsConfig>, string, Breach[]]>([
    [
      { verdicts: ['XDP_PASS', 'XDP_DROP'] },
      'it may return XDP_TX',
      [{ rule: 'verdicts', limit: ['XDP_PASS', 'XDP_DROP'], asked: ['XDP_TX'], at: ['verdicts'] }],
    ],
    [
      { helpers: ['bpf_ktime_get_ns'] },
      'it calls bpf_map_lookup_elem',
      [{ rule: 'helpers', limit: ['bpf_ktime_get_ns'], asked: ['bpf_map_lookup_elem'], at: ['helpers'] }],
    ],
    [
      { 'map-types': ['BPF_MAP_TYPE_HASH'] },
      'it uses BPF_MAP_TYPE_ARRAY',
      [
        {
          rule: 'map-types',
          limit: ['BPF_MAP_TYPE_HASH'],
          asked: ['BPF_MAP_TYPE_ARRAY'],
          at: ['map-types'],
        },
      ],
    ],
    [{ 'write-packet': false }, 'it writes the packet', [{ rule: 'write-packet', at: ['write-packet'] }]],
    [
      { 'insns-per-packet': 99 },
      '100 insns for a packet exceed the limit of 99',
      [{ rule: 'insns-per-packet', limit: 99, asked: 100, at: ['insns-per-packet'] }],
    ],
    [
      { stack: 63, 'write-packet': false },
      'it writes the packet; 64 bytes of stack exceed the limit of 63',
      [
        { rule: 'write-packet', at: ['write-packet'] },
        { rule: 'stack', limit: 63, asked: 64, at: ['stack'] },
      ],
    ],
  ])('%j denies: %s', (config, reason, breaches) => {
    expect(limits(config).rule(attach(PROPERTIES))).toEqual({
      ruling: 'deny',
      reason,
      toGuest: reason,
      breaches,
    });
  });

  it.each<Partial<ProgramLimitsConfig>>([
    { verdicts: ['XDP_PASS', 'XDP_TX'] },
    { helpers: ['bpf_map_lookup_elem'] },
    { 'map-types': ['BPF_MAP_TYPE_ARRAY'] },
    { 'insns-per-packet': 100 },
    { stack: 64 },
  ])('%j allows what just reaches the limit', (config) => {
    expect(limits(config).rule(attach(PROPERTIES)).ruling).toBe('allow');
  });

  it('counts a program that makes tail calls as often as it may follow itself', () => {
    const program = (worstCaseInsns: number) => attach({ ...PROPERTIES, helpers: [12], worstCaseInsns });
    const policy = limits({ 'insns-per-packet': 340 });
    expect(policy.rule(program(10)).ruling).toBe('allow');
    expect(policy.rule(program(11))).toEqual({
      ruling: 'deny',
      reason: '374 insns for a packet, with tail calls to 33 others, exceed the limit of 340',
      toGuest: '374 insns for a packet, with tail calls to 33 others, exceed the limit of 340',
      breaches: [{ rule: 'insns-per-packet', limit: 340, asked: 374, at: ['insns-per-packet'] }],
    });
  });

  it('counts a program that is put where tail calls lead as one of so many', () => {
    const policy = limits({ 'insns-per-packet': 340, stack: 0 });
    const put = (programs: object[] | undefined) =>
      policy.rule({ ...attach(PROPERTIES), operation: 'map-update', programs } as unknown as PolicyRequest);
    const target = (...insns: number[]) =>
      put(insns.map((worstCaseInsns) => ({ properties: { ...PROPERTIES, worstCaseInsns } })));
    expect(target(10).ruling).toBe('allow');
    expect(target(11)).toEqual({
      ruling: 'deny',
      reason: '374 insns for a packet, with tail calls to 33 others, exceed the limit of 340',
      toGuest: '374 insns for a packet, with tail calls to 33 others, exceed the limit of 340',
      breaches: [{ rule: 'insns-per-packet', limit: 340, asked: 374, at: ['insns-per-packet'] }],
    });
    expect(target(Infinity).ruling).toBe('deny');
    expect(target(NaN, 1).ruling).toBe('deny');
    // Of several that come in one batch, the longest.
    expect(target(10, 9).ruling).toBe('allow');
    expect(target(1, 11, 10)).toEqual(target(11));
    expect(put([]).ruling).toBe('allow');
    expect(put([{ properties: PROPERTIES }, { properties: undefined }]).ruling).toBe('deny');
    expect(put(undefined).ruling).toBe('allow');
  });

  it('goes by what is said of a single guest, and by the rest for all', () => {
    const policy = limits({
      stack: 10,
      'write-packet': false,
      guests: { g: { stack: 63 }, other: { stack: 0 } },
    });
    expect(policy.rule(attach(PROPERTIES))).toMatchObject({
      breaches: [
        { rule: 'write-packet', at: ['write-packet'] },
        { rule: 'stack', limit: 63, at: ['guests', 'g', 'stack'] },
      ],
    });
  });

  it('keeps a program that may send frames back off the host, in a testbed', async () => {
    const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;
    const text = `version: 1
name: limits
programs: { xdp1: { object: ${objects}xdp1.o }, xdp2: { object: ${objects}xdp2.o } }
policies: [{ use: program-limits, config: { verdicts: [XDP_DROP, XDP_PASS, XDP_ABORTED] } }]
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, placement: host } } }
  g1: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03, program: xdp2, placement: host } } }
`;
    const resolved = await resolveTestbed('/nowhere/t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
    const { runs } = await runTestbed(resolved, { version: '0' });
    expect(runs[0]!.attachments.map(({ node, attached }) => [node, attached])).toEqual([
      ['g0.eth0', true],
      ['g1.eth0', false],
    ]);
    expect(runs[0]!.rulings.find((ruling) => ruling.ruling === 'deny')).toMatchObject({
      guest: 'g1',
      nic: 'eth0',
      operation: 'program-attach',
      policy: 'program-limits',
      reason: 'it may return XDP_TX',
    });
  });
});
