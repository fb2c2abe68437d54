import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { EAGAIN } from '../../src/bpf/errno.js';
import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BpfOffloadGuest } from '../../src/conformance/offload/bpf-offload-guest.js';
import { testingParty } from '../../src/core/offload/testing-party.js';
import { policyConformance } from '../../src/conformance/policy/index.js';
import type { ArrivedCommand, PolicyRequest } from '../../src/core/contract/policy.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { formatProblem, type TestbedError } from '../../src/core/testbed/problem-list.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed, type ResolvedTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { HOST_IS_FULL } from '../../src/core/offload/denial-text.js';
import { RateLimit, RateLimitConfig } from './rate-limit.js';

const SECOND = 1e12;
const withDefaults = (config: object): RateLimitConfig =>
  Value.Parse(RateLimitConfig, Value.Default(RateLimitConfig, config));
const limit = (config: object) => new RateLimit(withDefaults(config));

const command = (time: number, guest = 'alice', nic = 'eth0'): ArrivedCommand => ({
  id: 1,
  time,
  guest,
  nic,
  bytes: 42,
});

function load(time: number, guest = 'alice'): PolicyRequest {
  const program = { insnCount: 2, helpers: [], mapTypes: [], gplCompatible: true };
  return {
    id: 1,
    time,
    guest,
    nic: 'eth0',
    usage: NO_USAGE,
    totalUsage: NO_USAGE,
    operation: 'program-load',
    program,
  };
}

const rate = (perSecond: number, burst: number) => ({ 'per-second': perSecond, burst });

policyConformance('rate-limit', () => limit({}));

