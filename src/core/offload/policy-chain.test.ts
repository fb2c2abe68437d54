import { describe, expect, it } from 'vitest';
import { Value } from '@sinclair/typebox/value';
import { policyRequests } from '../../conformance/policy/index.js';
import {
  MAX_BREACHES,
  type Breach,
  type ChainedPolicy,
  type Policy,
  type PolicyRequest,
} from '../contract/policy.js';
import { RulingRecord } from '../contract/result.js';
import { chained, ruleByChain, type ChainRuling } from './policy-chain.js';

const REQUEST: PolicyRequest = { ...policyRequests()[0]!, id: 7, time: 1_000, guest: 'alice', nic: 'eth1' };

const allows = (name: string): Policy => ({ name, rule: () => ({ ruling: 'allow', reason: 'fine' }) });
const denies = (name: string, breaches?: readonly Breach[]): Policy => ({
  name,
  rule: () => ({ ruling: 'deny', reason: `${name} says no`, breaches }),
});

function rule(...policies: ChainedPolicy[]): { ruling: ChainRuling; records: RulingRecord[] } {
  const records: RulingRecord[] = [];
  return { ruling: ruleByChain(policies, REQUEST, (record) => records.push(record)), records };
}

describe('a chain of policies', () => {
  it('asks every one, also after a deny, and the first that denied denies', () => {
    const { ruling, records } = rule(allows('a'), denies('b'), allows('c'), denies('d'));
    expect(ruling).toEqual({ ruling: 'deny', policy: 'b', reason: 'b says no' });
    expect(records.map(({ policy, ruling }) => [policy, ruling])).toEqual([
      ['a', 'allow'],
      ['b', 'deny'],
      ['c', 'allow'],
      ['d', 'deny'],
    ]);
  });

  it('records what a policy repeats of a guest on one line and printable, and no more than 4096 of it', () => {
    const hostile = 'map m\u001b[2J\u202e\nallowed by root';
    const breaches = [{ rule: 'r', asked: [hostile] }];
    const repeats = (reason: string): Policy => ({
      name: 'a',
      rule: () => ({ ruling: 'deny', reason, breaches }),
    });
    const written = 'map m\\u001b[2J\\u202e\\u000aallowed by root';
    expect(rule(repeats(hostile)).records).toMatchObject([
      { reason: written, breaches: [{ asked: [written] }] },
    ]);
    const throws: Policy = {
      name: 'b',
      rule: () => {
        throw new Error(hostile);
      },
    };
    expect(rule(throws).records[0]!.reason).toBe(`the policy failed: ${written}`);
    expect(rule(repeats('\u202e'.repeat(10_000))).records[0]!.reason).toHaveLength(4096);
  });

  it('asks none behind one that ends the chain by denying', () => {
    const ending = (policy: Policy) => chained(policy, { endsChain: true });
    const { ruling, records } = rule(ending(allows('a')), ending(denies('b')), ending(denies('c')));
    expect(ruling).toMatchObject({ ruling: 'deny', policy: 'b' });
    expect(records.map(({ policy }) => policy)).toEqual(['a', 'b']);
  });

  it('denies nothing by a policy in a dry run, nor does that end the chain', () => {
    const dry = chained(denies('a'), { dryRun: true, endsChain: true });
    expect(rule(dry).ruling).toEqual({ ruling: 'allow' });
    const { ruling, records } = rule(dry, denies('b'));
    expect(ruling).toMatchObject({ policy: 'b' });
    expect(records).toMatchObject([{ policy: 'a', ruling: 'deny', dryRun: true }, { policy: 'b' }]);
    expect(records[1]).not.toHaveProperty('dryRun');
  });

  it('records who asked for what and when, and each rule in the way with its place in the testbed', () => {
    const breaches = [
      { rule: 'per-guest.maps', limit: 3, asked: 1, held: 3, at: ['guests', 'alice', 'maps'] },
      { rule: 'verdicts', limit: ['XDP_PASS'], asked: ['XDP_TX', 'XDP_REDIRECT'], at: ['verdicts'] },
      { rule: 'write-packet' },
    ];
    const { records } = rule(chained(denies('quota', breaches), { configPath: 'policies.1.config' }));
    expect(records).toEqual([
      {
        request: 7,
        time: 1_000,
        guest: 'alice',
        nic: 'eth1',
        operation: 'map-create',
        policy: 'quota',
        ruling: 'deny',
        reason: 'quota says no',
        breaches: [
          {
            rule: 'per-guest.maps',
            limit: 3,
            asked: 1,
            held: 3,
            path: 'policies.1.config.guests.alice.maps',
          },
          {
            rule: 'verdicts',
            limit: ['XDP_PASS'],
            asked: ['XDP_TX', 'XDP_REDIRECT'],
            path: 'policies.1.config.verdicts',
          },
          { rule: 'write-packet' },
        ],
        count: 1,
      },
    ]);
  });

  it.each<[string, unknown]>([
    ['numbers that JSON has no word for', [{ rule: 'r', limit: NaN, asked: Infinity, held: -Infinity }]],
    ['numbers as text', [{ rule: 'r', limit: '1', asked: { a: 1 }, held: '2', at: 'per-guest.maps' }]],
    ['words that are none', [{ rule: 'r', limit: [1], asked: [undefined], at: [1] }]],
    ['no list', { rule: 'r' }],
    ['rules without a name', [undefined, null, 1, 'r', {}, { rule: 1 }]],
    ['many', Array.from({ length: 1000 }, (_, index) => ({ rule: `r${index}`, asked: index }))],
    [
      'long ones',
      [{ rule: 'r'.repeat(1e6), limit: Array(1e5).fill('w'.repeat(1e4)), at: ['a'.repeat(1e6)] }],
    ],
  ])('stands and makes a record that fits the schema whatever the details are: %s', (_, breaches) => {
    const policy = chained(denies('odd', breaches as Breach[]), { configPath: 'policies.0.config' });
    const { ruling, records } = rule(policy);
    expect(ruling.ruling).toBe('deny');
    expect([...Value.Errors(RulingRecord, records[0])]).toEqual([]);
    const kept = JSON.stringify(records[0]);
    expect(JSON.parse(kept)).toEqual(records[0]);
    expect(kept.length).toBeLessThan(2 ** 14);
    expect(records[0]!.breaches?.length ?? 0).toBeLessThanOrEqual(MAX_BREACHES);
  });

  it('takes a throw, and what is no ruling, for a deny', () => {
    const broken: Policy = {
      name: 'broken',
      rule: () => {
        throw new Error('boom');
      },
    };
    expect(rule(broken).ruling).toMatchObject({ reason: 'the policy failed: boom' });
    for (const answer of [undefined, null, 1, {}, { ruling: 'maybe' }]) {
      expect(rule({ name: 'mute', rule: () => answer as never }).ruling).toMatchObject({
        ruling: 'deny',
        reason: 'the policy gave no ruling',
      });
    }
  });
});
