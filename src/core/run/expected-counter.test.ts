import { describe, expect, it } from 'vitest';
import { exampleRun, refusedRun } from '../../conformance/reporter/index.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { RunResult } from '../contract/result.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import type { CheckSection } from '../testbed/testbed-schema.js';
import { evaluateCheck } from './checks.js';

type Expectation = Extract<CheckSection, { kind: 'expect' }>;

/** guest0 was allowed a map, guest1 was denied one twice, and another policy allowed all of it. */
function policedRun(): RunResult {
  const run = exampleRun('redirect/xdp1/host', { guests: 2 });
  const [first, second] = run.rulings;
  const denied = { ...second!, ruling: 'deny' as const, reason: 'a third map', count: 2 };
  const others = run.rulings.map((ruling) => ({ ...ruling, policy: 'map-types' }));
  const control = run.control.map((each, index) => ({ ...each, acks: { ok: 2 - index, err: 2 * index } }));
  return { ...run, control, rulings: [first!, denied, ...others] };
}

const problemsOf = (check: Omit<Expectation, 'kind'>, run = policedRun()): readonly string[] =>
  evaluateCheck({ kind: 'expect', ...check }, [run]).problems;

describe('an expectation', () => {
  it.each([
    [{ equals: 20 }, true],
    [{ equals: 19 }, false],
    [{ 'at-least': 20 }, true],
    [{ 'at-least': 21 }, false],
    [{ 'at-most': 20 }, true],
    [{ 'at-most': 19 }, false],
    [{ between: [20, 30] }, true],
    [{ between: [10, 20] }, true],
    [{ between: [21, 30] }, false],
    [{ between: [10, 19] }, false],
  ])('frames-sent, of which there are 20: %j is %s', (demand, holds) => {
    expect(problemsOf({ value: 'frames-sent', ...demand }).length === 0).toBe(holds);
  });

  it.each([
    [{ value: 'rulings.deny', guest: 'guest1', policy: 'quota', operation: 'map-create' }, 2],
    [{ value: 'rulings.deny', guest: 'guest0' }, 0],
    [{ value: 'rulings.deny', policy: 'map-types' }, 0],
    [{ value: 'rulings.allow', guest: 'guest1' }, 1],
    [{ value: 'rulings.allow', nic: 'eth0' }, 3],
    [{ value: 'rulings.allow', nic: 'eth1' }, 0],
    [{ value: 'rulings.deny', operation: 'program-load' }, 0],
    [{ value: 'control.err', guest: 'guest1', nic: 'eth0' }, 2],
    [{ value: 'control.err', guest: 'guest0' }, 0],
    [{ value: 'verdicts.offload.XDP_DROP' }, 20],
    [{ value: 'verdicts.offload.XDP_DROP', guest: 'guest0' }, 10],
  ])('%j is %s', (check, actual) => {
    expect(problemsOf({ ...check, equals: actual })).toEqual([]);
    expect(problemsOf({ ...check, equals: actual + 1 })).toHaveLength(1);
  });

  it('counts what was refused to a guest', () => {
    const of = (guest: string): readonly string[] =>
      problemsOf({ value: 'attachments.refused', guest, equals: 1 }, refusedRun());
    expect(of('guest0')).toEqual([]);
    expect(of('guest1')).toEqual(['redirect/xdp1/host: attachments.refused of guest1 is 0, not 1']);
    expect(problemsOf({ value: 'audit', guest: 'guest0', equals: 2 }, refusedRun())).toEqual([]);
  });

  it('says in words what it looked at, and why', () => {
    const check: Expectation = {
      kind: 'expect',
      value: 'rulings.deny',
      guest: 'guest1',
      nic: 'eth0',
      policy: 'quota',
      operation: 'map-create',
      'at-most': 1,
      why: 'one map is enough',
    };
    expect(evaluateCheck(check, [policedRun()])).toMatchObject({
      description: 'rulings.deny of guest1.eth0 by quota on map-create is at most 1',
      why: 'one map is enough',
      problems: [
        'redirect/xdp1/host: rulings.deny of guest1.eth0 by quota on map-create is 2, not at most 1',
      ],
    });
  });

  it('does not take it for granted that a policy was asked', () => {
    expect(problemsOf({ value: 'rulings.deny', policy: 'quoat', 'at-most': 1 })).toEqual([
      "redirect/xdp1/host: no policy 'quoat' ruled on anything in this run",
    ]);
  });
});

describe('an expectation that is none', () => {
  const objects = new URL('../../../testbeds/programs/', import.meta.url).pathname;
  const problem = async (check: string): Promise<string> => {
    const text = `version: 1
name: small
programs: { count: { object: ${objects}xdp1.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { alice: {}, bob: {} }
  bridges: { br0: { ports: [eth0, alice, bob] } }
policies: [{ use: quota }, { use: map-types }]
guests:
  alice: { nics: { eth0: { tap: alice, mac: 52:54:00:00:00:02, program: count, placement: host } } }
  bob: { count: 2, nics: { eth1: { tap: bob, mac: 52:54:00:00:00:10, program: count, placement: host } } }
checks: [${check}]
`;
    const registry = new PluginRegistry(BUILT_IN_PLUGINS);
    return resolveTestbed('t.yaml', text, registry).then(
      () => '',
      (error: unknown) => (error as Error).message.replaceAll('t.yaml:', ''),
    );
  };

  it.each([
    ['value: control.err', '13:10: exactly one of equals, at-least, at-most, between must be there'],
    ['value: control.err, equals: 1, at-most: 2', '13:10: exactly one of'],
    ['value: control.err, between: [2, 1]', '13:55: 2 is more than 1'],
    ['value: control.err, equals: 1, policy: quota', "'control.err' is no ruling of a policy"],
    [
      'value: rulings.deny, equals: 1, policy: quoat',
      "13:66: there is no policy 'quoat' in run default (did you mean 'quota'?)",
    ],
    ['value: frames-sent, equals: 1, guest: alice', "'frames-sent' is of the whole run"],
    ['value: control.err, equals: 1, guest: alcie', "there is no guest 'alcie' (did you mean 'alice'?)"],
    [
      'value: control.err, equals: 1, guest: alice, nic: eth1',
      "there is no nic 'eth1' (did you mean 'eth0'?)",
    ],
    ['value: control.err, equals: 1, guest: bob', "there is no guest 'bob'"],
  ])('%s', async (check, message) => {
    expect(await problem(`{ kind: expect, ${check} }`)).toContain(message);
  });

  it.each([
    'value: control.err, guest: alice',
    'value: control.err, guest: bob1, nic: eth1',
    'value: control.err, nic: eth1',
    'value: control.err, guest: alice, nic: eth0',
    'value: rulings.deny, policy: map-types',
  ])('but may be %s', async (counter) => {
    expect(await problem(`{ kind: expect, ${counter}, equals: 0, why: it must }`)).toBe('');
  });
});