describe('rate-limit', () => {
  it('lets commands of a guest through at its rate, over all of its nics, and says EAGAIN to the others', () => {
    const policy = limit({ 'per-guest': { commands: rate(10, 2) } });
    expect(policy.admit(command(0)).ruling).toBe('allow');
    expect(policy.admit(command(0, 'alice', 'eth1')).ruling).toBe('allow');
    expect(policy.admit(command(0))).toEqual({
      ruling: 'deny',
      errno: EAGAIN,
      reason: 'commands of guest alice exceed 10 per second after a burst of 2',
      toGuest: 'commands of guest alice exceed 10 per second after a burst of 2',
      breaches: [{ rule: 'per-guest.commands', limit: 2, asked: 1, held: 2, at: ['per-guest', 'commands'] }],
    });
    expect(policy.admit(command(0, 'bob')).ruling).toBe('allow');
    expect(policy.admit(command(0.1 * SECOND)).ruling).toBe('allow');
  });

  it('serves a guest that floods at its rate, and not worse for flooding', () => {
    const policy = limit({ 'per-guest': { commands: rate(1000, 10) } });
    let served = 0;
    for (let microsecond = 0; microsecond < 1_000_000; microsecond += 10) {
      if (policy.admit(command(microsecond * 1e6)).ruling === 'allow') served++;
    }
    expect(served).toBeGreaterThanOrEqual(1000);
    expect(served).toBeLessThanOrEqual(1010);
  });

  it('takes nothing of the total for what the guest’s own rate denies', () => {
    const policy = limit({ 'per-guest': { commands: rate(0, 1) }, total: { commands: rate(0, 2) } });
    expect(policy.admit(command(0)).ruling).toBe('allow');
    for (let times = 0; times < 100; times++) expect(policy.admit(command(0)).ruling).toBe('deny');
    expect(policy.admit(command(0, 'bob')).ruling).toBe('allow');
    expect(policy.admit(command(0, 'carol'))).toMatchObject({
      reason: 'commands of all guests exceed 0 per second after a burst of 2',
      toGuest: HOST_IS_FULL,
      breaches: [{ rule: 'total.commands', at: ['total', 'commands'] }],
    });
  });

  it('limits the bytes of commands, and counts neither of one that it denies', () => {
    const policy = limit({ 'per-guest': { commands: rate(1, 4), bytes: rate(100, 1000) } });
    const of = (bytes: number, time = 0) => policy.admit({ ...command(time), bytes });
    expect(of(1001).ruling).toBe('deny');
    expect(of(999).ruling).toBe('allow');
    expect(of(2)).toEqual({
      ruling: 'deny',
      errno: EAGAIN,
      reason: 'bytes of commands of guest alice exceed 100 per second after a burst of 1000',
      toGuest: 'bytes of commands of guest alice exceed 100 per second after a burst of 1000',
      breaches: [{ rule: 'per-guest.bytes', limit: 1000, asked: 2, held: 999, at: ['per-guest', 'bytes'] }],
    });
    // Of four commands at once it has had one.
    for (let left = 0; left < 3; left++) expect(of(0).ruling).toBe('allow');
    expect(of(1)).toMatchObject({ breaches: [{ rule: 'per-guest.commands' }] });
    expect(of(1).ruling).toBe('deny');
    expect(of(101, SECOND).ruling).toBe('allow');
    expect(policy.admit({ ...command(0, 'bob'), bytes: 1000 }).ruling).toBe('allow');
  });

  it('has the bytes of programs that are denied for their rate paid for', async () => {
    const policy = limit({ 'per-guest': { loads: rate(1, 1), bytes: rate(0, 100_000) } });
    const g = new BpfOffloadGuest({
      host: testingParty('host'),
      guest: testingParty('guest'),
      policies: [policy],
    });
    const insns = encodeInsns(assemble(`${'r0 = 2\n'.repeat(2000)}exit`));
    const load = () => g.send({ kind: 'load-program', name: '', insns, gplCompatible: true, frags: false });
    const why = async () => {
      const reply = await load();
      return reply.kind === 'error' ? reply.message : reply.kind;
    };
    expect(await why()).toBe('handle');
    for (let denied = 0; denied < 5; denied++) expect(await why()).toMatch(/^by rate-limit: loads of/);
    // Six times 16 KB: from here on nobody looks at them.
    expect(await why()).toMatch(/^by rate-limit: bytes of/);
    expect(g.records.rulings.at(-1)).toMatchObject({ operation: 'command' });
  });

  it('limits elements of maps, as many as a batch asks for, of all commands together', () => {
    const policy = limit({ 'per-guest': { elements: rate(100, 1000) } });
    const on = (operation: string, time: number, elements?: number) =>
      policy.rule({ ...load(time), operation, elements } as unknown as PolicyRequest);
    expect(on('map-lookup', 0, 600).ruling).toBe('allow');
    expect(on('map-update', 0, 399).ruling).toBe('allow');
    expect(on('map-delete', 0).ruling).toBe('allow');
    expect(on('map-next-key', 0)).toEqual({
      ruling: 'deny',
      errno: EAGAIN,
      reason: 'elements of maps of guest alice exceed 100 per second after a burst of 1000',
      toGuest: 'elements of maps of guest alice exceed 100 per second after a burst of 1000',
      breaches: [
        { rule: 'per-guest.elements', limit: 1000, asked: 1, held: 1000, at: ['per-guest', 'elements'] },
      ],
    });
    expect(on('map-lookup', 1 * SECOND, 101)).toMatchObject({ breaches: [{ asked: 101, held: 900 }] });
    expect(on('map-lookup', 1 * SECOND, 100).ruling).toBe('allow');
    // What is denied for its rate counts for none; what is no element does not count.
    expect(on('map-free', 1 * SECOND).ruling).toBe('allow');
    expect(on('map-freeze', 1 * SECOND).ruling).toBe('allow');
  });

  it('limits loads, and rules on nothing else that was taken up', () => {
    const policy = limit({ 'per-guest': { loads: rate(1, 1) } });
    expect(policy.rule(load(0)).ruling).toBe('allow');
    expect(policy.rule(load(0))).toMatchObject({
      ruling: 'deny',
      errno: EAGAIN,
      breaches: [{ rule: 'per-guest.loads', limit: 1, asked: 1, held: 1 }],
    });
    expect(policy.rule(load(1 * SECOND)).ruling).toBe('allow');
    const lookup = { ...load(0), operation: 'map-free' } as unknown as PolicyRequest;
    expect(policy.rule(lookup).ruling).toBe('allow');
  });

  it('denies loads until the verifier’s time is paid off', () => {
    const policy = limit({ 'per-guest': { 'verifier-milliseconds': rate(100, 1000) } });
    const told = { kind: 'verification', guest: 'alice', nic: 'eth0', time: 0, milliseconds: 2500 } as const;
    expect(policy.rule(load(0)).ruling).toBe('allow');
    policy.observe(told);
    expect(policy.rule(load(0))).toMatchObject({
      ruling: 'deny',
      reason: 'ms of verifier time of guest alice exceed 100 per second after a burst of 1000',
      toGuest: 'ms of verifier time of guest alice exceed 100 per second after a burst of 1000',
      breaches: [{ rule: 'per-guest.verifier-milliseconds', limit: 1000, held: 2500 }],
    });
    expect(policy.rule(load(0, 'bob')).ruling).toBe('allow');
    expect(policy.admit(command(0)).ruling).toBe('allow');
    expect(policy.rule(load(14.9 * SECOND)).ruling).toBe('deny');
    expect(policy.rule(load(15.1 * SECOND)).ruling).toBe('allow');
  });

  it('denies loads until insns are paid off, each guest’s against its own and all against the total', () => {
    const policy = limit({
      'per-guest': { insns: rate(1000, 5000) },
      total: { insns: rate(1000, 8000) },
    });
    expect(policy.countsInsns).toBe(true);
    const tell = (guest: string, insns: number): void =>
      policy.observe({ kind: 'insns', guest, nic: 'eth0', time: 0, insns });
    tell('alice', 4900);
    expect(policy.rule(load(0)).ruling).toBe('allow');
    tell('bob', 3000);
    expect(policy.rule(load(0)).ruling).toBe('allow');
    tell('bob', 200);
    expect(policy.rule(load(0))).toMatchObject({ breaches: [{ rule: 'total.insns', held: 8100 }] });
    tell('alice', 200);
    expect(policy.rule(load(0))).toMatchObject({
      breaches: [
        { rule: 'per-guest.insns', held: 5100, limit: 5000 },
        { rule: 'total.insns', held: 8300 },
      ],
    });
    expect(policy.rule(load(1 * SECOND)).ruling).toBe('allow');
  });

  it('gives no credit for the time in which no insns were executed', () => {
    const policy = limit({ 'per-guest': { insns: rate(1000, 1000) } });
    expect(policy.rule(load(0)).ruling).toBe('allow');
    policy.observe({ kind: 'insns', guest: 'alice', nic: 'eth0', time: 999 * SECOND, insns: 1_000_000 });
    // Of the 999 seconds before nothing is left, of the one since then its share.
    expect(policy.rule(load(1000 * SECOND))).toMatchObject({
      breaches: [{ rule: 'per-guest.insns', held: 999_000, limit: 1000 }],
    });
  });

  it('asks for insns to be counted only where some rate is set', () => {
    expect(limit({}).countsInsns).toBe(false);
    expect(limit({ guests: { bob: { insns: rate(1, 1) } } }).countsInsns).toBe(true);
  });

  it('goes by what is said of a single guest, and says where', () => {
    const policy = limit({
      'per-guest': { commands: rate(0, 1), loads: rate(0, 1) },
      guests: { constructor: { loads: rate(0, 0) }, alice: { commands: rate(0, 2) } },
    });
    const commands = (guest: string) => [1, 2, 3].map(() => policy.admit(command(0, guest)).ruling);
    expect(commands('alice')).toEqual(['allow', 'allow', 'deny']);
    expect(commands('bob')).toEqual(['allow', 'deny', 'deny']);
    expect(policy.admit(command(0))).toMatchObject({
      breaches: [{ rule: 'per-guest.commands', at: ['guests', 'alice', 'commands'] }],
    });
    expect(policy.rule(load(0, 'constructor'))).toMatchObject({
      breaches: [{ rule: 'per-guest.loads', limit: 0, at: ['guests', 'constructor', 'loads'] }],
    });
    // A guest whose name is that of something that every object has, and of which nothing is said.
    expect(policy.rule(load(0, 'valueof')).ruling).toBe('allow');
  });

  it('says the same of every denial of a flood', () => {
    const policy = limit({ 'per-guest': { commands: rate(1, 1) } });
    const reasons = new Set<string>();
    for (let time = 0; time < 100; time++) {
      const ruling = policy.admit(command(time * 1e9));
      if (ruling.ruling === 'deny') reasons.add(ruling.reason);
    }
    expect(reasons.size).toBe(1);
  });
});

