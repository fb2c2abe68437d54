import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { Quota, QuotaConfig } from '../../../plugins/policy-quota/quota.js';
import { RateLimit, RateLimitConfig } from '../../../plugins/policy-rate-limit/rate-limit.js';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import type { OffloadRigOptions } from '../../conformance/offload/offload-rig.js';
import type { Policy } from '../contract/policy.js';
import { QuotaAccounts } from './quota-accounts.js';
import { HOST_IS_FULL } from './denial-text.js';
import { testingParty } from './testing-party.js';

const guest = (options: Partial<OffloadRigOptions> = {}): BpfOffloadGuest =>
  new BpfOffloadGuest({ host: testingParty('host'), guest: testingParty('host'), ...options });

/** What a guest reads of a refusal. */
async function refusalOf(g: BpfOffloadGuest, maxEntries: number): Promise<string> {
  const reply = await g.send({
    kind: 'create-map',
    mapType: 2,
    keySize: 4,
    valueSize: 8,
    maxEntries,
    mapFlags: 0,
    name: '',
  });
  if (reply.kind !== 'error') throw new Error(`it was answered with ${reply.kind}`);
  return reply.message ?? '';
}

describe('what a guest is told of a refusal', () => {
  it('is the same whatever other guests hold', async () => {
    const accounts = new QuotaAccounts();
    const config = Value.Default(QuotaConfig, { total: { entries: 1000 } });
    const policies = [new Quota(Value.Parse(QuotaConfig, config))];
    const mallory = guest({ name: 'mallory', accounts, policies });
    const alice = guest({ name: 'alice', accounts, policies });
    const before = await refusalOf(mallory, 2000);
    for (const entries of [7, 300, 77]) {
      await alice.map({ mapType: 2, keySize: 4, valueSize: 8, maxEntries: entries });
      expect(await refusalOf(mallory, 2000)).toBe(before);
    }
    expect(before).not.toMatch(/\d/);
    // Whoever runs the host is told the numbers.
    expect(mallory.records.rulings.at(-1)).toMatchObject({
      reason: expect.stringContaining('2384 map entries of all guests exceed the quota of 1000') as string,
      breaches: [{ rule: 'total.entries', asked: 2000, held: 384 }],
    });
  });

  it('names what is its own', async () => {
    const config = Value.Default(QuotaConfig, { 'per-guest': { entries: 10 } });
    const g = guest({ policies: [new Quota(Value.Parse(QuotaConfig, config))] });
    expect(await refusalOf(g, 11)).toBe('by quota: 11 map entries of guest guest0 exceed the quota of 10');
  });

  it('is not at which rate all guests together are served', async () => {
    const total = { commands: { 'per-second': 0, burst: 0 } };
    const config = Value.Default(RateLimitConfig, { total });
    const g = guest({ policies: [new RateLimit(Value.Parse(RateLimitConfig, config))] });
    expect(await refusalOf(g, 1)).toBe(`by rate-limit: ${HOST_IS_FULL}`);
  });

  it('is no more than who denied it, where a policy says nothing for guests', async () => {
    const policies: Policy[] = [
      { name: 'mine', rule: ({ totalUsage }) => ({ ruling: 'deny', reason: `all hold ${totalUsage.maps}` }) },
    ];
    const g = guest({ policies });
    expect(await refusalOf(g, 1)).toBe('by mine');
    expect(g.records.rulings.at(-1)).toMatchObject({ reason: 'all hold 0' });
    const throwing = guest({
      policies: [
        {
          name: 'mine',
          rule: () => {
            throw new Error('/etc/host-only');
          },
        },
      ],
    });
    expect(await refusalOf(throwing, 1)).toBe('by mine');
  });

  it('is nothing of what the host’s own parts throw', async () => {
    const host = testingParty('host');
    host.mapBackend.create = () => {
      throw new Error('cannot open /srv/host-only');
    };
    const g = guest({ host });
    expect(await refusalOf(g, 1)).toBe('the device failed');
    expect(g.records.audit.at(-1)).toMatchObject({ reason: 'internal: cannot open /srv/host-only' });
    const executor = { ...testingParty('host').executor, name: 'mine' };
    executor.load = () => Promise.reject(new Error('cannot open /srv/host-only'));
    const other = guest({ host: { ...testingParty('host'), executor } });
    const reply = await other.send({
      kind: 'load-program',
      name: '',
      insns: encodeInsns(assemble('r0 = 2\nexit')),
      gplCompatible: true,
      frags: false,
    });
    expect(reply).toMatchObject({ kind: 'error', message: 'the program cannot be loaded' });
  });
});