describe('rate-limit in a testbed', () => {
  function resolve(config: string, plugins = ''): Promise<ResolvedTestbed> {
    const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;
    const text = `version: 1
name: rates
${plugins}
policies:
  - use: rate-limit
    config: ${config}
programs: { xdp1: { object: ${objects}xdp1.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  alice: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, placement: host } } }
  bob: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03 } } }
`;
    return resolveTestbed('/t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  }

  async function problems(config: string, plugins = ''): Promise<string[]> {
    try {
      await resolve(config, plugins);
      return [];
    } catch (error) {
      return (error as TestbedError).problems.map(formatProblem);
    }
  }
  const INSNS = '{ per-second: 1, burst: 1 }';

  it('may name the guests that there are', async () => {
    expect(await problems(`{ guests: { bob: { loads: { per-second: 1, burst: 1 } } } }`)).toEqual([]);
  });

  it('names a guest that there is not, with the nearest', async () => {
    expect(await problems('{ guests: { alic: {}, mallory: {} } }')).toEqual([
      "/t.yaml:6:25: there is no guest 'alic' (did you mean 'alice'?)",
      "/t.yaml:6:35: there is no guest 'mallory' (the testbed has alice, bob)",
    ]);
  });

  it('wants burst and rate of a guest’s own limit, and knows its keys', async () => {
    expect(await problems('{ guests: { bob: { loads: { burst: 1 }, lods: 1 } } }')).toEqual([
      expect.stringContaining("'per-second' is missing"),
      expect.stringContaining("unknown key 'lods' (did you mean 'loads'?)"),
    ]);
  });

  it('keeps a guest from loading, and says by which line', async () => {
    const testbed = await resolve(`
      guests:
        alice: { insns: ${INSNS}, loads: { per-second: 0, burst: 0 } }
`);
    const { runs } = await runTestbed(testbed, { version: '0' });
    const { attachments, rulings } = runs[0]!;
    expect(attachments).toMatchObject([{ node: 'alice.eth0', attached: false }]);
    expect(rulings.filter(({ ruling }) => ruling === 'deny')).toMatchObject([
      {
        guest: 'alice',
        operation: 'program-load',
        policy: 'rate-limit',
        breaches: [{ rule: 'per-guest.loads', limit: 0, path: 'policies.0.config.guests.alice.loads' }],
      },
    ]);
  });

  it('limits insns where the executor counts them, and nowhere else', async () => {
    const config = `{ per-guest: { insns: ${INSNS} }, guests: { bob: { insns: ${INSNS} } } }`;
    expect(await problems(config)).toEqual([]);
    expect(await problems(config, 'plugins: { executor: { use: wasm } }')).toEqual([]);
    for (const plugins of ['plugins: { executor: { use: kernel } }', 'plugins: { fabric: { use: linux } }']) {
      const found = await problems(config, plugins);
      const uncounted = found.filter((problem) => problem.includes('does not count insns'));
      expect(uncounted.map((problem) => problem.split(':')[2])).toHaveLength(2);
    }
  });
});
